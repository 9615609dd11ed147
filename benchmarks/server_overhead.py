"""What the server costs beside its model: CPU time per request, throughput, and doing nothing.

First with a network that does nothing, so that all is overhead but the decoding of the picture,
which the library needs as well: the server itself measures and this takes off its CPU time. Beside
it stands the least that any server in Python does, which also tells how busy the machine was.
Then with YOLOv8n at 640 in f32 beside the library in a process of its own, driven by as many
threads as the server has streams, and beside LitServe around the same library. All runners of a
comparison take turns in short rounds, so that a busy machine troubles them alike; CPU time is that
of all their processes.
The second part needs ``../shared``. Writes benchmarks/reports/server_overhead.*; exits 1 where a
target is missed. LitServe gets an environment of its own in ``build/litserve``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx
from server_process import ROOT, STUB, ServerProcess, running, stub_server

from openkeypoints.cli.machine import cpu
from openkeypoints.cli.wire import Wire
from openkeypoints.settings import Settings

REPORTS = ROOT / "benchmarks" / "reports"
MODEL = ROOT.parent / "shared" / "oracles" / "yolov8n_pose_tubes" / "model.pt"
PICTURE = (ROOT / "src" / "openkeypoints" / "samples" / "people.jpg").read_bytes()
TEXT = base64.b64encode(PICTURE)
LITSERVE = ROOT / "build" / "litserve"
BARE_SERVER = ROOT / "benchmarks" / "bare_server.py"
LITSERVE_NEEDS = ("litserve==0.2.19",)
TIMEOUT_S = 60.0
PEOPLE, CLIENTS = (0, 3), (1, 8)
MAX_STUB_MS = 0.8
MAX_CPU_RATIO = 1.15
MIN_THROUGHPUT = 0.85
MAX_IDLE = 0.005
BOUNDARY = "0f8c1d6be7a94c52b3d0a1e5f6c79820"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Round:
    """What one round of a runner took, per picture.

    Attributes:
        cpu_ms: of all its processes.
        per_s: pictures per second of wall time.
    """

    cpu_ms: float
    per_s: float


Runner = Callable[[int], Round]
"""Does so many pictures."""

# ------------------------------------------------------------------------- runners


def server_runner(server: ServerProcess, make: Callable[[Wire], bytes], clients: int) -> Runner:
    """Return what drives a server by clients that each wait for their answer."""

    async def drive(count: int) -> None:
        wire = Wire(server.url)
        request = make(wire)
        left = iter(range(count))

        async def client() -> None:
            for _ in left:
                reply = await wire.send(request, TIMEOUT_S)
                if reply.status != 200:
                    sys.exit(f"Status {reply.status}: {reply.body[:300]!r}")

        async with wire:
            await asyncio.gather(*(client() for _ in range(clients)))

    def run(count: int) -> Round:
        before, began = server.cpu_s(), time.perf_counter()
        asyncio.run(drive(count))
        wall = time.perf_counter() - began
        return Round((server.cpu_s() - before) / count * 1e3, count / wall)

    return run


@contextlib.contextmanager
def library_runner(threads: int) -> Iterator[Runner]:
    """Run the library in a process of its own; see :func:`be_library`."""
    command = (sys.executable, __file__, "--library", str(threads))
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "benchmarks"))),
    }
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers, questions = process.stdout, process.stdin
        answers.readline()

        def run(count: int) -> Round:
            questions.write(f"{count}\n")
            questions.flush()
            return Round(**json.loads(answers.readline()))

        yield run
        questions.close()


def be_library(threads: int) -> None:
    """Open the model and do as many pictures as each line of standard input says."""
    import openkeypoints as okp  # noqa: PLC0415

    settings = replace(Settings.from_env(), threads=threads, streams=threads)
    with okp.get_model(str(MODEL), settings=settings) as model, ThreadPoolExecutor(threads) as pool:
        model.warmup()
        print("ready", flush=True)
        for line in sys.stdin:
            count = int(line)
            left, lock = iter(range(count)), threading.Lock()

            def work(left: Iterator[int] = left, lock: threading.Lock = lock) -> None:
                while True:
                    with lock:
                        if next(left, None) is None:
                            return
                    model.infer(PICTURE)

            before, began = time.process_time(), time.perf_counter()
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
            wall = time.perf_counter() - began
            spent = (time.process_time() - before) / count * 1e3
            print(json.dumps({"cpu_ms": spent, "per_s": count / wall}), flush=True)


@contextlib.contextmanager
def litserve(workers: int) -> Iterator[ServerProcess]:
    """Run LitServe; its environment is made where it is not there."""
    python = LITSERVE / "bin" / "python"
    ready = LITSERVE / ".ready"
    if not ready.is_file():
        venv.create(LITSERVE, with_pip=True)
        pip = (python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", ROOT)
        subprocess.run(pip, check=True)
        subprocess.run((*pip[:4], *LITSERVE_NEEDS), check=True)
        ready.touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Its own first line is none of ours: a shell says what this port is.
    program = f'echo \'{{"url": "http://127.0.0.1:{port}"}}\'; exec "$@"'
    command = (python, ROOT / "benchmarks" / "litserve_server.py", MODEL, str(port), str(workers))
    server = ServerProcess(("sh", "-c", program, "sh", *command))
    try:
        yield server.ready("/health")
    finally:
        server.stop()


# ------------------------------------------------------------------------- requests


def raw(model: str) -> Callable[[Wire], bytes]:
    """Return what makes the request of our own route."""
    return lambda wire: wire.request("POST", f"/v1/models/{model}/predict", PICTURE)


def legacy(model: str) -> Callable[[Wire], bytes]:
    """Return what makes the request of Roboflow's clients."""
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    return lambda wire: wire.request("POST", f"/{model}", TEXT, head)


