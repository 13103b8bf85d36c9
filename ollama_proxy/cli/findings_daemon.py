"""How the daemon is from outside: whether it runs and answers, who has its port, and whether the clocks agree."""

from __future__ import annotations

import asyncio
import email.utils
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from .. import __version__
from ..backends.ollama import resolve_url
from ..policy.lag import BLOCKED
from ..policy.redact import redact_url
from .client import ApiError, connect
from .findings import Finding, Scene, State
from .status import trouble

__all__ = ["check_clock", "check_daemon", "check_ports"]

# How long a backend may take to tell its time, and whoever has our port to say that it is one of us (seconds).
ASKED = aiohttp.ClientTimeout(total=3)
KNOCKED = aiohttp.ClientTimeout(total=1)
# A clock may differ by so much (seconds): more, and expiries, budgets and certificates go wrong.
SKEW = 60
# No copy of this program was run before 2025-01-01, so a clock that says so has lost its time.
EPOCH = 1_735_689_600


async def check_daemon(scene: Scene) -> list[Finding]:
    """Ask the daemon how it is."""
    state = scene.running
    if state is None:
        return [Finding("daemon", "note", "none runs", "", "oproxy serve --detach")]
    try:
        async with connect(None) as api:
            if api.inside:
                return [Finding("daemon", "note", "it has just ended", "", "oproxy serve --detach")]
            health = await api.get("/v1/health")
    except ApiError as exc:
        what = f"process {state.pid} holds the place but does not answer: {exc.message}"
        return [Finding("daemon", "broken", what, state.url, "oproxy stop --force, then oproxy serve --detach")]
    found = [Finding("daemon", "ok", f"process {state.pid} answers, oproxy {health['version']}", f"{state.url}/v1")]
    if health["version"] != __version__:
        what = f"it is oproxy {health['version']}, and this command is {__version__}"
        found.append(Finding("daemon", "warning", what, state.url, "oproxy stop, then oproxy serve --detach"))
    found += loop_finding(health.get("loop"), state.log)
    found += failing_parts(health, state.url)
    found += config_findings(health)
    return found


