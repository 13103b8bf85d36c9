"""The application on its ports, from the first connection to the last: listen, obey signals, end with grace.

Never decides what is served (`app.py` does) and never prints; what is told to a person goes through the callbacks.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

from ..daemon import DaemonError
from ..tasks import Tasks
from .keys import CUT, LEAVING, TASKS
from .malformed import Protocol, Runner

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

__all__ = ["Ending", "Site", "base_url", "calm", "limit_arenas", "run", "serve_app", "settle_heap", "trim_heap"]

# From malloc.h: how many arenas there may be, and the bytes from which a block is mapped by itself.
M_ARENA_MAX, ARENAS = -8, 2
M_MMAP_THRESHOLD, MAPPED = -3, 1024 * 1024
# After the grace time aiohttp waits this long twice, in vain by then, before it cancels the handlers (seconds).
LAST = 0.1
# Seconds in which answers that are cut may say so.
TOLD = 1.0
# The longest header and the longest request line (bytes).
HEADER = 32768
# Within this time idle connections are closed; what is still open then is a running answer (seconds).
SETTLE = 0.05
# The port of HTTPS has no flag of its own.
WAY_OUT = "`port` under [tls] in the config, or OPROXY_TLS_PORT in the environment"


class Site(NamedTuple):
    """One address to listen on; with a context, it speaks HTTPS there."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


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

    limit_arenas()

    async def outer() -> None:
        await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        runner.run(outer())


async def serve_app(
    app: web.Application,
    *,
    sites: Sequence[Site],
    grace: Callable[[], float],
    keepalive: float,
    ready: Callable[[Sequence[str]], Awaitable[None]],
    leaving: Callable[[int], None],
    reload: Callable[[], None],
    ending: Ending | None = None,
) -> None:
    """Serve until a signal (or `ending`) says to end; running answers get `grace()` seconds to finish.

    `ready` is run with the base URLs of the sites once all accept connections, `leaving` is told how many are still
    busy when the end begins, `reload` is called on SIGHUP. Raises DaemonError when an address cannot be listened on.
    """
    ending = ending or Ending()
    runner = Runner(
        app,
        shutdown_timeout=LAST,
        keepalive_timeout=keepalive,
        # Browsers send the cookies of every port of localhost to each, and their names add up.
        max_field_size=HEADER,
        max_line_size=HEADER,
    )
    await runner.setup()
    try:
        urls = [await listen(runner, site) for site in sites]
        obey(ending, reload)
        app[TASKS].start(announce(ready, urls), name="ready")
        app[TASKS].start(runner.watch(), name="connections")
        await ending.wanted.wait()
        for leave in list(app.get(LEAVING, ())):
            leave()
        await drain(runner, grace(), ending, leaving)
    finally:
        await runner.cleanup()


def limit_arenas() -> bool:
    """Have glibc share few memory arenas among the threads; return whether it does. By default each thread may get one
    of its own, up to eight a processor, and what a thread has given back in its arena others cannot use: with a dozen
    threads the process grows for hours. Blocks of a megabyte and more, the bodies of large requests, are mapped by
    themselves: by default, glibc takes ever larger ones out of the arenas as soon as one was given back, and leaves
    holes there that the next request does not fit into. Called before threads are started. Other C libraries have no
    arenas. https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        # Somebody knows better.
        return False
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            mallopt(M_MMAP_THRESHOLD, MAPPED)
        return bool(mallopt(M_ARENA_MAX, ARENAS))
    return False


def calm() -> None:
    """Collect the garbage that imports left, and tell the collector that what is there now stays. It stops all threads,
    so it is called before we listen."""
    gc.collect()
    settle_heap()


def settle_heap() -> None:
    """Tell the garbage collector that what is there now stays: what was imported never dies, so it need not be looked
    at again; and the values of requests die by themselves, so it may come more seldom. Without it the database and the
    prices, half a million objects, would be looked through again and again: a fifth of a request's time at 8
    connections. Collects nothing: while we serve, that would stop the event loop for a tenth of a second."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def trim_heap() -> None:
    """Give what imports needed for a moment, 10 MB and more, back to the system. It takes some milliseconds: call it
    in a thread. glibc alone keeps it that long: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


async def announce(ready: Callable[[Sequence[str]], Awaitable[None]], urls: Sequence[str]) -> None:
    await ready(urls)


async def listen(runner: web.AppRunner, site: Site) -> str:
    """Listen on one address; return its base URL."""
    before = runner.addresses
    for address in before:
        if address[1] == site.port:
            raise DaemonError(f"HTTP and HTTPS cannot share port {site.port}. Give one of them another; {WAY_OUT}.")
    try:
        await web.TCPSite(runner, site.host, site.port, ssl_context=site.context).start()
    except OSError as exc:
        raise DaemonError(why_not(exc, site)) from exc
    # A name may stand for several addresses; port 0 has become a real one.
    return base_url(site.host, runner.addresses[len(before)][1], secure=site.context is not None)


def why_not(exc: OSError, site: Site) -> str:
    """Say why the address cannot be had, and what to do."""
    host, port = site.host, site.port
    match exc.errno:
        case errno.EADDRINUSE:
            who = (
                f"netstat -ano | findstr :{port}" if sys.platform == "win32" else f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
            )
            way_out = f"`oproxy serve --port {port + 1 if port < 65535 else 11435}`" if not site.context else WAY_OUT
            return (
                f"Port {port} on {host} is in use by another program. See which with `{who}`, "
                f"or take another port: {way_out}."
            )
        case errno.EACCES:
            way_out = "`oproxy serve --port 11435`" if not site.context else WAY_OUT
            return f"Port {port} needs special rights. Take one above 1023: {way_out}."
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
            # The last answer may have ended in this moment.
            if busy := len(server.connections):
                leaving(busy)
            await asyncio.wait({done, urgent}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not done.done() and (cut := runner.app.get(CUT)) is not None:
            cut.set()
            for connection in server.connections:
                if isinstance(connection, Protocol):
                    connection.cut()
            # They tell their clients, which must not take the place of those that do not read.
            await asyncio.wait({done}, timeout=TOLD)
    finally:
        await tasks.aclose()


def base_url(host: str, port: int, *, secure: bool = False) -> str:
    """Return the URL under which this machine itself reaches the address."""
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
