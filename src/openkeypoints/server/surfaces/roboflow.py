"""Roboflow's inference server, as its clients know it."""

from __future__ import annotations

from fastapi import APIRouter

from openkeypoints.server.config import ServerConfig
from openkeypoints.server.surfaces import roboflow_json, roboflow_legacy, roboflow_registry


def router(config: ServerConfig) -> APIRouter:  # noqa: ARG001  # every surface gets the options
    """Return the routes; the last of them take any path of one or two segments."""
    routes = APIRouter()
    for part in (*roboflow_registry.routers(), roboflow_json.router(), roboflow_legacy.router()):
        # Not included: each inclusion makes FastAPI match its routes twice, for every request.
        routes.routes.extend(part.routes)
    return routes
