"""The messages of a chat request, wire to hub.

Finds the names of tool results from the calls before them, gives the calls of the legacy `function_call` ids, and
splits data URIs. Never fetches an image, never judges whether a model can take one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import model as hub
from ..errors import Invalid, Unsupported
from . import shapes_chat as wire
from .parts import base64_of, file, image

__all__ = ["parse_messages"]


def parse_messages(messages: Sequence[wire.Message]) -> tuple[hub.Message, ...]:
    """Translate all messages. Raises errors.Invalid with the path of the culprit."""
    return tuple(_Conversation().parse(messages))


class _Conversation:
    """What must be remembered from one message to the next: the ids of the calls made so far, with their names."""

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        # Those of the last assistant's message that have no answer yet, in their order.
        self._open: dict[str, None] = {}

    def parse(self, messages: Sequence[wire.Message]) -> Iterator[hub.Message]:
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if self._open and not isinstance(message, wire.ToolMessage):
                raise self._unanswered(index)
            match message:
                case wire.SystemMessage() | wire.DeveloperMessage():
                    yield hub.Message("system", _texts(message.content), message.name)
                case wire.UserMessage():
                    yield hub.Message("user", _parts(message.content, path), message.name)
                case wire.AssistantMessage():
                    yield hub.Message("assistant", tuple(self._assistant(message, path)), message.name)
                case wire.ToolMessage():
                    yield hub.Message("tool", (self._result(message, index),))
                case wire.FunctionMessage():
                    yield hub.Message("tool", (self._function_result(message, index),))
        if self._open:
            raise self._unanswered(len(messages) - 1)

    def _unanswered(self, index: int) -> Invalid:
        ids = ", ".join(self._open)[:500]
        return Invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {ids}",
            # Where a tool's message was expected; OpenAI writes paths like that here.
            param=f"messages.[{index}].role",
        )

    def _assistant(self, message: wire.AssistantMessage, path: str) -> Iterator[hub.Part]:
        if message.audio is not None:
            raise Unsupported("Unsupported parameter: 'audio' is not supported with this model.", param=f"{path}.audio")
        if thought := message.reasoning_content or message.reasoning:
            yield hub.Thinking(thought)
        if isinstance(message.content, str):
            if message.content:
                yield hub.Text(message.content)
        else:
            for part in message.content or ():
                yield hub.Refusal(part.refusal) if isinstance(part, wire.RefusalPart) else hub.Text(part.text)
        if message.refusal:
            yield hub.Refusal(message.refusal)
        if message.function_call is not None:
            yield self._called(
                hub.ToolCall(f"call_fn{len(self._calls)}", message.function_call.name, message.function_call.arguments)
            )
        self._open = {call.id: None for call in message.tool_calls or ()}
        for call in message.tool_calls or ():
            if isinstance(call, wire.FunctionCall):
                yield self._called(hub.ToolCall(call.id, call.function.name, call.function.arguments))
            else:
                yield self._called(hub.ToolCall(call.id, call.custom.name, call.custom.input, "custom"))

    def _called(self, call: hub.ToolCall) -> hub.ToolCall:
        self._calls[call.id] = call.name
        return call

    def _result(self, message: wire.ToolMessage, index: int) -> hub.ToolResult:
        if not self._calls:
            raise Invalid(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                "'tool_calls'.",
                param=f"messages.[{index}].role",
            )
        self._open.pop(message.tool_call_id, None)
        parts = tuple(
            part
            for part in _parts(message.content, f"messages[{index}]")
            if isinstance(part, hub.Text | hub.Image | hub.File)  # all that ToolContent holds
        )
        name = self._calls.get(message.tool_call_id) or message.name
        return hub.ToolResult(message.tool_call_id, parts, name)

    def _function_result(self, message: wire.FunctionMessage, index: int) -> hub.ToolResult:
        """Tie a legacy result to the latest call of that function."""
        ids = [id for id, name in self._calls.items() if name == message.name]
        id = ids[-1] if ids else f"call_fn{index}"
        return hub.ToolResult(id, (hub.Text(message.content or ""),), message.name)


# --- parts ----------------------------------------------------------------------------------------------------------


def _texts(content: str | Sequence[wire.TextPart]) -> tuple[hub.Part, ...]:
    if isinstance(content, str):
        return (hub.Text(content),)
    return tuple(hub.Text(part.text) for part in content)


def _parts(content: str | Sequence[wire.UserPart], path: str) -> tuple[hub.Part, ...]:
    if isinstance(content, str):
        return (hub.Text(content),)
    return tuple(_part(part, f"{path}.content[{index}]") for index, part in enumerate(content))


def _part(part: wire.UserPart, path: str) -> hub.Part:
    match part:
        case wire.TextPart(text=text):
            return hub.Text(text)
        case wire.RefusalPart(refusal=refusal):
            return hub.Refusal(refusal)
        case wire.ImagePart(image_url=str() as url):
            return image(url, None, f"{path}.image_url")
        case wire.ImagePart(image_url=wire.ImageUrl() as shown):
            return image(shown.url, shown.detail, f"{path}.image_url.url")
        case wire.AudioPart(input_audio=sound):
            return hub.Audio(base64_of(sound.data, f"{path}.input_audio.data"), sound.format, param=path)
        case wire.FilePart(file=given):
            return file(given.file_data, given.file_id, given.filename, f"{path}.file")
    raise AssertionError(part)  # the shape lets nothing else through
