"""The options of the server: which start, which do not, and who may call then."""

from __future__ import annotations

import pytest

from openkeypoints.errors import InputError
from openkeypoints.server.config import NamedModel, ServerConfig, id_fault

KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_key(host):
    assert ServerConfig(host=host).anonymous_scopes == {"infer", "admin"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5", "10.0.0.1", "example.com"])
def test_another_address_needs_keys_or_the_will_to_be_open(host):
    with pytest.raises(InputError, match="--allow-anonymous"):
        ServerConfig(host=host)


@pytest.mark.parametrize(
    ("options", "scopes"),
    [
        ({"host": "0.0.0.0", "allow_anonymous": True}, {"infer"}),
        ({"host": "0.0.0.0", "api_key": KEY}, set()),
        ({"host": "0.0.0.0", "api_key": KEY, "allow_anonymous": True}, {"infer"}),
        ({"api_key": KEY}, set()),
        ({"api_key": KEY, "allow_anonymous": True}, {"infer"}),
        ({"allow_anonymous": True}, {"infer", "admin"}),
        ({"trusted_proxies": ("10.0.0.0/8",), "allow_anonymous": True}, {"infer"}),
    ],
)
def test_callers_without_a_key_may_do_no_more_than_is_said(options, scopes):
    assert ServerConfig(**options).anonymous_scopes == scopes


def test_a_proxy_makes_a_local_server_reachable_so_it_needs_keys():
    with pytest.raises(InputError, match="Behind a proxy"):
        ServerConfig(trusted_proxies=("127.0.0.0/8",))


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000},
        {"host": "not a host"},
        {"workers": 0},
        {"engine": "magic"},
        {"api_key": "short"},
        {"tls_cert": "only"},
        {"cors_origins": ("example.com",)},
        {"trusted_proxies": ("nonsense",), "api_key": KEY},
        {"root_path": "no-slash"},
        {"models": (NamedModel("a", "a"), NamedModel("a", "b"))},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(InputError):
        ServerConfig(**options)


def test_a_key_is_not_shown_by_the_record():
    assert KEY not in repr(ServerConfig(api_key=KEY))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("person", NamedModel("person", "person")),
        ("my-pose/3", NamedModel("my-pose/3", "my-pose/3")),
        ("yolov8x-pose-640=/data/x.pt", NamedModel("yolov8x-pose-640", "/data/x.pt")),
    ],
)
def test_a_model_is_an_id_or_an_id_with_a_file(text, named):
    assert NamedModel.parse(text) == named


def test_a_bare_file_is_served_under_its_name(tmp_path):
    file = tmp_path / "best.okp"
    file.touch()
    assert NamedModel.parse(str(file)) == NamedModel("best", str(file))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "../up",
        "a/b/c",
        "/a",
        "a/",
        "a/..",
        "..",
        ".",
        "a\\b",
        "ä",
        "a\0",
        "a" * 65,
        "%2e",
    ],
)
def test_an_id_is_letters_digits_and_few_signs(name):
    assert id_fault(name) is not None


@pytest.mark.parametrize("first", ["v1", "api", "infer", "model", "predict", "start", "docs"])
def test_an_id_may_not_begin_as_a_route_does(first):
    assert "route" in (id_fault(f"{first}/1") or "")
    with pytest.raises(InputError, match="route"):
        NamedModel.parse(f"{first}=x.onnx")
