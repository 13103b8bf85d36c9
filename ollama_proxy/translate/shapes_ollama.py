"""The request bodies of Ollama's own API (/api/chat, /api/generate, /api/embed …), declared once.

Where a model of Ollama's answers, a body is passed on as it came; these shapes are for what is answered through the
hub, and for the API's description. Keys that are not listed are accepted, as Ollama does. Nothing is interpreted here.
https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .shapes import KeepAlive, OllamaOptions
from .shapes_chat import JsonObject

__all__ = [
    "OllamaChatRequest",
    "OllamaCopyRequest",
    "OllamaCreateRequest",
    "OllamaEmbedRequest",
    "OllamaEmbeddingsRequest",
    "OllamaGenerateRequest",
    "OllamaMessage",
    "OllamaModelRequest",
    "OllamaPullRequest",
    "OllamaTool",
]

Model = Annotated[str, Meta(description="A model's name or alias, as /api/tags lists them.")]
Images = Annotated[list[str], Meta(description="Base64, without a data-URI prefix.")]
Form = Annotated[str | JsonObject | None, Meta(description='"json" or a JSON Schema.')]
Streams = Annotated[bool | None, Meta(description="NDJSON as it comes. On, unless it is false.")]
Think = Annotated[bool | str | None, Meta(description="Whether to think, or how much (low, medium, high, max).")]
Alive = Annotated[KeepAlive | None, Meta(description='How long the model stays loaded: seconds, or "5m".')]
Truncate = Annotated[bool | None, Meta(description="Cut what is too long. Ollama's own models only.")]
Shift = Annotated[bool | None, Meta(description="Drop the oldest of a full window. Ollama's own models only.")]
Logprobs = Annotated[bool | None, Meta(description="Return the probability of each token.")]
Alternatives = Annotated[int, Meta(ge=0, le=20, description="Also of so many alternatives.")]


class OllamaCalled(Struct):
    """A call as the model made it."""

    name: str
    arguments: JsonObject | None = None


class OllamaCall(Struct):
    """An earlier call of a tool."""

    function: OllamaCalled
    id: str | None = None


class OllamaMessage(Struct):
    """A turn of the conversation."""

    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: Images | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: Annotated[str | None, Meta(description="The tool whose answer this is.")] = None
    tool_call_id: Annotated[str | None, Meta(description="The call whose answer this is.")] = None


class OllamaFunction(Struct):
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: Annotated[JsonObject | None, Meta(description="A JSON Schema of the arguments.")] = None


class OllamaTool(Struct):
    """A tool the model may call."""

    function: OllamaFunction | None = None
    type: str | None = None


class OllamaChatRequest(Struct):
    """The body of POST /api/chat."""

    model: Model
    messages: Annotated[list[OllamaMessage] | None, Meta(description="None: only load the model.")] = None
    stream: Streams = None
    format: Form = None
    tools: list[OllamaTool] | None = None
    think: Think = None
    options: OllamaOptions | None = None
    keep_alive: Alive = None
    logprobs: Logprobs = None
    top_logprobs: Alternatives | None = None
    truncate: Truncate = None
    shift: Shift = None


class OllamaGenerateRequest(Struct):
    """The body of POST /api/generate."""

    model: Model
    prompt: Annotated[str | None, Meta(description="Empty: only load the model.")] = None
    suffix: Annotated[str | None, Meta(description="What comes after the text that is filled in.")] = None
    system: Annotated[str | None, Meta(description="The system message.")] = None
    template: Annotated[str | None, Meta(description="Another chat template. Ollama's own models only.")] = None
    context: Annotated[list[int] | None, Meta(description="An earlier answer's. Ollama's own models only.")] = None
    raw: Annotated[bool | None, Meta(description="The prompt as it is, without a chat template.")] = None
    images: Images | None = None
    stream: Streams = None
    format: Form = None
    think: Think = None
    options: OllamaOptions | None = None
    keep_alive: Alive = None
    logprobs: Logprobs = None
    top_logprobs: Alternatives | None = None
    truncate: Truncate = None
    shift: Shift = None


class OllamaEmbedRequest(Struct):
    """The body of POST /api/embed."""

    model: Model
    input: Annotated[str | list[str] | None, Meta(description="A text or texts. None: only load the model.")] = None
    dimensions: int | None = None
    truncate: Truncate = None
    options: OllamaOptions | None = None
    keep_alive: Alive = None


class OllamaEmbeddingsRequest(Struct):
    """The body of POST /api/embeddings, the older form of /api/embed."""

    model: Model
    prompt: str | None = None
    options: OllamaOptions | None = None
    keep_alive: Alive = None


class OllamaModelRequest(Struct):
    """A body that names a model."""

    model: Model = ""
    name: Annotated[str | None, Meta(description="Deprecated: use `model`.")] = None
    verbose: bool | None = None


class OllamaPullRequest(Struct):
    """The body of POST /api/pull and /api/push."""

    model: Model = ""
    name: Annotated[str | None, Meta(description="Deprecated: use `model`.")] = None
    insecure: bool | None = None
    stream: Streams = None


class OllamaCopyRequest(Struct):
    """The body of POST /api/copy."""

    source: Model
    destination: str


class OllamaCreateRequest(Struct, rename={"from_": "from"}):
    """The body of POST /api/create; what else it takes is Ollama's."""

    model: str = ""
    from_: Annotated[str | None, Meta(description="The model it is made of.")] = None
    files: dict[str, str] | None = None
    stream: Streams = None
