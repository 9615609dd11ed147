"""The server as a whole: what all answers have, its beginning and end, proxies, browsers."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.server.app import make_app
from openkeypoints.server.config import NamedModel, ServerConfig
from tests.unit.engine.stubs import Shop

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def server(serve):
    with serve() as running:
        yield running


@pytest.mark.parametrize(
    "path", ["/healthz", "/probe/who", "/probe/nothing", "/metrics", "/x/y/z/w"]
)
def test_every_answer_has_an_id_and_may_not_be_guessed_at(server, path):
    headers = server.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert len(headers["x-request-id"]) == 32
    assert "server" not in headers


def test_the_stages_of_an_answer_are_in_its_server_timing(server):
    assert server.client.get("/probe/who").headers["server-timing"] == "work;dur=1.25"
    timing = server.client.post("/probe/infer", json={"model": "person"}).headers["server-timing"]
    assert {part.partition(";")[0] for part in timing.split(", ")} >= {"queue", "run"}


def test_head_answers_as_get_does_without_a_body(server):
    head, get = server.client.head("/healthz"), server.client.get("/healthz")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/x/y/z/w/v", 404), ("DELETE", "/healthz", 405), ("PUT", "/probe/who", 405),
])  # fmt: skip
def test_what_is_no_route_is_told_with_a_detail(server, method, path, status):
    answer = server.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}


def test_what_breaks_is_answered_in_the_words_of_its_surface(server):
    answer = server.client.post("/probe/broken")
    assert (answer.status_code, answer.json()["kind"]) == (500, "InternalError")


def test_health_and_readiness_need_no_key(serve):
    with serve(ServerConfig(port=0, api_key=KEY)) as server:
        assert server.client.get("/healthz").json() == {"status": "healthy"}
        assert server.client.get("/readiness").json() == {"status": "ready"}
        assert server.client.get("/metrics").status_code == 401


def test_the_server_is_ready_when_its_models_are_loaded(serve):
    shop = Shop()
    shop.gate.clear()
    with serve(open_model=shop.open, ready=False) as server:
        assert server.client.get("/healthz").status_code == 200
        assert server.client.get("/readiness").status_code == 503
        shop.gate.set()
        while server.client.get("/readiness").status_code != 200:
            pass
    assert shop.of("person")[0].warmed


def test_a_model_that_cannot_be_loaded_ends_the_server(serve):
    shop = Shop()
    shop.error = WeightsError("The file is broken.")
    with serve(open_model=shop.open) as server:
        assert isinstance(server.context.condition.failure, WeightsError)
        end = time.monotonic() + 20
        while is_answering(server):
            assert time.monotonic() < end


def is_answering(server) -> bool:
    try:
        return server.client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_the_models_that_are_named_are_never_evicted(serve):
    config = ServerConfig(port=0, models=(NamedModel.parse("person"), NamedModel.parse("a/1")))
    with serve(config) as server:
        loaded = server.context.engine.loaded()
    assert {name: entry.pinned for name, entry in loaded.items()} == {"person": True, "a/1": True}


def test_requests_that_run_are_finished_when_the_server_ends(serve):
    answers: list[httpx.Response] = []
    with serve() as server:
        slow = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{server.url}/probe/slow?s=0.8", timeout=20))
        )
        slow.start()
        while not server.context.metrics.running:
            pass
    slow.join(20)
    assert [(a.status_code, a.text) for a in answers] == [(200, "slept")]


PREFLIGHT = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}


def cors(answer: httpx.Response) -> dict[str, str]:
    return {n: v for n, v in answer.headers.items() if n.startswith("access-control")}


@pytest.mark.parametrize("path", ["/probe/who", "/model/add", "/a/1", "/healthz", "/"])
def test_pages_of_other_origins_may_not_read_anything_by_default(server, path):
    assert server.client.options(path, headers=PREFLIGHT).status_code == 405
    assert cors(server.client.options(path, headers=PREFLIGHT)) == {}
    assert cors(server.client.get(path, headers=PREFLIGHT)) == {}


def test_an_origin_that_was_allowed_may_call_and_others_may_not(serve):
    config = ServerConfig(port=0, cors_origins=("https://page.example",))
    network = {"Access-Control-Request-Private-Network": "true"}
    with serve(config) as server:
        preflight = server.client.options("/probe/who", headers=PREFLIGHT)
        inside = server.client.options("/probe/who", headers=PREFLIGHT | network)
        answer = server.client.get("/probe/who", headers=PREFLIGHT)
        other = {**PREFLIGHT, "Origin": "https://evil.example"}
        refused = server.client.options("/probe/who", headers=other)
        foreign = server.client.get("/probe/who", headers=other)
    assert preflight.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
    for reply in (preflight, inside, answer, refused, foreign):
        assert "access-control-allow-credentials" not in reply.headers
        assert "access-control-allow-private-network" not in reply.headers
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers


def test_every_origin_may_be_allowed_and_then_without_credentials(serve):
    with serve(ServerConfig(port=0, cors_origins=("*",))) as server:
        answer = server.client.get("/probe/who", headers=PREFLIGHT)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


FORWARDED = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 10.1.1.1", "X-Forwarded-Proto": "https"}


def test_a_trusted_proxy_says_who_the_client_is(serve):
    networks = ("127.0.0.0/8", "10.0.0.0/8")
    config = ServerConfig(port=0, trusted_proxies=networks, allow_anonymous=True)
    with serve(config) as server:
        told = server.client.get("/probe/who", headers=FORWARDED).json()
        direct = server.client.get("/probe/who").json()
        strange = server.client.get("/probe/who", headers={"X-Forwarded-For": "<x>"}).json()
    assert (told["client"], told["scheme"]) == ("203.0.113.7", "https")
    assert (direct["client"], direct["scheme"]) == ("127.0.0.1", "http")
    assert strange["client"] == "127.0.0.1"


@pytest.mark.parametrize("networks", [(), ("10.0.0.0/8",)])
def test_nobody_else_is_believed(serve, networks):
    config = ServerConfig(port=0, trusted_proxies=networks, allow_anonymous=True)
    with serve(config) as server:
        told = server.client.get("/probe/who", headers=FORWARDED).json()
    assert (told["client"], told["scheme"]) == ("127.0.0.1", "http")


def test_a_root_path_is_taken_with_and_without_it(serve):
    with serve(ServerConfig(port=0, root_path="/keypoints")) as server:
        for path in ("/keypoints/healthz", "/healthz"):
            assert server.client.get(path).status_code == 200
        answer = server.client.get("/keypoints/openapi.json")
        assert answer.json()["servers"] == [{"url": "/keypoints"}]
        again = {"if-none-match": answer.headers["etag"]}
        assert server.client.get("/openapi.json", headers=again).status_code == 304


def test_a_key_file_that_is_not_there_is_told_before_anything_starts(settings, tmp_path):
    with pytest.raises(NotFoundError, match="okp keys add"):
        make_app(ServerConfig(api_keys=tmp_path / "none.json"), settings=settings)


def test_the_application_works_on_any_asgi_server(settings):
    async def ask() -> int:
        app = make_app(ServerConfig(), open_model=Shop().open, settings=settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            return (await client.get("/healthz")).status_code

    assert asyncio.run(ask()) == 200
