"""The hub's questions: what a client asks, in one neutral form, whatever wire it came by.

Every front (`translate/chat.py` …) parses into these values, every back (`translate/ollama.py` …) writes its
request from them; the answers come back as `events.py`. All values are frozen; a tuple where JSON has an array.
JSON documents that belong to the client (tool parameters, answer schemas, backend options) are kept as they
came, as plain mappings, and never changed in place. Nothing here waits, logs or knows a wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Any, Literal

from msgspec import Struct

__all__ = [
    "Abilities",
    "Ask",
    "Audio",
    "Call",
    "Completion",
    "Effort",
    "Embedding",
    "File",
    "Format",
    "Image",
    "Message",
    "ModelInfo",
    "Part",
    "Reasoning",
    "Refusal",
    "Role",
    "Sampling",
    "Text",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
]

Json = Any
Role = Literal["system", "user", "assistant", "tool"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolKind = Literal["function", "custom"]


# --- parts of a message -----------------------------------------------------------------------------------------


class Text(Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str


class Image(Struct, frozen=True, tag="image"):
    """An image. Either `data` (base64, without the data-URI prefix) with `media_type`, or `url` still to be fetched.

    `param` is the path of the part in the client's body (`messages[0].content[1].image_url.url`), for errors.
    """

    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    detail: str | None = None
    param: str | None = None


class Audio(Struct, frozen=True, tag="audio"):
    """Sound, base64; `format` is "wav" or "mp3"."""

    data: str
    format: str
    param: str | None = None


class File(Struct, frozen=True, tag="file"):
    """A file, by content (base64, no data-URI prefix) or by id."""

    data: str | None = None
    media_type: str | None = None
    filename: str | None = None
    file_id: str | None = None
    param: str | None = None


class Thinking(Struct, frozen=True, tag="thinking"):
    """An earlier thought of the assistant. `signature` is opaque and round-trips (Responses' encrypted_content)."""

    text: str
    signature: str | None = None
    summary: tuple[str, ...] = ()


class Refusal(Struct, frozen=True, tag="refusal"):
    """An earlier refusal of the assistant."""

    text: str


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A call the assistant made.

    `arguments` is the text as the wire has it: a JSON object for a function ("" allowed, meaning {}),
    free-form input for a custom tool.
    """

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a tool answered. `name` is the called tool's name, looked up from the call where the client left it out."""

    id: str
    parts: tuple[Text | Image | File, ...]
    name: str | None = None


Part = Text | Image | Audio | File | Thinking | Refusal | ToolCall | ToolResult


class Message(Struct, frozen=True):
    """One turn. OpenAI's `developer` is `system` here; `name` is the participant's name."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


# --- tools --------------------------------------------------------------------------------------------------------


class Tool(Struct, frozen=True):
    """A tool the model may call.

    A function has `parameters` (a JSON Schema, None for no arguments); a custom tool takes free-form text, which
    `grammar` may bind: ("lark" | "regex", definition).
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Json] | None = None
    strict: bool = False
    kind: ToolKind = "function"
    grammar: tuple[str, str] | None = None


class ToolChoice(Struct, frozen=True):
    """Which tools may or must be called. `names` narrows the tools (a named tool: mode "required", one name)."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None


# --- the rest of a question ---------------------------------------------------------------------------------------


class Format(Struct, frozen=True):
    """The form the answer's text must have: "text", any "json" object, or a JSON "schema"."""

    kind: Literal["text", "json", "schema"] = "text"
    name: str | None = None
    schema: Mapping[str, Json] | None = None
    strict: bool = False
    description: str | None = None


class Reasoning(Struct, frozen=True):
    """How much to think. None: the client did not say. `summary` is asked for by Responses clients."""

    effort: str | None = None
    summary: str | None = None
    # Ollama's own `think` passed in the body (bool or level): wins over `effort`.
    think: bool | str | None = None
    # Nobody said it in so many words: it is left out where a server might refuse a parameter that it does not know.
    implied: bool = False