def form(model: str) -> Callable[[Wire], bytes]:
    """Return what makes the request of Ultralytics' clients."""
    head = 'Content-Disposition: form-data; name="image"; filename="a.jpg"'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + PICTURE
    body += f"\r\n--{BOUNDARY}--\r\n".encode()
    return lambda wire: wire.request("POST", f"/v1/predict/{model}", body, FORM)


def as_json(wire: Wire) -> bytes:
    """Return the request of LitServe."""
    body = json.dumps({"image": TEXT.decode()}).encode()
    return wire.request("POST", "/predict", body, {"Content-Type": "application/json"})


BARE = "raw bytes, Starlette alone"
ROUTES = {"raw bytes, ours": raw, "base64, Roboflow's": legacy, "form, Ultralytics'": form}

# ------------------------------------------------------------------------- parts


def stub(rounds: int, count: int) -> dict[str, Any]:
    """Measure requests whose network does nothing, on pictures without and with people.

    Each sample stands between two of Starlette alone: what others do on the machine makes both
    dearer, and their ratio little.
    """
    cells = [(people, clients) for people in PEOPLE for clients in CLIENTS]
    with contextlib.ExitStack() as stack:
        servers = {n: stack.enter_context(stub_server(0.0, 2, people=n)) for n in PEOPLE}
        bare = stack.enter_context(running((sys.executable, BARE_SERVER)))
        yardsticks = {clients: server_runner(bare, raw(STUB), clients) for clients in CLIENTS}
        runners = {
            (name, people, clients): server_runner(servers[people], make(STUB), clients)
            for name, make in ROUTES.items()
            for people, clients in cells
        }
        decoding: dict[str, list[float]] = {name: [] for name in (BARE, *ROUTES)}
        found: dict[Any, list[float]] = {key: [] for key in runners}
        ratios: dict[Any, list[float]] = {key: [] for key in runners}
        alone: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        for runner in (*yardsticks.values(), *runners.values()):
            runner(60)

        def beyond(name: str, server: ServerProcess, runner: Runner) -> float:
            before = server.decoding_s()
            spent = runner(count).cpu_ms
            decode = (server.decoding_s() - before) / count * 1e3
            decoding[name].append(decode)
            return spent - decode

        for _ in range(rounds):
            for clients in CLIENTS:
                alone[clients].append(beyond(BARE, bare, yardsticks[clients]))
                for key in (key for key in runners if key[2] == clients):
                    found[key].append(beyond(key[0], servers[key[1]], runners[key]))
                    alone[clients].append(beyond(BARE, bare, yardsticks[clients]))
                    ratios[key].append(2 * found[key][-1] / sum(alone[clients][-2:]))
        idle = max(_idle({str(n): server for n, server in servers.items()}).values())
    middle = statistics.median
    medians = {key: middle(values) for key, values in found.items()}
    lines = [
        "| request | decoding | nobody, 1 client | nobody, 8 clients | 3 people, 1 | 3 people, 8 |",
        "| --- | --: | --: | --: | --: | --: |",
        f"| {BARE} | {middle(decoding[BARE]):.2f} | "
        + " | ".join(f"{middle(alone[clients]):.2f}" for clients in CLIENTS)
        + " | | |",
    ]
    lines += [
        f"| {name} | {middle(decoding[name]):.2f} | "
        + " | ".join(
            f"{medians[name, *cell]:.2f} ({middle(ratios[name, *cell]):.1f}x)" for cell in cells
        )
        + " |"
        for name in ROUTES
    ]
    note = (
        "CPU-ms of decoding in the server (of base64 too, where it is sent), and of all that a "
        "request takes beyond it, the stub's own 0.03 included: where the stub finds nobody, and "
        "where it finds three people of 17 keypoints, whose answer has to be made and written. "
        f"Medians of {rounds} samples of {count} requests; the target of ours is {MAX_STUB_MS}. "
        "Starlette alone is benchmarks/bare_server.py: a body, a thread that decodes it, two "
        "numbers back; no limits, keys, queue, log or metrics. It is measured before and after "
        "each sample, and in brackets is the median of the ratios to it: where the machine is not "
        "quiet, all of them rise, and the ratios stay."
    )
    lines += ["", note]
    missed = [
        f"{name}, {people} people, {clients} clients: {value:.2f} ms beyond decoding"
        for (name, people, clients), value in medians.items()
        if value > MAX_STUB_MS
    ]
    named = {f"{n}, {p} people, {c} clients": (n, p, c) for n, p, c in runners}
    return {
        "cpu_ms": {name: round(medians[key], 3) for name, key in named.items()},
        "to_starlette_alone": {name: round(middle(ratios[k]), 3) for name, k in named.items()},
        "starlette_alone": {f"{c} clients": round(middle(v), 3) for c, v in alone.items()},
        "idle": idle,
        "missed": missed,
        "text": "\n".join(lines),
    }


