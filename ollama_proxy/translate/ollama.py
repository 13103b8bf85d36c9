"""Ollama's native API (/api/chat, /api/generate, /api/embed): requests are written here, answers read in `ollama_read`.

Everything goes to the native API, never to Ollama's own /v1, which drops parameters. Only what the client sent is sent
on, so that a model's own defaults survive; but `truncate` is always false, so that nothing is cut in silence.
Verified against Ollama 0.34.4 and 0.24.0. Never waits, never logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import Invalid, OproxyError, Unsupported
from ..model import (
    Abilities,
    Ask,
    Audio,
    Call,
    Completion,
    Embedding,
    File,
    Image,
    Message,
    ModelInfo,
    Part,
    Refusal,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from . import ollama_errors, ollama_read
from .wire import Reader, Vectors

__all__ = ["WHOLE", "WIRE", "OllamaWire"]

Json = dict[str, Any]

# Nothing of a prompt is cut before the answer (`truncate`), and nothing is pushed out of the window while the answer
# grows (`shift`): it ends with "length" there, as OpenAI's do. Always both, for another `shift` loads the model anew.
WHOLE: Json = {"truncate": False, "shift": False}

ABILITIES = Abilities(
    tools=True,
    tool_choice=False,
    custom_tools=False,
    parallel_tools=False,
    choices=1,
    logit_bias=False,
    image_urls=False,
    drops_keywords=True,
    grammars=True,
    names=False,
    details=False,
    logprobs_with_streamed_tools=False,
)

# The hub's name → Ollama's option, for what is passed as it is.
OPTIONS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
}
# Options that 0.34 refuses outright; they had no effect before either.
GONE = frozenset({"typical_p"})
# From the least to the most.
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
# These take levels, also on servers that do not tell so yet (before 0.34.3).
GPT_OSS = ("low", "medium", "high")
GPT_OSS_FAMILIES = ("gptoss", "gpt-oss")
# Between what were parts of one message, and between turns of the same role. Ollama's two template paths render
# neighbours differently (one joins them so, one makes two turns), so they are joined before.
PART_GAP = "\n"
TURN_GAP = "\n\n"


class OllamaWire:
    """The wire of `translate.wire.Wire` for Ollama."""

    abilities = ABILITIES

    def chat(self, ask: Ask, info: ModelInfo) -> Call:
        body: Json = {
            "model": ask.model,
            "messages": messages(ask.messages),
            "stream": ask.stream,
            **WHOLE,
        }
        if ask.tools:
            body["tools"] = [tool(each) for each in ask.tools]
        if (form := answer_format(ask)) is not None:
            body["format"] = form
        if (think := thinking(ask, info)) is not None:
            body["think"] = think
        if ask.top_logprobs is not None:
            body["logprobs"] = True
            if ask.top_logprobs:
                body["top_logprobs"] = ask.top_logprobs
        common(body, ask.sampling, ask.options, ask.keep_alive)
        return call("/api/chat", body, stream=ask.stream)

    def chat_reader(self, ask: Ask, *, backend: str) -> Reader:
        return ollama_read.ChatReader(backend=backend, model=ask.model, logprobs=ask.top_logprobs is not None)

    def complete(self, ask: Completion, info: ModelInfo) -> Call:
        body: Json = {"model": ask.model, "prompt": ask.prompt, "stream": ask.stream, **WHOLE}
        if ask.suffix:
            if not info.can("insert"):
                raise Unsupported(
                    f"Unsupported parameter: 'suffix' is not supported with the model `{ask.model}`, which cannot "
                    "fill in text.",
                    param="suffix",
                )
            # A raw prompt takes no suffix: the model's own template places the two.
            body["suffix"] = ask.suffix
            if info.capabilities is not None and "thinking" in info.capabilities:
                # Under a template such a model would think first, where only the gap is to be filled.
                body["think"] = False
        else:
            body["raw"] = True
        if ask.logprobs is not None:
            body["logprobs"] = True
            if ask.logprobs:
                body["top_logprobs"] = ask.logprobs
        common(body, ask.sampling, ask.options, ask.keep_alive)
        return call("/api/generate", body, stream=ask.stream)

    def completion_reader(self, ask: Completion, *, backend: str) -> Reader:
        return ollama_read.CompletionReader(backend=backend, model=ask.model, logprobs=ask.logprobs is not None)

    def embed(self, ask: Embedding, info: ModelInfo) -> Call:
        if not info.can("embedding"):
            raise Invalid(
                f"The model `{ask.model}` does not make embeddings. Choose one that does: `oproxy models list` shows "
                "what each can.",
                param="model",
                code="unsupported_model",
            )
        body: Json = {"model": ask.model, "input": list(ask.inputs), "truncate": False}
        if ask.dimensions is not None:
            body["dimensions"] = ask.dimensions
        common(body, Sampling(), ask.options, ask.keep_alive)
        return call("/api/embed", body, stream=False)

    def read_embeddings(self, body: bytes, *, backend: str) -> Vectors:
        return ollama_read.embeddings(body, backend=backend)

    def error(
        self,
        status: int,
        body: bytes,
        *,
        backend: str,
        model: str,
        param: str = "messages",
        headers: Mapping[str, str] | None = None,
    ) -> OproxyError:
        return ollama_errors.read(status, body, backend=backend, model=model, param=param)


WIRE = OllamaWire()


def call(path: str, body: Json, *, stream: bool) -> Call:
    return Call("POST", path, msgspec.json.encode(body), stream=stream)


def common(body: Json, sampling: Sampling, own: Mapping[str, Any], keep_alive: str | int | float | None) -> None:
    """Add options and keep_alive: the backend options given, over them what the hub knows of sampling."""
    options = {name: value for name, value in own.items() if value is not None and name not in GONE}
    for name, option in OPTIONS.items():
        if (value := getattr(sampling, name)) is not None:
            options[option] = value
    if sampling.max_tokens is not None:
        options["num_predict"] = sampling.max_tokens
    if options.get("num_predict") == 0:
        # One of Ollama's paths takes it for "without end", the other makes one token: ask for that on both.
        options["num_predict"] = 1
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    if options:
        body["options"] = options
    if keep_alive is not None:
        body["keep_alive"] = keep_alive


def answer_format(ask: Ask) -> Any:
    """Return `format`. For any JSON object the schema, not the word "json": some llama.cpp builds ignore the word."""
    match ask.format.kind:
        case "json":
            return {"type": "object"}
        case "schema":
            return ask.format.schema
        case _:
            return None


def thinking(ask: Ask, info: ModelInfo) -> bool | str | None:
    """Return `think`, None to leave it to the model. A model that cannot think is sent nothing: it would refuse."""
    reasoning = ask.reasoning
    if reasoning.think is not None:
        return reasoning.think
    if reasoning.effort is None or not info.can("thinking"):
        return None
    values = info.think or (GPT_OSS if info.family in GPT_OSS_FAMILIES else (False, True))
    levels = [value for value in values if isinstance(value, str) and value in EFFORTS]
    if reasoning.effort == "none":
        # A model that knows no "off" thinks as little as it can.
        return False if False in values or not levels else min(levels, key=EFFORTS.index)
    if not levels or reasoning.effort not in EFFORTS:
        return True
    rank = EFFORTS.index(reasoning.effort)
    return min(levels, key=lambda level: (abs(EFFORTS.index(level) - rank), -EFFORTS.index(level)))


# --- messages -----------------------------------------------------------------------------------------------------


def messages(turns: Sequence[Message]) -> list[Json]:
    """Write the conversation; neighbours of the same role (user, system) become one turn."""
    out: list[Json] = []
    # The texts of the last message, joined when it is complete: one by one, many turns would take quadratic time.
    texts: list[str] = []
    for turn in turns:
        for message in message_of(turn):
            if out and joins(out[-1], message):
                texts = texts or [out[-1]["content"]]
                texts.append(message["content"])
                continue
            if texts:
                out[-1]["content"], texts = TURN_GAP.join(filter(None, texts)), []
            out.append(message)
    if texts:
        out[-1]["content"] = TURN_GAP.join(filter(None, texts))
    return out


def joins(last: Json, message: Json) -> bool:
    """Return whether two neighbours become one turn: only plain text does. Turns with images stay apart, for both paths
    keep what belongs to which, while one list of images over joined texts would not."""
    same = message["role"] == last["role"] and message["role"] in ("user", "system")
    return same and last.keys() == message.keys() == {"role", "content"}


def message_of(turn: Message) -> list[Json]:
    """Write one turn; each tool result is a message of its own, before what else the turn says."""
    if results := [result(part) for part in turn.parts if isinstance(part, ToolResult)]:
        rest = tuple(part for part in turn.parts if not isinstance(part, ToolResult))
        role: Role = "user" if turn.role == "tool" else turn.role
        return results + (message_of(Message(role, rest)) if rest else [])
    message: Json = {"role": turn.role, "content": PART_GAP.join(texts(turn.parts))}
    if images := [image(part) for part in turn.parts if isinstance(part, Image)]:
        message["images"] = images
    if thoughts := [part.text for part in turn.parts if isinstance(part, Thinking) and part.text]:
        message["thinking"] = "\n".join(thoughts)
    if calls := [part for part in turn.parts if isinstance(part, ToolCall)]:
        message["tool_calls"] = [
            {"id": each.id, "function": {"name": each.name, "arguments": arguments(each)}} for each in calls
        ]
    return [message]


def texts(parts: Sequence[Part]) -> list[str]:
    out: list[str] = []
    for part in parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                out.append(text)
            case Audio(param=param) | File(param=param):
                raise Invalid("This model takes text and images only.", param=param, code="unsupported_content")
            case _:
                continue
    return out


def image(part: Image) -> str:
    if part.data is None:
        raise Invalid("The image could not be fetched.", param=part.param, code="invalid_image_url")
    return part.data


def result(part: ToolResult) -> Json:
    message: Json = {"role": "tool", "content": PART_GAP.join(texts(part.parts)), "tool_call_id": part.id}
    if part.name:
        message["tool_name"] = part.name
    if images := [image(each) for each in part.parts if isinstance(each, Image)]:
        message["images"] = images
    return message


def arguments(part: ToolCall) -> Json:
    """Return a call's arguments as the object Ollama wants. What is no JSON object (a model may have written it) is
    kept whole under one key, so that the model sees what it wrote."""
    if part.kind == "custom":
        return {"input": part.arguments}
    if not part.arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(part.arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": part.arguments}
    return value if isinstance(value, dict) else {"arguments": value}


def tool(each: Tool) -> Json:
    function: Json = {"name": each.name}
    if each.description is not None:
        function["description"] = each.description
    function["parameters"] = dict(each.parameters) if each.parameters else {"type": "object", "properties": {}}
    return {"type": "function", "function": function}
