"""The settings, each declared once: its type, default, limits and help. The flag, the environment's name, the commented
TOML, the man page and the wording of errors are printed from here. Holds values and text; reads nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, inspect

__all__ = [
    "DEFAULT_BACKENDS",
    "FLAGS",
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
    "kind_of",
    "public",
    "restarts",
    "secret",
    "shown",
    "toml_value",
]

# The parts of a dotted key: ("models", "aliases", "gpt-4*").
Key = tuple[str, ...]


def help(text: str, *, restart: bool = False, secret: bool = False, size: bool = False, **limits: Any) -> Meta:
    """Declare a setting. `restart`: takes effect after a restart; `secret`: never shown; `size`: "64MiB" is a number
    too; `expect`: what is expected, for a limit that cannot be read from the type; `only`: the types of backend that
    know it (all)."""
    said: dict[str, Any] = {"restart": restart, "secret": secret, "size": size}
    said |= {name: limits.pop(name) for name in ("expect", "only") if name in limits}
    return Meta(description=text, extra=said, **limits)


class Server(Struct, frozen=True, kw_only=True):
    """Where we listen, and what we let in."""

    host: Annotated[
        str,
        # An empty host would listen on every address of the machine.
        help(
            "Address to listen on. Loopback unless you know what you do.",
            restart=True,
            min_length=1,
            expect="an address or a host name",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, help("Port to listen on.", restart=True, ge=1, le=65535)] = 11435
    cors_origins: Annotated[
        tuple[str, ...], help("Browser origins that may call us, e.g. http://localhost:3000; * for all.")
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...], help("Host names we may be called by, beside loopback and this machine's own name.")
    ] = ()
    max_body: Annotated[int, help("Largest request body.", restart=True, size=True, ge=1024)] = 64 * 1024 * 1024
    header_hold: Annotated[
        float, help("Seconds a stream's head waits for the first event before heartbeats begin.", gt=0, le=300)
    ] = 5.0
    heartbeat: Annotated[float, help("Seconds of silence after which a comment keeps a stream alive.", gt=0)] = 15.0
    grace: Annotated[float, help("Seconds that running answers may take to finish when the daemon ends.", ge=0)] = 30.0
    keepalive: Annotated[float, help("Seconds an idle client connection is kept.", restart=True, gt=0)] = 75.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], help("How much the daemon's log tells.", restart=True)
    ] = "info"
    image_max_bytes: Annotated[int, help("Largest image fetched by URL.", size=True, ge=1)] = 20 * 1024 * 1024
    image_timeout: Annotated[float, help("Seconds an image may take to be fetched.", gt=0)] = 10.0
    image_redirects: Annotated[int, help("Redirects followed for an image.", ge=0, le=20)] = 3
    image_allow_private: Annotated[
        bool, help("Whether images may be fetched from loopback, link-local and private addresses.")
    ] = False


EMBEDDED = ("embedded",)
REMOTE = ("ollama", "openai")


class BackendSettings(Struct, frozen=True, kw_only=True):
    """One backend."""

    type: Annotated[Literal["ollama", "openai", "embedded"], help("What it speaks.")]
    url: Annotated[
        str,
        help(
            "Its base URL; for type openai with /v1. Empty for Ollama: OLLAMA_HOST, or its usual port.",
            pattern=r"^$|^https?://[^\s/?#]+[^\s?#]*$",
            expect="a URL that begins with http:// or https://",
            only=REMOTE,
        ),
    ] = ""
    api_key: Annotated[str, help("Key sent to it.", secret=True, only=REMOTE)] = ""
    api_key_env: Annotated[str, help("Environment variable that holds the key.", only=REMOTE)] = ""
    connect_timeout: Annotated[float, help("Seconds to wait for a connection.", gt=0)] = 5.0
    read_timeout: Annotated[float, help("Seconds of silence to bear; loading a model may take minutes.", gt=0)] = 600.0
    pool: Annotated[int, help("Connections kept at most.", ge=1, le=10_000)] = 100
    headers: Annotated[dict[str, str], help("Headers added to every request to it.", secret=True, only=REMOTE)] = {}
    model_path: Annotated[str, help("A GGUF file to use instead of the built-in chat model.", only=EMBEDDED)] = ""
    embedding_path: Annotated[
        str, help("A GGUF file to use instead of the built-in embedding model.", only=EMBEDDED)
    ] = ""
    context: Annotated[int, help("Context window in tokens.", ge=256, only=EMBEDDED)] = 4096
    threads: Annotated[int, help("Processor threads; 0 leaves it to llama.cpp.", ge=0, le=1024, only=EMBEDDED)] = 0


class ModelOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options and sampling defaults of a model; only what is written is sent."""

    num_ctx: Annotated[int, help("Context window in tokens.", ge=4)] | None = None
    keep_alive: (
        Annotated[
            str,
            # The form of Go's time.ParseDuration, which is what Ollama reads it with.
            help(
                'How long it stays in memory: seconds, a time like "30m", or -1 for ever.',
                pattern=r"^[-+]?(0|(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+)$",
                expect='a number of seconds, or a time like "30m"',
            ),
        ]
        | int
        | float
        | None
    ) = None
    num_predict: Annotated[int, help("Tokens generated at most when the client does not say.", ge=1)] | None = None
    temperature: Annotated[float, help("Default temperature.", ge=0, le=2)] | None = None
    top_p: Annotated[float, help("Default top_p.", ge=0, le=1)] | None = None
    top_k: Annotated[int, help("Default top_k.", ge=0)] | None = None
    min_p: Annotated[float, help("Default min_p.", ge=0, le=1)] | None = None
    seed: Annotated[int, help("Default seed.", ge=-(2**63), le=2**63 - 1, expect="an integer of 64 bits")] | None = None
    stop: Annotated[tuple[str, ...], help("Default stop sequences.")] | None = None
    frequency_penalty: Annotated[float, help("Default frequency penalty.", ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, help("Default presence penalty.", ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, help("Ollama's repeat penalty.", ge=0)] | None = None
    repeat_last_n: Annotated[int, help("Tokens the repeat penalty looks back.", ge=-1)] | None = None
    num_keep: (
        Annotated[int, help("Tokens of the prompt kept when the context is shifted.", ge=-1, le=2**31 - 1)] | None
    ) = None
    num_batch: Annotated[int, help("Tokens of the prompt read at once.", ge=1)] | None = None
    num_gpu: Annotated[int, help("Layers on the GPU.", ge=-1, le=2**31 - 1)] | None = None
    num_thread: Annotated[int, help("Processor threads.", ge=0)] | None = None


class Models(Struct, frozen=True, kw_only=True):
    """Names of models, and what they are given."""

    default: Annotated[str, help("Model that answers OpenAI's usual names. Empty: one that fits.")] = ""
    openai_names: Annotated[bool, help("Whether OpenAI's usual names (gpt-*, o1*) are answered at all.")] = True
    num_ctx: Annotated[
        int,
        help("Context window of every model, in tokens; 0: the backend's own.", ge=0),
    ] = 8192
    aliases: Annotated[dict[str, str], help('Other names: name or glob = "model" or "backend/model".')] = {}
    options: Annotated[dict[str, ModelOptions], help('Options by model: [models.options."NAME"].')] = {}


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one moment."""

    server: Server = Server()
    backends: dict[str, BackendSettings] = {}
    models: Models = Models()


SECTIONS: Mapping[str, type[Struct]] = {"server": Server, "models": Models}
# Where nothing is configured: Ollama at its usual address, and the built-in model beside it.
DEFAULT_BACKENDS: Mapping[str, Mapping[str, Any]] = {"ollama": {"type": "ollama"}, "embedded": {"type": "embedded"}}
# Settings that `oproxy serve` takes as flags.
FLAGS: Mapping[str, str] = {"server.host": "--host", "server.port": "--port", "server.log_level": "--log-level"}


# --- one key ------------------------------------------------------------------------------------------------------


def dotted(key: Key) -> str:
    """Write a key as TOML does: a part that is no bare word is quoted."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part) for part in key)


def quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def field_of(key: Key) -> msgspec.structs.FieldInfo | None:
    """Return the declaration of a setting, None where there is none (a section, or one entry of a dict)."""
    match key:
        case (section, name) if section in SECTIONS:
            struct: type[Struct] = SECTIONS[section]
        case ("models", "options", _, name):
            struct = ModelOptions
        case ("backends", _, name):
            struct = BackendSettings
        case _:
            return None
    return next((field for field in msgspec.structs.fields(struct) if field.name == name), None)


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


def secret(key: Key) -> bool:
    """Return whether the value of a key must never be shown; what stands below a secret is secret."""
    return any((kind := kind_of(key[:end])) is not None and extra(kind, "secret") for end in range(1, len(key) + 1))


def restarts(key: Key) -> bool:
    """Return whether a changed value takes effect only after a restart."""
    kind = kind_of(key)
    return kind is not None and bool(extra(kind, "restart"))


def public(key: Key, value: Any) -> Any:
    """Return a value without what must not be shown: a secret, or the password in a URL."""
    if value and secret(key):
        return "(hidden)"
    if key[-1] == "url" and isinstance(value, str):
        return re.sub(r"(?<=//)[^/@]*@", "(hidden)@", value)
    return value


def shown(key: Key, value: Any) -> str:
    """Write a value as TOML for a person, secrets hidden."""
    if value is None:
        return "not set"
    return "(hidden)" if value and secret(key) else toml_value(public(key, value))


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
        return " or ".join(expected(each) for each in kind.types if not isinstance(each, inspect.NoneType))
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


GROUPS: tuple[tuple[str, type[Struct]], ...] = (
    ("server", Server),
    ("backends.NAME", BackendSettings),
    ("models", Models),
    ('models.options."NAME"', ModelOptions),
)


def describe() -> list[Setting]:
    """Return every setting there is, in the order of the declaration."""
    return [setting_of(prefix, field) for prefix, struct in GROUPS for field in msgspec.structs.fields(struct)]


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
