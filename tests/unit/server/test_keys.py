"""The file of keys: what it holds, what it refuses, how often a key may be used."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from openkeypoints.errors import InputError, NotFoundError, RateLimitError
from openkeypoints.server import keys
from openkeypoints.server.keys import (
    KeyRecord,
    KeyStore,
    Usage,
    add_key,
    read_keys,
    revoke_key,
    sha256_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(key: str = "k", **changes) -> KeyRecord:
    values = {"id": "one", "sha256": sha256_of(key), "scopes": frozenset({"infer"})}
    return KeyRecord(**{**values, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def test_a_new_key_says_whose_it_is_and_the_file_keeps_only_its_hash(path):
    key = add_key(path, record(id="camera-3"))
    text = path.read_text()
    assert key.startswith("okp_camera-3_")
    assert len(key) - len("okp_camera-3_") == 43
    assert key not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text


def test_the_file_is_for_its_owner_alone(path):
    add_key(path, record())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_found_with_what_it_may(path):
    expires = NOW + timedelta(days=1)
    added = record(scopes=frozenset({"infer", "admin"}), rate=2.5, concurrency=3, expires=expires)
    key = add_key(path, added)
    found = KeyStore(read_keys(path), now=lambda: NOW).find(key)
    assert isinstance(found, KeyRecord)
    assert (found.scopes, found.rate, found.concurrency) == (added.scopes, 2.5, 3)
    assert found.expires == expires


def test_a_changed_key_is_unknown(path):
    key = add_key(path, record())
    assert KeyStore(read_keys(path)).find(key[:-1] + ("A" if key[-1] != "A" else "B")) == "unknown"


@pytest.mark.parametrize("key", ["", "okp_one_", "okp_nobody_" + "x" * 43, "é" * 50, "\udcff" * 9])
def test_what_is_no_key_is_unknown(key, path):
    add_key(path, record())
    assert KeyStore(read_keys(path)).find(key) == "unknown"


def test_a_key_that_expired_is_told_so(path):
    key = add_key(path, record(expires=NOW))
    assert KeyStore(read_keys(path), now=lambda: NOW).find(key) == "expired"


def test_as_much_is_compared_for_an_id_that_does_not_exist(path, monkeypatch):
    key = add_key(path, record())
    store = KeyStore(read_keys(path))
    compared = []

    def compare(a, b):
        compared.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(keys, "hmac", type("Spy", (), {"compare_digest": staticmethod(compare)}))
    for sent in (key, key[:-1] + "_", "okp_nobody_" + "x" * 43, "anything"):
        store.find(sent)
    assert compared == [(64, 64)] * 4


def test_the_operators_own_key_needs_no_form():
    store = KeyStore.of(api_key="0123456789abcdef", path=None)
    found = store.find("0123456789abcdef")
    assert isinstance(found, KeyRecord)
    assert found.scopes == {"infer", "admin", "metrics"}
    assert store.find("okp_one_" + "x" * 43) == "unknown"


def test_a_file_that_is_read_again_counts_from_then_on(path):
    first = add_key(path, record())
    store = KeyStore.of(api_key=None, path=path)
    second = add_key(path, record(id="two"))
    revoke_key(path, "one")
    store.reload()
    assert store.find(first) == "unknown"
    assert isinstance(store.find(second), KeyRecord)


def test_a_file_that_breaks_changes_nothing(path):
    key = add_key(path, record())
    store = KeyStore.of(api_key=None, path=path)
    path.write_text("{")
    store.reload()
    assert isinstance(store.find(key), KeyRecord)


def test_two_keys_of_one_id_cannot_be(path):
    add_key(path, record())
    with pytest.raises(InputError, match="revoke it first"):
        add_key(path, record())


def test_revoking_what_is_not_there_names_what_is(path):
    add_key(path, record())
    with pytest.raises(NotFoundError, match="it has one"):
        revoke_key(path, "two")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "no json",
        '{"keys": 1}',
        '{"keys": [1]}',
        '{"keys": [{"id": "a"}]}',
        json.dumps({"keys": [{"id": "A b", "sha256": "0" * 64, "scopes": ["infer"]}]}),
        json.dumps({"keys": [{"id": "a", "sha256": "0", "scopes": ["infer"]}]}),
        json.dumps({"keys": [{"id": "a", "sha256": "0" * 64, "scopes": ["root"]}]}),
        json.dumps({"keys": [{"id": "a", "sha256": "0" * 64, "scopes": []}]}),
        json.dumps({"keys": [{"id": "a", "sha256": "0" * 64, "scopes": ["infer"], "rate": 0}]}),
        json.dumps({"keys": [{"id": "a", "sha256": "0" * 64, "scopes": ["infer"]}] * 2}),
    ],
)
def test_a_file_that_is_no_key_file_is_refused(content, path):
    path.write_text(content)
    with pytest.raises(InputError):
        read_keys(path)


def test_a_missing_file_names_the_command_that_makes_it(path):
    with pytest.raises(NotFoundError, match="okp keys add"):
        read_keys(path)


def test_a_rate_lets_so_many_through_and_says_when_the_next_may_come():
    now = [0.0]
    usage, key = Usage(lambda: now[0]), record(rate=2.0)
    usage.take(key)
    usage.take(key)
    with pytest.raises(RateLimitError) as caught:
        usage.take(key)
    assert caught.value.retry_after_s == pytest.approx(0.5)
    now[0] = 0.5
    usage.take(key)


def test_a_slow_rate_lets_one_through_at_once():
    usage = Usage(lambda: 0.0)
    usage.take(record(rate=0.1))
    with pytest.raises(RateLimitError) as caught:
        usage.take(record(rate=0.1))
    assert caught.value.retry_after_s == pytest.approx(10)


def test_a_key_may_run_so_many_at_once():
    usage, key = Usage(lambda: 0.0), record(concurrency=1)
    usage.take(key)
    with pytest.raises(RateLimitError):
        usage.take(key)
    usage.give_back()
    usage.take(key)
