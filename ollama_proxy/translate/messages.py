"""The front of Anthropic's /v1/messages: client JSON to `Ask`, events to its stream or one message.

`parse_shape` checks and translates a request; `MessageWriter` and `whole` (from `messages_write.py`) write answers.
Says which parameters can have no effect, so that none is dropped in silence. Never looks at the model or the backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..errors import Invalid, NotFound, Unsupported
from ..model import Ask, Format, Reasoning, Sampling, Text
from . import shapes_messages as wire
from .chat_tools import shallow
from .messages_blocks import Conversation
from .messages_tools import parse_choice, parse_tools
from .messages_write import MessageWriter, Thoughts, whole
from .validate import decode, ignored_keys

__all__ = [
    "MessageWriter",
    "Thoughts",
    "parse",
    "parse_shape",
    "renamed",
    "rough_count",
    "tag_of",
    "thoughts_of",
    "whole",
]

# How hard a budget of thinking tokens is, up to so many.
BUDGETS = ((4096, "low"), (16384, "medium"))
# What the plan calls a parameter of the hub, and what it is called here.
NAMES: Mapping[str, str] = {"reasoning_effort": "thinking", "stop": "stop_sequences"}


def parse(body: bytes) -> Ask:
    """Read a messages request. Raises errors.Invalid."""
    return parse_shape(*decode(body, wire.MessagesRequest))


def parse_shape(request: wire.CountTokensRequest, fields: Mapping[str, msgspec.Raw]) -> Ask:
    """Read a request that `validate.decode` has decoded, to be answered or counted. Raises errors.Invalid."""
    _refuse_server_state(request)
    conversation = Conversation()
    messages = (*conversation.system(request.system), *conversation.turns(request.messages))
    tools, left = parse_tools(request.tools or ())
    choice, parallel = parse_choice(request, tools, left)
    full = request if isinstance(request, wire.MessagesRequest) else None
    metadata = full.metadata if full is not None else None
    ignored = [
        *ignored_keys(fields, type(request)),
        *(f"tools.{name}" for name in left),
        *conversation.ignored,
        *_without_effect(request),
    ]
    return Ask(
        model=request.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tools=parallel,
        sampling=_sampling(full) if full is not None else Sampling(),
        format=_format(request),
        reasoning=_reasoning(request, full.max_tokens if full is not None else None),
        stream=full is not None and bool(full.stream),
        ignored=tuple(dict.fromkeys(ignored)),
        extra={"user": metadata.user_id} if metadata is not None and metadata.user_id else {},
    )


def rough_count(ask: Ask) -> int:
    """Return how many tokens a prompt may have, by its length alone: four letters each, and a few for each message."""
    letters = sum(len(part.text) for message in ask.messages for part in message.parts if isinstance(part, Text))
    for tool in ask.tools:
        letters += len(tool.name) + len(tool.description or "") + len(msgspec.json.encode(tool.parameters or {}))
    return 3 + 4 * len(ask.messages) + letters // 4


def thoughts_of(request: wire.CountTokensRequest) -> Thoughts:
    """Return how much of the model's thinking the client is to see: it asks for it, as Anthropic's clients do, or no
    thought comes back, though a model may not be able to do without."""
    match request.thinking:
        case wire.ThinkingEnabled(display="omitted") | wire.ThinkingAdaptive(display="omitted"):
            return "omitted"
        case wire.ThinkingBetween(display="omitted"):
            return "omitted"
        case None | wire.ThinkingDisabled():
            return "none"
    return "shown"


def renamed(ignored: Iterable[str]) -> tuple[str, ...]:
    """Return the names of parameters without effect as this API calls them."""
    return tuple(dict.fromkeys(NAMES.get(name, name) for name in ignored))


def tag_of(user_id: str) -> str:
    """Return what a person's id says of them. Claude Code writes JSON, in which only the session tells requests apart:
    {"device_id": …, "account_uuid": …, "session_id": …}."""
    if user_id.startswith("{"):
        try:
            return msgspec.json.decode(user_id, type=_Session).session_id
        except (msgspec.MsgspecError, RecursionError):
            return user_id
    return user_id


class _Session(msgspec.Struct):
    session_id: str


def _sampling(request: wire.MessagesRequest) -> Sampling:
    for text in request.stop_sequences or ():
        if not text.strip():
            raise Invalid("each stop sequence must contain non-whitespace.", param="stop_sequences")
    return Sampling(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=tuple(request.stop_sequences or ()),
    )


def _format(request: wire.CountTokensRequest) -> Format:
    config = request.output_config
    named = (config.format if config is not None else None) or request.output_format
    if named is None:
        return Format()
    shallow(named.schema, "output_config.format.schema")
    return Format("schema", schema=named.schema)


def _reasoning(request: wire.CountTokensRequest, most: int | None) -> Reasoning:
    """Return how much to think. Who does not ask for it gets no thinking, as far as that can be had."""
    effort = request.output_config.effort if request.output_config is not None else None
    match request.thinking:
        case wire.ThinkingEnabled(budget_tokens=budget):
            if most is not None and budget >= most:
                raise Invalid("`max_tokens` must be greater than `thinking.budget_tokens`.", param="max_tokens")
            return Reasoning(effort or next((word for limit, word in BUDGETS if budget <= limit), "high"))
        case wire.ThinkingAdaptive() | wire.ThinkingBetween():
            return Reasoning(effort or "medium")
    return Reasoning("none", implied=True)


def _refuse_server_state(request: wire.CountTokensRequest) -> None:
    """Refuse what would leave the model without a part of the conversation, or ask for something else than an answer.

    The SDK's threads and tool runner go on from both refusals of `thread` by sending the whole conversation:
    `_replay_reason` and `_unsupported_features` in anthropic/lib/threads/_thread_state.py.
    """
    match request.thread:
        case wire.ThreadContinue(previous_message_id=id):
            raise NotFound(
                f"No conversation is held under `{id}`: oproxy keeps none for this API. Send the whole conversation.",
                param="thread.previous_message_id",
                details={"error_code": "thread_not_found"},
            )
        case wire.ThreadCreate():
            raise Unsupported(
                "oproxy does not hold conversations for this API. Send the whole conversation without `thread`.",
                param="thread",
                details={"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
            )
    if not isinstance(request, wire.MessagesRequest):
        return
    if request.compaction is not None:
        raise Unsupported(
            "Summaries by request are not supported. Ask for a summary in a message instead.", param="compaction"
        )
    if request.container:
        # What lies in it, files and skills, is as far away as a thread. Tools of Anthropic's servers are only named.
        raise Unsupported("There are no containers here. Leave `container` out.", param="container")


def _without_effect(request: wire.CountTokensRequest) -> Iterable[str]:
    if getattr(request.thinking, "block_binding", None):
        yield "thinking.block_binding"
    config = request.output_config
    if config is None:
        return
    if config.effort is not None and isinstance(request.thinking, wire.ThinkingDisabled | None):
        yield "output_config.effort"
    if config.task_budget is not None:
        yield "output_config.task_budget"