def config_findings(health: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield where the settings of the daemon are not those of its file."""
    where = str(health.get("config", ""))
    if problem := health.get("config_problem"):
        yield Finding("daemon", "warning", " ".join(problem.split()), where, "oproxy config edit")
    for held in health.get("config_held", ()):
        yield Finding("daemon", "warning", held, where, "oproxy config edit")


def loop_finding(loop: dict[str, Any] | None, log: str | None) -> list[Finding]:
    """Warn of an event loop that was blocked in the last minute. A daemon that is older does not tell."""
    if loop is None or loop["max_ms"] <= BLOCKED * 1000:
        return []
    what = f"it answered nobody for {loop['max_ms']:.0f} ms in the last minute"
    return [Finding("daemon", "warning", what, log or "", "the daemon's log names the requests of that time")]


def failing_parts(health: dict[str, Any], url: str) -> Iterator[Finding]:
    """Say which parts of the daemon do not work at the moment. It tries each of them again by itself."""
    mend = "mend the cause; the daemon then goes on by itself"
    ledger = health.get("ledger")
    if ledger is not None and not ledger["ok"]:
        what = f"its ledger fails {trouble(ledger)}; {ledger['waiting']} rows wait, {ledger['dropped']} are lost"
        yield Finding("daemon", "broken", what, url, mend)
    if (store := health.get("store")) is not None:
        yield Finding("daemon", "broken", f"its database fails {trouble(store)}", url, mend)
    recorder = health.get("recorder")
    if recorder is not None and recorder["error"]:
        counts = f"{recorder['waiting']} wait, {recorder['dropped']} are not recorded"
        what = f"it cannot write the requests' log: {recorder['error']}; {counts}"
        yield Finding("daemon", "broken", what, url, mend)
    limits = health.get("limits")
    if limits is not None and not limits["ok"]:
        yield Finding("daemon", "broken", f"the server of its limits is away {trouble(limits)}", url, mend)
    https = health.get("https")
    if https is not None and not https["ok"]:
        yield Finding("daemon", "broken", f"its HTTPS fails {trouble(https)}", url, mend)


# --- ports --------------------------------------------------------------------------------------------------------


async def check_ports(scene: Scene) -> list[Finding]:
    """Tell of each port whether it is free, ours or somebody else's."""
    server, tls = scene.settings.server, scene.settings.tls
    ports = [] if tls.mode != "off" and tls.only else [server.port]
    ports += [tls.port] if tls.mode != "off" else []
    found = await asyncio.gather(*(port_finding(scene, server.host, port) for port in ports))
    if len(ports) != len(set(ports)):
        where, remedy = "tls.port", f"oproxy config set tls.port {server.port + 1}"
        found.append(Finding("port", "broken", "HTTP and HTTPS cannot have the same port", where, remedy))
    return list(found)


async def port_finding(scene: Scene, host: str, port: int) -> Finding:
    place = f"{host}:{port}"
    mine = scene.running is not None and port in ours(scene)
    taken = await asyncio.to_thread(listens, host, port)
    if mine and taken:
        return Finding("port", "ok", f"port {port} is the daemon's", place)
    if not taken:
        if scene.running is not None:
            what = f"nobody listens on port {port}; the daemon that runs was started with other settings"
            return Finding("port", "note", what, place, "oproxy stop, then oproxy serve --detach")
        return Finding("port", "ok", f"port {port} is free", place)
    remedy = f"end that program, or take another port: oproxy config set server.port {port + 1}"
    who = await stranger(port) or await asyncio.to_thread(listener, port)
    state: State = "broken" if scene.running is None else "warning"
    return Finding("port", state, f"port {port} is taken by {who or 'another program'}", place, remedy)


def ours(scene: Scene) -> set[int | None]:
    """Return the ports of the running daemon; it tells one, and has the other of the same settings beside it."""
    assert scene.running is not None
    told = urlsplit(scene.running.url).port
    server, tls = scene.settings.server, scene.settings.tls
    both: set[int | None] = {server.port, tls.port} if tls.mode != "off" else {server.port}
    return both if told in both else {told}


def listens(host: str, port: int) -> bool:
    """Return whether anybody accepts connections there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


async def stranger(port: int) -> str:
    """Return what listens on a port if it is an oproxy too (of another user, or with another home)."""
    try:
        async with (
            aiohttp.ClientSession(timeout=KNOCKED, trust_env=False) as session,
            session.get(f"http://127.0.0.1:{port}/health") as response,
        ):
            told = await response.json(content_type=None)
            return f"another oproxy (process {int(told['pid'])})" if {"version", "backends"} <= set(told) else ""
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
        return ""


def listener(port: int) -> str:
    """Return the program that listens on a port, as far as the system tells us."""
    program = shutil.which("lsof")
    if program is None or sys.platform == "win32":
        return ""
    try:
        done = subprocess.run(
            [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"], capture_output=True, text=True, timeout=4
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    told = {line[0]: line[1:] for line in reversed(done.stdout.splitlines()) if line}
    return f"{told['c']} (process {told['p']})" if {"c", "p"} <= set(told) else ""


# --- clock --------------------------------------------------------------------------------------------------------


async def check_clock(scene: Scene) -> list[Finding]:
    """Compare this machine's clock with what else tells the time: files, the daemon's start, the backends."""
    now = scene.wall()
    remedy = "set the clock, e.g. timedatectl set-ntp true"
    if now < EPOCH:
        return [Finding("clock", "broken", "it is years behind", "", remedy)]
    found = []
    if scene.running is not None and scene.running.started > now + SKEW:
        what = "it was set back since the daemon was started"
        found.append(Finding("clock", "warning", what, "", "oproxy stop, then oproxy serve --detach"))
    for path in (scene.state / "daemon.json", scene.data, scene.loaded.path if scene.loaded is not None else None):
        if path is not None and path.exists() and path.stat().st_mtime > now + SKEW:
            found.append(Finding("clock", "warning", "it is behind the time of a file", str(path), remedy))
            break
    found += await backends_clocks(scene)
    return found or [Finding("clock", "ok", "it agrees with what else tells the time")]


async def backends_clocks(scene: Scene) -> list[Finding]:
    urls = {}
    for name, backend in scene.settings.backends.items():
        if backend.type != "embedded":
            urls[name] = resolve_url(backend.url, scene.env) if backend.type == "ollama" else backend.url
    async with aiohttp.ClientSession(timeout=ASKED, trust_env=False) as session:
        skews = await asyncio.gather(*(skew(session, url, scene) for url in urls.values()))
    return [
        Finding(
            "clock",
            "warning",
            f"it is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} that of the backend {name}",
            redact_url(urls[name]),
            "set the clock of both machines by NTP",
        )
        for name, off in zip(urls, skews, strict=True)
        if abs(off) > SKEW
    ]


async def skew(session: aiohttp.ClientSession, url: str, scene: Scene) -> float:
    """Return by how many seconds a server's clock is ahead of ours, by its Date header; 0 where it tells none."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            told = response.headers.get("date", "")
        return email.utils.parsedate_to_datetime(told).timestamp() - scene.wall()
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return 0.0
