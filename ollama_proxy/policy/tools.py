"""Tools between client and backend: which may be called, how they are told, and filters on the calls. Pure.

Never decides whether a call is forced (`plan.py`), never makes ids for calls (the engine does).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ..events import Event, Finish, ToolDelta, ToolStart
from ..model import File, Image, Message, Part, Text, Tool, ToolCall, ToolChoice, ToolResult
from .cut import ObjectReader, StringReader
from .forced import custom_parameters

__all__ = [
    "CustomCalls",
    "FirstCall",
    "as_functions",
    "custom_history",
    "in_words",
    "introduce",
    "narrow",
    "with_hint",
]

Json = Any


def narrow(tools: Sequence[Tool], choice: ToolChoice) -> tuple[Tool, ...]:
    """Return the tools that may be called."""
    if choice.mode == "none":
        return ()
    return tuple(tool for tool in tools if choice.names is None or tool.name in choice.names)


def as_functions(tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """Return custom tools as functions with the one argument `input`; a grammar that no schema holds is told."""
    out = []
    for tool in tools:
        if tool.kind == "custom":
            description = tool.description or ""
            if tool.grammar is not None and tool.grammar[0] != "regex":
                description += f"\nThe input must fit this {tool.grammar[0]} grammar:\n{tool.grammar[1]}"
            tool = replace(
                tool,
                description=description.strip() or None,
                parameters=custom_parameters(tool),
                kind="function",
                grammar=None,
            )
        out.append(tool)
    return tuple(out)


# --- words for the model --------------------------------------------------------------------------------------------


def introduce(tools: Sequence[Tool], *, required: bool, single: bool, described: bool, raw: bool = False) -> str:
    """Return what the system message says of the tools and of the form of the answer.

    `described` is whether the model is told of the tools by other means already, `single` whether the whole answer is
    the arguments of the only tool, `raw` whether an answer without a call is JSON itself. Short and by example: the
    models that need this are often small.
    """
    lines = [] if described else ["You can call these functions:", *map(_described, tools), ""]
    if single:
        lines.append(f"Call the function {tools[0].name} now: answer only with its arguments as a JSON object.")
    else:
        form = '{"name": "<function>", "arguments": {…}}'
        if required:
            lines.append(f"Call one of the functions now: answer only with JSON like {form}.")
        else:
            lines.append(f"To call a function, answer only with JSON like {form}.")
            message = '{"message": <your answer as JSON>}' if raw else '{"message": "<your answer>"}'
            lines.append(f"To answer without a function, write {message}.")
    return "\n".join(lines)


def _described(tool: Tool) -> str:
    parameters = msgspec.json.encode(tool.parameters or {"type": "object", "properties": {}}).decode()
    about = f": {tool.description.rstrip('.')}" if tool.description else ""
    return f"- {tool.name}{about}. Arguments (JSON Schema): {parameters}"


def with_hint(messages: Sequence[Message], hint: str) -> tuple[Message, ...]:
    """Return `messages` with `hint` at the end of the first system message, or as one."""
    for place, message in enumerate(messages):
        if message.role == "system":
            *before, last = message.parts or (Text(""),)
            if isinstance(last, Text):
                last = Text(f"{last.text}\n\n{hint}" if last.text else hint)
                told = replace(message, parts=(*before, last))
            else:
                told = replace(message, parts=(*message.parts, Text(hint)))
            return (*messages[:place], told, *messages[place + 1 :])
    return (Message("system", (Text(hint),)), *messages)


def in_words(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a history for a model whose template knows no tools: calls as the JSON that the model is asked to write,
    results as a user's words."""
    return tuple(_in_words(message) for message in messages)


def _in_words(message: Message) -> Message:
    kinds = {type(part) for part in message.parts}
    if ToolCall not in kinds and ToolResult not in kinds:
        return message
    parts: list[Part] = []
    for part in message.parts:
        match part:
            case ToolCall(name=name, arguments=arguments):
                parts.append(Text(f'{{"name": {json.dumps(name)}, "arguments": {arguments or "{}"}}}'))
            case ToolResult():
                parts += _told(part)
            case _:
                parts.append(part)
    return replace(message, role="user" if message.role == "tool" else message.role, parts=tuple(parts))


def _told(result: ToolResult) -> list[Text | Image | File]:
    text = "".join(part.text for part in result.parts if isinstance(part, Text))
    heading = f"Result of {result.name}:" if result.name else "Result:"
    return [Text(f"{heading}\n{text}"), *(part for part in result.parts if not isinstance(part, Text))]


def custom_history(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a history with the calls of custom tools as calls of the functions that stand for them."""
    return tuple(
        replace(message, parts=tuple(map(_as_function, message.parts))) if message.role == "assistant" else message
        for message in messages
    )


def _as_function(part: Part) -> Part:
    if isinstance(part, ToolCall) and part.kind == "custom":
        return replace(part, kind="function", arguments=msgspec.json.encode({"input": part.arguments}).decode())
    return part


# --- filters --------------------------------------------------------------------------------------------------------


class FirstCall:
    """Lets one call through: `parallel_tool_calls` is false."""

    def __init__(self) -> None:
        self._first: int | None = None

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, ToolStart | ToolDelta):
                if self._first is None:
                    self._first = event.call
                if event.call != self._first:
                    continue
            out.append(event)
        return out

    def flush(self) -> list[Event]:
        return []


class CustomCalls:
    """Turns calls of the functions that stand for custom tools back into calls of those, with bare text as input."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._inputs: dict[int, _Input] = {}

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            match event:
                case ToolStart(call=call, name=name) if name in self._names:
                    self._inputs[call] = _Input()
                    out.append(replace(event, kind="custom"))
                case ToolDelta(index, call, piece) if call in self._inputs:
                    if text := self._inputs[call].feed(piece):
                        out.append(ToolDelta(index, call, text))
                case Finish():
                    out += self.flush()
                    out.append(event)
                case _:
                    out.append(event)
        return out

    def flush(self) -> list[Event]:
        inputs, self._inputs = self._inputs, {}
        return [ToolDelta(0, call, text) for call, each in inputs.items() if (text := each.flush())]


class _Input:
    """Reads the argument `input`; arguments of another form count as the input as they are."""

    def __init__(self) -> None:
        self._object = ObjectReader()
        self._string = StringReader()
        self._raw: list[str] = []
        self._found = False

    def feed(self, piece: str) -> str:
        said = []
        if not self._found:
            self._raw.append(piece)
        for member in self._object.feed(piece):
            if member.key == "input":
                self._found = True
                said.append(self._string.feed(member.raw))
        return "".join(said)

    def flush(self) -> str:
        if self._found:
            return self._string.flush()
        text = "".join(self._raw)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        # A model that misnames the only argument still means it.
        if isinstance(value, Mapping) and len(value) == 1:
            (only,) = value.values()
            if isinstance(only, str):
                return only
        return "" if value == {} else text
