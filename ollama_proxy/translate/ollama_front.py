"""The front of Ollama's own API: what its clients send, into the hub.

For models that no Ollama serves; where one does, the bytes are passed on (`ollama_pass`). Says which parameters can
have no effect here, so that none is dropped in silence. Never looks at the model or the backend.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .. import model as hub
from ..errors import Invalid, Unsupported
from .chat import SAMPLED
from .chat_tools import shallow
from .ollama_pass import joined
from .shapes_ollama import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaMessage,
    OllamaTool,
)
from .validate import ignored_keys

__all__ = [
    "Body",
    "Generation",
    "named",
    "opened",
    "parse_chat",
    "parse_embed",
    "parse_embeddings",
    "parse_generate",
    "unloads",
]

Fields = Mapping[str, msgspec.Raw]

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BROKEN = (msgspec.MsgspecError, RecursionError, ValueError)

# Ollama takes any role and hands it to the template; these are the hub's.
ROLES: Mapping[str, hub.Role] = {
    "assistant": "assistant",
    "developer": "system",
    "system": "system",
    "tool": "tool",
    "user": "user",
}
LEVELS = ("high", "medium", "low", "max")
NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")
# How a file of base64 begins. https://en.wikipedia.org/wiki/List_of_file_signatures
PICTURES = (("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lG", "image/gif"), ("UklGR", "image/webp"))


class Generation(NamedTuple):
    """A request to /api/generate: a conversation, or with `raw` or `suffix` a text; and what had no effect."""

    ask: hub.Ask | hub.Completion
    ignored: tuple[str, ...]


# --- any body ---------------------------------------------------------------------------------------------------------


class Body(NamedTuple):
    """A body as it may be passed on, and its keys, their values undecoded."""

    data: bytes
    fields: Mapping[str, msgspec.Raw]


def opened(body: bytes) -> Body:
    """Open a body. Raises errors.Invalid.

    Go, and so Ollama, reads keys in any case (`MODEL`; by Unicode's rules a long s is an s too), the last one counting.
    Whoever did not know would check one model and pass on another; so all are made lower case, as Ollama's own are.
    """
    if not body.strip():
        raise Invalid("missing request body")
    try:
        body.decode()
        fields = _fields(body)
    except _BROKEN as exc:
        raise Invalid(f"The body is no JSON object: {exc}.") from None
    if all(key.isascii() and key.islower() for key in fields):
        return Body(body, fields)
    folded = {key.casefold(): value for key, value in fields.items()}
    return Body(joined(folded), folded)


def named(fields: Fields, *keys: str) -> str:
    """Return the first of these keys that names something; "" if none does. Raises errors.Invalid."""
    for key in keys or ("model", "name"):
        try:
            value = msgspec.json.decode(fields.get(key, b"null"), type=str | None)
        except _BROKEN:
            raise Invalid(f"Invalid type for '{key}': expected a string.", param=key, code="invalid_type") from None
        if value:
            return value
    return ""


def unloads(keep_alive: str | int | float | None) -> bool:
    """Return whether a request without a prompt takes the model out of memory: `keep_alive` is no time at all."""
    if isinstance(keep_alive, str):
        return re.fullmatch(r"[-+]?0+(\.0*)?([a-zµ]+)?", keep_alive) is not None
    return keep_alive == 0 and keep_alive is not None


# --- the endpoints ----------------------------------------------------------------------------------------------------


def parse_chat(shape: OllamaChatRequest, fields: Fields) -> hub.Ask:
    """Read a body of /api/chat, decoded by `validate.decode`. Raises errors.Invalid."""
    options, sampling = _options(fields)
    return hub.Ask(
        model=shape.model,
        messages=tuple(_Conversation().parse(shape.messages or ())),
        tools=tuple(_tools(shape.tools or ())),
        sampling=sampling,
        format=_format(shape.format),
        reasoning=_reasoning(shape.think),
        top_logprobs=(shape.top_logprobs or 0) if shape.logprobs else None,
        stream=shape.stream is not False,
        keep_alive=shape.keep_alive,
        options=options,
        ignored=_ignored(shape, fields),
    )


def parse_generate(shape: OllamaGenerateRequest, fields: Fields) -> Generation:
    """Read a body of /api/generate, decoded by `validate.decode`. Raises errors.Invalid."""
    if shape.raw and (shape.template or shape.system or shape.context):
        raise Invalid("raw mode does not support template, system, or context")
    if shape.template:
        raise Unsupported("A template can only be given for a model that an Ollama server answers.", param="template")
    ignored = _ignored(shape, fields)
    options, sampling = _options(fields)
    if shape.raw or shape.suffix:
        dropped = tuple(name for name in ("system", "format", "images", "think") if getattr(shape, name))
        text = hub.Completion(
            model=shape.model,
            prompt=shape.prompt or "",
            suffix=shape.suffix or None,
            sampling=sampling,
            logprobs=(shape.top_logprobs or 0) if shape.logprobs else None,
            stream=shape.stream is not False,
            keep_alive=shape.keep_alive,
            options=options,
        )
        return Generation(text, ignored + dropped)
    system = (hub.Message("system", (hub.Text(shape.system),)),) if shape.system else ()
    said = (hub.Text(shape.prompt or ""), *_images(shape.images or (), "images"))
    ask = hub.Ask(
        model=shape.model,
        messages=(*system, hub.Message("user", said)),
        sampling=sampling,
        format=_format(shape.format),
        reasoning=_reasoning(shape.think),
        top_logprobs=(shape.top_logprobs or 0) if shape.logprobs else None,
        stream=shape.stream is not False,
        keep_alive=shape.keep_alive,
        options=options,
        ignored=ignored,
    )
    return Generation(ask, ignored)


def parse_embed(shape: OllamaEmbedRequest, fields: Fields) -> tuple[hub.Embedding, tuple[str, ...]]:
    """Read a body of /api/embed, and name what had no effect; no inputs mean: only load the model."""
    # An empty text alone is none, but in a list it is one, as Ollama has it.
    inputs = ([shape.input] if shape.input else []) if isinstance(shape.input, str) else shape.input or []
    options, _ = _options(fields)
    embedding = hub.Embedding(
        model=shape.model,
        inputs=tuple(inputs),
        # Ollama takes what is no length for none given.
        dimensions=shape.dimensions if shape.dimensions and shape.dimensions > 0 else None,
        keep_alive=shape.keep_alive,
        options=options,
    )
    return embedding, _ignored(shape, fields)


def parse_embeddings(shape: OllamaEmbeddingsRequest, fields: Fields) -> tuple[hub.Embedding, tuple[str, ...]]:
    """Read a body of /api/embeddings, the older form."""
    options, _ = _options(fields)
    inputs = (shape.prompt,) if shape.prompt else ()
    embedding = hub.Embedding(model=shape.model, inputs=inputs, keep_alive=shape.keep_alive, options=options)
    return embedding, _ignored(shape, fields)


# --- their parts ------------------------------------------------------------------------------------------------------


class _Conversation:
    """What must be remembered from one message to the next: the calls that no result has answered yet."""

    def __init__(self) -> None:
        self._made = 0
        self._open: list[tuple[str, str]] = []

    def parse(self, messages: Sequence[OllamaMessage]) -> Iterator[hub.Message]:
        for index, message in enumerate(messages):
            role = ROLES.get(message.role.strip().lower(), "user")
            images = tuple(_images(message.images or (), f"messages[{index}].images"))
            said: tuple[hub.Part, ...] = (hub.Text(message.content or ""),) if message.content or not images else ()
            if role == "tool" and (call := self._answered(message)) is not None:
                heard = tuple(part for part in images if isinstance(part, hub.Image))
                parts: tuple[hub.Text | hub.Image | hub.File, ...] = (hub.Text(message.content or ""), *heard)
                yield hub.Message("tool", (hub.ToolResult(call[0], parts, call[1]),))
            elif role == "tool":
                # The result of no call: all that can be told of it is what it says.
                yield hub.Message("user", (*said, *images))
            elif role == "assistant":
                thought = (hub.Thinking(message.thinking),) if message.thinking else ()
                text = (hub.Text(message.content),) if message.content else ()
                yield hub.Message("assistant", (*thought, *text, *self._calls(message, index)))
            else:
                yield hub.Message(role, (*said, *images))

    def _calls(self, message: OllamaMessage, index: int) -> Iterator[hub.ToolCall]:
        for place, call in enumerate(message.tool_calls or ()):
            self._made += 1
            id = call.id or f"call_{self._made}"
            name = call.function.name
            arguments = call.function.arguments or {}
            shallow(arguments, f"messages[{index}].tool_calls[{place}].function.arguments")
            self._open.append((id, name))
            yield hub.ToolCall(id, name, msgspec.json.encode(arguments).decode())

    def _answered(self, message: OllamaMessage) -> tuple[str, str] | None:
        """Return the id and name of the call that a result is of: by its id, else its tool's name, else the next."""
        for found in self._open:
            if message.tool_call_id and found[0] == message.tool_call_id:
                break
        else:
            of_name = (each for each in self._open if each[1] == message.tool_name)
            found = next(of_name, self._open[0] if self._open else ("", ""))
        if not found[0]:
            return None
        self._open.remove(found)
        return found


def _images(images: Sequence[str], path: str) -> Iterator[hub.Image | hub.Audio]:
    """Return what `images` hold: pictures, and sound, for which Ollama uses the same field."""
    for index, data in enumerate(images):
        bad = NO_BASE64.search(data)
        try:
            head = b"" if bad is not None else binascii.a2b_base64(data[:16])
        except binascii.Error:
            bad = NO_BASE64.search(f"{data}.")
        if bad is not None:
            raise Invalid(f"illegal base64 data at input byte {bad.start()}", param=f"{path}[{index}]")
        if head.startswith(b"RIFF") and head.endswith(b"WAVE"):
            yield hub.Audio(data, "wav", param=f"{path}[{index}]")
        else:
            kind = next((kind for sign, kind in PICTURES if data.startswith(sign)), "image/png")
            yield hub.Image(data=data, media_type=kind, param=f"{path}[{index}]")


def _tools(tools: Sequence[OllamaTool]) -> Iterator[hub.Tool]:
    for index, tool in enumerate(tools):
        if tool.function is None or not tool.function.name:
            continue
        shallow(tool.function.parameters, f"tools[{index}].function.parameters")
        yield hub.Tool(tool.function.name, tool.function.description, tool.function.parameters)


def _format(form: str | dict[str, Any] | None) -> hub.Format:
    match form:
        case None | "":
            return hub.Format()
        case "json":
            return hub.Format(kind="json")
        case dict():
            shallow(form, "format")
            return hub.Format(kind="schema", schema=form)
    shown = msgspec.json.encode(form[:100]).decode()
    raise Invalid(f'invalid format: {shown}; expected "json" or a valid JSON Schema object', param="format")


def _reasoning(think: bool | str | None) -> hub.Reasoning:
    if isinstance(think, str) and think not in LEVELS:
        words = ", ".join(f'"{level}"' for level in LEVELS)
        raise Invalid(f'invalid think value: "{think[:100]}" (must be {words}, true, or false)', param="think")
    return hub.Reasoning(think=think)


def _options(fields: Fields) -> tuple[dict[str, Any], hub.Sampling]:
    """Return the backend's own options, unknown ones too, and the hub's knobs among them."""
    given = msgspec.json.decode(fields["options"]) if "options" in fields else None
    options = {key: value for key, value in (given or {}).items() if value is not None}
    shallow(options, "options")
    limit = options.get("num_predict")
    seed = options.get("seed")
    sampling = hub.Sampling(
        # Below 1 it is "without end", which is what happens when nothing is sent.
        max_tokens=limit if limit and limit > 0 else None,
        temperature=options.get("temperature"),
        top_p=options.get("top_p"),
        top_k=options.get("top_k"),
        min_p=options.get("min_p"),
        frequency_penalty=options.get("frequency_penalty"),
        presence_penalty=options.get("presence_penalty"),
        # Ollama's word for "another one each time".
        seed=None if seed == -1 else seed,
        stop=tuple(text for text in options.get("stop") or () if text),
    )
    return {key: value for key, value in options.items() if key not in SAMPLED}, sampling


def _ignored(
    shape: OllamaChatRequest | OllamaGenerateRequest | OllamaEmbedRequest | OllamaEmbeddingsRequest, fields: Fields
) -> tuple[str, ...]:
    """Name what has no effect: only Ollama itself can cut a prompt, move its window, go on from a context, or be told
    with a question how long to keep its model."""
    asked = [name for name in ("truncate", "shift", "context") if getattr(shape, name, None)]
    kept = ("keep_alive",) if shape.keep_alive is not None else ()
    return (*ignored_keys(fields, type(shape)), *asked, *kept)
