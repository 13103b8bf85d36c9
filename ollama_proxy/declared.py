"""The settings, each declared once: its type, default, limits and help. The flag, the environment's name, the commented
TOML and the man page are printed from here. Holds values; reads nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = ["BackendSettings", "ModelOptions", "Models", "Server", "Settings"]


def help(text: str, *, restart: bool = False, secret: bool = False, size: bool = False, **limits: Any) -> Meta:
    """Declare a setting. `restart`: takes effect after a restart; `size`: "64MiB" is a number too."""
    return Meta(description=text, extra={"restart": restart, "secret": secret, "size": size}, **limits)


class Server(Struct, frozen=True, kw_only=True):
    """Where we listen, and what we let in."""

    host: Annotated[str, help("Address to listen on. Loopback unless you know what you do.", restart=True)] = (
        "127.0.0.1"
    )
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


class BackendSettings(Struct, frozen=True, kw_only=True):
    """One backend."""

    type: Annotated[Literal["ollama", "openai", "embedded"], help("What it speaks.")]
    url: Annotated[
        str, help("Its base URL; for type openai with /v1. Empty for Ollama: OLLAMA_HOST, or its usual port.")
    ] = ""
    api_key: Annotated[str, help("Key sent to it.", secret=True)] = ""
    api_key_env: Annotated[str, help("Environment variable that holds the key.")] = ""
    connect_timeout: Annotated[float, help("Seconds to wait for a connection.", gt=0)] = 5.0
    read_timeout: Annotated[float, help("Seconds of silence to bear; loading a model may take minutes.", gt=0)] = 600.0
    pool: Annotated[int, help("Connections kept at most.", ge=1, le=10_000)] = 100
    headers: Annotated[dict[str, str], help("Headers added to every request to it.")] = {}
    model_path: Annotated[str, help("Embedded: a GGUF file to use instead of the built-in chat model.")] = ""
    embedding_path: Annotated[str, help("Embedded: a GGUF file to use instead of the built-in embedding model.")] = ""
    context: Annotated[int, help("Embedded: context window in tokens.", ge=256)] = 4096
    threads: Annotated[int, help("Embedded: processor threads; 0 leaves it to llama.cpp.", ge=0, le=1024)] = 0


class ModelOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options and sampling defaults of a model; only what is written is sent."""

    num_ctx: Annotated[int, help("Context window in tokens.", ge=4)] | None = None
    keep_alive: Annotated[str | int | float, help("How long it stays in memory: 300, 30m, -1.")] | None = None
    num_predict: Annotated[int, help("Tokens generated at most when the client does not say.", ge=1)] | None = None
    temperature: Annotated[float, help("Default temperature.", ge=0, le=2)] | None = None
    top_p: Annotated[float, help("Default top_p.", ge=0, le=1)] | None = None
    top_k: Annotated[int, help("Default top_k.", ge=0)] | None = None
    min_p: Annotated[float, help("Default min_p.", ge=0, le=1)] | None = None
    seed: Annotated[int, help("Default seed.")] | None = None
    stop: Annotated[tuple[str, ...], help("Default stop sequences.")] | None = None
    frequency_penalty: Annotated[float, help("Default frequency penalty.", ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, help("Default presence penalty.", ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, help("Ollama's repeat penalty.", ge=0)] | None = None
    repeat_last_n: Annotated[int, help("Tokens the repeat penalty looks back.", ge=-1)] | None = None
    num_keep: Annotated[int, help("Ollama's num_keep.")] | None = None
    num_batch: Annotated[int, help("Ollama's num_batch.", ge=1)] | None = None
    num_gpu: Annotated[int, help("Layers on the GPU.")] | None = None
    num_thread: Annotated[int, help("Processor threads.", ge=0)] | None = None


class Models(Struct, frozen=True, kw_only=True):
    """Names of models, and what they are given."""

    default: Annotated[str, help("Model that answers OpenAI's usual names. Empty: one that fits.")] = ""
    openai_names: Annotated[bool, help("Whether OpenAI's usual names (gpt-*, o1* …) are answered at all.")] = True
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
