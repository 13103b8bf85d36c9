"""What there is to set, section by section: each setting with its type, default, limits and help. Only the declaration;
`declared` tells what can be read from it.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Struct

from .sections_help import FEWER, HIGHER, LOWER, LOWER_OR_0, MORE, PLAIN, STAYS, help, weak_at
from .sections_state import Batches, Files, Moderations, Responses

__all__ = [
    "GROUPS",
    "TIERS",
    "Auth",
    "BackendSettings",
    "Limits",
    "Logs",
    "ModelOptions",
    "Models",
    "PriceSettings",
    "Prices",
    "Queue",
    "RateSettings",
    "Server",
    "Settings",
    "Spend",
    "Store",
    "TierSettings",
    "Tls",
    "Turns",
]


class Server(Struct, frozen=True, kw_only=True):
    """Where we listen, and what we let in."""

    host: Annotated[
        str,
        # An empty host would listen on every address of the machine.
        help(
            "Address to listen on. Loopback unless you know what you do.",
            STAYS,
            restart=True,
            min_length=1,
            expect="an address or a host name",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, help("Port to listen on.", PLAIN, restart=True, ge=1, le=65535)] = 11435
    cors_origins: Annotated[
        tuple[str, ...], help("Browser origins that may call us, e.g. http://localhost:3000; * for all.", FEWER)
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...], help("Host names we may be called by, beside loopback and this machine's own name.", FEWER)
    ] = ()
    max_body: Annotated[int, help("Largest request body.", LOWER, restart=True, size=True, ge=1024)] = 64 * 1024 * 1024
    memory: Annotated[
        int,
        help(
            "Memory that all requests may take together: bodies, images, files and answers in flight. 0: an eighth of "
            "the machine's (or the container's), at least 128MiB, at most 2GiB. An eighth of it is for small requests.",
            STAYS,
            size=True,
            ge=0,
        ),
    ] = 0
    body_timeout: Annotated[
        float, help("Seconds to wait for the next piece of a request's body before it is given up.", LOWER, gt=0)
    ] = 30.0
    body_rate: Annotated[
        int,
        help(
            "Bytes a second that a request's body must come in at, after body_timeout; 0: any rate will do.",
            HIGHER,
            ge=0,
        ),
    ] = 500
    strict_ids: Annotated[
        bool, help("Refuse ids that have not the form of OpenAI's, with its words, before looking for them.", PLAIN)
    ] = False
    send_timeout: Annotated[
        float, help("Seconds a client may take nothing of its answer before its connection is closed.", LOWER, gt=0)
    ] = 300.0
    max_connections: Annotated[
        int,
        help(
            "Connections of clients at once. Beyond that idle ones are closed, and where none is idle the answer is "
            "503. Fewer where the system allows fewer open files.",
            LOWER,
            restart=True,
            ge=1,
        ),
    ] = 2000
    max_requests: Annotated[int, help("Requests that are answered or wait at once; more get 503.", LOWER, ge=1)] = 1000
    max_sockets: Annotated[int, help("WebSockets that are open at once; more get 503.", LOWER, ge=1)] = 200
    header_hold: Annotated[
        float, help("Seconds a stream's head waits for the first event before heartbeats begin.", PLAIN, gt=0, le=300)
    ] = 5.0
    heartbeat: Annotated[float, help("Seconds of silence after which a comment keeps a stream alive.", PLAIN, gt=0)] = (
        15.0
    )
    grace: Annotated[
        float, help("Seconds that running answers may take to finish when the daemon ends.", PLAIN, ge=0)
    ] = 30.0
    keepalive: Annotated[float, help("Seconds an idle client connection is kept.", PLAIN, restart=True, gt=0)] = 75.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], help("How much the daemon's log tells.", PLAIN, restart=True)
    ] = "info"
    image_max_bytes: Annotated[int, help("Largest image fetched by URL.", LOWER, size=True, ge=1)] = 20 * 1024 * 1024
    image_timeout: Annotated[float, help("Seconds an image may take to be fetched.", LOWER, gt=0)] = 10.0
    images_max: Annotated[int, help("Images of one request at most, inline or fetched.", LOWER, ge=1)] = 500
    images_max_bytes: Annotated[
        int, help("Size of all images of one request together, inline or fetched.", LOWER, size=True, ge=1)
    ] = 50 * 1024 * 1024
    images_timeout: Annotated[float, help("Seconds that fetching all images of one request may take.", LOWER, gt=0)] = (
        30.0
    )
    image_redirects: Annotated[int, help("Redirects followed for an image.", LOWER, ge=0, le=20)] = 3
    image_allow_private: Annotated[
        bool, help("Whether images may be fetched from loopback, link-local and private addresses.", weak_at(True))
    ] = False


EMBEDDED = ("embedded",)
REMOTE = ("ollama", "openai")


# What another kind of model answers, or another server keeps.
Group = Literal[
    "agents", "assistants", "audio", "chatkit", "containers", "decisions", "evals", "fine_tuning", "images", "live",
    "realtime", "safety", "skills", "vector_stores", "videos", "webhooks",
]  # fmt: skip
GROUPS: tuple[str, ...] = get_args(Group)


class BackendSettings(Struct, frozen=True, kw_only=True):
    """One backend."""

    type: Annotated[Literal["ollama", "openai", "embedded"], help("What it speaks.", PLAIN)]
    url: Annotated[
        str,
        help(
            "Its base URL; for type openai with /v1. Empty for Ollama: OLLAMA_HOST, or its usual port.",
            STAYS,
            expect="a URL that begins with http:// or https://",
            only=REMOTE,
        ),
    ] = ""
    api_key: Annotated[str, help("Key sent to it.", PLAIN, secret=True, only=REMOTE)] = ""
    api_key_env: Annotated[str, help("Environment variable that holds the key.", PLAIN, only=REMOTE)] = ""
    connect_timeout: Annotated[float, help("Seconds to wait for a connection.", PLAIN, gt=0)] = 5.0
    read_timeout: Annotated[
        float, help("Seconds of silence to bear; loading a model may take minutes.", PLAIN, gt=0)
    ] = 600.0
    pool: Annotated[int, help("Connections kept at most.", PLAIN, ge=1, le=10_000)] = 100
    max_concurrent: (
        Annotated[int, help("Requests it answers at once; 0: any number. Not set: as [queue] says.", LOWER_OR_0, ge=0)]
        | None
    ) = None
    serves: Annotated[
        tuple[Group, ...],
        help(
            f"Groups of OpenAI's routes that are forwarded to it as they are: {', '.join(GROUPS)}.",
            FEWER,
            expect=f"a list of {', '.join(GROUPS)}",
            only=("openai",),
        ),
    ] = ()
    headers: Annotated[
        dict[str, str], help("Headers added to every request to it.", PLAIN, secret=True, only=REMOTE)
    ] = {}
    model_path: Annotated[str, help("A GGUF file to use instead of the built-in chat model.", PLAIN, only=EMBEDDED)] = (
        ""
    )
    embedding_path: Annotated[
        str, help("A GGUF file to use instead of the built-in embedding model.", PLAIN, only=EMBEDDED)
    ] = ""
    context: Annotated[int, help("Context window in tokens.", PLAIN, ge=256, only=EMBEDDED)] = 4096
    threads: Annotated[
        int, help("Processor threads; 0 leaves it to llama.cpp.", PLAIN, ge=0, le=1024, only=EMBEDDED)
    ] = 0


class ModelOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options and sampling defaults of a model; only what is written is sent."""

    num_ctx: Annotated[int, help("Context window in tokens.", PLAIN, ge=4)] | None = None
    keep_alive: (
        Annotated[
            str,
            # The form of Go's time.ParseDuration, which is what Ollama reads it with.
            help(
                'How long it stays in memory: seconds, a time like "30m", or -1 for ever.',
                PLAIN,
                pattern=r"^[-+]?(0|(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+)$",
                expect='a number of seconds, or a time like "30m"',
            ),
        ]
        | int
        | float
        | None
    ) = None
    num_predict: Annotated[int, help("Tokens generated at most when the client does not say.", PLAIN, ge=1)] | None = (
        None
    )
    temperature: Annotated[float, help("Default temperature.", PLAIN, ge=0, le=2)] | None = None
    top_p: Annotated[float, help("Default top_p.", PLAIN, ge=0, le=1)] | None = None
    top_k: Annotated[int, help("Default top_k.", PLAIN, ge=0)] | None = None
    min_p: Annotated[float, help("Default min_p.", PLAIN, ge=0, le=1)] | None = None
    seed: (
        Annotated[int, help("Default seed.", PLAIN, ge=-(2**63), le=2**63 - 1, expect="an integer of 64 bits")] | None
    ) = None
    stop: Annotated[tuple[str, ...], help("Default stop sequences.", PLAIN)] | None = None
    frequency_penalty: Annotated[float, help("Default frequency penalty.", PLAIN, ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, help("Default presence penalty.", PLAIN, ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, help("Ollama's repeat penalty.", PLAIN, ge=0)] | None = None
    repeat_last_n: Annotated[int, help("Tokens the repeat penalty looks back.", PLAIN, ge=-1)] | None = None
    num_keep: (
        Annotated[int, help("Tokens of the prompt kept when the context is shifted.", PLAIN, ge=-1, le=2**31 - 1)]
        | None
    ) = None
    num_batch: Annotated[int, help("Tokens of the prompt read at once.", PLAIN, ge=1)] | None = None
    num_gpu: Annotated[int, help("Layers on the GPU.", PLAIN, ge=-1, le=2**31 - 1)] | None = None
    num_thread: Annotated[int, help("Processor threads.", PLAIN, ge=0)] | None = None


class Models(Struct, frozen=True, kw_only=True):
    """Names of models, and what they are given."""

    default: Annotated[str, help("Model that answers OpenAI's usual names. Empty: one that fits.", PLAIN)] = ""
    openai_names: Annotated[
        bool, help("Whether the usual names of OpenAI and Anthropic (gpt-*, o1*, claude-*) are answered at all.", PLAIN)
    ] = True
    num_ctx: Annotated[
        int,
        help("Context window of every model, in tokens; 0: the backend's own.", PLAIN, ge=0),
    ] = 8192
    aliases: Annotated[dict[str, str], help('Other names: name or glob = "model" or "backend/model".', PLAIN)] = {}
    options: Annotated[dict[str, ModelOptions], help('Options by model: [models.options."NAME"].', PLAIN)] = {}


class Store(Struct, frozen=True, kw_only=True):
    """Where keys and the ledger are kept."""

    url: Annotated[
        str,
        help(
            "Database: empty for SQLite in the data folder, or postgresql://HOST/NAME.",
            STAYS,
            restart=True,
            secret_part=True,
        ),
    ] = ""
    ledger: Annotated[bool, help("Whether requests are booked.", weak_at(False), restart=True)] = True
    durability: Annotated[
        Literal["strict", "relaxed"],
        help("strict: a request is in the ledger before its answer ends; relaxed: moments later.", weak_at("relaxed")),
    ] = "strict"
    on_error: Annotated[
        Literal["serve", "refuse"],
        help("When the database fails: answer all the same and write later, or refuse.", weak_at("serve")),
    ] = "serve"
    buffer: Annotated[int, help("Ledger rows that wait in memory at most when the database fails.", PLAIN, ge=1)] = (
        10_000
    )
    keep: Annotated[int, help("Days the ledger's rows are kept; sums stay for ever. 0: for ever.", STAYS, ge=0)] = 400


class Auth(Struct, frozen=True, kw_only=True):
    """Who may ask."""

    mode: Annotated[
        Literal["off", "on"],
        help("off: any key or none is accepted; on: a key of oproxy keys is needed.", weak_at("off")),
    ] = "off"
    allow_anonymous: Annotated[
        bool,
        help(
            "Whether others may be let in without a key when listening on a non-loopback address.",
            weak_at(True),
            restart=True,
        ),
    ] = False
    env_file: Annotated[str, help("A .env file that OPROXY_API_KEYS is read from too.", STAYS)] = ""
    failures: Annotated[
        int,
        help(
            "Different wrong keys an address may try in a minute before it must wait; 0: any number.",
            LOWER_OR_0,
            ge=0,
        ),
    ] = 10


class RateSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of one kind; what is not written is not limited."""

    requests_per_minute: Annotated[int, help("Requests in a minute.", LOWER, ge=1)] | None = None
    requests_per_day: Annotated[int, help("Requests in a day.", LOWER, ge=1)] | None = None
    tokens_per_minute: Annotated[int, help("Tokens in a minute, prompts and answers.", LOWER, ge=1)] | None = None
    tokens_per_day: Annotated[int, help("Tokens in a day.", LOWER, ge=1)] | None = None
    concurrent: Annotated[int, help("Requests at the same time.", LOWER, ge=1)] | None = None


# The presets that are built in (`limits/tiers.toml`).
TIERS = ("free", "tier1", "tier2", "tier3", "tier4", "tier5")


class TierSettings(RateSettings, frozen=True, kw_only=True, omit_defaults=True):
    """A preset of limits."""

    models: Annotated[dict[str, RateSettings], help("Limits by model name or glob.", PLAIN)] = {}


class Limits(RateSettings, frozen=True, kw_only=True, omit_defaults=False):
    """How much one key may ask for, where the key itself does not say. Refilled continuously."""

    tier: Annotated[
        str, help("Preset for keys without one: free, tier1 to tier5 (OpenAI's), or one of limits.tiers.", weak_at(""))
    ] = ""
    accounting: Annotated[
        Literal["settled", "openai"],
        help("settled: what was reserved and not used is given back; openai: it is not.", PLAIN),
    ] = "settled"
    url: Annotated[
        str,
        help(
            "Redis or Valkey by which daemons share limits (redis://localhost); empty: memory.",
            STAYS,
            restart=True,
            expect="a URL that begins with redis://, rediss:// or unix://",
        ),
    ] = ""
    on_error: Annotated[
        Literal["allow", "refuse"],
        help("When that server cannot be reached: count in memory, or refuse.", weak_at("allow")),
    ] = "allow"
    address: Annotated[RateSettings, help("Limits of each address.", PLAIN)] = RateSettings()
    models: Annotated[dict[str, RateSettings], help("Limits of a model for all together, by name or glob.", PLAIN)] = {}
    key_models: Annotated[dict[str, RateSettings], help("Limits of each key on a model, by name or glob.", PLAIN)] = {}
    tiers: Annotated[dict[str, TierSettings], help("Presets of one's own.", PLAIN)] = {}


class Spend(Struct, frozen=True, kw_only=True):
    """What all together may spend."""

    money_per_day: Annotated[float, help("Dollars a day.", LOWER, ge=0)] | None = None
    money_per_month: Annotated[float, help("Dollars a month.", LOWER, ge=0)] | None = None
    tokens_per_day: Annotated[int, help("Tokens a day.", LOWER, ge=0)] | None = None
    tokens_per_month: Annotated[int, help("Tokens a month.", LOWER, ge=0)] | None = None
    count: Annotated[
        Literal["cost", "list"],
        help("Money by what it cost, or by the list price of the model asked for.", weak_at("cost")),
    ] = "cost"
    alerts: Annotated[tuple[float, ...], help("Shares of a budget at which to say so.", PLAIN)] = (0.5, 0.8, 1.0)
    webhook: Annotated[
        str,
        help(
            "URL that gets a POST at each alert.",
            PLAIN,
            secret=True,
            expect="a URL that begins with http:// or https://",
        ),
    ] = ""


class Turns(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The turns of one model."""

    max_concurrent: Annotated[int, help("Requests that run at once; 0: any number.", LOWER_OR_0, ge=0)] = 0


class Queue(Struct, frozen=True, kw_only=True):
    """The queue in front of each backend, fair between keys."""

    max_concurrent: Annotated[
        int,
        help("Requests that a backend answers at once; 0: any number. A backend may say its own.", LOWER_OR_0, ge=0),
    ] = 0
    max_waiting: Annotated[int, help("Requests that wait for a backend at most.", LOWER, ge=0)] = 200
    max_wait: Annotated[float, help("Seconds a request waits for its turn at most.", PLAIN, gt=0)] = 120.0
    models: Annotated[dict[str, Turns], help("The same by served model, name or glob.", PLAIN)] = {}


class PriceSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A price of one's own, in dollars per million tokens."""

    input: Annotated[float, help("Prompt tokens.", HIGHER, ge=0)] = 0.0
    cached: Annotated[float, help("Prompt tokens that were in the cache; as input if not set.", STAYS, ge=0)] | None = (
        None
    )
    output: Annotated[float, help("Answer tokens.", HIGHER, ge=0)] = 0.0


class Prices(Struct, frozen=True, kw_only=True):
    """What an answer costs. Local models cost nothing unless it is said here."""

    kwh: Annotated[float, help("Dollars for a kWh, for local backends.", HIGHER, ge=0)] = 0.0
    watts: Annotated[float, help("Watts this machine draws while it answers.", HIGHER, ge=0)] = 0.0
    models: Annotated[dict[str, PriceSettings], help("Prices of served models, by name or glob.", PLAIN)] = {}


class Logs(Struct, frozen=True, kw_only=True):
    """The daemon's log and the requests' log."""

    folder: Annotated[str, help("Where they are; empty: the user's log folder.", PLAIN, restart=True)] = ""
    requests: Annotated[bool, help("Whether requests are recorded.", weak_at(True), restart=True)] = True
    bodies: Annotated[Literal["all", "none"], help("Whether prompts and answers are recorded.", weak_at("all"))] = "all"
    redact: Annotated[tuple[str, ...], help("Regular expressions whose matches are blanked in bodies.", MORE)] = ()
    max_size: Annotated[int, help("Size at which a log is rotated.", PLAIN, size=True, ge=1024)] = 20 * 1024 * 1024
    max_age: Annotated[float, help("Days after which a log is rotated.", PLAIN, gt=0)] = 7.0
    max_files: Annotated[int, help("Rotated files kept of each log.", STAYS, ge=1, le=10_000)] = 50
    max_total: Annotated[int, help("Size of all files of both logs together.", STAYS, size=True, ge=1024)] = (
        400 * 1024 * 1024
    )
    buffer: Annotated[int, help("Entries that wait to be written; more are dropped and counted.", PLAIN, ge=1)] = 1000


class Tls(Struct, frozen=True, kw_only=True):
    """HTTPS."""

    mode: Annotated[
        Literal["off", "mkcert", "files"],
        help("mkcert: certificates of oproxy cert; files: your own.", weak_at("off"), restart=True),
    ] = "off"
    port: Annotated[int, help("Port of HTTPS.", PLAIN, restart=True, ge=1, le=65535)] = 11436
    only: Annotated[
        bool, help("Whether HTTPS alone is served, without HTTP beside it.", weak_at(False), restart=True)
    ] = False
    cert: Annotated[str, help("Certificate with its chain (PEM), for mode files.", STAYS)] = ""
    key: Annotated[str, help("Its private key (PEM), for mode files.", STAYS)] = ""
    names: Annotated[tuple[str, ...], help("More names and addresses that mkcert's certificate is for.", FEWER)] = ()


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one moment."""

    server: Server = Server()
    backends: dict[str, BackendSettings] = {}
    models: Models = Models()
    store: Store = Store()
    auth: Auth = Auth()
    limits: Limits = Limits()
    budget: Spend = Spend()
    queue: Queue = Queue()
    prices: Prices = Prices()
    logs: Logs = Logs()
    tls: Tls = Tls()
    responses: Responses = Responses()
    files: Files = Files()
    batches: Batches = Batches()
    moderations: Moderations = Moderations()
