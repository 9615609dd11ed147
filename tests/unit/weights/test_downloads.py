"""A file is fetched whole or not at all, whatever the connection and the disk do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from openkeypoints.errors import DownloadError, HashMismatchError, NotFoundError, WeightsError
from openkeypoints.weights.downloads import TRIES, Download, save
from openkeypoints.weights.providers.http import Host, opener
from tests.servers import FileServer

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
PATH = "/model.pt"
ENDING = [0] * (TRIES - 1)
"""Breaks that end a download after one that brought something."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.pt"


def get(server: FileServer, target: Path, *, limit: int = 10**9, **hashes: str) -> str:
    url = server.url + PATH
    return save(Download(target, url, opener(url, Host(server.url, 5.0)), **hashes), limit=limit)


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def ranges(server: FileServer) -> list[str | None]:
    return [headers.get("range") for headers in server.asked_for(PATH)]


@pytest.fixture(autouse=True)
def body(server):
    server.files[PATH] = BODY


def test_a_file_arrives_whole_and_alone(server, target):
    assert get(server, target) == SHA256
    assert target.read_bytes() == BODY
    assert files(target) == ["model.pt"]


def test_progress_is_told_up_to_the_whole(server, target):
    told = []
    url = server.url + PATH
    download = Download(target, url, opener(url, Host(server.url, 5.0)))
    save(download, limit=10**9, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(BODY), len(BODY))
    assert told == sorted(told)


def test_a_broken_connection_is_taken_up_where_it_broke(server, target):
    server.breaks = [1000, 50_000]
    get(server, target)
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", "bytes=51000-"]
    assert server.asked_for(PATH)[1]["if-range"] == '"one"'


def test_a_server_that_cannot_resume_is_asked_for_all_again(server, target):
    server.ranges, server.breaks = False, [1000]
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_later_run_takes_up_what_an_earlier_one_left(server, target):
    server.breaks = [5000, *ENDING]
    with pytest.raises(DownloadError):
        get(server, target)
    assert not target.exists()
    server.asked.clear()
    get(server, target)
    assert ranges(server) == ["bytes=5000-"]
    assert target.read_bytes() == BODY


def test_a_later_run_begins_anew_where_the_server_names_no_version(server, target):
    server.etag, server.breaks = None, [5000, *ENDING]
    with pytest.raises(DownloadError):
        get(server, target)
    server.asked.clear()
    get(server, target)
    assert ranges(server) == [None]


def test_a_known_hash_lets_it_be_resumed_without_a_version(server, target):
    server.etag, server.breaks = None, [5000, *ENDING]
    with pytest.raises(DownloadError):
        get(server, target, sha256=SHA256)
    server.asked.clear()
    get(server, target, sha256=SHA256)
    assert ranges(server) == ["bytes=5000-"]


def test_a_new_version_in_between_is_fetched_from_its_beginning(server, target):
    server.breaks = [5000, *ENDING]
    with pytest.raises(DownloadError):
        get(server, target)
    new = BODY[::-1]
    server.files[PATH], server.etag = new, '"two"'
    get(server, target)
    assert target.read_bytes() == new


def test_two_halves_that_do_not_fit_are_fetched_once_more(server, target):
    server.etag, server.breaks = None, [5000, *ENDING]
    server.files[PATH] = b"x" * len(BODY)
    with pytest.raises(DownloadError):
        get(server, target, sha256=SHA256)
    server.files[PATH] = BODY
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_half_file_that_is_complete_does_no_harm(server, target):
    server.breaks = [len(BODY) - 1, *ENDING]
    with pytest.raises(DownloadError):
        get(server, target)
    with target.with_name("model.pt.part").open("ab") as part:
        part.write(BODY[-1:])
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_connection_that_always_breaks_ends_after_some_tries(server, target):
    server.breaks = [0] * 100
    with pytest.raises(DownloadError, match=r"model\.pt could not be fetched"):
        get(server, target)
    assert len(server.asked) == TRIES


def test_a_server_that_is_not_there_is_asked_once(server, target):
    url = "http://127.0.0.1:9/model.pt"
    with pytest.raises(DownloadError, match="could not be fetched"):
        save(Download(target, url, opener(url, Host(url, 5.0))), limit=10**9)
    assert files(target) == []


def test_an_absent_file_is_not_found(server, target):
    del server.files[PATH]
    with pytest.raises(NotFoundError, match="does not exist"):
        get(server, target)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(server, target, kind):
    with pytest.raises(HashMismatchError, match=r"model\.pt.*known|stated"):
        get(server, target, **{kind: "0" * 32})
    assert files(target) == []
    assert len(server.asked) == 1


