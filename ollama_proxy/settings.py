"""The settings as they are in force: defaults < file < environment < flags, checked, each with where it came from.

What there is to set is declared in `declared`; this module reads it and prints it. A wrong value is told with file,
line, key and what was expected, all of them at once. Never asks the network; reads the one file it is given.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import platformdirs
from msgspec import inspect

from .configfile import line_of
from .declared import BackendSettings, ModelOptions, Models, Server, Settings

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
    "commented_toml",
    "default_path",
    "describe",
    "field_of",
    "load",
    "restarts",
    "secret",
]

SECTIONS: Mapping[str, type[msgspec.Struct]] = {"server": Server, "models": Models}
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\s*$")
UNITS = {
    None: 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
# Where nothing is configured: Ollama at its usual address, and the built-in model beside it.
DEFAULT_BACKENDS: Mapping[str, Mapping[str, Any]] = {"ollama": {"type": "ollama"}, "embedded": {"type": "embedded"}}


class Problem(NamedTuple):
    """One mistake. `where` is `FILE:LINE`, an environment variable or a flag."""

    where: str
    key: str
    expected: str
    got: str

    def __str__(self) -> str:
        got = f", got {self.got}" if self.got else ""
        key = f" {self.key}:" if self.key else ""
        return f"{self.where}:{key} expected {self.expected}{got}"


class ConfigError(Exception):
    """The settings are wrong. `problems` are all mistakes found; `message` lists them, one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.message = "\n".join(str(problem) for problem in problems)
        super().__init__(self.message)


