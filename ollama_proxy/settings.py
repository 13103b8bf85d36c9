"""The settings as they are in force: defaults < file < environment < flags, checked, each with where it came from.

What there is to set is declared in `declared`; this module reads it. A wrong value is told with file, line, key and
what was expected, all of them at once. Never asks the network; reads the one file it is given.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import platformdirs
from msgspec import inspect

from .check import SENDABLE, check, foreign, sendable
from .configfile import lines_of, place_of, split_key
from .declared import (
    DEFAULT_BACKENDS,
    FLAGS,
    SECTIONS,
    Key,
    Setting,
    bare,
    describe,
    dotted,
    fields_of,
    groups,
    kind_of,
)
from .sections import BackendSettings, ModelOptions, Models, Server, Settings

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

# What looks like a setting; OPROXY_CONFIG and OPROXY_API_KEYS are none.
VARIABLE = re.compile(f"OPROXY_({'|'.join((*SECTIONS, 'backends')).upper()})_")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


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

    `path` is the file that is (or would be) read, `text` what was in it. `written` are the keys that the file, the
    environment or a flag sets, also those without a value ("none").
    """

    settings: Settings
    origin: dict[str, str]
    path: Path
    text: str = ""
    written: frozenset[Key] = frozenset()

    @property
    def blank(self) -> bool:
        """Whether the file sets nothing: it is empty, holds only comments, or is not there."""
        return not sets(parse_toml(self.text, self.path))


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
        from_ = next((o for end in range(len(key), 0, -1) if (o := origin_of(key[:end], origin)) != "default"), "file")
        where = f"{file}:{place_of(lines, key)}" if from_.startswith("file") else from_.split(" ", 1)[1]
        problems.append(Problem(where, dotted(key), wanted, got, unknown))
    if problems:
        raise ConfigError(problems)
    settings = msgspec.convert(raw, Settings, strict=True)
    if problems := list(unsendable(settings, env, origin, file)):
        raise ConfigError(problems)
    said = {dotted(key): origin_of(key, origin) for key in values_of(settings)}
    return Loaded(settings, said, file, text, frozenset(origin))


def unsendable(settings: Settings, env: Mapping[str, str], origin: Mapping[Key, str], file: Path) -> Iterator[Problem]:
    """Yield each key in a named variable of the environment that no header can carry. Its value is never told."""
    for name, backend in settings.backends.items():
        variable = backend.api_key_env
        if variable and not backend.api_key and not sendable(env.get(variable, "")):
            key = ("backends", name, "api_key_env")
            said = origin_of(key, origin)
            where = said.removeprefix("file ") if said.startswith("file ") else said.split(" ", 1)[-1]
            text = f"one in {variable} with a line end or another character that no header can have"
            yield Problem(where if said != "default" else str(file), dotted(key), SENDABLE, text)


def origin_of(key: Key, origin: Mapping[Key, str]) -> str:
    """Say where a value comes from; a table, from where the first that stands in it does."""
    return origin.get(key) or next((said for leaf, said in origin.items() if leaf[: len(key)] == key), "default")


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
        line, column = (found[1], found[2]) if found else (text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1)
        raise ConfigError([Problem(f"{file}:{line}:{column}", "", "valid TOML", f"the error: {reason}")]) from exc
    except RecursionError as exc:
        raise ConfigError([Problem(str(file), "", "valid TOML", "brackets in brackets without end")]) from exc


def leaves(value: Any, above: Key = ()) -> Iterator[Key]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from leaves(below, (*above, name))
    elif above:
        yield above


def sets(value: Any) -> bool:
    """Return whether anything is set; headings and empty tables set nothing."""
    return any(map(sets, value.values())) if isinstance(value, dict) else True


def put(raw: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        below = raw.setdefault(part, {})
        if not isinstance(below, dict):
            # The file has a value where a table belongs, which is about to be refused.
            return
        raw = below
    raw[key[-1]] = value


def values_of(settings: Settings) -> dict[Key, Any]:
    """Return every single setting that has a value, by its key: tables of names are taken apart, a backend's headers
    are one value, and of a backend only what its type knows."""
    out: dict[Key, Any] = {}

    def walk(key: Key, value: Any) -> None:
        if isinstance(value, dict) and key[-1:] != ("headers",):
            for name, below in value.items():
                walk((*key, name), below)
        elif value is not None and (key[0] != "backends" or not foreign(key, settings.backends[key[1]].type)):
            out[key] = value

    walk((), msgspec.to_builtins(settings))
    return out


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
        variable_of(prefix, name): (*prefix.split("."), name)
        for prefix, struct in groups()
        if "NAME" not in prefix
        for name in fields_of(struct)
    }
    for variable in sorted(env):
        text = env[variable]
        if not text or not VARIABLE.match(variable):
            continue
        key = fixed.get(variable) or backend_key(variable, raw)
        if key is None:
            problems.append(Problem(variable, "", near_variable(variable, fixed), unknown=True))
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


def near_variable(variable: str, known: Iterable[str]) -> str:
    """Name the variable that was probably meant. The beginnings are alike anyway: what counts is the rest."""
    _, section, rest = variable.split("_", 2)
    names = {name.split("_", 2)[2]: name for name in known if name.split("_")[1] == section}
    found = difflib.get_close_matches(rest, names, n=1)
    return names[found[0]] if found else "a setting of `man oproxy.toml`"


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
