"""Roboflow's packages, from the stand-in of its weights API."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openkeypoints.errors import (
    DownloadError,
    HashMismatchError,
    NotFoundError,
    OfflineError,
    WeightsError,
)
from openkeypoints.weights import WeightRef, cached, fetch, recorded
from tests.data.roboflow import fake_weights_api

MAKER = Path(fake_weights_api.__file__).with_name("make_synthetic_model.py")
KEY = "canary-key"
CARDS = {"class_names.txt", "keypoints_metadata.json", "record.json", "weights.onnx"}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    subprocess.run([sys.executable, str(MAKER), str(folder)], check=True, timeout=50)
    return folder


class Api:
    """The stand-in in a thread; ``asked`` keeps method, path and key header of each request."""

    def __init__(self, package: Path) -> None:
        self.server, self.url = fake_weights_api.serve(str(package))
        self.asked: list[tuple[str, str, str | None]] = []
        self.statuses: list[int] = []
        self.current = True
        handler = self.server.RequestHandlerClass
        api = self

        class Kept(handler):
            def do_GET(self) -> None:  # noqa: N802
                api.asked.append((self.command, self.path, self.headers.get("Authorization")))
                if api.statuses:
                    self.answer(api.statuses.pop(0), {})
                elif not api.current and self.path.startswith("/models/v1/"):
                    self.answer(404, {})
                else:
                    super().go()

            def do_HEAD(self) -> None:  # noqa: N802
                self.do_GET()

        self.server.RequestHandlerClass = Kept
        # Clients that hang up early are what is tested.
        self.server.handle_error = lambda _request, _address: None


@pytest.fixture
def api(package) -> Iterator[Api]:
    api = Api(package)
    thread = threading.Thread(target=api.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield api
    api.server.shutdown()
    thread.join()
    api.server.server_close()


@pytest.fixture
def get(api, settings):
    def run(model_id="my-pose/3", **changes):
        chosen = replace(settings, roboflow_url=api.url, **{"api_key": KEY, **changes})
        return fetch(model_id, (WeightRef("roboflow", model_id),), chosen, licence="the owner's")

    return run


def test_a_package_comes_whole_and_works_offline_from_then_on(get, package):
    folder = get()
    assert {p.name for p in folder.iterdir()} == CARDS | {"inference_config.json"}
    for name in fake_weights_api.FILES:
        assert (folder / name).read_bytes() == (package / name).read_bytes()
    assert get(offline=True, api_key=None) == folder


def test_the_hash_of_its_network_is_recorded(get, settings, package):
    get()
    stored = recorded("my-pose/3", (WeightRef("roboflow", "my-pose/3"),), settings)
    network = (package / "weights.onnx").read_bytes()
    assert stored.sha256 == hashlib.sha256(network).hexdigest()
    assert stored.size_bytes == len(network)


def test_the_key_goes_to_the_api_and_not_to_the_files(get, api):
    get()
    for _, path, header in api.asked:
        assert (header == f"Bearer {KEY}") == path.startswith("/models/v1/")
        assert KEY not in path


def test_files_are_asked_for_their_size_first(get, api):
    get()
    files = [(method, path) for method, path, _ in api.asked if path.startswith("/files/")]
    heads = [path for method, path in files if method == "HEAD"]
    assert files[: len(heads)] == [("HEAD", path) for path in heads]
    assert files[-1] == ("GET", "/files/weights.onnx")


def test_progress_is_that_of_the_whole_package(settings, api, package):
    told = []
    chosen = replace(settings, roboflow_url=api.url, api_key=KEY)
    ref = WeightRef("roboflow", "my-pose/3")
    fetch("my-pose/3", (ref,), chosen, licence="x", progress=lambda *pair: told.append(pair))
    size = sum((package / name).stat().st_size for name in fake_weights_api.FILES)
    assert told[-1] == (size, size)
    assert {total for _, total in told} == {size}


def test_the_older_endpoint_is_asked_where_the_current_one_has_nothing(get, api, package):
    api.current = False
    folder = get()
    assert {p.name for p in folder.iterdir()} == CARDS | {"environment.json"}
    assert (folder / "class_names.txt").read_text() == "person\n"
    written = json.loads((folder / "keypoints_metadata.json").read_text())
    assert written == json.loads((package / "keypoints_metadata.json").read_text())
    (older,) = [path for _, path, _ in api.asked if path.startswith("/ort/")]
    assert older.startswith("/ort/my-pose/3?")
    assert f"api_key={KEY}" in older
    assert get(offline=True) == folder


@pytest.mark.parametrize(
    ("key", "status", "says"),
    [
        ("badkey", 401, "check ROBOFLOW_API_KEY"),
        ("broke", 402, "credits"),
        ("forbidden", 403, "may not use this model"),
        ("paused", 423, "locked"),
    ],
)
def test_a_key_that_is_refused_is_told_why_and_asked_once(get, api, key, status, says):
    with pytest.raises(DownloadError, match=f"status {status}.*{says}") as caught:
        get(api_key=key)
    assert len(api.asked) == 1
    assert key not in str(caught.value)


def test_a_model_that_neither_endpoint_knows_is_not_found(get, api):
    with pytest.raises(NotFoundError, match="no such model, or not for this key"):
        get("other/7")
    assert [path.partition("?")[0] for _, path, _ in api.asked] == [
        "/models/v1/external/weights",
        "/ort/other/7",
    ]


def test_without_a_key_nothing_is_asked(get, api):
    with pytest.raises(DownloadError, match="ROBOFLOW_API_KEY"):
        get(api_key=None)
    assert api.asked == []


def test_a_key_that_cannot_be_sent_is_an_error_of_ours(get):
    with pytest.raises(DownloadError, match="no key has") as caught:
        get(api_key="ключ")
    assert "ключ" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[", "http://x y/", "https://"])
def test_an_api_address_that_is_none_is_an_error_of_ours(settings, url):
    keyed = replace(settings, api_key=KEY, roboflow_url=url)
    with pytest.raises(DownloadError):
        fetch("a/b", (WeightRef("roboflow", "a/b"),), keyed, licence="x")


def test_a_proxy_that_cannot_be_used_is_an_error_of_ours(get, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "odd://127.0.0.1:1")
    with pytest.raises(DownloadError, match="proxy"):
        get()


def test_offline_without_the_package_says_where_to_put_it(get, settings):
    with pytest.raises(OfflineError, match=r"my-pose@3/ \(a package folder\)"):
        get(offline=True)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_an_api_that_says_later_is_asked_again(get, api, status):
    api.statuses = [status] * 3
    assert get()


def test_an_api_that_always_says_later_is_given_up(get, api):
    api.statuses = [503] * 100
    with pytest.raises(DownloadError, match="status 503"):
        get()
    assert len(api.asked) == 4


@pytest.mark.parametrize("current", [True, False])
def test_the_key_is_in_no_log_and_no_file(get, api, caplog, current, settings):
    caplog.set_level(logging.DEBUG)
    api.current = current
    get()
    assert KEY not in caplog.text
    for path in settings.cache_dir.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("current", [True, False])
def test_the_key_is_in_no_error(get, api, current):
    api.current = current
    api.statuses = [404, 500] if not current else [500]
    with pytest.raises(DownloadError) as caught:
        get()
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None or KEY not in str(caught.value.__cause__)


def test_the_lines_of_others_about_their_requests_stay(api, caplog):
    import httpx

    caplog.set_level(logging.INFO, "httpx")
    httpx.get(api.url)
    assert "HTTP Request" in caplog.text


def test_the_limit_is_that_of_the_whole_package(get, package):
    small = sum((package / n).stat().st_size for n in fake_weights_api.FILES) - 1
    with pytest.raises(WeightsError, match="OKP_MAX_WEIGHTS_BYTES"):
        get(max_weights_bytes=small)


# ---------------------------------------------------------------- answers that the stand-in has not


def metadata(*packages, page=None):
    answer = {"modelMetadata": {"modelPackages": list(packages), "nextPage": page}}
    return json.dumps(answer).encode()


def offer(server, *, trusted=True, kind="onnx", name="weights.onnx", md5=None, body=b"graph"):
    server.files["/f"] = body
    return {
        "trustedSource": trusted,
        "packageManifest": {"type": f"{kind}-model-package-v1", "backendType": kind},
        "packageFiles": [{"fileHandle": name, "downloadUrl": f"{server.url}/f", "md5Hash": md5}],
    }


WEIGHTS = "/models/v1/external/weights"


@pytest.fixture
def ask(settings):
    keyed = replace(settings, api_key=KEY)
    return lambda: fetch("a/b", (WeightRef("roboflow", "a/b"),), keyed, licence="x")


def test_the_first_trusted_onnx_package_is_taken(ask, server):
    good = offer(server)
    server.files["/good"] = b"good"
    good["packageFiles"][0]["downloadUrl"] = f"{server.url}/good"
    server.files[WEIGHTS] = metadata(
        offer(server, kind="trt"), offer(server, trusted=False), good, offer(server)
    )
    assert (ask() / "weights.onnx").read_bytes() == b"good"


def test_without_a_trusted_onnx_package_it_is_said_what_there_is(ask, server):
    server.files[WEIGHTS] = metadata(offer(server, kind="trt"), offer(server, trusted=False))
    with pytest.raises(NotFoundError, match="offers trt, onnx"):
        ask()


def test_a_wrong_md5_is_refused_and_the_package_is_not_here(ask, server, settings):
    server.files[WEIGHTS] = metadata(offer(server, md5="0" * 32))
    with pytest.raises(HashMismatchError, match="MD5"):
        ask()
    assert cached("a/b", (WeightRef("roboflow", "a/b"),), settings) is None


@pytest.mark.parametrize("name", ["../weights.onnx", "record.json", "/etc/x", "", "a b"])
def test_a_file_name_that_leads_elsewhere_is_refused(ask, server, name):
    package = offer(server)
    package["packageFiles"].append({"fileHandle": name, "downloadUrl": f"{server.url}/f"})
    server.files[WEIGHTS] = metadata(package)
    with pytest.raises(DownloadError, match="plain file names"):
        ask()


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"modelMetadata": {"modelPackages": [1]}}'])
def test_an_answer_without_packages_is_an_error_of_ours(ask, server, answer):
    server.files[WEIGHTS] = answer
    with pytest.raises(NotFoundError, match="no ONNX package"):
        ask()


def test_pages_are_turned_up_to_ten(ask, server):
    server.files[WEIGHTS] = metadata(offer(server, kind="trt"), page="next")
    with pytest.raises(NotFoundError):
        ask()
    paths = [path for _, path, _ in server.asked if path.startswith(WEIGHTS)]
    assert len(paths) == 10
    assert "startAfter" not in paths[0]
    assert "modelId=a%2Fb" in paths[1]
    assert "startAfter=next" in paths[1]


def test_a_package_that_broke_off_is_not_here_and_is_taken_up(ask, server, settings):
    package = offer(server)
    server.files["/cards"] = b"person\n"
    card = {"fileHandle": "class_names.txt", "downloadUrl": f"{server.url}/cards"}
    package["packageFiles"].append(card)
    server.files[WEIGHTS] = metadata(package)
    del server.files["/f"]
    with pytest.raises(NotFoundError):
        ask()
    assert cached("a/b", (WeightRef("roboflow", "a/b"),), settings) is None
    server.files["/f"] = b"graph"
    assert (ask() / "class_names.txt").read_bytes() == b"person\n"