class Loaded(msgspec.Struct, frozen=True):
    """Settings with their origins: key → "default", "file PATH:LINE", "environment NAME" or "flag --NAME".

    `path` is the file that is (or would be) read.
    """

    settings: Settings
    origin: dict[str, str]
    path: Path


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One declared setting, for whoever prints it. `flag` is None where there is none."""

    key: str
    flag: str | None
    env: str | None
    type_text: str
    default: Any
    help: str
    restart: bool
    secret: bool


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
        text = _read(file, must=named is not None)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"line (\d+), column (\d+)", str(exc))
        where = f"{file}:{found[1]}:{found[2]}" if found else str(file)
        raise ConfigError([Problem(where, "", f"valid TOML ({str(exc).split(' (at')[0]})", "")]) from exc
    origin: dict[str, str] = {}
    for key in _leaves(raw):
        origin[".".join(key)] = f"file {file}:{line_of(text, key) or 1}"
    problems = _merge_env(raw, env, origin)
    for flag, value in flags.items():
        if value is not None:
            _put(raw, flag.split("."), value)
            origin[flag] = f"flag --{flag.rpartition('.')[2].replace('_', '-')}"
    raw.setdefault("backends", {name: dict(fields) for name, fields in DEFAULT_BACKENDS.items()})
    problems += [
        Problem(_where(origin, key, file, text), ".".join(_quoted(key)), expected, got)
        for key, expected, got in _check(inspect.type_info(Settings), raw, ())
    ]
    if problems:
        raise ConfigError(problems)
    return Loaded(msgspec.convert(raw, Settings, strict=True), origin, file)


def _read(file: Path, *, must: bool) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if must:
            raise ConfigError([Problem(str(file), "", "a config file", "no such file")]) from None
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "bytes that are not UTF-8"
        raise ConfigError([Problem(str(file), "", "a readable text file", str(reason))]) from exc


def _where(origin: Mapping[str, str], key: tuple[str, ...], file: Path, text: str) -> str:
    said = origin.get(".".join(key), "")
    if said.startswith(("environment ", "flag ")):
        return said.split(" ", 1)[1]
    return f"{file}:{line_of(text, key) or 1}"


def _leaves(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves(below, (*above, name))
    elif above:
        yield above


def _put(raw: dict[str, Any], key: list[str], value: Any) -> None:
    for part in key[:-1]:
        below = raw.setdefault(part, {})
        if not isinstance(below, dict):
            return
        raw = below
    raw[key[-1]] = value


# --- the environment ----------------------------------------------------------------------------------------------


def _merge_env(raw: dict[str, Any], env: Mapping[str, str], origin: dict[str, str]) -> list[Problem]:
    problems: list[Problem] = []
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            problems += _take_env(raw, (section, field.name), f"OPROXY_{section}_{field.name}".upper(), env, origin)
    backends = raw.get("backends", DEFAULT_BACKENDS)
    for name in backends if isinstance(backends, Mapping) else ():
        for field in msgspec.structs.fields(BackendSettings):
            variable = re.sub(r"\W", "_", f"OPROXY_BACKENDS_{name}_{field.name}").upper()
            if variable in env and "backends" not in raw:
                raw["backends"] = {n: dict(fields) for n, fields in DEFAULT_BACKENDS.items()}
            problems += _take_env(raw, ("backends", name, field.name), variable, env, origin)
    return problems


def _take_env(
    raw: dict[str, Any], key: tuple[str, ...], variable: str, env: Mapping[str, str], origin: dict[str, str]
) -> list[Problem]:
    text = env.get(variable)
    if text is None:
        return []
    kind = _kind(key)
    if isinstance(kind, inspect.DictType):
        return [Problem(variable, ".".join(key), "to be set in the config file, not in the environment", "")]
    _put(raw, list(key), parse_text(kind, text))
    origin[".".join(key)] = f"environment {variable}"
    return []


def parse_text(kind: inspect.Type, text: str) -> Any:
    """Read a value written as plain text; what does not fit is returned as text, for the check to refuse."""
    match _bare(kind):
        case inspect.BoolType() if text.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            return text.lower() in ("1", "true", "yes", "on")
        case inspect.IntType() if re.fullmatch(r"[+-]?\d+", text.strip()):
            return int(text)
        case inspect.FloatType():
            try:
                return float(text)
            except ValueError:
                return text
        case inspect.ListType() | inspect.VarTupleType():
            return [part.strip() for part in text.split(",") if part.strip()]
        case _:
            return text


# --- the check ----------------------------------------------------------------------------------------------------


def _bare(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        rest = [each for each in kind.types if not isinstance(_bare(each), inspect.NoneType)]
        if len(rest) == 1:
            return _bare(rest[0])
    return kind


def _extra(kind: inspect.Type) -> dict[str, Any]:
    if isinstance(kind, inspect.Metadata):
        return kind.extra or {}
    if isinstance(kind, inspect.UnionType):
        for each in kind.types:
            if extra := _extra(each):
                return extra
    return {}


def _check(kind: inspect.Type, value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (key, expected, got) for each mistake; write sizes like "64MiB" as numbers on the way."""
    bare = _bare(kind)
    if isinstance(bare, (inspect.StructType, inspect.DictType)) and not isinstance(value, dict):
        yield key, "a table", _got(key, value)
        return
    match bare:
        case inspect.StructType():
            fields = {field.name: field for field in bare.fields}
            for name in [*value]:
                if name not in fields:
                    yield (*key, name), _near(name, fields), ""
                    continue
                if _extra(fields[name].type).get("size") and isinstance(value[name], str):
                    value[name] = _size(value[name])
                yield from _check(fields[name].type, value[name], (*key, name))
            for name, field in fields.items():
                if field.required and name not in value:
                    yield (*key, name), _expected(field.type), "nothing"
        case inspect.DictType():
            for name, below in value.items():
                yield from _check(bare.value_type, below, (*key, name))
        case _:
            try:
                msgspec.convert(value, _python(kind), strict=True)
            except msgspec.ValidationError:
                yield key, _expected(kind), _got(key, value)


def _size(text: str) -> Any:
    found = SIZE.match(text)
    return int(float(found[1]) * UNITS[found[2]]) if found else text


def _near(name: str, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, fields, n=1)
    known = f"`{near[0]}`" if near else f"one of {', '.join(fields)}"
    return f"{known}; there is no such setting"


def _python(kind: inspect.Type) -> Any:
    """Return the Python type of a leaf, with its limits."""
    match kind:
        case inspect.Metadata():
            return _python(kind.type)
        case inspect.UnionType():
            kinds = [_python(each) for each in kind.types]
            out = kinds[0]
            for each in kinds[1:]:
                out = out | each
            return out
        case inspect.IntType() | inspect.FloatType():
            limits = {n: getattr(kind, n) for n in ("ge", "le", "gt", "lt") if getattr(kind, n) is not None}
            base = int if isinstance(kind, inspect.IntType) else float
            return _annotated(base, limits)
        case inspect.StrType():
            return str
        case inspect.BoolType():
            return bool
        case inspect.LiteralType():
            return _literal(kind.values)
        case inspect.VarTupleType() | inspect.ListType():
            return list[str]
        case _:
            return None


def _annotated(base: type, limits: dict[str, Any]) -> Any:
    return Annotated[base, msgspec.Meta(**limits)]


def _literal(values: tuple[Any, ...]) -> Any:
    return Literal[values]


