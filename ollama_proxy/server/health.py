"""The handlers that say how we are: /health, and /v1/health with the backends."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
from aiohttp import web

from .. import __version__
from ..backends.fleet import Member
from .keys import BOOKS, CLERK, ENGINE, LOOP_WATCH, RECORDER, STARTED, WALL
from .reply import json_bytes

__all__ = ["health", "survey"]


async def health(request: web.Request) -> web.Response:
    """GET /health and /v1/health: 200 while we serve, whatever the backends do; they are told one by one. A stranger
    is only told that, once keys are asked for."""
    body = await survey(request.app)
    strict = request.app[ENGINE].snapshot.settings.auth.mode == "on"
    if strict and not request[BOOKS].caller.admin:
        body = {name: body[name] for name in ("status", "version")}
    return json_bytes(msgspec.json.encode(body))


async def survey(app: web.Application) -> dict[str, Any]:
    """Ask every backend for a sign of life, all at once, and describe the daemon."""
    engine = app[ENGINE]
    await engine.fleet.listed()
    members = list(engine.fleet.members.values())
    backends = await asyncio.gather(*(describe(member) for member in members))
    started = app[STARTED]["at"]
    return {
        "status": "ok" if any(b["state"] != "down" for b in backends) and not failing(app) else "degraded",
        "version": __version__,
        "pid": os.getpid(),
        "started": int(started),
        "uptime": round(app[WALL]() - started, 1),
        "config": app[STARTED]["config"],
        "loop": app[LOOP_WATCH].state(),
        "backends": list(backends),
        **accounts(app),
    }


def failing(app: web.Application) -> bool:
    """Return whether the ledger cannot be written."""
    ledger = app[CLERK].ledger
    return ledger is not None and ledger.failing


def accounts(app: web.Application) -> dict[str, Any]:
    """Describe what accounts: the ledger, the recorder, the shared limits, spent budgets and the queues."""
    clerk, engine = app[CLERK], app[ENGINE]
    out: dict[str, Any] = {"auth": engine.snapshot.settings.auth.mode}
    if clerk.ledger is not None:
        out["ledger"] = msgspec.to_builtins(clerk.ledger.state)
    if (recorder := app.get(RECORDER)) is not None:
        out["recorder"] = recorder.state._asdict()
    if engine.snapshot.settings.limits.url:
        out["limits"] = {"shared": True, "ok": not getattr(clerk.gate.limiter, "gone", False)}
    out["alerts"] = [msgspec.to_builtins(alert) for alert in clerk.gate.spend.alerts]
    out["queue"] = [
        {"backend": backend, "model": model, "running": running, "waiting": waiting}
        for (backend, model), (running, waiting) in engine.turns.state().items()
    ]
    return out


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
