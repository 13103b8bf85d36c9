"""The names under which the parts of the application find each other. Nothing but names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..batches import Runner
from ..blobs import Blobs
from ..clerk import Clerk
from ..engine import Engine
from ..jobs import Reloader
from ..keyring import Keyring
from ..policy.books import Books
from ..policy.guesses import Guesses
from ..policy.memory import Memory
from ..recorder import Recorder
from ..recorder.chunks import Chunks
from ..tasks import Tasks
from ..workers import Workers
from .accounts import Accounts

if TYPE_CHECKING:
    from .loop_watch import LoopWatch
    from .runs import Runs
    from .tls import Https
from .key_file import KeyFile

__all__ = [
    "ACCOUNTS",
    "BATCHES",
    "BLOBS",
    "BODY",
    "BOOKS",
    "CHUNKS",
    "CLERK",
    "CLOCK",
    "CUT",
    "ENGINE",
    "GUESSES",
    "HTTPS",
    "KEYRING",
    "KEY_FILE",
    "LEAVING",
    "LOOP_WATCH",
    "MEMORY",
    "NEW_ID",
    "RECORDER",
    "RELOADER",
    "RUNS",
    "SAY",
    "SOCKETS",
    "STARTED",
    "TASKS",
    "UNATTENDED",
    "UPLOADS",
    "WALL",
    "WORKERS",
]

ENGINE = web.AppKey("engine", Engine)
CLERK = web.AppKey("clerk", Clerk)
# What requests may hold together.
MEMORY = web.AppKey("memory", Memory)
KEYRING = web.AppKey("keyring", Keyring)
KEY_FILE = web.AppKey("key_file", KeyFile)
# Wrong keys by address.
GUESSES = web.AppKey("guesses", Guesses)
ACCOUNTS = web.AppKey("accounts", Accounts)
# The bytes of files.
BLOBS = web.AppKey("blobs", Blobs)
# Whether what was left undone is gone on with.
UNATTENDED = web.AppKey("unattended", bool)
# Responses in the background.
RUNS: web.AppKey[Runs] = web.AppKey("runs")
BATCHES = web.AppKey("batches", Runner)
# The ids of the uploads whose parts are being joined.
UPLOADS: web.AppKey[set[str]] = web.AppKey("uploads")
# Only where requests are recorded.
RECORDER = web.AppKey("recorder", Recorder)
TASKS = web.AppKey("tasks", Tasks)
# Only where HTTPS is served.
HTTPS: web.AppKey[Https] = web.AppKey("https")
# Threads for large inputs.
WORKERS = web.AppKey("workers", Workers)
# How long the event loop was blocked.
LOOP_WATCH: web.AppKey[LoopWatch] = web.AppKey("loop_watch")
# What is called when the daemon begins to end: connections that would stay open for ever close themselves.
LEAVING: web.AppKey[set[Callable[[], None]]] = web.AppKey("leaving")
# Set when the grace time is over: what is cancelled from then on is cut by us.
CUT = web.AppKey("cut", asyncio.Event)
# The ids of the requests whose WebSockets are open.
SOCKETS: web.AppKey[set[str]] = web.AppKey("sockets")
RELOADER = web.AppKey("reloader", Reloader)
SAY: web.AppKey[Callable[[str], None]] = web.AppKey("say")
# Seconds that only go forward, for durations.
CLOCK: web.AppKey[Callable[[], float]] = web.AppKey("clock")
# Epoch seconds, for `created`.
WALL: web.AppKey[Callable[[], float]] = web.AppKey("wall")
# Random letters and digits, 32 of them, for ids.
NEW_ID: web.AppKey[Callable[[], str]] = web.AppKey("new_id")
# What happened when, for `status`: {"started": epoch seconds, …}
STARTED: web.AppKey[dict[str, Any]] = web.AppKey("started")

BOOKS = web.RequestKey("books", Books)
# The body as it came, for the recorder.
BODY: web.RequestKey[bytes] = web.RequestKey("body")
# What is sent of a stream, with the clock's seconds, for the recorder.
CHUNKS: web.RequestKey[Chunks] = web.RequestKey("chunks")