def test_a_right_md5_is_accepted(server, target):
    get(server, target, md5=hashlib.md5(BODY).hexdigest().upper())
    assert target.exists()


def test_a_wrong_file_never_replaces_a_right_one(server, target):
    get(server, target)
    server.files[PATH] = b"evil"
    with pytest.raises(HashMismatchError):
        get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_file_that_says_it_is_too_large_is_not_begun(server, target):
    with pytest.raises(WeightsError, match="OKP_MAX_WEIGHTS_BYTES"):
        get(server, target, limit=1000)
    assert files(target) == []


def test_a_file_that_hides_its_size_is_stopped_at_the_limit(server, target):
    server.headers[PATH] = {"Content-Length": "", "Connection": "close"}
    with pytest.raises(WeightsError, match="OKP_MAX_WEIGHTS_BYTES"):
        get(server, target, limit=1000)
    assert files(target) == []


def test_a_file_for_which_there_is_no_room_is_not_begun(server, target, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: free)
    with pytest.raises(WeightsError, match=r"no space left for model\.pt"):
        get(server, target)
    assert files(target) == []


FULL = """
import resource, sys
from pathlib import Path
from openkeypoints.errors import WeightsError
from openkeypoints.weights.downloads import Download, save
from openkeypoints.weights.providers.http import Host, opener
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
url, target = sys.argv[1], Path(sys.argv[2])
try:
    save(Download(target, url, opener(url, Host(url, 5.0))), limit=10**9)
except WeightsError as error:
    print(error)
"""


def test_a_disk_that_gets_full_is_named_and_left_clean(server, target):
    done = subprocess.run(
        [sys.executable, "-c", FULL, server.url + PATH, str(target)],
        capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    assert done.stdout.startswith("There is no space left for model.pt in ")
    assert "OKP_CACHE_DIR" in done.stdout
    assert files(target) == []


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="OKP_CACHE_DIR"):
        get(server, tmp_path / "file" / "model.pt")


def test_a_compressed_answer_is_refused(server, target):
    server.headers[PATH] = {"Content-Encoding": "gzip"}
    with pytest.raises(DownloadError, match="compressed"):
        get(server, target)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_server_that_says_later_is_asked_again(server, target, status):
    server.statuses[PATH] = [status, status]
    get(server, target)
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 403, 500])
def test_another_refusal_is_final(server, target, status):
    server.statuses[PATH] = [status]
    with pytest.raises(DownloadError, match=f"status {status}"):
        get(server, target)
    assert len(server.asked) == 1


def test_a_server_that_is_silent_is_given_up(server, target):
    server.pause_s = 0.5
    url = server.url + PATH
    with pytest.raises(DownloadError, match="OKP_TIMEOUT"):
        save(Download(target, url, opener(url, Host(server.url, 0.05))), limit=10**9)


def test_redirects_are_followed_up_to_five(server, target):
    server.files["/end"] = BODY
    server.redirects = {PATH: "/1", "/1": "/2", "/2": "/3", "/3": "/4", "/4": "/end"}
    get(server, target)
    assert target.read_bytes() == BODY
    server.redirects["/4"] = "/4b"
    server.redirects["/4b"] = "/end"
    with pytest.raises(DownloadError, match="more than 5 times"):
        get(server, target)


@pytest.mark.parametrize("goal", ["file:///etc/passwd", "http://192.0.2.1/x", "ftp://127.0.0.1/x"])
def test_a_redirect_to_what_may_not_be_asked_is_refused(server, target, goal):
    server.redirects[PATH] = goal
    with pytest.raises(DownloadError, match="http"):
        get(server, target)


def test_http_is_refused_where_the_provider_is_https():
    url = "http://127.0.0.1:9/x"
    with (
        pytest.raises(DownloadError, match="fetched over https"),
        opener(url, Host("https://example.org", 5.0))(0, None),
    ):
        pass


def test_an_address_is_shown_without_its_query(server, target):
    url = f"{server.url}{PATH}?signature=canary"
    server.breaks = [0] * 100
    with pytest.raises(DownloadError) as caught:
        save(Download(target, server.url, opener(url, Host(server.url, 5.0))), limit=10**9)
    assert "canary" not in str(caught.value)


def test_the_part_of_another_run_is_left_for_it_when_interrupted(server, target):
    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    url = server.url + PATH
    download = Download(target, url, opener(url, Host(server.url, 5.0)))
    with pytest.raises(KeyboardInterrupt):
        save(download, limit=10**9, progress=interrupt)
    assert files(target) == ["model.pt.part", "model.pt.part.json"]
    assert 0 < target.with_name("model.pt.part").stat().st_size <= len(BODY)
