"""Who may call: the ways a key comes in, what it may do, and what no trick gets around."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from openkeypoints.server.config import ServerConfig
from openkeypoints.server.keys import KeyRecord, add_key, sha256_of
from tests.unit.server.probes import Probes

SCOPES = {
    "infer": frozenset({"infer"}),
    "admin": frozenset({"infer", "admin"}),
    "metrics": frozenset({"metrics"}),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    made = {
        name: add_key(path, KeyRecord(name, sha256_of(""), scopes))
        for name, scopes in SCOPES.items()
    }
    old = KeyRecord(
        "old", sha256_of(""), SCOPES["infer"], expires=datetime.now(UTC) - timedelta(days=1)
    )
    slow = KeyRecord("slow", sha256_of(""), SCOPES["infer"], rate=0.01)
    single = KeyRecord("single", sha256_of(""), SCOPES["infer"], concurrency=1)
    for record in (old, slow, single):
        made[record.id] = add_key(path, record)
    return path, made


@pytest.fixture(scope="module")
def closed(serve, keys):
    with serve(ServerConfig(port=0, api_keys=keys[0])) as running:
        yield running


@pytest.fixture
def key(keys):
    return keys[1]


def ways(key: str) -> dict[str, dict]:
    return {
        "query": {"params": {"api_key": key}},
        "bearer": {"headers": {"Authorization": f"Bearer {key}"}},
        "header": {"headers": {"X-API-Key": key}},
    }


@pytest.mark.parametrize("way", ["query", "bearer", "header"])
def test_a_key_may_come_in_three_ways(closed, key, way):
    answer = closed.client.get("/probe/who", **ways(key["infer"])[way])
    assert answer.json()["key_id"] == "infer"


def test_a_key_may_come_in_the_json_body(closed, key):
    answer = closed.client.post("/probe/json", json={"api_key": key["infer"]})
    assert answer.json()["key_id"] == "infer"


def test_the_query_goes_before_the_header_and_that_before_the_body(closed, key):
    query, bearer = ways(key["metrics"])["query"], ways(key["infer"])["bearer"]
    assert closed.client.get("/probe/who", **query, **bearer).status_code == 403
    body = {"json": {"api_key": key["metrics"]}}
    assert closed.client.post("/probe/json", **bearer, **body).status_code == 200


@pytest.mark.parametrize("nothing", ["None", "null", "", "  "])
def test_what_clients_send_for_no_key_is_no_key(closed, key, nothing):
    assert closed.client.get("/probe/who", params={"api_key": nothing}).status_code == 401
    answer = closed.client.get(
        "/probe/who", params={"api_key": nothing}, headers={"x-api-key": key["infer"]}
    )
    assert answer.json()["key_id"] == "infer"


def test_an_unknown_key_is_refused_also_where_strangers_may_infer(serve, keys):
    config = ServerConfig(port=0, api_keys=keys[0], allow_anonymous=True)
    with serve(config) as server:
        assert server.client.get("/probe/who").json()["scopes"] == ["infer"]
        assert server.client.get("/probe/who", params={"api_key": "wrong"}).status_code == 401


def test_an_expired_key_is_refused(closed, key):
    answer = closed.client.get("/probe/who", params={"api_key": key["old"]})
    assert (answer.status_code, "expired" in answer.text) == (401, True)


def test_a_key_may_do_what_its_scopes_say(closed, key):
    allowed = {
        (name, path): closed.client.get(path, params={"api_key": key[name]}).status_code == 200
        for name in SCOPES
        for path in ("/probe/who", "/probe/admin", "/metrics")
    }
    assert {pair for pair, may in allowed.items() if may} == {
        ("infer", "/probe/who"),
        ("admin", "/probe/who"),
        ("admin", "/probe/admin"),
        ("admin", "/metrics"),
        ("metrics", "/metrics"),
    }


def test_a_refused_key_is_echoed_nowhere(closed):
    answer = closed.client.get("/probe/who", params={"api_key": "canary-key"})
    assert "canary" not in answer.text + str(answer.headers)


def test_no_route_sees_the_key(serve, keys, key):
    probes = Probes()
    with serve(ServerConfig(port=0, api_keys=keys[0]), probes) as server:
        for options in ways(key["infer"]).values():
            answer = server.client.get("/probe/who?a=1&b=%20", **options)
            assert answer.status_code == 200
            assert key["infer"] not in answer.text
        answer = server.client.get("/probe/who?a=1&api%5Fkey=" + key["infer"] + "&b=2")
        assert answer.json()["query"] == "a=1&b=2"
    assert key["infer"] not in repr(probes.scopes)


def test_a_key_that_asks_too_often_is_told_when_to_come_back(closed, key):
    ask = {"params": {"api_key": key["slow"]}}
    assert closed.client.get("/probe/who", **ask).status_code == 200
    answer = closed.client.get("/probe/who", **ask)
    assert answer.status_code == 429
    assert 90 <= int(answer.headers["retry-after"]) <= 100


def test_a_place_is_given_back_when_a_request_ends(closed, key):
    for _ in range(3):
        assert closed.client.get("/probe/who", params={"api_key": key["single"]}).status_code == 200
        failing = closed.client.post("/probe/broken", params={"api_key": key["single"]})
        assert failing.status_code == 500


@pytest.mark.parametrize(
    "target",
    [
        "/probe/who",
        "//probe/who",
        "/probe//who",
        "/probe/who/",
        "/PROBE/who",
        "/probe/%77ho",
        "/healthz/../probe/who",
        "/healthz%2f..%2fprobe/who",
        "/probe/who?x=/healthz",
        "/probe/who;/healthz",
        "http://x/healthz",
        "/metrics",
    ],
)
@pytest.mark.parametrize("host", ["x", "x/healthz?", "x/healthz#", "127.0.0.1:9001/healthz", ""])
def test_no_spelling_of_path_or_host_gets_around_the_key(closed, target, host):
    status, body = raw(closed.address, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n")
    assert status in (400, 401, 404, 405) or (status == 200 and b"healthy" in body)
    assert b"scopes" not in body
    assert b"http_requests_total" not in body


def test_a_route_that_forgot_to_ask_answers_nothing(closed):
    answer = closed.client.get("/probe/forgotten")
    assert (answer.status_code, "secret" in answer.text) == (403, False)


def test_the_caller_of_a_local_server_may_infer_and_manage(serve):
    with serve() as server:
        assert server.client.get("/probe/who").json()["scopes"] == ["admin", "infer"]
        assert server.client.get("/probe/admin").status_code == 200


def test_a_local_server_takes_any_key_for_none(serve):
    with serve() as server:
        answer = server.client.get("/probe/who", params={"api_key": "whatever"}).json()
    assert (answer["key_id"], answer["roboflow_key"]) == (None, None)


def test_a_key_for_roboflow_is_passed_on_only_if_the_operator_says_so(serve):
    with serve(ServerConfig(port=0, forward_roboflow_key=True)) as server:
        answer = server.client.post("/probe/json", json={"api_key": "theirs"}).json()
    assert answer == {"key_id": None, "roboflow_key": "theirs"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example:9001", "Origin": "http://evil.example:9001"},
    ],
    ids=["foreign-page", "sandboxed-page", "bent-name", "bent-name-and-page"],
)
def test_a_web_page_may_not_manage_the_models_of_whoever_opens_it(serve, headers):
    with serve() as server:
        assert server.client.get("/probe/admin", headers=headers).status_code == 403
        assert server.client.get("/probe/who", headers=headers).status_code == 200


def test_the_servers_own_page_may_manage(serve):
    with serve() as server:
        own = server.client.get("/probe/admin", headers={"Origin": server.url})
    assert own.status_code == 200


def raw(address, head: str) -> tuple[int, bytes]:
    with socket.create_connection(address, 10) as connection:
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1]), answer
