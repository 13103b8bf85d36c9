"""The front of /v1/chat/completions: client JSON to `Ask`, events to chunks or one body.

`parse` checks and translates a request; `ChunkWriter` and `whole` (from `chat_write.py`) write the answers. Says
which parameters can have no effect, so that none is dropped in silence. Never looks at the model or the backend:
what they cannot do is refused or emulated by `policy/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import Invalid, Unsupported
from ..model import Ask, Reasoning, Sampling
from .chat_messages import parse_messages
from .chat_tools import parse_choice, parse_format, parse_tools, shallow
from .chat_write import ChunkWriter, whole
from .shapes import ChatRequest
from .validate import decode, ignored_keys

__all__ = ["ChunkWriter", "parse", "parse_shape", "whole"]

# Parameters no local model can follow, each with the values that ask for nothing.
NO_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "moderation": (),
    "prediction": (),
    "prompt_cache_key": ("",),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory",),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# Ollama's options that are sampling knobs of the hub; the rest is the backend's.
SAMPLED = frozenset(
    {
        "frequency_penalty",
        "min_p",
        "num_predict",
        "presence_penalty",
        "seed",
        "stop",
        "temperature",
        "top_k",
        "top_p",
    }
)
# Kept for the records under their wire names.
KEPT = ("metadata", "user", "safety_identifier", "store")


def parse(body: bytes) -> Ask:
    """Read a chat request. Raises errors.Invalid in OpenAI's words."""
    return parse_shape(*decode(body, ChatRequest))


def parse_shape(request: ChatRequest, fields: Mapping[str, msgspec.Raw]) -> Ask:
    """Read a request that `validate.decode` has decoded. Raises errors.Invalid."""
    _check(request)
    tools = parse_tools(request)
    legacy = bool(request.functions)
    streaming = request.stream_options
    options = _options(request, fields)
    return Ask(
        model=request.model,
        messages=parse_messages(request.messages),
        tools=tools,
        tool_choice=parse_choice(request, tools),
        # The deprecated form has room for one call only.
        parallel_tools=request.parallel_tool_calls is not False and not legacy,
        sampling=_sampling(request, options),
        format=parse_format(request),
        reasoning=Reasoning(effort=request.reasoning_effort, think=request.think),
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        n=request.n or 1,
        stream=bool(request.stream),
        include_usage=streaming is not None and bool(streaming.include_usage),
        keep_alive=request.keep_alive,
        options={key: value for key, value in options.items() if key not in SAMPLED},
        ignored=_ignored(request, fields),
        extra=_extra(request, fields, legacy),
    )


def _check(request: ChatRequest) -> None:
    """Check what OpenAI checks between fields."""
    if request.stream_options is not None and not request.stream:
        raise Invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if request.top_logprobs and not request.logprobs:
        raise Invalid("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs")
    if "audio" in (request.modalities or ()):
        raise Unsupported(
            "Unsupported value: 'modalities' does not support 'audio' with this model. Supported values are: 'text'.",
            param="modalities",
            code="unsupported_value",
        )


def _sampling(request: ChatRequest, options: Mapping[str, Any]) -> Sampling:
    """Gather the knobs; OpenAI's own name wins over the same knob inside Ollama's `options`."""
    limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    stop = _first(request.stop, options.get("stop")) if options else request.stop
    if not options:
        return Sampling(
            max_tokens=limit,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            min_p=request.min_p,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            seed=request.seed,
            stop=_stops(stop),
            logit_bias=request.logit_bias or None,
        )
    return Sampling(
        max_tokens=_first(limit, options.get("num_predict")),
        temperature=_first(request.temperature, options.get("temperature")),
        top_p=_first(request.top_p, options.get("top_p")),
        top_k=_first(request.top_k, options.get("top_k")),
        min_p=_first(request.min_p, options.get("min_p")),
        frequency_penalty=_first(request.frequency_penalty, options.get("frequency_penalty")),
        presence_penalty=_first(request.presence_penalty, options.get("presence_penalty")),
        seed=_first(request.seed, options.get("seed")),
        stop=_stops(stop),
        logit_bias=request.logit_bias or None,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop sequences. An empty one would match at once; backends differ in what they make of it."""
    if stop is None:
        return ()
    return tuple(text for text in ([stop] if isinstance(stop, str) else stop) if text)


def _first(value: Any, other: Any) -> Any:
    return other if value is None else value


def _options(request: ChatRequest, fields: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """Return Ollama's `options` as the client sent them, unknown ones too; `num_ctx` beside them wins."""
    options: dict[str, Any] = {}
    if request.options is not None:
        options = {key: value for key, value in msgspec.json.decode(fields["options"]).items() if value is not None}
        shallow(options, "options")
    if request.num_ctx is not None:
        options["num_ctx"] = request.num_ctx
    if options.get("num_predict", 1) < 1:
        # Ollama's "without end", which the hub has no number for, and is what happens when nothing is sent.
        del options["num_predict"]
    return options


def _ignored(request: ChatRequest, fields: Mapping[str, msgspec.Raw]) -> tuple[str, ...]:
    """Name the parameters that have no effect, in the order they came."""
    names = set(ignored_keys(fields, ChatRequest))
    # What was sent is walked, not what could be: few clients send more than a handful.
    for name in NO_EFFECT.keys() & fields.keys():
        value = getattr(request, name)
        if value is not None and value not in NO_EFFECT[name]:
            names.add(name)
    if request.format and request.response_format is not None:
        names.add("format")
    return tuple(name for name in fields if name in names) if names else ()


def _extra(request: ChatRequest, fields: Mapping[str, msgspec.Raw], legacy: bool) -> dict[str, Any]:
    extra = {name: value for name in KEPT if name in fields and (value := getattr(request, name)) is not None}
    if legacy:
        extra["legacy_functions"] = True
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        extra["include_obfuscation"] = True
    return extra