class Sampling(Struct, frozen=True):
    """Sampling knobs; None means the client did not send it, and then nothing is sent to the backend."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[str, float] | None = None


class Ask(Struct, frozen=True, kw_only=True):
    """A conversation to be continued.

    `model` is the name the client asked for; the engine replaces it by the backend's own before a back sees it.
    `top_logprobs` is None when no logprobs are wanted, else 0..20.
    `options` are the backend's own knobs given in the body or the config (Ollama's `options`, `num_ctx` …).
    `ignored` are the parameters that had no effect so far, for the `x-oproxy-ignored` header.
    `extra` are fields kept for the record (metadata, user, store …), by their wire name.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tools: bool = True
    sampling: Sampling = Sampling()
    format: Format = Format()
    reasoning: Reasoning = Reasoning()
    top_logprobs: int | None = None
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    keep_alive: str | int | float | None = None
    options: Mapping[str, Json] = {}
    # Ollama's own `format` in the body (a schema or "json"), already merged into `format` by the front.
    ignored: tuple[str, ...] = ()
    extra: Mapping[str, Json] = {}


class Completion(Struct, frozen=True, kw_only=True):
    """A text to be continued, with no chat template: one prompt (the front makes one of these per prompt).

    `prompt` is text, or token ids of the client's tokenizer already decoded to text by the front.
    """

    model: str
    prompt: str
    suffix: str | None = None
    sampling: Sampling = Sampling()
    logprobs: int | None = None
    stream: bool = False
    keep_alive: str | int | float | None = None
    options: Mapping[str, Json] = {}


class Embedding(Struct, frozen=True, kw_only=True):
    """Texts to be embedded, in order."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    keep_alive: str | int | float | None = None
    options: Mapping[str, Json] = {}


class Call(Struct, frozen=True):
    """One HTTP request to a backend, as a back wrote it. `body` is JSON bytes, `path` starts with "/".

    `as_is`: it is a client's own, sent as it came (a path with its query, encoded already); then `upload` may stand in
    for the body: what comes of it is sent as it comes, once.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    stream: bool = False
    as_is: bool = False
    upload: AsyncIterable[bytes] | None = None


Capability = Literal["completion", "tools", "insert", "vision", "embedding", "thinking", "audio", "image"]


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What is known of a model of a backend. `id` is the backend's own full name; sizes are bytes, times epoch seconds.

    `capabilities` is None where the backend does not tell (then everything is tried). `context` is the longest
    context the model was trained for; `think` are the values its thinking takes (`()`: none or unknown).
    """

    id: str
    backend: str
    created: int = 0
    owned_by: str = "library"
    size: int | None = None
    parameters: str | None = None
    quantization: str | None = None
    family: str | None = None
    context: int | None = None
    embedding_length: int | None = None
    capabilities: frozenset[str] | None = None
    think: tuple[bool | str, ...] = ()
    digest: str | None = None
    # llama.cpp's own chat template ("native") or Ollama's renderer ("rendered"); None where it does not matter.
    template: Literal["native", "rendered"] | None = None

    def can(self, capability: str) -> bool:
        """Return whether the model can do it; unknown capabilities count as yes."""
        return self.capabilities is None or capability in self.capabilities


class Abilities(Struct, frozen=True, kw_only=True):
    """What a kind of backend does natively; what it does not, `policy/plan.py` emulates or refuses.

    `choices` is the largest `n` of one call; `tool_choice` covers none, auto, required, a named tool and
    allowed_tools alike; `tools` False: the wire has no tools at all; `image_urls`: it fetches images by itself.
    """

    tools: bool = True
    tool_choice: bool = False
    custom_tools: bool = False
    parallel_tools: bool = False
    choices: int = 1
    logit_bias: bool = False
    image_urls: bool = False
    # Drops JSON-Schema keywords from tools (Ollama), so they are told in the description as well.
    drops_keywords: bool = False
    # Constrains answers by llama.cpp's grammars, which know a part of JSON Schema (`policy/grammar.py`).
    grammars: bool = False
    # Participants' names and the wished resolution of images reach the model (or at least its server).
    names: bool = True
    details: bool = True
    # An answer that goes on with the assistant's last message is given back with that message in front, unless it is
    # streamed (llama.cpp).
    echoes_last: bool = False
    # logprobs with tools in a stream are refused on a native template (Ollama).
    logprobs_with_streamed_tools: bool = True