def real(rounds: int, count: int, *, rival: bool) -> dict[str, Any]:
    """Measure the server, the library and LitServe with a real network."""
    streams = cpu()["cores"]
    serve = (sys.executable, "-m", "openkeypoints.cli", "serve", "--json", "--port", "0")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running((*serve, "--model", f"tubes={MODEL}")))
        told = httpx.get(f"{server.url}/v1/models/tubes", trust_env=False, timeout=60).json()
        runners = {
            "the library": stack.enter_context(library_runner(streams)),
            "okp serve, 1 client": server_runner(server, raw("tubes"), 1),
            f"okp serve, {2 * streams} clients": server_runner(server, raw("tubes"), 2 * streams),
            "okp serve, 8 clients": server_runner(server, raw("tubes"), 8),
        }
        idle = {"okp serve": server}
        if rival:
            lit = stack.enter_context(litserve(streams))
            runners[f"LitServe, {2 * streams} clients"] = server_runner(lit, as_json, 2 * streams)
            idle["LitServe"] = lit
        found: dict[str, list[Round]] = {name: [] for name in runners}
        for runner in runners.values():
            runner(2 * count)
        for _ in range(rounds):
            for name, runner in runners.items():
                found[name].append(runner(count))
        shares = _idle(idle)
    return {**_compared(found), "idle": shares, "streams": streams, "precision": told["precision"],
            "rounds": rounds, "count": count}  # fmt: skip


def _idle(servers: dict[str, ServerProcess], seconds: float = 20.0) -> dict[str, float]:
    before = {name: server.cpu_s() for name, server in servers.items()}
    time.sleep(seconds)
    return {n: round((s.cpu_s() - before[n]) / seconds, 5) for n, s in servers.items()}


