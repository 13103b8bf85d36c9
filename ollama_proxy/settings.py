"""The settings as they are in force: defaults < file < environment < flags, checked, each with where it came from.

What there is to set is declared in `declared`; this module reads it. A wrong value is told with file, line, key and
what was expected, all of them at once. Never asks the network; reads the one file it is given.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import platformdirs
from msgspec import inspect

from .configfile import lines_of, place_of, split_key
from .declared import (
    DEFAULT_BACKENDS,
    FLAGS,
    SECTIONS,
    BackendSettings,
    Key,
    ModelOptions,
    Models,
    Server,
    Setting,
    Settings,
    bare,
    describe,
    dotted,
    expected,
    extra,
    kind_of,
    secret,
)

__all__ = [
    "BackendSettings",
    "ConfigError",
    "Loaded",
    "ModelOptions",
    "Models",
    "Problem",
    "Server",
    "Setting",
    "Settings",
    "changes",
    "default_path",
    "describe",
    "load",
    "parse_text",
    "values_of",
]

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\s*")
UNITS: Mapping[str | None, int] = {
    None: 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# A backend's name stands before a slash in model names, in environment variables and in response headers.
BACKEND_NAME = re.compile(r"[A-Za-z0-9_-]+")
# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2, and no control characters in a value.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


class Problem(NamedTuple):
    """One mistake. `where` is `FILE:LINE`, an environment variable or a flag."""

    where: str
    key: str
    expected: str
    got: str = ""
    unknown: bool = False

    def __str__(self) -> str:
        parts = [self.where, *[self.key] * bool(self.key), *["no such setting"] * self.unknown]
        return f"{': '.join(parts)}{';' if self.unknown else ':'} expected {self.expected}" + (
            f", got {self.got}" if self.got else ""
        )


class ConfigError(Exception):
    """The settings are wrong. `problems` are all mistakes found; `message` lists them, one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.message = "\n".join(str(problem) for problem in problems)
        super().__init__(self.message)


class Loaded(msgspec.Struct, frozen=True):
    """Settings with their origins: dotted key → "default", "file PATH:LINE", "environment NAME" or "flag --NAME".

    `path` is the file that is (or would be) read.
    """

    settings: Settings
    origin: dict[str, str]
    path: Path


def default_path() -> Path:
    """Return the user's config file, whether it exists or not."""
    return Path(platformdirs.user_config_path("oproxy")) / "config.toml"


def load(
    *, path: Path | None = None, env: Mapping[str, str], flags: Mapping[str, Any], text: str | None = None
) -> Loaded:
    """Read the settings. `flags` maps dotted keys to values (None: not given). `text` stands for the file's content.

    Raises ConfigError; a file that was named but is not there is an error too.
    """
    named = path or (Path(env["OPROXY_CONFIG"]) if env.get("OPROXY_CONFIG") else None)
    file = named or default_path()
    if text is None:
        text = read(file, must=named is not None)
    raw = parse_toml(text, file)
    lines = lines_of(text)
    origin = {key: f"file {file}:{place_of(lines, key)}" for key in leaves(raw)}
    problems = take_env(raw, env, origin)
    for flag, value in flags.items():
        if value is not None:
            key = split_key(flag)
            put(raw, key, value)
            origin[key] = f"flag {FLAGS.get(flag, '--backend' if key[0] == 'backends' else f'--{key[-1]}')}"
    raw.setdefault("backends", {name: dict(given) for name, given in DEFAULT_BACKENDS.items()})
    for key, wanted, got, unknown in check(raw):
        said = next((origin[up] for end in range(len(key), 0, -1) if (up := key[:end]) in origin), "file")
        where = f"{file}:{place_of(lines, key)}" if said.startswith("file") else said.split(" ", 1)[1]
        problems.append(Problem(where, dotted(key), wanted, got, unknown))
    if problems:
        raise ConfigError(problems)
    settings = msgspec.convert(raw, Settings, strict=True)
    return Loaded(settings, {dotted(key): origin.get(key, "default") for key in values_of(settings)}, file)


