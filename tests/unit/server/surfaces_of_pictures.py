"""Every way in which a picture gets into the server, as one table for the tests of threats."""

from __future__ import annotations

import base64
from collections.abc import Callable

import httpx

from tests.live_server import LiveServer

MODEL = "person"
Send = Callable[[httpx.Client, str], httpx.Response]

TEXTS: dict[str, Send] = {
    "legacy": lambda c, text: c.post(f"/{MODEL}/1", params={"image": text}),
    "legacy-get": lambda c, text: c.get(f"/{MODEL}", params={"image": text}),
    "json": lambda c, text: _json(c, "url", text),
    "rows": lambda c, text: c.post(f"/v1/predict/{MODEL}", data={"url": text}),
    "shared": lambda c, text: c.post("/predict", data={"model": MODEL, "source": text}),
    "latest": lambda c, text: c.post(f"/api/models/a/b/{MODEL}/predict", data={"source": text}),
    "native": lambda c, text: c.post(f"/v1/models/{MODEL}/predict", json={"image": text}),
}
"""Ways to name a picture's address."""

BYTES: dict[str, Callable[[httpx.Client, bytes], httpx.Response]] = {
    "legacy": lambda c, data: c.post(
        f"/{MODEL}/1",
        content=base64.b64encode(data),
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    "json": lambda c, data: _json(c, "base64", base64.b64encode(data).decode()),
    "rows": lambda c, data: c.post(f"/v1/predict/{MODEL}", files={"image": data}),
    "latest": lambda c, data: c.post(f"/api/models/a/b/{MODEL}/predict", files={"file": data}),
    "native": lambda c, data: c.post(f"/v1/models/{MODEL}/predict", content=data),
}
"""Ways to send a picture's bytes."""


def _json(client: httpx.Client, kind: str, text: str) -> httpx.Response:
    body = {"model_id": f"{MODEL}/1", "image": {"type": kind, "value": text}}
    return client.post("/infer/keypoints_detection", json=body)


def said(response: httpx.Response) -> str:
    """Return the message of an error, in whichever envelope."""
    body = response.json()
    return str(body.get("message") or body.get("error") or body.get("detail"))


def others(seen: list[tuple[str, str]], server: LiveServer) -> list[tuple[str, str]]:
    """Return the connections that are not those of the test's own client."""
    return [entry for entry in seen if entry[1] != repr(server.address)]
