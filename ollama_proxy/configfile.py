"""The TOML file: where a key stands in it, and changes that keep comments and order. Knows no setting's meaning.

For the line of a key (no library gives it) the text is cut into statements. A new key is written as a line at its
place; all else is tomlkit's work. Whatever was done, the result is read again and must say the old file and the change
and nothing else. It is written to a new file that takes the old one's place, so that nobody ever reads half a config.
"""

from __future__ import annotations

import copy
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

__all__ = ["Broken", "lines_of", "place_of", "remove_value", "set_value", "split_key", "with_value", "write_atomically"]

Path_ = tuple[str, ...]


class Broken(Exception):
    """The file is no TOML, or the change cannot be made. `message` says what and where."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def split_key(key: str) -> Path_:
    """Split a dotted key as TOML writes it: `models.aliases."gpt-4.1"` has three parts. What needs quotes in a file
    (a glob, say) needs none here unless it has a dot."""
    try:
        return max(paths(tomllib.loads("" if "\n" in key else f"{key} = 0")), key=len)
    except (tomllib.TOMLDecodeError, ValueError):
        parts = tuple(key.split("."))
        if not all(parts) or any(sign in key for sign in "\"'=\n"):
            raise Broken(f'{key!r} is no key; write it as in TOML: models.aliases."gpt-4.1"') from None
        return parts


def lines_of(text: str) -> dict[Path_, int]:
    """Return the line (from 1) of every table heading and every key of a text that is valid TOML. What stands in an
    inline table or an array has the line where the statement begins."""
    found: dict[Path_, int] = {}
    table: Path_ = ()
    for start, statement in statements(text):
        value: Any = tomllib.loads(statement)
        if statement.startswith("["):
            table = next(iter(paths(value, deepest=True)))
            found.setdefault(table, start)
        else:
            for path in paths(value):
                found.setdefault(table + path, start)
    return found


def place_of(lines: Mapping[Path_, int], key: Sequence[str]) -> int:
    """Return the line where `key` stands: its own, or that of the nearest table above it; 1 if there is none."""
    above = (tuple(key[:end]) for end in range(len(key), 0, -1))
    return next((lines[path] for path in above if path in lines), 1)


# What a line is made of, as far as finding its end goes: https://toml.io/en/v1.0.0
TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* )
    | (?P<string> \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5}
                | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* ' )
    | (?P<open> [\[{] ) | (?P<close> [\]}] ) | (?P<end> \n ) | (?P<other> [^\#"'\[\]{}\n]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield every heading and every `key = value` of a text that is valid TOML, without comments: (line, statement)."""
    line, start, depth, parts = 1, 1, 0, list[str]()
    for token in TOKEN.finditer(text + "\n"):
        kind, piece = token.lastgroup, token[0]
        if kind == "end" and depth == 0:
            if statement := "".join(parts).strip():
                yield start, statement
            parts.clear()
        elif kind != "comment":
            if not parts:
                start = line
            parts.append(piece)
            depth += (kind == "open") - (kind == "close")
        line += piece.count("\n")


def paths(value: Any, above: Path_ = (), *, deepest: bool = False) -> Iterator[Path_]:
    """Yield the keys in a parsed statement; `deepest`: the one table that a heading names."""
    if isinstance(value, list) and deepest:
        value = value[0]
    if not isinstance(value, dict) or (deepest and not value):
        if deepest:
            yield above
        return
    for name, below in value.items():
        if not deepest:
            yield (*above, name)
        yield from paths(below, (*above, name), deepest=deepest)


# --- changing -----------------------------------------------------------------------------------------------------


def set_value(path: Path, key: Sequence[str], value: Any, *, check: Callable[[str], None] | None = None) -> Any:
    """Set a key, making its tables if need be; return the old value, None if there was none.

    `check` gets the new text before it is written and raises to refuse it. Raises Broken for a file that is no TOML.
    """
    text, mark, crlf = read(path)
    old, new = with_value(text, tuple(key), value, path)
    if check is not None:
        check(new)
    write_atomically(path, mark + (new.replace("\n", "\r\n") if crlf else new))
    return old


def remove_value(path: Path, key: Sequence[str], *, check: Callable[[str], None] | None = None) -> bool:
    """Remove a key; return whether it was there."""
    text, mark, crlf = read(path)
    wanted = parse(text, path)
    above = below(wanted, key[:-1])
    if not isinstance(above, dict) or key[-1] not in above:
        return False
    del above[key[-1]]
    document = tomlkit.parse(text)
    table: Any = document
    for part in key[:-1]:
        table = table[part]
    del table[key[-1]]
    new = tomlkit.dumps(document)
    if not says(new, wanted):
        raise Broken(f"{path}: {'.'.join(key)} cannot be removed without harm to the rest; please edit the file.")
    if check is not None:
        check(new)
    write_atomically(path, mark + (new.replace("\n", "\r\n") if crlf else new))
    return True


