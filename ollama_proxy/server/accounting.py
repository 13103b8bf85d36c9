"""Putting together what accounts: the database, the keys, the recorder; and what looks after them while we serve.

`app.build_app` calls this; no request does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from aiohttp import web

from ..clerk import Clerk
from ..events import Usage
from ..gate import Gate
from ..keyring import Keyring
from ..limits import open_limiter
from ..policy.credentials import named_keys
from ..recorder import Recorder
from ..recorder.daemonlog import STATE, JsonHandler
from ..recorder.place import folder_of
from ..sections import Settings
from ..spend import Spend
from ..store import StoreError
from ..store.spent import spent
from .accounts import Accounts
from .key_file import KeyFile
from .keys import ACCOUNTS, CLERK, CLOCK, ENGINE, KEY_FILE, KEYRING, RECORDER, SAY, TASKS, WALL, WORKERS

if TYPE_CHECKING:
    from ..store import Store

__all__ = [
    "announcer",
    "close",
    "configure",
    "gate_of",
    "given_keys",
    "look_after",
    "open_books",
    "open_store",
    "prepare",
    "spent_of",
]

log = logging.getLogger(__name__)
state_log = logging.getLogger(STATE)

# Seconds between looks at whether sums are to be made and old rows to be forgotten.
HOUSEKEEPING = 60.0
DAY = 86400.0


def data_folder() -> Path:
    """Return where the database and the certificates are."""
    return Path(platformdirs.user_data_path("oproxy"))


def prepare(app: web.Application, settings: Settings, env: Mapping[str, str], control: str, *, eager: bool) -> None:
    """Put the keyring and the recorder in their places; the database is opened later."""
    app[ACCOUNTS] = Accounts(eager=eager)
    app[KEY_FILE] = KeyFile()
    app[KEYRING] = Keyring(wall=app[WALL], control=control, given=given_keys(app, settings, env))
    if settings.logs.requests:
        app[RECORDER] = Recorder(folder_of(settings.logs.folder), **recorder_options(settings))


def gate_of(app: web.Application, settings: Settings) -> Gate:
    """Return the gate with its limits and budgets. Raises LimitsError."""
    clock, say = app[CLOCK], announcer(app[SAY])
    spend = Spend(settings.budget, wall=app[WALL], load=spent_of(app), say=say, tasks=app[TASKS], price=price_of(app))
    limits = settings.limits
    limiter = open_limiter(limits.url, clock=clock, on_error=limits.on_error, say=say)
    return Gate(limiter, spend, limits, app[WORKERS])


async def open_books(app: web.Application) -> None:
    """Open the database where one is needed, read the keys, and begin the ledger; try again for as long as it cannot be
    opened. Never raises."""
    accounts = app[ACCOUNTS]
    await accounts.wanted.wait()
    settings = app[ENGINE].snapshot.settings
    if not (settings.store.ledger or settings.auth.mode == "on"):
        accounts.opened()
        return
    app[KEYRING].incomplete = True
    say = sayer(app)
    while True:
        try:
            await make_store(app)
            if settings.store.ledger:
                # Where it cannot be written, its writer goes on trying.
                await begin_ledger(app)
                return
            async with accounts.opening:
                await asyncio.to_thread(open_now, app, await make_store(app))
        except StoreError as exc:
            if accounts.lost(exc, app[WALL]()):
                say(f"the database cannot be used; oproxy tries again until it can: {exc.message}")
            app[CLERK].fault = exc.message if settings.store.ledger else ""
            await asyncio.sleep(accounts.presence.pause(app[WALL]()))
        else:
            if accounts.presence.away:
                say("the database can be used again")
            accounts.opened()
            return


async def make_store(app: web.Application) -> Store:
    """Return the database, which need not be there. Raises StoreError where the settings name none that we know."""
    accounts = app[ACCOUNTS]
    if accounts.made is not None:
        return accounts.made
    settings = app[ENGINE].snapshot.settings
    # Importing SQLAlchemy takes longer than all else of a start together.
    package = await asyncio.to_thread(import_module, "ollama_proxy.store.store")
    made: Store = await asyncio.to_thread(
        package.Store.at, settings.store.url, folder=data_folder(), on_change=sayer(app), wall=app[WALL]
    )
    accounts.made = made
    return made


async def open_store(app: web.Application) -> Store:
    """Return the database; open it and read the keys if nobody has yet. Not tried more often than it makes sense.
    Raises StoreError."""
    accounts, now = app[ACCOUNTS], app[WALL]()
    async with accounts.opening:
        if accounts.store is not None:
            return accounts.store
        if accounts.presence.pause(now):
            raise StoreError(accounts.presence.error)
        try:
            store = await make_store(app)
            await asyncio.to_thread(open_now, app, store)
        except StoreError as exc:
            accounts.presence.lost(exc.message, now)
            raise
        accounts.presence.back()
        return store


def open_now(app: web.Application, store: Store) -> None:
    """Open a database and read its keys. Blocks; StoreError."""
    store.mend()
    take_keys(app, store)
    app[ACCOUNTS].store = store


def take_keys(app: web.Application, store: Store) -> None:
    """Read the keys of a database that is open. Blocks; StoreError."""
    keyring = app[KEYRING]
    # Not before: whoever asks a file for keys that is not there makes an empty one.
    keyring.keys = store.keys
    keyring.read()


async def begin_ledger(app: web.Application) -> None:
    """Begin the ledger, whether the database can be opened or not: where it cannot, rows wait as they do when it goes
    away later."""
    accounts, store = app[ACCOUNTS], await make_store(app)
    ledger = await asyncio.to_thread(import_module, "ollama_proxy.store.ledger")
    away: StoreError | None = None
    try:
        async with accounts.opening:
            await asyncio.to_thread(store.mend)
            await asyncio.to_thread(take_up, app, store)
    except StoreError as exc:
        away = exc
    loop = asyncio.get_running_loop()

    def on_back() -> None:
        take_up(app, store)
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(opened, app, store)

    made = ledger.Ledger(store, loop=loop, clock=app[WALL], away=away, on_back=on_back)
    if away is None:
        opened(app, store)
    else:
        accounts.lost(away, app[WALL]())
    app[CLERK].begin(made)


def take_up(app: web.Application, store: Store) -> None:
    """Read the keys, and what was spent, of a database that is there (again). Blocks; StoreError."""
    take_keys(app, store)
    app[ACCOUNTS].readable = store
    if not app[CLERK].gate.spend.refill():
        raise StoreError("What was spent before cannot be read.")


def opened(app: web.Application, store: Store) -> None:
    """Let everybody use the database."""
    accounts = app[ACCOUNTS]
    accounts.store = store
    accounts.opened()


def sayer(app: web.Application) -> Callable[[str], None]:
    """Return what says a line from any thread."""
    loop, say = asyncio.get_running_loop(), announcer(app[SAY])

    def tell(line: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(say, line)

    return tell


def announcer(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what says a line to the person and writes it into the daemon's log."""

    def announce(line: str) -> None:
        say(line)
        state_log.warning("%s", line)

    return announce


