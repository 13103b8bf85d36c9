"""The handlers that say how we are: /health, and /v1/health with the backends."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
from aiohttp import web

from .. import __version__
from ..backends.fleet import Member
from .keys import ENGINE, STARTED, WALL
from .reply import json_bytes

__all__ = ["health", "survey"]


async def health(request: web.Request) -> web.Response:
    """GET /health and /v1/health: 200 while we serve, whatever the backends do; they are told one by one."""
    body = await survey(request.app)
    return json_bytes(msgspec.json.encode(body))


async def survey(app: web.Application) -> dict[str, Any]:
    """Ask every backend for a sign of life, all at once, and describe the daemon."""
    engine = app[ENGINE]
    await engine.fleet.listed()
    members = list(engine.fleet.members.values())
    backends = await asyncio.gather(*(describe(member) for member in members))
    started = app[STARTED]["at"]
    return {
        "status": "ok" if any(b["state"] != "down" for b in backends) else "degraded",
        "version": __version__,
        "pid": os.getpid(),
        "started": int(started),
        "uptime": round(app[WALL]() - started, 1),
        "config": app[STARTED]["config"],
        "backends": list(backends),
    }


async def describe(member: Member) -> dict[str, Any]:
    backend = member.backend
    state = await backend.check()
    return {
        "name": backend.name,
        "type": backend.kind,
        "state": state.state,
        "version": state.version,
        "detail": state.detail,
        "latency_ms": round(state.latency_ms, 1) if state.latency_ms is not None else None,
        "models": len(member.models),
        "running": member.running,
    }
