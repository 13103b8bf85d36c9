"""The handlers that say how we are: /health, and /v1/health with the backends."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
from aiohttp import web

from .. import __version__
from ..backends.fleet import Member
from ..policy.address import is_loopback
from .keys import ACCOUNTS, BOOKS, CLERK, ENGINE, HTTPS, KEY_FILE, LOOP_WATCH, MEMORY, RECORDER, RELOADER, STARTED, WALL
from .reply import json_bytes

__all__ = ["health", "survey"]

# The parts of the daemon whose state says why they do not work.
CAUSES = ("ledger", "store", "recorder", "limits", "https")
# What is wrong with the config.
CONFIG = ("config_problem", "config_held")


async def health(request: web.Request) -> web.Response:
    """GET /health and /v1/health: 200 while we serve, whatever the backends do; they are told one by one. A stranger
    is only told that, once keys are asked for."""
    body = await survey(request.app)
    caller = request[BOOKS].caller
    strict = request.app[ENGINE].snapshot.settings.auth.mode == "on"
    if strict and not caller.admin:
        body = {name: body[name] for name in ("status", "version")}
    elif not caller.admin and not is_loopback(caller.address):
        # Causes name databases, servers, folders and settings, which are no business of other machines.
        body |= {name: hushed(body[name]) for name in CAUSES if name in body}
        for name in CONFIG:
            body.pop(name, None)
    return json_bytes(msgspec.json.encode(body))


def hushed(part: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a part without the cause of its trouble."""
    return {**part, "error": "it cannot be used" if part["error"] else ""}


async def survey(app: web.Application) -> dict[str, Any]:
    """Ask every backend for a sign of life, all at once, and describe the daemon."""
    engine = app[ENGINE]
    await engine.fleet.listed()
    members = list(engine.fleet.members.values())
    backends = await asyncio.gather(*(describe(member) for member in members))
    started, memory = app[STARTED]["at"], app[MEMORY]
    return {
        "status": "ok" if any(b["state"] != "down" for b in backends) and not failing(app) else "degraded",
        "version": __version__,
        "pid": os.getpid(),
        "started": int(started),
        "uptime": round(app[WALL]() - started, 1),
        "config": app[STARTED]["config"],
        **config(app),
        "loop": app[LOOP_WATCH].state(),
        "backends": list(backends),
        "memory": {"held": memory.held, "budget": memory.total, "refused": memory.refused},
        **accounts(app),
    }


def config(app: web.Application) -> dict[str, Any]:
    """Say where the settings in force are not those of the file: what is wrong with it, and what it no longer sets."""
    if (reloader := app.get(RELOADER)) is None:
        return {}
    held = [*map(str, reloader.held), *filter(None, [app[KEY_FILE].problem])]
    return dict(zip(CONFIG, (reloader.problem, held), strict=True))


def failing(app: web.Application) -> bool:
    """Return whether the ledger cannot be written, the database cannot be used, or clients refuse the certificate."""
    https = app.get(HTTPS)
    return app[CLERK].failing or app[ACCOUNTS].presence.away or (https is not None and https.expired)


def accounts(app: web.Application) -> dict[str, Any]:
    """Describe what accounts: the ledger, the recorder, the shared limits, spent budgets and the queues."""
    clerk, engine = app[CLERK], app[ENGINE]
    out: dict[str, Any] = {"auth": engine.snapshot.settings.auth.mode}
    if clerk.ledger is not None:
        out["ledger"] = msgspec.to_builtins(clerk.ledger.state)
    elif clerk.keeps and clerk.fault:
        away = app[ACCOUNTS].presence
        out["ledger"] = {
            "ok": False,
            "waiting": len(clerk.early),
            "dropped": clerk.dropped,
            "error": clerk.fault,
            "since": away.since,
        }
    elif (away := app[ACCOUNTS].presence).away:
        out["store"] = {"ok": False, "error": away.error, "since": away.since}
    if (recorder := app.get(RECORDER)) is not None:
        out["recorder"] = recorder.state._asdict()
        if recorder.reduced:
            out["recorder"]["reduced"] = recorder.reduced
    if engine.snapshot.settings.limits.url:
        shared = clerk.gate.limiter.presence
        out["limits"] = {"shared": True, "ok": not shared.away, "error": shared.error, "since": shared.since}
    if (https := app.get(HTTPS)) is not None:
        out["https"] = https.state()
    out["alerts"] = [msgspec.to_builtins(alert) for alert in clerk.gate.spend.alerts]
    out["queue"] = [
        {"backend": backend, "model": model, "running": running, "waiting": waiting}
        for (backend, model), (running, waiting) in engine.turns.state().items()
    ]
    return out


async def describe(member: Member) -> dict[str, Any]:
    backend = member.backend
    state = await member.check()
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
