"""Whether what was read fits what is declared: every mistake, with its key and what was expected. Pure; `settings`
knows the files and lines.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from .declared import (
    DEFAULT_BACKENDS,
    NOTHING,
    Key,
    bare,
    dotted,
    expected,
    extra,
    fields_of,
    kind_of,
    lifted,
    partly_secret,
    secret,
)
from .policy.bases import NO_HOST, misplaced_path, mistake
from .policy.redact import redact_foreign
from .sections import TIERS, Settings

__all__ = ["SENDABLE", "Mistake", "check", "check_together", "foreign", "sendable"]

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\s*")
UNITS: Mapping[str | None, int] = {
    None: 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
# A backend's name stands before a slash in model names, in environment variables and in response headers.
BACKEND_NAME = re.compile(r"[A-Za-z0-9_-]+")
# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2, and no control characters in a value.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

# Headers that say how a message is sent, which is for the HTTP library to know.
FRAMING = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})
SENDABLE = "a key of printable ASCII on one line"
WEB, REDIS = ("http", "https"), ("redis", "rediss", "valkey", "valkeys", "unix")
DATABASE = re.compile(r"(?:postgres(?:ql)?|sqlite)(?:\+\w+)?:")
SERVER = "a URL that begins with http:// or https://"
BASES = {
    "openai": "the URL below which /chat/completions is",
    "ollama": "the server's address, without /v1 or /api",
}

# (key, what was expected, what is there, whether there is no such setting)
Mistake = tuple[Key, str, str, bool]


def check(raw: dict[str, Any]) -> Iterator[Mistake]:
    """Yield every mistake; sizes like "64MiB" become numbers on the way."""
    backends = raw["backends"]
    for name, table in backends.items() if isinstance(backends, dict) else ():
        # A backend that is called what it is need not say so.
        if isinstance(table, dict) and any(name == given["type"] for given in DEFAULT_BACKENDS.values()):
            table.setdefault("type", name)
    yield from check_table(Settings, raw, ())
    for name, table in backends.items() if isinstance(backends, dict) else ():
        key = ("backends", name)
        if not BACKEND_NAME.fullmatch(name):
            yield key, "a name of letters, digits, - and _", "", False
        if isinstance(table, dict):
            yield from check_backend(key, table)
    yield from check_together(raw)
    models = raw.get("models")
    aliases = models.get("aliases") if isinstance(models, dict) else None
    for name, target in aliases.items() if isinstance(aliases, dict) else ():
        if not name or target == "":
            yield ("models", "aliases", name), "a name and a model", "an empty one", False


def check_together(raw: dict[str, Any]) -> Iterator[Mistake]:
    """Check what depends on more than one value, or on more than a type says. What has a wrong type is left alone."""
    names = ("limits", "logs", "tls", "budget", "store")
    limits, logs, tls, budget, store = (found if isinstance(found := raw.get(name), dict) else {} for name in names)
    yield from check_url(("limits", "url"), limits.get("url"), REDIS, credentials=True)
    yield from check_url(("budget", "webhook"), budget.get("webhook"), WEB, credentials=True)
    if isinstance(database := store.get("url"), str) and database and not DATABASE.match(database):
        yield ("store", "url"), "postgresql://USER@HOST/NAME, or nothing for SQLite", "another kind of URL", False
    tier, own = limits.get("tier"), limits.get("tiers")
    tiers = [*TIERS, *(own if isinstance(own, dict) else ())]
    if isinstance(tier, str) and tier and tier not in tiers:
        yield ("limits", "tier"), f"one of {', '.join(tiers)}", got(("limits", "tier"), tier), False
    patterns = logs.get("redact")
    for pattern in patterns if isinstance(patterns, list | tuple) else ():
        try:
            re.compile(pattern)
        except (re.error, TypeError, RecursionError, OverflowError):
            yield ("logs", "redact"), "regular expressions", got(("logs", "redact"), pattern), False
    if tls.get("mode") == "files":
        for name in ("cert", "key"):
            if not tls.get(name):
                yield ("tls", name), 'the path of a PEM file, which mode "files" needs', "nothing", False


def check_table(struct: type[msgspec.Struct], table: dict[str, Any], key: Key) -> Iterator[Mistake]:
    fields = fields_of(struct)
    for name, value in table.items():
        below = (*key, name)
        if name not in fields:
            yield below, near(key, name, fields), "", True
            continue
        field, kind = fields[name]
        if extra(kind, "size") and isinstance(value, str) and (found := SIZE.fullmatch(value)):
            table[name] = value = int(float(found[1]) * UNITS[found[2]])
        if value == NOTHING and lifted(kind):
            # TOML has no null.
            table[name] = None
            continue
        match bare(kind):
            case inspect.StructType(cls=inner) if isinstance(value, dict):
                yield from check_table(inner, value, below)
            case inspect.DictType(value_type=inner_kind) if isinstance(value, dict):
                yield from check_entries(inner_kind, value, below)
            case _:
                yield from check_value(field.type, kind, value, below)
    for name, (field, kind) in fields.items():
        if field.required and name not in table:
            yield (*key, name), expected(kind), "nothing", False


def check_entries(kind: inspect.Type, table: dict[str, Any], key: Key) -> Iterator[Mistake]:
    """Check a table of names: each entry is a table of settings, or a string."""
    for name, value in table.items():
        if isinstance(kind, inspect.StructType) and isinstance(value, dict):
            yield from check_table(kind.cls, value, (*key, name))
        elif isinstance(kind, inspect.StructType) or not isinstance(value, str):
            yield (*key, name), expected(kind), got((*key, name), value), False


def check_value(type_: Any, kind: inspect.Type, value: Any, key: Key) -> Iterator[Mistake]:
    try:
        msgspec.convert(value, type_, strict=True)
    except msgspec.ValidationError:
        yield key, expected(kind), got(key, value), False
        return
    if isinstance(value, int | float) and not (math.isfinite(value) and -(2**63) <= value < 2**63):
        yield key, expected(kind), got(key, value), False


def check_backend(key: Key, table: dict[str, Any]) -> Iterator[Mistake]:
    """Check what one backend's settings say together."""
    type_ = table.get("type")
    if type_ == "openai" and table.get("url", "") == "":
        yield (*key, "url"), "the server's base URL, which type openai needs", "nothing", False
    for name in table:
        if isinstance(type_, str) and (only := foreign((*key, name), type_)) and table[name] not in ("", {}):
            yield (*key, name), f'it with type {" or ".join(only)} only, this is type "{type_}"', "", True
    url, wrong = table.get("url"), False
    for found in check_url((*key, "url"), url, WEB):
        wrong = True
        yield found
    if isinstance(url, str) and isinstance(type_, str) and not wrong and (meant := misplaced_path(url, type_)):
        yield (*key, "url"), BASES.get(type_, "a base URL"), f"one with more behind it; {meant} is it", False
    if isinstance(secret_ := table.get("api_key"), str) and not sendable(secret_):
        yield (*key, "api_key"), SENDABLE, "one with a line end or another character that no header can have", False
    headers = table.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if name.lower() in FRAMING:
            yield (*key, "headers", name), "a header other than those that HTTP itself needs", "", False
        elif not HEADER_NAME.fullmatch(name) or (isinstance(value, str) and not HEADER_VALUE.fullmatch(value)):
            yield (*key, "headers", name), "an HTTP header's name and its value on one line", "", False


