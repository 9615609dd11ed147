"""The rival of benchmarks/server_overhead.py: LitServe around the same model of this library.

Runs in the environment of LitServe: ``python litserve_server.py MODEL PORT WORKERS``.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import replace
from typing import Any

import litserve

import openkeypoints as okp
from openkeypoints.settings import Settings


class KeypointAPI(litserve.LitAPI):
    """Base64 in JSON, as LitServe's examples have it; our library behind it, on one thread."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the model."""
        settings = replace(Settings.from_env(), threads=1, streams=1)
        self.model = okp.get_model(sys.argv[1], settings=settings)
        self.model.warmup()

    # LitServe takes an annotation for the schema of the request: so there are none here.
    def decode_request(self, request):
        """Return the picture of a request."""
        return base64.b64decode(request["image"])

    def predict(self, x: bytes) -> Any:
        """Find keypoints."""
        return self.model.infer(x)[0].dict()

    def encode_response(self, output):
        """Return what is sent."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        KeypointAPI(), accelerator="cpu", workers_per_device=int(sys.argv[3])
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False
    )
