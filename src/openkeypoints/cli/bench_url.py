"""``okp bench --url``: how fast a server answers at a given rate, ours or another's."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from openkeypoints.cli.load import Outcome, offer, percentile
from openkeypoints.cli.progress import Bar
from openkeypoints.cli.tables import listing, table
from openkeypoints.cli.wire import BrokenAnswerError, Reply, Wire
from openkeypoints.errors import DownloadError, InputError
from openkeypoints.urls import shown_url

MOST_WAITING = 1000
_PERCENTILES = (50, 95, 99)
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how it is asked.

    Attributes:
        url: ``http(s)://HOST[:PORT][/BASE]``.
        route: ``roboflow``, ``ultralytics`` or ``native``.
        model: id; Roboflow's routes want ``ID/VERSION``, and ``/1`` is added to an id without one.
        key: of the server, if it wants one.
        rate: requests per second.
        seconds: in which they are sent.
        timeout_s: after which an answer is not waited for.
    """

    url: str
    route: str
    model: str
    key: str | None
    rate: float
    seconds: float
    timeout_s: float


def measure_url(target: Target, picture: Path, *, as_json: bool) -> None:
    """Measure a server and print the figures.

    Raises:
        InputError: the address is none.
        DownloadError: the server does not answer, or not with predictions.
    """
    wire = Wire(target.url)
    data = picture.read_bytes()
    request = build(wire, target, data)
    with Bar(1, "servers") as bar:
        first, outcome = asyncio.run(_measure(wire, request, target))
        bar.update(1)
    report = figures(target, outcome, first_s=first, picture_bytes=len(data))
    click.echo(json.dumps(report) if as_json else page(report))


def build(wire: Wire, target: Target, data: bytes) -> bytes:
    """Return the request that a route's clients send."""
    key = target.key
    if target.route == "roboflow":
        model = target.model if "/" in target.model else f"{target.model}/1"
        query = "" if key is None else f"?api_key={quote(key, safe='')}"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return wire.request("POST", f"/{quote(model)}{query}", base64.b64encode(data), kind)
    if target.route == "ultralytics":
        boundary = secrets.token_hex(16)
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"'
            "\r\nContent-Type: image/jpeg\r\n\r\n"
        ).encode() + data
        body += f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        headers |= {} if key is None else {"x-api-key": key}
        return wire.request("POST", f"/v1/predict/{quote(target.model)}", body, headers)
    headers = {"Content-Type": "application/octet-stream"}
    headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
    return wire.request("POST", f"/v1/models/{quote(target.model)}/predict", data, headers)


async def _measure(wire: Wire, request: bytes, target: Target) -> tuple[float, Outcome]:
    async with wire:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await _first(wire, request, target)
        first = loop.time() - began
        outcome = await offer(
            lambda: wire.send(request, target.timeout_s),
            rate=target.rate,
            seconds=target.seconds,
            most=MOST_WAITING,
        )
    return first, outcome


async def _first(wire: Wire, request: bytes, target: Target) -> None:
    """Ask once, which may load the model; an answer that says no ends it all.

    A server that is busy with others is measured all the same.
    """
    shown = shown_url(target.url)
    try:
        reply = await wire.send(request, target.timeout_s)
    except TimeoutError:
        raise DownloadError(
            f"{shown} gave no answer within {target.timeout_s:g} s: give it more --timeout."
        ) from None
    except (OSError, BrokenAnswerError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DownloadError(f"{shown} does not answer ({reason}): is it running there?") from None
    if reply.status not in _BUSY and not 200 <= reply.status < 300:
        raise DownloadError(
            f"{shown} answers {reply.status} to a picture for {target.model!r}: {_said(reply)!r}. "
            "See --route, --model and --key."
        )


def _said(reply: Reply) -> str:
    return " ".join(reply.body[:200].decode("utf-8", "replace").split())


def figures(
    target: Target, outcome: Outcome, *, first_s: float, picture_bytes: int
) -> dict[str, Any]:
    """Return what was measured, ready for JSON; times in ms."""
    statuses = {}
    for status, took in sorted(outcome.took.items()):
        statuses[str(status)] = {"count": len(took), **_times(took)}
    answered = len(outcome.answered)
    return {
        "url": shown_url(target.url),
        "route": target.route,
        "model": target.model,
        "picture_bytes": picture_bytes,
        "offered_per_s": target.rate,
        "seconds": target.seconds,
        "requests": outcome.due,
        "answered": answered,
        "answered_per_s": round(answered / max(outcome.latest_s, target.seconds), 2),
        "first_ms": round(first_s * 1e3, 2),
        "latency_ms": _times(outcome.answered),
        "statuses": statuses,
        "failures": dict(outcome.failures),
        "not_sent": outcome.not_sent,
        "refusals_without_retry_after": outcome.silent,
    }


def _times(took: list[float]) -> dict[str, float | None]:
    found = {f"p{q}": percentile(took, q) for q in _PERCENTILES} | {"max": max(took, default=None)}
    return {name: None if value is None else round(value * 1e3, 2) for name, value in found.items()}


def page(report: dict[str, Any]) -> str:
    """Return the figures for people."""
    facts = {
        "server": report["url"],
        "route": report["route"],
        "model": report["model"],
        "offered": f"{report['offered_per_s']:g} requests per second for {report['seconds']:g} s",
        "answered": f"{report['answered']} of {report['requests']}, "
        f"{report['answered_per_s']:g} per second",
        "first": f"{report['first_ms']:g} ms, the loading of the model included",
    }
    names = ["p50", "p95", "p99", "max"]
    rows: list[list[object]] = [
        [status, of["count"], *(of[name] for name in names)]
        for status, of in report["statuses"].items()
    ]
    none = [""] * len(names)
    rows += [[name, count, *none] for name, count in report["failures"].items()]
    if report["not_sent"]:
        rows.append([f"not sent: {MOST_WAITING} waited", report["not_sent"], *none])
    notes = "ms from the moment at which a request was due to the end of its answer."
    if silent := report["refusals_without_retry_after"]:
        notes += f" {silent} refusals did not say when to come again (Retry-After)."
    return f"{listing(facts)}\n\n{table(['status', 'count', *names], rows)}\n\n{notes}"


def reject_mixture(given: set[str], url: str | None) -> None:
    """Refuse options that belong to the other half of the command.

    Args:
        given: names of the options that the command line has.
        url: what ``--url`` says.

    Raises:
        InputError: some mean nothing here.
    """
    here = {"card", "runtimes", "device", "precision", "rounds"}
    there = {"route", "rate", "seconds", "timeout_s", "key"}
    if wrong := sorted(given & (there if url is None else here)):
        named = {"runtimes": "runtime", "timeout_s": "timeout"}
        names = ", ".join(f"--{named.get(name, name)}" for name in wrong)
        why = "goes with --url alone" if url is None else "does not go with --url"
        raise InputError(f"{names} {why}: leave it out.")
