"""The front of /v1/responses: client JSON to `Ask`, and what of the request the response repeats.

`parse` translates a request whose history, references and uploaded files are already in their places;
`responses_write` writes the answer. Never looks at the model, the backend or what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import ContextTooLong, Invalid
from ..model import Ask, Format, Message, Reasoning, Sampling, Text
from .chat_tools import shallow
from .responses_items import Items, parse_items
from .responses_tools import Tools, parse_choice, parse_tools
from .responses_tools import echo as tool_echo
from .shapes_chat import FormatObject, FormatText, JsonObject
from .shapes_responses import ConversationRef, CountRequest, FormatSchema, ResponsesRequest
from .validate import check_needs, ignored_keys

__all__ = ["Question", "check", "conversation_id", "count_ask", "echo", "exclusive", "parse", "too_long"]

# Parameters no local model can follow, each with the values that ask for nothing.
NO_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "client_metadata": ({},),
    "context_management": ([],),
    "moderation": (),
    "prompt_cache_key": ("",),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory",),
    "service_tier": ("auto", "default"),
}
# What `include` asks for that we have.
INCLUDED = ("reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url")


class Question(msgspec.Struct, frozen=True):
    """A request as it was understood: `ask` for the hub, `names` of tools in namespaces, and what to show."""

    ask: Ask
    names: Mapping[str, tuple[str, str]]
    sealed: bool
    summary: bool


def check(request: ResponsesRequest) -> None:
    """Check what OpenAI checks between fields. Raises errors.Invalid."""
    exclusive(request.previous_response_id, request.conversation)
    if request.prompt is not None:
        raise Invalid(
            f"Prompt with id '{request.prompt.id[:100]}' not found.", param="prompt.id", code="prompt_not_found"
        )
    check_needs(request)
    if request.stream_options is not None and not request.stream:
        raise Invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def exclusive(previous: str | None, conversation: str | ConversationRef | None) -> None:
    """Refuse two histories at once."""
    if previous is not None and conversation is not None:
        raise Invalid(
            "Mutually exclusive parameters. Ensure you are only providing one of: 'previous_response_id' or "
            "'conversation'.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )


def too_long(error: ContextTooLong) -> Invalid:
    """Return the error of a prompt that does not fit in this endpoint's words, with the numbers."""
    text = "Your input exceeds the context window of this model. Please adjust your input and try again."
    if error.tokens is not None and error.limit is not None:
        text += f" It has {error.tokens} tokens, of {error.limit} that fit."
    fresh = ContextTooLong(limit=error.limit, tokens=error.tokens, param="input")
    fresh.message = text
    return fresh


def conversation_id(value: str | ConversationRef | None) -> str | None:
    """Return the id of `conversation`, which may stand in an object."""
    return value.id if isinstance(value, ConversationRef) else value


def parse(
    request: ResponsesRequest,
    fields: Mapping[str, msgspec.Raw],
    items: Sequence[JsonObject],
    *,
    history: int = 0,
) -> Question:
    """Read a request. `items` is the whole conversation, the first `history` of it from before. Raises Invalid."""
    said = parse_items(items, first=history)
    tools = parse_tools(request.tools or (), said.tools)
    include = request.include or []
    reasoning = request.reasoning
    wanted = reasoning is not None and (reasoning.summary or reasoning.generate_summary)
    logprobs = "message.output_text.logprobs" in include or bool(request.top_logprobs)
    ask = Ask(
        model=request.model,
        messages=_messages(request.instructions, said),
        tools=tools.tools,
        tool_choice=parse_choice(request.tool_choice, tools),
        parallel_tools=request.parallel_tool_calls is not False,
        sampling=Sampling(
            max_tokens=request.max_output_tokens, temperature=request.temperature, top_p=request.top_p
        ),
        format=_format(request),
        reasoning=Reasoning(effort=reasoning.effort if reasoning else None, summary=wanted or None),
        top_logprobs=(request.top_logprobs or 0) if logprobs else None,
        stream=bool(request.stream),
        ignored=_ignored(request, fields, said, tools),
        extra={"metadata": request.metadata} if request.metadata else {},
    )  # fmt: skip
    return Question(ask, tools.names, "reasoning.encrypted_content" in include, bool(wanted))


def count_ask(request: CountRequest, items: Sequence[JsonObject], *, history: int = 0) -> Ask:
    """Return the question whose tokens are to be counted."""
    said = parse_items(items, first=history)
    tools = parse_tools(request.tools or (), said.tools)
    return Ask(model=request.model or "", messages=_messages(request.instructions, said), tools=tools.tools)


def _messages(instructions: str | None, said: Items) -> tuple[Message, ...]:
    front = (Message("system", (Text(instructions),)),) if instructions else ()
    return (*front, *said.messages)


def _format(request: ResponsesRequest) -> Format:
    match request.text.format if request.text is not None else None:
        case FormatSchema() as named:
            shallow(named.schema, "text.format.schema")
            return Format("schema", named.name, named.schema, bool(named.strict), named.description)
        case FormatObject():
            return Format("json")
        case _:
            return Format()


def _ignored(
    request: ResponsesRequest, fields: Mapping[str, msgspec.Raw], said: Items, tools: Tools
) -> tuple[str, ...]:
    names = list(ignored_keys(fields, ResponsesRequest))
    for name in NO_EFFECT.keys() & fields.keys():
        value = getattr(request, name)
        if value is not None and value not in NO_EFFECT[name]:
            names.append(name)
    if request.text is not None and request.text.verbosity not in (None, "medium"):
        names.append("text.verbosity")
    if (reasoning := request.reasoning) is not None:
        names += ["reasoning.context"] if reasoning.context not in (None, "auto") else []
        names += ["reasoning.mode"] if reasoning.mode not in (None, "standard") else []
    names += [f"include.{word}" for word in request.include or () if word not in INCLUDED]
    names += [f"tools.{kind}" for kind in tools.hosted]
    return (*sorted(names), *said.ignored)


def echo(request: ResponsesRequest, *, id: str, created: int) -> dict[str, Any]:
    """Return the response object as it is before anything was answered: what was asked, with OpenAI's defaults."""
    text = request.text
    reasoning = request.reasoning
    conversation = conversation_id(request.conversation)
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": bool(request.background),
        "billing": {"payer": "developer"},
        "completed_at": None,
        **({"conversation": {"id": conversation}} if conversation else {}),
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": request.model,
        "moderation": None,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "presence_penalty": 0.0,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "auto",
        "store": request.store is not False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {
            "format": _format_echo(text.format if text else None),
            "verbosity": (text.verbosity if text else None) or "medium",
        },
        "tool_choice": request.tool_choice or "auto",
        "tools": [tool_echo(tool) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
    }


def _format_echo(format: FormatText | FormatObject | FormatSchema | None) -> JsonObject:
    match format:
        case FormatSchema():
            return {
                "type": "json_schema",
                "description": format.description,
                "name": format.name,
                "schema": format.schema,
                "strict": bool(format.strict),
            }
        case FormatObject():
            return {"type": "json_object"}
        case _:
            return {"type": "text"}