def recorder_options(settings: Settings) -> dict[str, Any]:
    """Return what a Recorder is told by [logs]."""
    logs = settings.logs
    return {
        "max_size": logs.max_size,
        "max_age": logs.max_age * DAY,
        "max_files": logs.max_files,
        "max_total": logs.max_total,
        "buffer": logs.buffer,
        "bodies": logs.bodies,
        "redact": logs.redact,
    }


def configure(app: web.Application, settings: Settings, env: Mapping[str, str]) -> None:
    """Let everything that accounts go by new settings."""
    clerk: Clerk = app[CLERK]
    clerk.configure(settings)
    clerk.gate.configure(settings.limits)
    clerk.gate.spend.configure(settings.budget)
    app[KEYRING].give(given_keys(app, settings, env))
    options = recorder_options(settings)
    if (recorder := app.get(RECORDER)) is not None:
        recorder.configure(**options)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, JsonHandler):
            handler.configure(**{name: options[name] for name in ("max_size", "max_age", "max_files", "max_total")})


def given_keys(app: web.Application, settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of the environment and of the .env file that the settings name."""
    return named_keys(app[KEY_FILE].read(settings.auth.env_file)) | named_keys(env.get("OPROXY_API_KEYS", ""))


def spent_of(app: web.Application) -> Callable[[str, float], tuple[int, int, int] | None]:
    """Return what tells the sums since a time of a key ("": of all): cost, list cost (nano-dollars), tokens; None where
    the database cannot be read."""

    def load(key: str, since: float) -> tuple[int, int, int] | None:
        if (store := app[ACCOUNTS].readable) is None:
            return None
        try:
            return spent(store, key, since)
        except StoreError as exc:
            log.warning("what was spent could not be read: %s", exc.message)
            return None

    return load


def price_of(app: web.Application) -> Callable[[str, int, int], int | None]:
    """Return what tells what a request may cost at most by list prices: nano-dollars by the model asked for and the
    tokens of prompt and answer. What local models cost is known only when they have answered."""

    def price(model: str, prompt: int, answer: int) -> int | None:
        price: int | None = app[CLERK].prices.list_price(model, Usage(prompt=prompt, completion=answer))
        return price

    return price


async def look_after(app: web.Application) -> None:
    """Sum up the ledger now and then, and forget what is older than the settings say. Runs until cancelled."""
    pruned = 0.0
    while True:
        await asyncio.sleep(HOUSEKEEPING)
        store = app[ACCOUNTS].store
        if store is None or app[CLERK].ledger is None:
            continue
        rollup = import_module("ollama_proxy.store.rollup")
        try:
            await asyncio.to_thread(rollup.roll_up, store)
            keep = app[ENGINE].snapshot.settings.store.keep
            if keep and time.monotonic() - pruned > DAY / 24:
                pruned = time.monotonic()
                await asyncio.to_thread(store.prune, app[WALL]() - keep * DAY)
        except StoreError as exc:
            log.warning("the ledger could not be summed up: %s", exc.message)


async def close(app: web.Application) -> None:
    """Write what waits, and let go."""
    if (ledger := app[CLERK].ledger) is not None:
        await ledger.aclose()
    if (recorder := app.get(RECORDER)) is not None:
        await asyncio.to_thread(recorder.close)
    if (store := app[ACCOUNTS].made) is not None:
        await asyncio.to_thread(store.close)
