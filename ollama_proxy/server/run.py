"""The application on a port, from the first connection to the last: listen, obey signals, end with grace.

Never decides what is served (`app.py` does) and never prints; what is told to a person goes through the callbacks.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..daemon import DaemonError
from ..tasks import Tasks
from .keys import TASKS

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

__all__ = ["Ending", "base_url", "is_loopback", "run", "serve_app"]

# After the grace time aiohttp waits this long twice, in vain by then, before it cancels the handlers (seconds).
CUT = 0.1
# Within this time idle connections are closed; what is still open then is a running answer (seconds).
SETTLE = 0.05


class Ending:
    """The wish to end, and whether it is urgent. The first `ask` starts the grace time, the second ends it."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.urgent = asyncio.Event()

    def ask(self) -> None:
        if self.wanted.is_set():
            self.urgent.set()
        self.wanted.set()


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` to its end on the fastest loop there is."""

    async def outer() -> None:
        await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        runner.run(outer())


async def serve_app(
    app: web.Application,
    *,
    host: str,
    port: int,
    grace: Callable[[], float],
    keepalive: float,
    ready: Callable[[str], Awaitable[None]],
    leaving: Callable[[int], None],
    reload: Callable[[], None],
    ending: Ending | None = None,
) -> None:
    """Serve until a signal (or `ending`) says to end; running answers get `grace()` seconds to finish.

    `ready` is run with the base URL once connections are accepted, `leaving` is told how many are still busy when the
    end begins, `reload` is called on SIGHUP. Raises DaemonError when the address cannot be listened on.
    """
    ending = ending or Ending()
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=CUT, keepalive_timeout=keepalive
    )
    await runner.setup()
    try:
        await listen(runner, host, port)
        obey(ending, reload)
        app[TASKS].start(announce(ready, base_url(host, runner.addresses[0][1])), name="ready")
        await ending.wanted.wait()
        await drain(runner, grace(), ending, leaving)
    finally:
        await runner.cleanup()


async def announce(ready: Callable[[str], Awaitable[None]], url: str) -> None:
    await ready(url)


async def listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        raise DaemonError(why_not(exc, host, port)) from exc


def why_not(exc: OSError, host: str, port: int) -> str:
    """Say why the address cannot be had, and what to do."""
    match exc.errno:
        case errno.EADDRINUSE:
            who = (
                f"netstat -ano | findstr :{port}" if sys.platform == "win32" else f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
            )
            return (
                f"Port {port} on {host} is in use by another program. See which with `{who}`, "
                f"or take another port: `oproxy serve --port {port + 1 if port < 65535 else 11435}`."
            )
        case errno.EACCES:
            return f"Port {port} needs special rights. Take one above 1023: `oproxy serve --port 11435`."
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine. `--host 127.0.0.1` is the usual one."
        case _:
            return f"Cannot listen on {host} port {port}: {exc.strerror or exc}."


def obey(ending: Ending, reload: Callable[[], None]) -> None:
    """Let SIGTERM and Ctrl-C end us, and SIGHUP read the config anew."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, ending.ask)
        except NotImplementedError:
            # Windows' loop has no signals of its own; Python's handlers run in the main thread.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(ending.ask))
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, reload)


async def drain(runner: web.AppRunner, grace: float, ending: Ending, leaving: Callable[[int], None]) -> None:
    """Accept no more, close what is idle, and wait for the busy connections: until done, out of time, or urged."""
    for site in list(runner.sites):
        await site.stop()
    server = runner.server
    assert server is not None
    # A request that has just come in is given to its handler before the idle connections are told apart.
    await asyncio.sleep(0)
    server.pre_shutdown()
    tasks = Tasks()
    # Closes what is idle at once, and what is busy when it has answered.
    done = tasks.start(server.shutdown(None), name="drain")
    urgent = tasks.start(ending.urgent.wait(), name="urgent")
    try:
        await asyncio.wait({done, urgent}, timeout=SETTLE, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            leaving(len(server.connections))
            await asyncio.wait({done, urgent}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await tasks.aclose()


def base_url(host: str, port: int) -> str:
    """Return the URL under which this machine itself reaches the address."""
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
