"""Weights come from the first place that has them, once, under a licence that is allowed."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from openkeypoints.errors import (
    DownloadError,
    HashMismatchError,
    InputError,
    LicenceError,
    NotFoundError,
    OfflineError,
)
from openkeypoints.weights import (
    WeightRef,
    cached,
    fetch,
    here,
    known_ids,
    place,
    recorded,
    remove,
)
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.locks import locked
from openkeypoints.weights.providers import local

BODY = b"weights" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
ID = "yolov8n-pose-640"
RELEASE = "/releases/download/v1/n.pt"
REF = WeightRef("release", "v1", "n.pt")
HUB = WeightRef("hub", "owner/model", "n.pt")


@pytest.fixture(autouse=True)
def body(server):
    server.files[RELEASE] = BODY


@pytest.fixture
def get(settings):
    def run(*refs, **changes):
        return fetch(ID, refs or (REF,), replace(settings, **changes), licence="AGPL-3.0")

    return run


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.pt"
    path.write_bytes(b"own")
    return path


def test_a_download_lies_where_it_is_said_to_lie(get, settings):
    assert get() == place(ID, (REF,), settings)
    assert get().read_bytes() == BODY
    assert get().relative_to(settings.cache_dir) == Path("weights/yolov8n-pose-640/n.pt")


def test_the_second_time_nothing_is_asked(get, server):
    get()
    server.asked.clear()
    get()
    get(offline=True)
    assert server.asked == []


def test_the_cache_goes_before_the_users_file(get, settings, own):
    path = get()
    local.add(ID, own, settings)
    assert get() == path


def test_the_users_file_goes_before_the_publisher(get, settings, own, server):
    local.add(ID, own, settings)
    assert get(offline=True) == own
    assert server.asked == []


def test_a_source_that_has_nothing_is_passed_over(get, server):
    server.files["/owner/model/resolve/main/n.pt"] = BODY
    path = get(replace(REF, location="v0"), HUB)
    assert path.read_bytes() == BODY


def test_the_error_names_every_source_with_its_reason(get, server, settings):
    server.statuses["/owner/model/resolve/main/n.pt"] = [500]
    with pytest.raises(DownloadError) as caught:
        get(replace(REF, location="v0"), HUB, WeightRef("roboflow", "a/1"))
    message = str(caught.value)
    assert f"{server.url}/releases/download/v0/n.pt does not exist (status 404)" in message
    assert f"{server.url}/owner/model/resolve/main/n.pt answered with the status 500" in message
    assert "without a key" in message
    assert str(settings.cache_dir) in message
    assert f"okp models add {ID} FILE" in message


def test_what_no_source_has_is_not_found(get):
    with pytest.raises(NotFoundError):
        get(replace(REF, location="v0"))


def test_weights_that_nobody_publishes_have_to_be_added(settings):
    with pytest.raises(NotFoundError, match="okp models add mine FILE"):
        fetch("mine", (), settings, licence="unknown")


def test_offline_the_error_says_what_from_where_under_which_licence_and_where_to(
    get, server, settings
):
    with pytest.raises(OfflineError) as caught:
        get(offline=True)
    message = str(caught.value)
    for part in (ID, "n.pt", server.url + RELEASE, "AGPL-3.0", str(place(ID, (REF,), settings))):
        assert part in message
    assert server.asked == []


def test_a_file_put_where_the_error_says_is_taken(get, settings):
    path = place(ID, (REF,), settings)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert get(offline=True) == path
    assert recorded(ID, (REF,), settings).source == "put there by hand"


def test_a_file_put_there_has_to_be_the_known_one(get, settings):
    path = place(ID, (REF,), settings)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(HashMismatchError, match=SHA256):
        get(replace(REF, sha256=SHA256), offline=True)


def test_the_hash_of_the_first_download_is_recorded(get, settings, server):
    get()
    stored = recorded(ID, (REF,), settings)
    assert (stored.sha256, stored.size_bytes) == (SHA256, len(BODY))
    assert stored.source == server.url + RELEASE
    assert stored.date


def test_a_file_that_changed_is_refused_from_then_on(get):
    get().write_bytes(b"W" + BODY[1:])
    with pytest.raises(HashMismatchError, match=f"okp models remove {ID}"):
        get()


def test_a_file_that_was_only_touched_is_the_same(get, settings):
    path = get()
    os.utime(path, ns=(1, 1))
    assert get() == path
    assert Entry.of(ID, settings).facts()["n.pt"].mtime_ns == 1


def test_a_file_is_read_again_only_where_it_was_touched(get, monkeypatch):
    get()
    monkeypatch.setattr(
        "openkeypoints.weights.records.sha256_of", lambda path: pytest.fail(f"read {path}")
    )
    get()


def test_a_damaged_record_is_written_anew(get, settings):
    get()
    record = settings.cache_dir / "weights" / ID / "record.json"
    record.write_text("{")
    get()
    assert recorded(ID, (REF,), settings).sha256 == SHA256
    assert SHA256 in record.read_text()


def test_a_wrong_hash_is_not_passed_over(get, server):
    server.files["/owner/model/resolve/main/n.pt"] = BODY
    with pytest.raises(HashMismatchError):
        get(replace(REF, sha256="0" * 64), HUB)
    assert not server.asked_for("/owner/model/resolve/main/n.pt")


def test_the_limit_of_the_settings_holds(get):
    with pytest.raises(Exception, match="OKP_MAX_WEIGHTS_BYTES"):
        get(max_weights_bytes=10)


# ---------------------------------------------------------------- licences


def test_the_licence_is_told_once_when_it_is_fetched(get, caplog):
    caplog.set_level(logging.WARNING, "openkeypoints.weights")
    get()
    get()
    assert [record.getMessage() for record in caplog.records] == [
        f"Fetching the weights of {ID}; their licence: AGPL-3.0."
    ]


def test_a_licence_that_is_not_allowed_is_refused_before_anything_is_asked(get, server):
    with pytest.raises(LicenceError, match=r"'AGPL-3\.0'.*allows Apache-2\.0, MIT"):
        get(allowed_licences=("Apache-2.0", "MIT"))
    assert server.asked == []


def test_a_licence_that_is_not_allowed_is_refused_for_what_is_here_too(get):
    get()
    with pytest.raises(LicenceError):
        get(allowed_licences=())


def test_case_does_not_matter_in_a_licence(get):
    assert get(allowed_licences=("agpl-3.0",))


@pytest.mark.parametrize("licence", ["unknown", "the owner's"])
def test_a_licence_that_nobody_knows_is_not_allowed_unless_named(settings, own, licence):
    local.add("mine", own, settings)
    few = replace(settings, allowed_licences=("MIT",))
    with pytest.raises(LicenceError):
        fetch("mine", (), few, licence=licence)
    named = replace(settings, allowed_licences=("MIT", licence))
    assert fetch("mine", (), named, licence=licence) == own


# ---------------------------------------------------------------- several at once

FETCH = """
import sys
from pathlib import Path
from openkeypoints.settings import Settings
from openkeypoints.weights import WeightRef, fetch
settings = Settings(cache_dir=Path(sys.argv[2]), releases_url=sys.argv[1])
print(fetch("m", (WeightRef("release", "v1", "n.pt"),), settings, licence="MIT").read_bytes()[:7])
"""
HOLD = """
import sys, time
from pathlib import Path
from openkeypoints.weights.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_fetch_a_file_once(server, settings):
    server.files["/v1/n.pt"] = BODY
    server.pause_s = 0.5
    command = [sys.executable, "-c", FETCH, server.url, str(settings.cache_dir)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    done = [process.communicate(timeout=50) for process in running]
    assert [out for out, _ in done] == [b"b'weights'\n"] * 2, done
    assert len(server.asked_for("/v1/n.pt")) == 1
    told = [err for _, err in done if b"licence: MIT" in err]
    assert len(told) == 1


def test_many_threads_fetch_a_file_once(get, server):
    server.pause_s = 0.1
    found = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert len(server.asked_for(RELEASE)) == 1


def test_the_lock_of_a_process_that_died_is_free(tmp_path):
    lock = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        process.kill()
    with locked(lock):
        pass


def test_a_lock_waits_for_its_holder(tmp_path):
    order = []

    def second():
        with locked(tmp_path / "a.lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "a.lock"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# ---------------------------------------------------------------- ids, lists, removal


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "a/b/c", "", ".", "a b", "a\0", "/a", "x" * 200]
)
def test_an_id_that_could_leave_the_cache_is_refused(settings, name):
    with pytest.raises(InputError, match="no model id"):
        cached(name, (REF,), settings)