def _expected(kind: inspect.Type) -> str:
    bare = _bare(kind)
    match bare:
        case inspect.IntType() | inspect.FloatType():
            word = "an integer" if isinstance(bare, inspect.IntType) else "a number"
            low = bare.ge if bare.ge is not None else bare.gt
            if low is not None and bare.le is not None:
                return f"{word} between {low:g} and {bare.le:g}"
            if bare.ge is not None:
                return f"{word} of at least {bare.ge:g}"
            if bare.gt is not None:
                return f"{word} above {bare.gt:g}"
            return word
        case inspect.StrType():
            return "a string"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in bare.values)
        case inspect.VarTupleType() | inspect.ListType():
            return "a list of strings"
        case inspect.UnionType():
            words = [_expected(each) for each in bare.types if not isinstance(each, inspect.NoneType)]
            return " or ".join(words)
        case _:
            return "a table"


def _got(key: tuple[str, ...], value: Any) -> str:
    if secret(key):
        return "a value that is not shown"
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"


def _quoted(key: tuple[str, ...]) -> list[str]:
    return [part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key]


# --- printing -----------------------------------------------------------------------------------------------------


def field_of(key: tuple[str, ...]) -> msgspec.structs.FieldInfo | None:
    """Return the declaration of a dotted key, None if there is none."""
    match key:
        case (section, name) if section in SECTIONS:
            struct: type[msgspec.Struct] = SECTIONS[section]
        case ("models", "options", _, name):
            struct = ModelOptions
        case ("backends", _, name):
            struct = BackendSettings
        case _:
            return None
    return next((field for field in msgspec.structs.fields(struct) if field.name == name), None)


def _kind(key: tuple[str, ...]) -> inspect.Type:
    field = field_of(key)
    return inspect.type_info(field.type) if field is not None else inspect.StrType()


def secret(key: tuple[str, ...]) -> bool:
    """Return whether the value of a key must never be shown."""
    return bool(_extra(_kind(key)).get("secret")) or "headers" in key


def restarts(key: tuple[str, ...]) -> bool:
    """Return whether a changed value takes effect only after a restart."""
    return bool(_extra(_kind(key)).get("restart"))


# Settings that `oproxy serve` takes as flags.
FLAGS = {"server.host": "--host", "server.port": "--port", "server.log_level": "--log-level"}


def describe() -> list[Setting]:
    """Return every setting there is, in the order of the file."""
    out: list[Setting] = []
    for prefix, struct in (
        ("server", Server), ("backends.NAME", BackendSettings), ("models", Models),
        ('models.options."NAME"', ModelOptions),
    ):  # fmt: skip
        for field in msgspec.structs.fields(struct):
            kind = inspect.type_info(field.type)
            key = f"{prefix}.{field.name}"
            dicts = isinstance(_bare(kind), inspect.DictType)
            out.append(
                Setting(
                    key=key,
                    flag=FLAGS.get(key),
                    env=None if dicts or "options" in prefix else "OPROXY_" + key.replace(".", "_").upper(),
                    type_text=_expected(kind),
                    default=_default(field),
                    help=_description(kind),
                    restart=bool(_extra(kind).get("restart")),
                    secret=bool(_extra(kind).get("secret")),
                )
            )
    return out


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return list(field.default) if isinstance(field.default, tuple) else field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def _description(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(text)}):
            return text
        case inspect.UnionType():
            return next((text for each in kind.types if (text := _description(each))), "")
        case _:
            return ""


def toml_value(value: Any) -> str:
    return "{}" if value == {} else msgspec.json.encode(value).decode()


def commented_toml() -> str:
    """Return a config that says everything and sets nothing: every setting with its default, commented out."""
    lines = [
        "# The configuration of oproxy. It is read again whenever it changes.",
        "# Everything is commented out and shows the default; see also: man oproxy.toml.",
    ]
    table = ""
    for setting in describe():
        above, _, name = setting.key.rpartition(".")
        if above != table:
            table = above
            lines += ["", f"[{above}]" if above in SECTIONS else f"# [{above}]"]
        if isinstance(setting.default, dict):
            lines += ["", f"# {setting.help}", f"# [{above}.{name}]"]
            continue
        restart = " (Takes effect after a restart.)" if setting.restart else ""
        lines += ["", f"# {setting.help}{restart}", f"# {name} = {toml_value(example(setting))}"]
    return "\n".join(lines) + "\n"


def example(setting: Setting) -> Any:
    """Return a value that may be written: the default, or for one without, the first that is allowed."""
    if setting.default is not None:
        return setting.default
    return "ollama" if setting.key.endswith(".type") else 1
