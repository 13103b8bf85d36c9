"""What can be read from the declaration of the settings (`sections`): the flag, the environment's name, the commented
TOML, the man page and the wording of errors are printed from here. Holds text; reads nothing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, inspect

from .policy.printable import utf8_text
from .policy.redact import HIDDEN, redact_text, redact_url
from .sections import BackendSettings, ModelOptions, Models, Server, Settings
from .sections_help import PLAIN

__all__ = [
    "DEFAULT_BACKENDS",
    "FLAGS",
    "NOTHING",
    "SECTIONS",
    "BackendSettings",
    "Key",
    "ModelOptions",
    "Models",
    "Server",
    "Setting",
    "Settings",
    "bare",
    "describe",
    "dotted",
    "expected",
    "extra",
    "field_of",
    "fields_of",
    "groups",
    "kind_of",
    "lifted",
    "public",
    "restarts",
    "secret",
    "shown",
    "toml_value",
]

# The parts of a dotted key: ("models", "aliases", "gpt-4*").
Key = tuple[str, ...]


# Every section that is one table; the backends are a table each.
SECTIONS: Mapping[str, type[Struct]] = {
    field.name: field.type for field in msgspec.structs.fields(Settings) if field.name != "backends"
}
# Where nothing is configured: Ollama at its usual address, and the built-in model beside it.
DEFAULT_BACKENDS: Mapping[str, Mapping[str, Any]] = {"ollama": {"type": "ollama"}, "embedded": {"type": "embedded"}}
# How a limit is written that is to be none.
NOTHING = "none"
# Settings that `oproxy serve` takes as flags.
FLAGS: Mapping[str, str] = {
    "server.host": "--host",
    "server.port": "--port",
    "server.log_level": "--log-level",
    "tls.mode": "--https",
}


# --- one key ------------------------------------------------------------------------------------------------------


def dotted(key: Key) -> str:
    """Write a key as TOML does: a part that is no bare word is quoted."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part) for part in key)


def quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for those of letters beyond the first plane; and JSON leaves DEL as it is.
    written = json.dumps(utf8_text(text), ensure_ascii=False)
    return written if written.isprintable() else "".join(map(escaped, written))


def escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


@functools.cache
def fields_of(struct: type[Struct]) -> Mapping[str, tuple[msgspec.structs.FieldInfo, inspect.Type]]:
    """Return the fields of a table, each with its type. Remembered: to read a declaration costs more than to read a
    whole config, and it never changes."""
    return {field.name: (field, inspect.type_info(field.type)) for field in msgspec.structs.fields(struct)}


@functools.lru_cache(maxsize=4096)
def field_of(key: Key) -> msgspec.structs.FieldInfo | None:
    """Return the declaration of a setting, None where there is none (a section, or one entry of a dict)."""
    struct: type[Struct] = Settings
    found = None
    above: inspect.Type | None = None
    for part in key:
        if isinstance(above, inspect.DictType):
            # The part is a name that the user gave; what it names is what the next part is looked up in.
            found, above = None, bare(above.value_type)
        else:
            if part not in fields_of(struct):
                return None
            found, kind = fields_of(struct)[part]
            above = bare(kind)
        if isinstance(above, inspect.StructType):
            struct = above.cls
    return None if isinstance(above, inspect.StructType) else found


@functools.lru_cache(maxsize=4096)
def kind_of(key: Key) -> inspect.Type | None:
    """Return the type of what a key holds, also of an entry like `models.aliases.NAME`; None if it may hold nothing."""
    if not key:
        return inspect.type_info(Settings)
    if (field := field_of(key)) is not None:
        return inspect.type_info(field.type)
    above = kind_of(key[:-1])
    match bare(above) if above is not None else None:
        case inspect.DictType(value_type=value):
            return value
        case inspect.StructType(fields=fields):
            return next((field.type for field in fields if field.name == key[-1]), None)
        case _:
            return None


def bare(kind: inspect.Type) -> inspect.Type:
    """Return a type without its help, and without None."""
    if isinstance(kind, inspect.Metadata):
        return bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        rest = [each for each in kind.types if not isinstance(bare(each), inspect.NoneType)]
        if len(rest) == 1:
            return bare(rest[0])
    return kind


def extra(kind: inspect.Type, name: str) -> Any:
    """Return what `help` was told under a name."""
    if isinstance(kind, inspect.Metadata):
        return (kind.extra or {}).get(name)
    if isinstance(kind, inspect.UnionType):
        return next((found for each in kind.types if (found := extra(each, name))), None)
    return None


def lifted(kind: inspect.Type) -> bool:
    """Return whether a setting protects by having a value, so that "none" must be written to give it up."""
    optional = isinstance(kind, inspect.UnionType) and any(isinstance(bare(e), inspect.NoneType) for e in kind.types)
    return optional and extra(kind, "protects") not in (None, PLAIN)


def secret(key: Key) -> bool:
    """Return whether the value of a key must never be shown; what stands below a secret is secret."""
    return any((kind := kind_of(key[:end])) is not None and extra(kind, "secret") for end in range(1, len(key) + 1))