def read(file: Path, *, must: bool) -> str:
    try:
        # Some editors on Windows begin a file with a byte order mark, which TOML does not know.
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if must:
            raise ConfigError([Problem(str(file), "", "a config file", "no such file")]) from None
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "bytes that are not UTF-8"
        raise ConfigError([Problem(str(file), "", "a text file that can be read", str(reason))]) from exc


def parse_toml(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        reason, _, place = str(exc).partition(" (at ")
        found = re.search(r"line (\d+), column (\d+)", place)
        # Only "end of document" has no numbers.
        line, column = (found[1], found[2]) if found else (len(text.splitlines()) or 1, 1)
        raise ConfigError([Problem(f"{file}:{line}:{column}", "", "valid TOML", f"the error: {reason}")]) from exc
    except RecursionError as exc:
        raise ConfigError([Problem(str(file), "", "valid TOML", "brackets in brackets without end")]) from exc


def leaves(value: Any, above: Key = ()) -> Iterator[Key]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from leaves(below, (*above, name))
    elif above:
        yield above


def put(raw: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        below = raw.setdefault(part, {})
        if not isinstance(below, dict):
            # The file has a value where a table belongs, which is about to be refused.
            return
        raw = below
    raw[key[-1]] = value


def values_of(settings: Settings) -> dict[Key, Any]:
    """Return every single setting there is, by its key: tables of names are taken apart, a backend's headers are one
    value, and of a backend only what its type knows."""
    out: dict[Key, Any] = {}

    def walk(key: Key, value: Any) -> None:
        if isinstance(value, dict) and key[-1:] != ("headers",):
            for name, below in value.items():
                walk((*key, name), below)
        elif key[0] != "backends" or not foreign(key, settings.backends[key[1]].type):
            out[key] = value

    walk((), msgspec.to_builtins(settings))
    return out


def foreign(key: Key, type_: str) -> tuple[str, ...]:
    """Return the types of backend that know a setting, if this one does not; else nothing."""
    kind = kind_of(key)
    only: tuple[str, ...] = (extra(kind, "only") if kind is not None else None) or ()
    return () if type_ in only else only


def changes(old: Settings, new: Settings) -> Iterator[tuple[Key, Any, Any]]:
    """Yield the settings that differ: (key, old value, new value), None for one that is not there.

    A backend that comes or goes is one change, with its type as the value.
    """
    before, after = values_of(old), values_of(new)
    for mine, here, there in ((before, old, new), (after, new, old)):
        for name in [name for name in here.backends if name not in there.backends]:
            for key in [key for key in mine if key[:2] == ("backends", name)]:
                del mine[key]
            mine["backends", name] = here.backends[name].type
    if list(old.backends) != list(new.backends) and set(old.backends) == set(new.backends):
        yield ("backends",), list(old.backends), list(new.backends)
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


# --- the environment ----------------------------------------------------------------------------------------------


def take_env(raw: dict[str, Any], env: Mapping[str, str], origin: dict[Key, str]) -> list[Problem]:
    """Put what the environment sets into `raw`; a variable that looks like a setting and is none is a mistake."""
    problems: list[Problem] = []
    fixed = {
        variable_of(section, field.name): (section, field.name)
        for section, struct in SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    }
    for variable in sorted(env):
        text = env[variable]
        if not text or not re.match("OPROXY_(SERVER|MODELS|BACKENDS)_", variable):
            continue
        key = fixed.get(variable) or backend_key(variable, raw)
        if key is None:
            near = difflib.get_close_matches(variable, fixed, n=1, cutoff=0.8)
            problems.append(Problem(variable, "", near[0] if near else "a setting of `man oproxy.toml`", unknown=True))
            continue
        kind = kind_of(key)
        if kind is None or isinstance(bare(kind), inspect.DictType):
            problems.append(Problem(variable, dotted(key), "to be set in the config file"))
            continue
        if key[0] == "backends":
            raw.setdefault("backends", {name: dict(given) for name, given in DEFAULT_BACKENDS.items()})
        put(raw, key, parse_text(kind, text))
        origin[key] = f"environment {variable}"
    return problems


def variable_of(*parts: str) -> str:
    return re.sub(r"\W", "_", "_".join(("OPROXY", *parts))).upper()


def backend_key(variable: str, raw: Mapping[str, Any]) -> Key | None:
    """Return the key of OPROXY_BACKENDS_NAME_FIELD: of a backend that is there, or of a new one in small letters."""
    backends = raw.get("backends", DEFAULT_BACKENDS)
    # The longest name first: `..._API_KEY_ENV` ends in no other field, but NAME may end like one.
    for field in sorted(BackendSettings.__struct_fields__, key=len, reverse=True):
        for name in backends if isinstance(backends, Mapping) else ():
            if variable == variable_of("backends", name, field):
                return ("backends", name, field)
    for field in sorted(BackendSettings.__struct_fields__, key=len, reverse=True):
        if found := re.fullmatch(f"OPROXY_BACKENDS_(.+)_{field.upper()}", variable):
            return ("backends", found[1].lower(), field)
    return None


def parse_text(kind: inspect.Type, text: str) -> Any:
    """Read a value written as plain text; what does not fit is returned as text, for the check to refuse."""
    match bare(kind):
        case inspect.BoolType() if text.lower() in (*YES, *NO):
            return text.lower() in YES
        case inspect.IntType() if re.fullmatch(r"[+-]?\d{1,19}", text.strip()):
            return int(text)
        case inspect.FloatType():
            try:
                return float(text)
            except ValueError:
                return text
        case inspect.ListType() | inspect.VarTupleType():
            return [part.strip() for part in text.split(",") if part.strip()]
        case inspect.UnionType() if re.fullmatch(r"[+-]?\d{1,19}", text.strip()):
            return int(text)
        case _:
            return text


# --- the check ----------------------------------------------------------------------------------------------------

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
    models = raw.get("models")
    aliases = models.get("aliases") if isinstance(models, dict) else None
    for name, target in aliases.items() if isinstance(aliases, dict) else ():
        if not name or target == "":
            yield ("models", "aliases", name), "a name and a model", "an empty one", False


def check_table(struct: type[msgspec.Struct], table: dict[str, Any], key: Key) -> Iterator[Mistake]:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for name, value in table.items():
        below = (*key, name)
        if name not in fields:
            yield below, near(key, name, fields), "", True
            continue
        kind = inspect.type_info(fields[name].type)
        if extra(kind, "size") and isinstance(value, str) and (found := SIZE.fullmatch(value)):
            table[name] = value = int(float(found[1]) * UNITS[found[2]])
        match bare(kind):
            case inspect.StructType(cls=inner) if isinstance(value, dict):
                yield from check_table(inner, value, below)
            case inspect.DictType(value_type=inner_kind) if isinstance(value, dict):
                yield from check_entries(inner_kind, value, below)
            case _:
                yield from check_value(fields[name].type, kind, value, below)
    for name, field in fields.items():
        if field.required and name not in table:
            yield (*key, name), expected(inspect.type_info(field.type)), "nothing", False


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
    headers = table.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if not HEADER_NAME.fullmatch(name) or (isinstance(value, str) and not HEADER_VALUE.fullmatch(value)):
            yield (*key, "headers", name), "an HTTP header's name and its value on one line", "", False


def near(key: Key, name: str, fields: Iterable[str]) -> str:
    """Name the setting that was probably meant, else all there are."""
    known = list(fields)
    found = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return dotted((*key, found[0])) if found else f"one of {', '.join(known)}"


def got(key: Key, value: Any) -> str:
    """Write a wrong value; one that may hold a secret is not shown."""
    if secret(key):
        return "a value that is not shown"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
