"""`build_app`: the one place where the parts are put together. State is born here and handed down by name."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import platformdirs
from aiohttp import web

from .. import __version__, tokens
from ..backends import table
from ..backends.base import Backend
from ..backends.fleet import Fleet
from ..backends.images import ImageFetcher
from ..blobs import Blobs
from ..clerk import Clerk
from ..engine import Engine, Snapshot
from ..jobs import Reloader
from ..policy.guesses import Guesses
from ..policy.memory import Memory
from ..policy.route import Names
from ..settings import BackendSettings, Loaded, Settings
from ..tasks import Tasks
from ..translate import openapi
from ..turns import Rules, Turns
from ..workers import Workers
from . import accounting, batches, files, sweep
from .body import budget_of
from .door import access_of
from .keys import (
    ACCOUNTS,
    BATCHES,
    BLOBS,
    CLERK,
    CLOCK,
    CUT,
    ENGINE,
    GUESSES,
    KEYRING,
    LEAVING,
    LOOP_WATCH,
    MEMORY,
    NEW_ID,
    RELOADER,
    RUNS,
    SAY,
    SOCKETS,
    STARTED,
    TASKS,
    UNATTENDED,
    UPLOADS,
    WALL,
    WORKERS,
)
from .loop_watch import LoopWatch
from .middleware import edge
from .pages import DOCUMENT
from .routes import ROUTES, add_routes
from .run import settle_heap, trim_heap
from .runs import Runs

__all__ = ["build_app"]

log = logging.getLogger(__name__)


def build_app(
    loaded: Loaded,
    *,
    say: Callable[[str], None] | None = None,
    reload: Callable[[], Loaded] | None = None,
    env: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    new_id: Callable[[], str] | None = None,
    control: str = "",
    unattended: bool = True,
) -> web.Application:
    """Return the application for these settings. `say` gets a line for each request and each change of the config;
    `reload` reads the config anew (None: the config is never reloaded); `control` is the token of this machine's own
    commands; `unattended`: what a daemon left undone (batches, responses in the background) is gone on with, which the
    application within a command leaves to daemons. Raises StoreError and LimitsError where the database or the limits'
    server cannot be used."""
    settings = loaded.settings
    new_id = new_id or ids()
    say = say or log.info
    app = web.Application(middlewares=[edge], client_max_size=settings.server.max_body)
    app[CLOCK], app[WALL], app[NEW_ID], app[SAY] = clock, wall, new_id, say
    app[LEAVING], app[CUT], app[STARTED] = set(), asyncio.Event(), {"at": wall(), "config": str(loaded.path)}
    app[TASKS], app[WORKERS], app[MEMORY] = Tasks(), Workers(), Memory(budget_of(settings))
    app[GUESSES], app[LOOP_WATCH] = Guesses(), LoopWatch(clock, wall)
    accounting.prepare(app, settings, env, control, eager=reload is not None)
    app[BLOBS], app[UPLOADS], app[SOCKETS] = Blobs(files.folder_of(settings.files.folder)), set(), set()
    builder = Builder(env, clock)
    fleet = Fleet(builder.build(settings), clock=clock)
    gate = accounting.gate_of(app, settings)
    app[ENGINE] = Engine(
        snapshot=snapshot_of(settings),
        fleet=fleet,
        images=fetcher_of(settings),
        gate=gate,
        turns=Turns(clock, Rules.of(settings)),
        workers=app[WORKERS],
        new_id=new_id,
        clock=clock,
    )
    batches.prepare(app)
    app[CLERK] = Clerk(gate, settings, clock=clock, opening=app[ACCOUNTS].settled)
    app[DOCUMENT] = msgspec.json.encode(openapi.document([row.route for row in ROUTES], __version__, access_of))
    app[RUNS] = Runs(app)
    if reload is not None:
        app[RELOADER] = Reloader(loaded=loaded, load=reload, apply=applier(app, builder, env), say=say)
    add_routes(app)
    app[UNATTENDED] = unattended
    app.cleanup_ctx.append(background)
    return app


def ids() -> Callable[[], str]:
    """Return what makes ids of 32 hex digits. They must be unique, not secret, so the system is asked for randomness
    only once: it would cost each request more than its parsing."""
    bits = random.Random(os.urandom(32)).getrandbits
    return lambda: f"{bits(128):032x}"


async def background(app: web.Application) -> AsyncIterator[None]:
    """Start what runs beside the requests, and give everything back at the end."""
    tasks, clerk = app[TASKS], app[CLERK]
    if (reloader := app.get(RELOADER)) is not None:
        tasks.start(reloader.run(), name="reload")
    if app[UNATTENDED]:
        tasks.start(app[BATCHES].watch(), name="batches-left")
        tasks.start(app[RUNS].resume(), name="responses-left")
    tasks.start(accounting.open_books(app), name="store")
    tasks.start(app[KEYRING].run(), name="keys")
    tasks.start(accounting.look_after(app), name="ledger")
    tasks.start(sweep.run(app), name="sweep")
    tasks.start(app[LOOP_WATCH].run(), name="loop-watch")
    tasks.start(warm(app), name="prices")
    tasks.start(clerk.gate.limiter.probe(), name="limits")
    yield
    await tasks.aclose()
    await app[ENGINE].fleet.aclose()
    await app[ENGINE].images.aclose()
    await clerk.gate.limiter.aclose()
    await accounting.close(app)
    app[WORKERS].close()


async def warm(app: web.Application) -> None:
    """Have at hand what the first requests need: list prices, and the tokenizer where tokens are limited; not before
    the database is open."""
    await app[ACCOUNTS].wanted.wait()
    await app[ACCOUNTS].settled()
    if app[CLERK].keeps:
        await asyncio.to_thread(app[CLERK].prices.warm)
    if app[CLERK].gate.counts_tokens:
        # `serve` has done so before it listens. Elsewhere, requests are not served for a third of a second.
        await asyncio.to_thread(tokens.count, "")
    if app.get(RELOADER) is not None:
        # A daemon, which lives long.
        settle_heap()
        await asyncio.to_thread(trim_heap)


def snapshot_of(settings: Settings) -> Snapshot:
    models = settings.models
    names = Names(
        aliases=models.aliases,
        default=models.default,
        openai_names=models.openai_names,
        backends=tuple(settings.backends),
    )
    return Snapshot(settings, names)


def fetcher_of(settings: Settings) -> ImageFetcher:
    server = settings.server
    return ImageFetcher(
        max_bytes=server.image_max_bytes,
        timeout=server.image_timeout,
        total_timeout=server.images_timeout,
        redirects=server.image_redirects,
        allow_private=server.image_allow_private,
    )


class Builder:
    """Makes backends from settings, and keeps those whose settings did not change."""

    def __init__(self, env: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._env = env
        self._clock = clock
        self._made: dict[str, tuple[BackendSettings, Backend]] = {}

    def build(self, settings: Settings) -> dict[str, Backend]:
        """Return the backends of these settings, in their order."""
        made: dict[str, tuple[BackendSettings, Backend]] = {}
        for name, wanted in settings.backends.items():
            before = self._made.get(name)
            if before is not None and before[0] == wanted:
                made[name] = before
            else:
                made[name] = (wanted, self._one(name, wanted))
        self._made = made
        return {name: backend for name, (_, backend) in made.items()}

    def _one(self, name: str, wanted: BackendSettings) -> Backend:
        fields = msgspec.structs.asdict(wanted)
        # The queue in front of it is ours, not the backend's.
        del fields["max_concurrent"]
        # And what is forwarded to it is the server's.
        del fields["serves"]
        data_dir = Path(platformdirs.user_data_path("oproxy"))
        return table.build(name, env=self._env, clock=self._clock, data_dir=data_dir, **fields)


def applier(app: web.Application, builder: Builder, env: Mapping[str, str]) -> Callable[[Settings], None]:
    """Return what takes over new settings: all of it between two requests, nothing of a running one."""

    def apply(settings: Settings) -> None:
        engine = app[ENGINE]
        backends = builder.build(settings)
        engine.snapshot = snapshot_of(settings)
        app[MEMORY].resize(budget_of(settings))
        old, engine.images = engine.images, fetcher_of(settings)
        app[TASKS].start(old.aclose(), name="close-images")
        engine.turns.change(Rules.of(settings))
        accounting.configure(app, settings, env)
        for member in engine.fleet.replace(backends):
            app[TASKS].start(member.release(), name=f"release-{member.backend.name}")

    return apply