def partly_secret(key: Key) -> bool:
    """Return whether a value is a URL that may hold a password or a token."""
    kind = kind_of(key)
    return kind is not None and bool(extra(kind, "secret_part"))


def restarts(key: Key) -> bool:
    """Return whether a changed value takes effect only after a restart."""
    kind = kind_of(key)
    return kind is not None and bool(extra(kind, "restart"))


def public(key: Key, value: Any) -> Any:
    """Return a value without what must not be shown: a secret, or the secrets in a URL."""
    if value and secret(key):
        return HIDDEN
    if isinstance(value, str):
        # A key may have been written where another value belongs.
        return redact_url(value) if key[-1] == "url" or partly_secret(key) else redact_text(value)
    return value


def shown(key: Key, value: Any) -> str:
    """Write a value as TOML for a person, secrets hidden."""
    if value is None:
        return "not set"
    return HIDDEN if value and secret(key) else toml_value(public(key, value))


def toml_value(value: Any) -> str:
    """Write a value as TOML, on one line."""
    match value:
        case dict():
            inside = ", ".join(f"{dotted((name,))} = {toml_value(below)}" for name, below in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(toml_value(each) for each in value)}]"
        case str():
            return quoted(value)
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            return str(value)


def expected(kind: inspect.Type) -> str:
    """Say what a setting takes: `an integer between 1 and 65535`."""
    if told := extra(kind, "expect"):
        return str(told)
    if extra(kind, "size"):
        return 'a number of bytes, or a size like "64MiB"'
    if isinstance(kind, inspect.UnionType):
        text = " or ".join(expected(each) for each in kind.types if not isinstance(each, inspect.NoneType))
        return f'{text}, or "{NOTHING}"' if lifted(kind) else text
    match bare(kind):
        case inspect.IntType(ge=low, gt=above, le=high):
            return limited("an integer", low, above, high)
        case inspect.FloatType(ge=low, gt=above, le=high):
            return limited("a number", low, above, high)
        case inspect.StrType():
            return "a string"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case inspect.VarTupleType() | inspect.ListType():
            return "a list of strings"
        case _:
            return "a table"


def limited(word: str, low: float | None, above: float | None, high: float | None) -> str:
    match low, above, high:
        case None, None, None:
            return word
        case None, None, _:
            return f"{word} of at most {high}"
        case _, None, None:
            return f"{word} of at least {low}"
        case None, _, None:
            return f"{word} above {above}"
        case None, _, _:
            return f"{word} above {above}, at most {high}"
        case _:
            return f"{word} between {low} and {high}"


# --- all of them --------------------------------------------------------------------------------------------------


class Setting(Struct, frozen=True, kw_only=True):
    """One declared setting, for whoever prints it. `flag` and `env` are None where there is none, `default` is None
    for an option that is not sent unless it is set, and for the one setting that must be given (a backend's type)."""

    key: str
    flag: str | None
    env: str | None
    type_text: str
    default: Any
    help: str
    restart: bool
    secret: bool
    only: tuple[str, ...] = ()


def groups(prefix: str = "", struct: type[Struct] = Settings) -> Iterator[tuple[str, type[Struct]]]:
    """Yield every table there is, by its name, with what it holds: tables of names as `backends.NAME`."""
    if prefix:
        yield prefix, struct
    for name, (_, kind) in fields_of(struct).items():
        key = f"{prefix}.{name}".lstrip(".")
        match bare(kind):
            case inspect.StructType(cls=inner):
                yield from groups(key, inner)
            case inspect.DictType(value_type=value) if isinstance(value := bare(value), inspect.StructType):
                yield from groups(f"{key}.NAME" if prefix == "" else f'{key}."NAME"', value.cls)


@functools.cache
def describe() -> tuple[Setting, ...]:
    """Return every setting there is, in the order of the declaration."""
    return tuple(
        setting_of(prefix, field)
        for prefix, struct in groups()
        for field in msgspec.structs.fields(struct)
        if not isinstance(bare(inspect.type_info(field.type)), inspect.StructType)
    )


def setting_of(prefix: str, field: msgspec.structs.FieldInfo) -> Setting:
    kind = inspect.type_info(field.type)
    key = f"{prefix}.{field.name}"
    named = not isinstance(bare(kind), inspect.DictType) and '"' not in prefix
    return Setting(
        key=key,
        flag=FLAGS.get(key),
        env="OPROXY_" + key.replace(".", "_").upper() if named else None,
        type_text=expected(kind),
        default=size_text(default_of(field)) if extra(kind, "size") else default_of(field),
        help=description(kind),
        restart=bool(extra(kind, "restart")),
        secret=bool(extra(kind, "secret")),
        only=extra(kind, "only") or (),
    )


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return list(field.default) if isinstance(field.default, tuple) else field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def size_text(count: int) -> str:
    """Write bytes as people do; the default sizes are all whole MiB."""
    return f"{count >> 20}MiB"


def description(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(text)}):
            return text
        case inspect.UnionType(types=types):
            return next((text for each in types if (text := description(each))), "")
        case _:
            return ""