def _compared(found: dict[str, list[Round]]) -> dict[str, Any]:
    base = found["the library"]
    rows = {}
    for name, rounds in found.items():
        ratios = [a.cpu_ms / b.cpu_ms for a, b in zip(rounds, base, strict=True)]
        speeds = [a.per_s / b.per_s for a, b in zip(rounds, base, strict=True)]
        rows[name] = {
            "cpu_ms": round(statistics.median(r.cpu_ms for r in rounds), 2),
            "per_s": round(statistics.median(r.per_s for r in rounds), 2),
            "cpu_ratio": round(statistics.median(ratios), 3),
            "speed_ratio": round(statistics.median(speeds), 3),
        }
    return {"rows": rows}


def judge(found: dict[str, Any]) -> None:
    """Add text and missed targets to the figures of the real network."""
    lines = [
        "| | CPU-ms per picture | : library | pictures per s | : library | idle, of a core |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    missed = []
    for name, row in found["rows"].items():
        idle = found["idle"].get(name.partition(",")[0])
        shown = "" if idle is None else f"{idle:.2%}"
        lines.append(
            f"| {name} | {row['cpu_ms']:.1f} | {row['cpu_ratio']:.2f} | {row['per_s']:.1f} "
            f"| {row['speed_ratio']:.2f} | {shown} |"
        )
        if name.startswith("okp") and row["cpu_ratio"] > MAX_CPU_RATIO:
            missed.append(f"{name}: CPU {row['cpu_ratio']:.2f} times the library's")
    full = found["rows"][f"okp serve, {2 * found['streams']} clients"]["speed_ratio"]
    if full < MIN_THROUGHPUT:
        missed.append(f"throughput {full:.2f} of the library's")
    if found["idle"]["okp serve"] > MAX_IDLE:
        missed.append(f"idle {found['idle']['okp serve']:.2%} of a core")
    note = (
        f"YOLOv8n pose at 640 in {found['precision']}, {found['streams']} streams; the library in "
        f"{found['streams']} threads; medians of {found['rounds']} rounds of {found['count']} "
        f"pictures in turns. Targets: CPU {MAX_CPU_RATIO}, throughput {MIN_THROUGHPUT} with "
        f"{2 * found['streams']} clients, idle {MAX_IDLE:.1%}. LitServe runs the same library "
        "on one thread in each of as many workers."
    )
    lines += ["", note]
    found |= {"text": "\n".join(lines), "missed": missed}


def main() -> None:
    """Measure, write the report, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=40, help="pictures of a round")
    parser.add_argument("--no-rival", dest="rival", action="store_false")
    parser.add_argument("--parts", nargs="+", default=["stub", "real"])
    parser.add_argument("--try", dest="trial", action="store_true", help="write no report")
    parser.add_argument("--library", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.library:
        be_library(arguments.library)
        return
    found: dict[str, dict[str, Any]] = {}
    if "stub" in arguments.parts:
        found["A network that does nothing"] = stub(arguments.rounds, 5 * arguments.count)
        print(found["A network that does nothing"]["text"], flush=True)
    if "real" in arguments.parts and MODEL.is_file():
        part = real(arguments.rounds, arguments.count, rival=arguments.rival)
        judge(part)
        found["A real network"] = part
        print(part["text"], flush=True)
    missed = [f"{name}: {what}" for name, part in found.items() for what in part["missed"]]
    verdict = "Missed:\n\n" + "\n".join(f"- {m}" for m in missed) if missed else "All targets hold."
    print(verdict)
    if not arguments.trial:
        facts = cpu()
        note = (
            f"{facts['cores']} cores, {facts['architecture']}, with {', '.join(facts['flags'])}; "
            f"Python {platform.python_version()}; clients and servers on one machine, load average "
            f"at the end {os.getloadavg()[0]:.1f}."
        )
        text = "\n\n".join(f"## {name}\n\n{part['text']}" for name, part in found.items())
        page = f"# What the server costs\n\n{note}\n\n{text}\n\n{verdict}\n"
        (REPORTS / "server_overhead.md").write_text(page, encoding="utf-8")
        figures = {n: {k: v for k, v in p.items() if k != "text"} for n, p in found.items()}
        (REPORTS / "server_overhead.json").write_text(
            json.dumps(figures, indent=1) + "\n", encoding="utf-8"
        )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
