"""How our files are: the database, who may read what, the logs, the certificate. Opens all of it for reading only."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from .. import certs
from ..store import StoreError, schema
from ..store.fault import why
from ..store.file import Look, look
from ..store.place import Place, find, make_engine
from .findings import Finding, Scene, State
from .plain import size

__all__ = ["check_certificate", "check_logs", "check_permissions", "check_store"]

# How long a database's pages are looked through (seconds): a large one is checked in part, which is said.
CHECKED = 3.0
# SQLite's instructions between two looks at the clock.
STEPS = 100_000
# Below this the next days may not fit (bytes).
LITTLE = 200_000_000


# --- the store ----------------------------------------------------------------------------------------------------


async def check_store(scene: Scene) -> list[Finding]:
    """Look at the database of keys and books."""
    return await asyncio.to_thread(store_findings, scene)


def store_findings(scene: Scene) -> list[Finding]:
    try:
        place = find(scene.settings.store.url, scene.data)
        if place.file is None:
            return list(server_findings(place))
        return [*file_findings(place.file), *around(place.file)]
    except StoreError as exc:
        return [Finding("store", "broken", exc.message, "store.url")]


def server_findings(place: Place) -> Iterator[Finding]:
    """Look at a PostgreSQL database."""
    engine = make_engine(place)
    try:
        with engine.connect() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            known = connection.scalar(text("SELECT to_regclass(:name)"), {"name": schema.VERSION_TABLE})
            version = connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) if known else None
            bytes_ = connection.scalar(text("SELECT pg_database_size(current_database())"))
    except Exception as exc:
        yield Finding("store", "broken", f"it cannot be reached: {why(exc)}", str(place), "start it, or mend store.url")
        return
    finally:
        engine.dispose()
    yield Finding("store", "ok", f"it answers, {size(bytes_)}", str(place))
    yield from version_findings(str(version or ""), str(place))


def file_findings(file: Path) -> Iterator[Finding]:
    """Look at an SQLite database: whose it is, whether it is whole, and how large."""
    where = str(file)
    match look(file):
        case Look.NEW:
            yield Finding("store", "ok", "it is not there yet; the daemon makes it", where)
            return
        case Look.FOREIGN | Look.GARBAGE as other:
            remedy = "name another one: oproxy config set store.url sqlite:///FILE, or move this one away"
            yield Finding("store", "broken", f"it is {other.value}", where, remedy)
            return
        case Look.OURS:
            pass
    try:
        with closing(opened(file)) as connection:
            version = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()
            trouble, whole = checked(connection)
    except sqlite3.Error as exc:
        version, trouble, whole = None, str(exc), False
    total = sum(part.stat().st_size for part in parts(file))
    if trouble:
        remedy = "oproxy stop, then oproxy serve --detach: a damaged file is kept aside and a new one made"
        yield Finding("store", "broken", f"it is damaged or cannot be read: {trouble}", where, remedy)
        return
    said = "it is whole" if whole else f"no damage was found in {CHECKED:g} s"
    yield Finding("store", "ok", f"{said}, {size(total)}", where)
    yield from version_findings(version[0] if version else "", where)
    if not all(os.access(each, os.W_OK) for each in (file, file.parent)):
        yield Finding("store", "broken", "it cannot be written to", where, f"chown $(id -u) {file.parent} {file}")


def opened(file: Path) -> sqlite3.Connection:
    """Open a database so that nothing is written, not even beside it: without a write-ahead log nobody writes it now,
    and SQLite need not make one to read (https://www.sqlite.org/wal.html#read_only_databases)."""
    mode = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True, timeout=1)


def checked(connection: sqlite3.Connection, *, patience: float = CHECKED) -> tuple[str, bool]:
    """Return what is damaged ("" for nothing found), and whether there was time to look at all of it."""
    deadline = time.monotonic() + patience
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError:
        if time.monotonic() > deadline:
            return "", False
        raise
    return ("" if said == "ok" else str(said)), True


def version_findings(version: str, where: str) -> Iterator[Finding]:
    if version and version not in schema.REVISIONS:
        what = f"a newer oproxy wrote it (schema {version}, this one knows up to {schema.REVISIONS[-1]})"
        yield Finding("store", "broken", what, where, "update oproxy, or name another database in store.url")
    elif version and version != schema.REVISIONS[-1]:
        yield Finding(
            "store", "note", "an older oproxy wrote it; the daemon brings it up to date at its next start", where
        )


def around(file: Path) -> Iterator[Finding]:
    """Look at what is beside the database: damaged ones that were put aside, and the room that is left."""
    folder = next((each for each in file.parents if each.exists()), None)
    if folder is None:
        return
    aside = [each for each in folder.glob(f"{file.name}.corrupt-*") if not each.name.endswith(("-wal", "-shm"))]
    for each in aside:
        yield Finding(
            "store", "note", f"a damaged one was put aside, {size(each.stat().st_size)}", str(each), "delete it"
        )
    free = shutil.disk_usage(folder).free
    if free < LITTLE:
        yield Finding("store", "warning", f"the disk has {size(free)} left", str(folder), "make room")


def parts(file: Path) -> list[Path]:
    return [each for end in ("", "-wal", "-shm") if (each := file.with_name(file.name + end)).exists()]


# --- permissions --------------------------------------------------------------------------------------------------

