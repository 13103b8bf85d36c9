"""The TOML file: where a key stands in it, and changes that keep comments and order. Knows no setting's meaning.

tomlkit edits; for the line of a key (it gives none) the text is scanned. A change is written to a new file that takes
the old one's place, so that nobody ever reads half a config.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

__all__ = ["Broken", "line_of", "remove_value", "set_value", "split_key"]

Path_ = tuple[str, ...]


class Broken(ValueError):
    """The file is no TOML, or the change would make it invalid. The text says what and where."""


def split_key(key: str) -> Path_:
    """Split a dotted key as TOML writes it: `models.aliases."gpt-4.1"` has three parts."""
    table: Any = None
    try:
        table = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as exc:
        # A glob need not be quoted on a command line.
        parts = tuple(part for part in key.split(".") if part)
        if not parts or any("\n" in part or '"' in part for part in parts):
            raise Broken(f"{key!r} is no key: {exc}.") from exc
        return parts
    parts_: list[str] = []
    while isinstance(table, dict):
        name, table = next(iter(table.items()))
        parts_.append(name)
    return tuple(parts_)


def line_of(text: str, key: Sequence[str]) -> int | None:
    """Return the line (from 1) where `key` stands: its own, or that of the nearest table above it."""
    best: tuple[int, int] | None = None
    for depth, path, line in _places(text):
        if tuple(key[: len(path)]) == path and (best is None or depth > best[0]):
            best = (depth, line)
    return best[1] if best else None


def _places(text: str) -> list[tuple[int, Path_, int]]:
    """Find every table heading and key of a text that is valid TOML: (depth, path, line)."""
    found: list[tuple[int, Path_, int]] = []
    table: Path_ = ()
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        start = at + 1
        at += 1
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            table = _heading(line)
            found.append((len(table), table, start))
            continue
        statement = line
        # A value may go on over several lines; it ends where the statement is valid by itself.
        while not _complete(statement) and at < len(lines):
            statement += "\n" + lines[at]
            at += 1
        try:
            value: Any = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        for path in _paths(value):
            full = table + path
            found.append((len(full), full, start))
    return found


def _heading(line: str) -> Path_:
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        path.append(name)
        if isinstance(value, list):
            value = value[0] if value else None
    return tuple(path)


def _complete(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _paths(value: Any, above: Path_ = ()) -> list[Path_]:
    out: list[Path_] = []
    if isinstance(value, dict):
        for name, below in value.items():
            out.append((*above, name))
            out.extend(_paths(below, (*above, name)))
    return out


# --- changing -----------------------------------------------------------------------------------------------------


def set_value(path: Path, key: Sequence[str], value: Any, *, check: Callable[[str], None] | None = None) -> Any:
    """Set a key, making its tables if need be; return the old value, None if there was none.

    `check` gets the new text before it is written and raises to refuse it. Raises Broken for a file that is no TOML.
    """
    document = _read(path)
    table: Any = document
    for part in key[:-1]:
        if part not in table:
            table[part] = tomlkit.table(is_super_table=table is document and len(key) > 2)
        table = table[part]
        if not isinstance(table, (Table, Container, dict)):
            raise Broken(f"{'.'.join(key)}: {part} is a value, not a table.")
    old = table.get(key[-1])
    if isinstance(old, dict):
        raise Broken(f"{'.'.join(key)} is a table; set one of its keys.")
    table[key[-1]] = value
    _write(path, tomlkit.dumps(document), check)
    return old.unwrap() if hasattr(old, "unwrap") else old


def remove_value(path: Path, key: Sequence[str], *, check: Callable[[str], None] | None = None) -> bool:
    """Remove a key; return whether it was there."""
    document = _read(path)
    table: Any = document
    for part in key[:-1]:
        table = table.get(part) if hasattr(table, "get") else None
        if table is None:
            return False
    if key[-1] not in table:
        return False
    del table[key[-1]]
    _write(path, tomlkit.dumps(document), check)
    return True


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as exc:
        raise Broken(f"{path}: {exc}") from exc


def _write(path: Path, text: str, check: Callable[[str], None] | None) -> None:
    if check is not None:
        check(text)
    write_atomically(path, text)


def write_atomically(path: Path, text: str) -> None:
    """Put `text` in the file's place: a link stays a link, the file keeps its mode; a new one is the user's alone,
    for a config may hold keys."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
