"""The metrics: the names that people have dashboards for, and a bounded number of series."""

from __future__ import annotations

import re

from openkeypoints.server.metrics import MAX_MODELS, Metrics

LINE = re.compile(
    r'[a-z_]+(\{[a-z]+="([^"\\]|\\.)*"(,[a-z]+="([^"\\]|\\.)*")*\})? [0-9.e+-]+|# (HELP|TYPE) .+'
)


def series(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_the_names_that_clients_read_are_there(serve):
    with serve() as server:
        server.client.post("/probe/infer", json={"model": "person"})
        answer = server.client.get("/metrics")
    found = series(answer.text)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert found["num_inferences_total"] == 1
    assert found["num_errors_total"] == 0
    assert found["avg_inference_time_total"] > 0
    assert found['num_inferences{model="person"}'] == 1
    assert found['http_requests_total{handler="/probe/infer",method="POST",status="2xx"}'] == 1
    assert found['okp_model_ready{model="person"}'] == 1
    assert found["process_resident_memory_bytes"] > 1e6


def test_every_line_is_one_that_prometheus_reads(serve):
    with serve() as server:
        server.client.post("/probe/infer", json={"model": "person"})
        server.client.get("/probe/nothing")
        text = server.client.get("/metrics").text
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []


def test_each_name_is_described_once(serve):
    with serve() as server:
        server.client.post("/probe/infer", json={"model": "person"})
        text = server.client.get("/metrics").text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len({line.split()[2] for line in types})


def test_nobody_makes_series_by_asking_for_what_is_not_there(serve):
    def ask(server, start: int, count: int) -> int:
        for n in range(start, start + count):
            server.client.get(f"/probe/{n}")
            server.client.get(f"/nowhere-{n}/at/all/{n}")
            server.client.put(f"/metrics?{n}")
        return len(series(server.client.get("/metrics").text))

    with serve() as server:
        ask(server, 0, 1)
        before = ask(server, 1, 1)
        assert ask(server, 2, 60) == before


def test_unknown_models_count_as_other():
    metrics = Metrics()
    metrics.serve("known")
    for n in range(10_000):
        metrics.inference(f"model-{n}", 0.1, 1, {"run": 1.0})
        metrics.error(f"model-{n}")
    metrics.inference("known", 0.1, 1, {})
    found = series(metrics.text())
    models = {name for name in found if "model=" in name}
    assert {re.search('model="(.*)"', name)[1] for name in models} == {"known", "other"}  # type: ignore[index]
    assert found["num_inferences_total"] == 10_001


def test_so_many_models_have_series_and_the_others_share_one():
    metrics = Metrics()
    for n in range(1000):
        metrics.serve(f"m{n}")
        metrics.inference(f"m{n}", 0.1, 1, {})
    names = [name for name in series(metrics.text()) if name.startswith("num_inferences{")]
    assert len(names) == MAX_MODELS + 1


def test_a_histogram_counts_below_each_bound():
    metrics = Metrics()
    for seconds in (0.004, 0.2, 99.0):
        metrics.request("/x", "GET", 200, seconds)
    found = series(metrics.text())
    labels = 'handler="/x",method="GET"'
    name = "http_request_duration_seconds"
    assert found[f'{name}_bucket{{{labels},le="0.005"}}'] == 1
    assert found[f'{name}_bucket{{{labels},le="0.25"}}'] == 2
    assert found[f'{name}_bucket{{{labels},le="+Inf"}}'] == found[f"{name}_count{{{labels}}}"] == 3


def test_what_is_turned_away_is_counted_by_its_reason(serve):
    with serve() as server:
        server.context.engine.draining = True
        answer = server.client.post("/probe/infer", json={"model": "person"})
        found = series(server.client.get("/metrics").text)
    assert answer.status_code == 503
    assert found['okp_rejected_total{reason="draining"}'] == 1
    assert found["num_errors_total"] == 1
