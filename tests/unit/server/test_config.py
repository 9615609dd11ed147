"""The options of the server: which start, which do not, and who may call then."""

from __future__ import annotations

import pytest

from openkeypoints.errors import InputError
from openkeypoints.models import ModelSpec
from openkeypoints.server.config import NamedModel, ServerConfig, id_fault, named_in

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
        {"models": (NamedModel("a", ModelSpec("a")), NamedModel("a", ModelSpec("b")))},
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
        ("person", NamedModel("person", ModelSpec("person"))),
        ("my-pose/3", NamedModel("my-pose/3", ModelSpec("my-pose/3"))),
        ("yolov8x-pose-640=/data/x.pt", NamedModel("yolov8x-pose-640", ModelSpec("/data/x.pt"))),
    ],
)
def test_a_model_is_an_id_or_an_id_with_a_file(text, named):
    assert NamedModel.parse(text) == named


def test_a_bare_file_is_served_under_its_name(tmp_path):
    file = tmp_path / "best.okp"
    file.touch()
    assert NamedModel.parse(str(file)) == NamedModel("best", ModelSpec(str(file)))


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


def test_a_file_names_models_with_all_that_they_are_opened_with(tmp_path):
    (tmp_path / "best.okp").touch()
    (tmp_path / "person").mkdir()  # of pictures: the model of this name is still meant
    file = tmp_path / "models.yaml"
    file.write_text(
        "person:\n"
        "tubes/3: best.okp\n"
        "horse:\n"
        "  model: horse.onnx\n"
        "  card: {class_names: [horse]}\n"
        "  detector: {model: best.okp, device: cpu}\n"
        "  keypoints: [nose]\n"
        "  runtime: onnxruntime\n",
        encoding="utf-8",
    )
    best = str(tmp_path / "best.okp")
    assert named_in(file) == (
        NamedModel("person", ModelSpec("person")),
        NamedModel("tubes/3", ModelSpec(best)),
        NamedModel(
            "horse",
            ModelSpec(
                "horse.onnx",
                {"class_names": ["horse"]},
                ModelSpec(best, device="cpu"),
                ("nose",),
                runtime="onnxruntime",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- person", "list of models models.yaml holds no mapping"),
        ("a: {modell: b}", "a: A model has 'modell'; its keys are card, detector"),
        ("a: {card: c.yaml}", "card 'c.yaml': give a mapping"),
        ("v1/x: person", "'v1' is the beginning of a route"),
        ("a: 3", "no mapping: 3"),
    ],
)
def test_a_file_of_models_that_is_wrong_says_where(tmp_path, text, message):
    file = tmp_path / "models.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        named_in(file)