def with_value(text: str, key: Path_, value: Any, path: Path) -> tuple[Any, str]:
    """Return (old value or None, the text with the key set). Nothing else in the text changes."""
    wanted = parse(text, path)
    old = below(wanted, key)
    headings = (table_of(statement) for _, statement in statements(text) if statement.startswith("["))
    if isinstance(old, dict) and (not isinstance(value, dict) or key in headings):
        # Replacing a table would take its comments away.
        raise Broken(f"{'.'.join(key)} is a table; set one of its keys.")
    table = wanted
    for part in key[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise Broken(f"{'.'.join(key)}: {part} is a value, not a table.")
    table[key[-1]] = copy.deepcopy(value)
    for way in (inserted, uncommented, replaced, appended):
        new = way(text, key, value)
        if new is not None and says(new, wanted):
            return old, new
    raise Broken(f"{path}: {'.'.join(key)} cannot be set without harm to the rest; please edit the file.")


def inserted(text: str, key: Path_, value: Any) -> str | None:
    """Write a new key into its table: below the line that shows it as a comment, else below the table's last key."""
    lines = text.split("\n")
    at: int | None = 0 if len(key) == 1 else None
    end, indent = len(lines), ""
    for start, statement in statements(text):
        if statement.startswith("["):
            if at is not None:
                end = start - 1
                break
            if table_of(statement) == key[:-1]:
                at = start
        elif at is not None:
            at = start + statement.count("\n")
            indent = lines[start - 1][: len(lines[start - 1]) - len(lines[start - 1].lstrip())]
    if at is None:
        return None
    shown = re.compile(rf"#\s?{re.escape(tomlkit.key(key[-1]).as_string())}\s*=")
    for number, line in enumerate(lines[at:end], at):
        if line.startswith("#["):
            break
        if shown.match(line):
            at = number + 1
            break
    lines.insert(at, f"{indent}{tomlkit.key(key[-1]).as_string()} = {tomlkit.item(value).as_string()}")
    # A last line without a line feed has got one now.
    return "\n".join(lines) if at < len(lines) - 1 else "\n".join(lines) + "\n"


def uncommented(text: str, key: Path_, value: Any) -> str | None:
    """Put the table's heading in force that is there as a comment, and write the key below it."""
    for found in re.finditer(r"(?m)^#\s?(\[[^\[\]\n]+\])\s*$", text):
        if table_of(found[1]) == key[:-1]:
            return inserted(text[: found.start()] + found[1] + text[found.end() :], key, value)
    return None


def replaced(text: str, key: Path_, value: Any) -> str | None:
    """Let tomlkit set the key: one that is there, or one in an inline table."""
    try:
        table: Any = (document := tomlkit.parse(text))
        for part in key[:-1]:
            table = table[part]
        table[key[-1]] = value
        return tomlkit.dumps(document)
    except (KeyError, TOMLKitError):
        return None


def appended(text: str, key: Path_, value: Any) -> str:
    """Write the key's table at the end of the file."""
    gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
    heading = ".".join(tomlkit.key(part).as_string() for part in key[:-1])
    return f"{text}{gap}[{heading}]\n{tomlkit.key(key[-1]).as_string()} = {tomlkit.item(value).as_string()}\n"


def table_of(heading: str) -> Path_ | None:
    try:
        return next(iter(paths(tomllib.loads(heading), deepest=True)), None)
    except tomllib.TOMLDecodeError:
        return None


def says(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def below(value: Any, key: Sequence[str]) -> Any:
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise Broken(f"{path}: {exc}") from exc


def read(path: Path) -> tuple[str, str, bool]:
    """Return (text with plain line feeds, its byte order mark or "", whether its lines end as on Windows)."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return "", "", False
    except UnicodeDecodeError as exc:
        raise Broken(f"{path}: the bytes are not UTF-8") from exc
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    return text.removeprefix(mark).replace("\r\n", "\n"), mark, "\r\n" in text


def write_atomically(path: Path, text: str) -> None:
    """Put `text` in the file's place: a link stays a link, the file keeps its mode. A new file, and one that holds a
    key, is for its owner alone."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    if re.search(r"(?m)^[^#\n]*\bapi_key\b[\"']?\s*=", text):
        mode &= 0o700
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException as exc:
        os.unlink(name)
        if isinstance(exc, OSError) and exc.filename is None:
            # What fails while writing, a full disk above all, does not say where.
            exc.filename = str(path)
        raise