KEY_IN_FILE = re.compile(r"(?m)^[^#\n]*\b(api_key|webhook|headers)\b[\"']?\s*=|^[^#\n]*://[^/\s\"']*:[^/\s\"']*@")


async def check_permissions(scene: Scene) -> list[Finding]:
    """Tell which of our files others may read, and which folders they may write to."""
    if sys.platform == "win32":
        return []
    found = list(permission_findings(scene))
    return found or [Finding("permissions", "ok", "what is ours is ours alone")]


def permission_findings(scene: Scene) -> Iterator[Finding]:
    for path in secrets(scene):
        mode = path.stat().st_mode
        if mode & 0o077:
            what = f"others may read it (mode {mode & 0o777:03o})"
            yield Finding("permissions", "warning", what, str(path), f"chmod 600 {path}")
    for folder in dict.fromkeys((scene.data, scene.state, scene.logs)):
        if not folder.is_dir():
            continue
        status = folder.stat()
        if status.st_mode & 0o022:
            what = f"others may write to it (mode {status.st_mode & 0o777:03o})"
            yield Finding("permissions", "warning", what, str(folder), f"chmod 700 {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            yield Finding("permissions", "broken", "we may not write to it", str(folder), f"chown $(id -u) {folder}")


def secrets(scene: Scene) -> Iterator[Path]:
    """Yield the files that are there and hold what nobody else should read."""
    config = scene.loaded.path if scene.loaded is not None else None
    if config is not None and config.is_file() and KEY_IN_FILE.search(config.read_text("utf-8", "replace")):
        yield config
    try:
        file = find(scene.settings.store.url, scene.data).file
    except StoreError:
        file = None
    env_file = scene.settings.auth.env_file
    tls = scene.settings.tls
    named = [Path(name).expanduser() for name in (env_file, tls.key if tls.mode == "files" else "") if name]
    logs = sorted(scene.logs.glob("*.log*")) + sorted(scene.logs.glob("*.jsonl*")) if scene.logs.is_dir() else []
    mine = [scene.state / "daemon.json", certs.folder() / certs.KEY, *named, *logs]
    yield from (path for path in [*(parts(file) if file is not None else ()), *mine] if path.is_file())


# --- logs ---------------------------------------------------------------------------------------------------------


async def check_logs(scene: Scene) -> list[Finding]:
    """Compare the logs with their caps."""
    logs = scene.settings.logs
    sizes = {path: path.stat().st_size for path in files(scene.logs)}
    total, where = sum(sizes.values()), str(scene.logs)
    # The one that is being written and what is just being compressed may stand above the cap for a moment.
    if total > logs.max_total + logs.max_size:
        what = f"{size(total)}, more than the {size(logs.max_total)} they may have"
        return [Finding("logs", "warning", what, where, "oproxy logs prune")]
    found = [Finding("logs", "ok", f"{size(total)} of the {size(logs.max_total)} they may have", where)]
    largest = max(sizes, key=lambda path: sizes[path], default=None)
    if largest is not None and sizes[largest] > 2 * logs.max_size:
        what = f"it has {size(sizes[largest])} and should have been rotated at {size(logs.max_size)}"
        found.append(Finding("logs", "warning", what, str(largest), "oproxy stop, then oproxy serve --detach"))
    return found


def files(folder: Path) -> Iterable[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []


# --- certificate --------------------------------------------------------------------------------------------------


async def check_certificate(scene: Scene) -> list[Finding]:
    """Look at the certificate of HTTPS, and at whether this machine trusts it."""
    if scene.settings.tls.mode == "off":
        return [Finding("certificate", "ok", "HTTPS is off")]
    return await asyncio.to_thread(lambda: list(certificate_findings(scene)))


def certificate_findings(scene: Scene) -> Iterator[Finding]:
    tls = scene.settings.tls
    own = tls.mode == "mkcert"
    # Not `own_pair`, which tidies up.
    pair = certs.Pair(certs.folder() / certs.CERT, certs.folder() / certs.KEY)
    if not own:
        pair = certs.Pair(Path(tls.cert).expanduser(), Path(tls.key).expanduser())
    where, renew = str(pair.cert), "oproxy cert renew" if own else "renew it where it comes from"
    if own and not pair.cert.exists():
        yield Finding("certificate", "broken", "there is none yet", where, "oproxy cert install")
        return
    try:
        cert = certs.read(pair)
    except certs.CertError as exc:
        yield Finding(
            "certificate", "broken", exc.message, where, "oproxy cert install" if own else "mend tls.cert, tls.key"
        )
        return
    days = cert.days_left(scene.wall())
    if days < 0:
        yield Finding("certificate", "broken", f"it expired {-days:.0f} days ago", where, renew)
        return
    yield Finding("certificate", "ok", f"it is good for {days:.0f} days: {', '.join(cert.names)}", where)
    if days < certs.RENEW_DAYS:
        state: State = "note" if own else "warning"
        yield Finding("certificate", state, f"it expires in {days:.0f} days", where, renew)
    if not certs.trusted(pair):
        remedy = "oproxy cert install" if own else "clients need its authority, e.g. in SSL_CERT_FILE"
        yield Finding("certificate", "warning", "this machine does not trust it", where, remedy)
    if own and (absent := certs.missing_names(cert, certs.names_for(tls.names, scene.settings.server.host))):
        yield Finding("certificate", "warning", f"it is not for {', '.join(absent)}", where, "oproxy cert renew")
