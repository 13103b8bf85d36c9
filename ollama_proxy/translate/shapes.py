"""The request bodies of /v1/chat/completions, /v1/completions and /v1/embeddings, declared once.

A field's type and `Meta` are its validation, its documentation and its OpenAPI schema. Every optional field takes an
explicit null, because clients send it. Keys that are not listed are accepted and reported (`x-oproxy-ignored`).
Nothing is interpreted here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .shapes_chat import (
    FunctionChoice,
    FunctionDef,
    JsonObject,
    Message,
    ResponseFormat,
    StreamOptions,
    Tool,
    ToolChoice,
)

__all__ = ["ChatRequest", "CompletionRequest", "EmbeddingRequest", "OllamaOptions"]

# llama.cpp keeps token counts in 32 bits.
INT32 = 2**31 - 1
INT64 = 2**63 - 1

Temperature = Annotated[float, Meta(ge=0, le=2, description="Higher is more random.")]
TopP = Annotated[float, Meta(ge=0, le=1, description="Sample from the likeliest tokens that make up this probability.")]
TopK = Annotated[int, Meta(ge=-1, le=INT32, description="Sample from this many tokens (Ollama's knob).")]
MinP = Annotated[float, Meta(ge=0, le=1, description="Drop tokens less likely than this share of the likeliest one.")]
Penalty = Annotated[float, Meta(ge=-2, le=2, description="Makes repetition less likely.")]
Seed = Annotated[int, Meta(ge=-INT64 - 1, le=INT64, description="Same seed, same answer, as far as the backend can.")]
Count = Annotated[int, Meta(ge=1, le=INT32)]
Choices = Annotated[int, Meta(ge=1, le=128, description="How many answers to give.")]
Stop = str | Annotated[list[str], Meta(max_length=4)]
Bias = dict[str, Annotated[int, Meta(ge=-100, le=100)]]
KeepAlive = str | int | float
User = Annotated[str, Meta(description="Who is asking, for the records.")]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16, description="Kept with the request in the records."),
]
Model = Annotated[str, Meta(min_length=1, description="A model's name or alias, as /v1/models lists them.")]


# What a list of texts holds, for the API's description: msgspec knows no union of lists.
TOKENS = {"type": "integer", "minimum": 0}
LISTS = [{"items": TOKENS}, {"items": {"type": "array", "items": TOKENS}}]
PROMPTS = {"x-any-of": [{"items": {"type": "string"}}, *LISTS]}
TEXTS = {"x-any-of": [{"items": {"type": "string", "minLength": 1}}, *LISTS]}


class OllamaOptions(Struct):
    """Ollama's `options`, passed to Ollama as they are. Checked here because Ollama answers a wrong type with a 500."""

    num_ctx: Annotated[int, Meta(ge=4, le=INT32)] | None = None
    num_predict: Annotated[int, Meta(le=INT32)] | None = None
    num_keep: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    num_thread: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    seed: Seed | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | None = None


class ChatRequest(Struct):
    """The body of POST /v1/chat/completions."""

    model: Model
    messages: Annotated[list[Message], Meta(min_length=1, description="The conversation so far.")]
    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events.")] = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[Count | None, Meta(description="At most this many tokens, thinking included.")] = (
        None
    )
    max_tokens: Annotated[Count | None, Meta(description="Deprecated: `max_completion_tokens` wins over it.")] = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Annotated[Stop | None, Meta(description="Up to four texts that end the answer.")] = None
    n: Choices | None = None
    logprobs: Annotated[bool | None, Meta(description="Return the probability of each token.")] = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20, description="Also of so many alternatives.")] | None = None
    logit_bias: Annotated[Bias | None, Meta(description="Honoured where the backend can, else refused.")] = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="False: at most one tool call an answer.")] = None
    functions: Annotated[list[FunctionDef], Meta(max_length=128, description="Deprecated: use `tools`.")] | None = None
    function_call: Annotated[FunctionChoice | None, Meta(description="Deprecated: use `tool_choice`.")] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
        Meta(description="How much a thinking model thinks."),
    ] = None
    user: User | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    modalities: Annotated[list[Literal["text", "audio"]] | None, Meta(description='Only ["text"] is possible.')] = None
    audio: Annotated[JsonObject | None, Meta(description="No local model speaks; refused with audio output.")] = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, Meta(description="Has no effect.")] = None
    prediction: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast"] | None, Meta(description="Has no effect.")
    ] = None
    prompt_cache_key: Annotated[str | None, Meta(description="Has no effect.")] = None
    prompt_cache_retention: Annotated[str | None, Meta(description="Has no effect.")] = None
    prompt_cache_options: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    web_search_options: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    moderation: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    options: Annotated[OllamaOptions | None, Meta(description="Ollama's own options.")] = None
    num_ctx: Annotated[int, Meta(ge=4, le=INT32, description="The context window (Ollama's knob).")] | None = None
    keep_alive: Annotated[KeepAlive | None, Meta(description="How long the model stays loaded (Ollama's knob).")] = None
    think: Annotated[bool | str | None, Meta(description="Whether to think (Ollama's knob).")] = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    format: Annotated[str | JsonObject | None, Meta(description='"json" or a JSON Schema (Ollama\'s knob).')] = None


class CompletionRequest(Struct):
    """The body of POST /v1/completions."""

    model: Model
    prompt: Annotated[
        str | Annotated[list[str | int | list[int]], Meta(min_length=1, extra_json_schema=PROMPTS)] | None,
        Meta(description="Text, texts, token ids or lists of token ids."),
    ] = None
    suffix: Annotated[str | None, Meta(description="What comes after the inserted text.")] = None
    max_tokens: (
        Annotated[int, Meta(ge=0, le=INT32, description="At most this many tokens; 16 if not given.")] | None
    ) = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    best_of: Annotated[int, Meta(ge=0, le=20, description="Make so many, return the `n` best.")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5, description="Probabilities of so many alternatives.")] | None = None
    echo: Annotated[bool | None, Meta(description="Return the prompt as well.")] = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    seed: Seed | None = None
    user: User | None = None
    options: OllamaOptions | None = None
    num_ctx: Annotated[int, Meta(ge=4, le=INT32)] | None = None
    keep_alive: KeepAlive | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None


class EmbeddingRequest(Struct):
    """The body of POST /v1/embeddings."""

    model: Model
    # That no text is empty, and that a list holds one kind of things, is checked apart (`embeddings`).
    input: Annotated[
        Annotated[str, Meta(extra_json_schema={"minLength": 1})]
        | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=2048, extra_json_schema=TEXTS)],
        Meta(description="Text, texts, token ids or lists of token ids."),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=INT32)] | None = None
    user: User | None = None
    options: OllamaOptions | None = None
    keep_alive: KeepAlive | None = None