def check_url(key: Key, url: Any, schemes: Sequence[str], *, credentials: bool = False) -> Iterator[Mistake]:
    """Check a URL as far as that goes without a network. Its text is not repeated: it may hold a secret."""
    if not isinstance(url, str) or url == "":
        return
    if "?" in url and not credentials:
        yield key, SERVER, "one with a query", False
    elif "#" in url and schemes is WEB:
        yield key, SERVER, "one with a # in it", False
    elif not url.startswith("unix://") and (why := mistake(url, schemes, credentials=credentials)):
        if why == NO_HOST and schemes is REDIS:
            # It then means this machine.
            return
        kind = kind_of(key)
        yield key, (extra(kind, "expect") if kind is not None else None) or SERVER, why, False


def sendable(secret_: str) -> bool:
    """Return whether a key can be sent in a header. White space around it does not count."""
    return all(" " <= c <= "~" for c in secret_.strip())


def near(key: Key, name: str, fields: Iterable[str]) -> str:
    """Name the setting that was probably meant, else all there are."""
    known = list(fields)
    found = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return dotted((*key, found[0])) if found else f"one of {', '.join(known)}"


def got(key: Key, value: Any) -> str:
    """Write a wrong value; one that may hold a secret is not shown."""
    if secret(key):
        return "a value that is not shown"
    if (key[-1] == "url" or partly_secret(key)) and (not isinstance(value, str) or "@" in value or "?" in value):
        return "a value that is not shown"
    text = redact_foreign(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else f"{text[:57]}…"


def foreign(key: Key, type_: str) -> tuple[str, ...]:
    """Return the types of backend that know a setting, if this one does not; else nothing."""
    kind = kind_of(key)
    only: tuple[str, ...] = (extra(kind, "only") if kind is not None else None) or ()
    return () if type_ in only else only