def test_an_id_with_a_slash_has_a_folder_of_its_own(settings, own):
    assert place("a/1", (REF,), settings) == settings.cache_dir / "weights" / "a@1" / "n.pt"


def test_what_is_here_is_known_by_its_ids(get, settings, own):
    assert known_ids(settings) == []
    assert not here(ID, (REF,), settings)
    get()
    local.add("mine/3", own, settings)
    assert known_ids(settings) == ["mine/3", ID]
    assert here(ID, (REF,), settings)
    assert here("mine/3", (), settings)


def test_removing_deletes_what_was_fetched(get, settings):
    path = get()
    remove(ID, settings)
    assert not path.exists()
    assert cached(ID, (REF,), settings) is None


def test_removing_forgets_the_users_file_and_leaves_it(settings, own):
    local.add(ID, own, settings)
    remove(ID, settings)
    assert own.exists()
    assert cached(ID, (REF,), settings) is None


def test_removing_what_is_not_here_is_an_error(settings):
    with pytest.raises(NotFoundError, match="Nothing of 'x'"):
        remove("x", settings)


def test_a_cache_that_may_only_be_read_serves(get, settings, monkeypatch):
    path = place(ID, (REF,), settings)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)

    def refuse(_path, _data):
        raise PermissionError(13, "denied")

    monkeypatch.setattr("openkeypoints.weights.cache.write_json", refuse)
    assert get() == path
