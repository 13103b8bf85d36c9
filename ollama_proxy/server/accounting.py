"""Putting together what accounts: the database, the keys, the recorder; and what looks after them while we serve.

`app.build_app` calls this; no request does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import platformdirs
from aiohttp import web

from ..clerk import Clerk
from ..keyring import Keyring
from ..policy.credentials import named_keys
from ..recorder import Recorder
from ..sections import Settings
from ..store import Store, StoreError
from ..store.rollup import roll_up
from ..store.spent import spent
from .keys import CLERK, ENGINE, KEYRING, RECORDER, SAY, STORE, WALL

__all__ = ["configure", "given_keys", "keep_books", "look_after", "spent_of"]

log = logging.getLogger(__name__)

# Seconds between looks at whether sums are to be made and old rows to be forgotten.
HOUSEKEEPING = 60.0
DAY = 86400.0


def data_folder() -> Path:
    """Return where the database and the certificates are."""
    return Path(platformdirs.user_data_path("oproxy"))


def keep_books(app: web.Application, settings: Settings, env: Mapping[str, str], control: str) -> Store | None:
    """Open the database where one is needed, read the keys, and start the recorder. Raises StoreError."""
    store = None
    if settings.store.ledger or settings.auth.mode == "on":
        store = Store.open(settings.store.url, folder=data_folder(), on_change=app[SAY])
        app[STORE] = store
    keyring = Keyring(
        store.keys if store is not None else None,
        wall=app[WALL],
        control=control,
        given=given_keys(settings, env),
    )
    keyring.read()
    app[KEYRING] = keyring
    if settings.logs.requests:
        logs = settings.logs
        app[RECORDER] = Recorder(
            log_folder(settings),
            max_size=logs.max_size,
            max_age=logs.max_age * DAY,
            max_files=logs.max_files,
            max_total=logs.max_total,
            buffer=logs.buffer,
            bodies=logs.bodies,
            redact=logs.redact,
        )
    return store


def log_folder(settings: Settings) -> Path:
    """Return the folder of both logs."""
    return (
        Path(settings.logs.folder).expanduser() if settings.logs.folder else Path(platformdirs.user_log_path("oproxy"))
    )


def configure(app: web.Application, settings: Settings, env: Mapping[str, str]) -> None:
    """Let everything that accounts go by new settings."""
    clerk: Clerk = app[CLERK]
    clerk.configure(settings)
    clerk.gate.configure(settings.limits)
    clerk.gate.spend.configure(settings.budget)
    app[KEYRING].give(given_keys(settings, env))
    if (recorder := app.get(RECORDER)) is not None:
        logs = settings.logs
        recorder.configure(
            max_size=logs.max_size,
            max_age=logs.max_age * DAY,
            max_files=logs.max_files,
            max_total=logs.max_total,
            buffer=logs.buffer,
            bodies=logs.bodies,
            redact=logs.redact,
        )


def given_keys(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of the environment and of the .env file that the settings name."""
    found: dict[str, str] = {}
    if settings.auth.env_file:
        path = Path(settings.auth.env_file).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            log.warning("the keys of %s could not be read: %s", path, exc)
            lines = []
        for line in lines:
            name, _, value = line.strip().removeprefix("export ").partition("=")
            if name.strip() == "OPROXY_API_KEYS":
                found |= named_keys(value.strip().strip("'\""))
    return found | named_keys(env.get("OPROXY_API_KEYS", ""))


def spent_of(store: Store | None) -> Callable[[str, float], tuple[int, int, int]]:
    """Return what tells the sums since a time of a key ("": of all): cost, list cost (nano-dollars), tokens."""

    def load(key: str, since: float) -> tuple[int, int, int]:
        if store is None:
            return 0, 0, 0
        try:
            return spent(store, key, since)
        except StoreError as exc:
            log.warning("what was spent could not be read: %s", exc.message)
            return 0, 0, 0

    return load


async def look_after(store: Store, app: web.Application) -> None:
    """Sum up the ledger now and then, and forget what is older than the settings say. Runs until cancelled."""
    pruned = 0.0
    while True:
        await asyncio.sleep(HOUSEKEEPING)
        try:
            await asyncio.to_thread(roll_up, store)
            keep = app[ENGINE].snapshot.settings.store.keep
            if keep and time.monotonic() - pruned > DAY / 24:
                pruned = time.monotonic()
                await asyncio.to_thread(store.prune, app[WALL]() - keep * DAY)
        except StoreError as exc:
            log.warning("the ledger could not be summed up: %s", exc.message)
