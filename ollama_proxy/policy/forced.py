"""Tool calls by constrained output: a schema that the answer must fit, and the way back from its text to calls.

Where a backend cannot be told to call a tool, it is told to write JSON instead. One tool that must be called: the
text is its arguments. Otherwise the text is `{"name": …, "arguments": …}` or, where an answer in words is allowed
too, `{"message": …}`. Never decides when this is needed (`plan.py` does), never checks what a model writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..events import Event, Fail, Finish, Logprob, Text, ToolDelta, ToolStart
from ..model import Format, Tool
from .cut import Member, ObjectReader, StringReader

__all__ = ["OneCall", "SomeCall", "constrain", "parameters_of"]

Json = Any
# Wires that want a name for a schema get this one.
NAME = "tool_call"
# Keywords whose value is a schema, a list of schemas, or a map of names to schemas; all others hold plain data.
INNER = (
    "items", "additionalItems", "prefixItems", "contains", "additionalProperties", "propertyNames", "not", "if", "then",
    "else", "allOf", "anyOf", "oneOf", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
# With one of these an object may well mean more than its own properties.
OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "if", "$ref")
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def constrain(tools: Sequence[Tool], message: Mapping[str, Json] | None = None, *, single: bool = False) -> Format:
    """Return the format whose text `OneCall` (`single`) or `SomeCall` turns back into calls.

    `message` is the schema of an answer that is no call, None where a call is required. Local references of a tool's
    parameters keep working: every document is hoisted under the root's `$defs`.
    """
    defs: dict[str, Json] = {}
    if single:
        alone = parameters_of(tools[0])
        if all(ref.startswith(("#/$defs/", "#/definitions/")) for ref in _references(alone)):
            return Format("schema", NAME, alone)
        return Format("schema", NAME, {**_hoist(alone, 0, defs), "$defs": defs})
    choices = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _hoist(parameters_of(tool), number, defs)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
    ]
    if message is not None:
        choices.append(
            {
                "type": "object",
                "properties": {"message": _hoist(message, len(tools), defs)},
                "required": ["message"],
                "additionalProperties": False,
            }
        )
    schema: dict[str, Json] = {"anyOf": choices} if len(choices) > 1 else dict(choices[0])
    if defs:
        schema["$defs"] = defs
    return Format("schema", NAME, schema)


def parameters_of(tool: Tool) -> Mapping[str, Json]:
    """Return the schema of a tool's arguments; always that of an object."""
    if tool.kind == "custom":
        return custom_parameters(tool)
    parameters = tool.parameters
    if not parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if "properties" in parameters and not any(key in parameters for key in OPEN):
        # What the schema leaves open a small model fills with noise. The order of the keys is that of the writing.
        return {"type": "object", **parameters, "additionalProperties": False}
    return parameters


def custom_parameters(tool: Tool) -> Mapping[str, Json]:
    """Return a custom tool's free text as the one argument of a function; a regex binds it."""
    text: dict[str, Json] = {"type": "string"}
    if tool.grammar is not None and tool.grammar[0] == "regex":
        pattern = tool.grammar[1]
        # A pattern of JSON Schema may match anywhere; a grammar means the whole text.
        text["pattern"] = f"^(?:{pattern})$" if "|" in pattern else f"^{pattern.removeprefix('^').removesuffix('$')}$"
    return {"type": "object", "properties": {"input": text}, "required": ["input"], "additionalProperties": False}


# --- references -----------------------------------------------------------------------------------------------------


def _hoist(schema: Mapping[str, Json], number: int, defs: dict[str, Json]) -> dict[str, Json]:
    """Return what stands for `schema` inside another document, with its definitions added to `defs`."""
    schema = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
    if not any(_references(schema)):
        return schema
    root = f"t{number}"
    moved = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    for key in ("$defs", "definitions"):
        for name, each in (schema.get(key) or {}).items():
            defs[f"{root}_{name}"] = _rewrite(each, root)
    defs[root] = _rewrite(moved, root)
    return {"$ref": f"#/$defs/{root}"}


def _references(value: Json) -> Iterator[str]:
    match value:
        case dict():
            if isinstance(ref := value.get("$ref"), str):
                yield ref
            for each in value.values():
                yield from _references(each)
        case list():
            for each in value:
                yield from _references(each)


def _rewrite(schema: Json, root: str) -> Json:
    """Return a schema with its local references pointing to where `_hoist` puts what they point to."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Json] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            out[key] = _moved(value, root)
        elif key in NAMED and isinstance(value, dict):
            out[key] = {name: _rewrite(each, root) for name, each in value.items()}
        elif key in INNER:
            out[key] = [_rewrite(each, root) for each in value] if isinstance(value, list) else _rewrite(value, root)
        else:
            out[key] = value
    return out


def _moved(ref: str, root: str) -> str:
    for place in ("#/$defs/", "#/definitions/"):
        if ref.startswith(place):
            return f"#/$defs/{root}_{ref.removeprefix(place)}"
    if not ref.startswith("#/") and len(ref) > 1:
        # An anchor is found wherever it stands.
        return ref
    return f"#/$defs/{root}{ref[1:]}" if ref.startswith("#") else ref


# --- the way back ---------------------------------------------------------------------------------------------------


class OneCall:
    """The whole text is the arguments of one tool."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = False

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            match event:
                case Text(text=text):
                    if not self._began:
                        text = text.lstrip()
                        if not text:
                            continue
                        self._began = True
                        out.append(ToolStart(0, 0, "", self._name))
                    out.append(ToolDelta(0, 0, text))
                case Finish(index, "stop", stop) if self._began:
                    out.append(Finish(index, "tool_calls", stop))
                case _:
                    out.append(event)
        return out

    def flush(self) -> list[Event]:
        return []


class SomeCall:
    """The text is `{"name", "arguments"}` or `{"message"}`; `raw` where the message is JSON itself, not a string."""

    def __init__(self, *, raw: bool = False) -> None:
        self._object = ObjectReader()
        self._message = None if raw else StringReader()
        self._name: str | None = None
        self._named = ""
        self._waiting = ""
        self._called = False

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            match event:
                case Text(text=text, logprobs=logprobs):
                    self._text(text, logprobs, out)
                case Finish(index, reason, stop):
                    out += self._end()
                    out.append(Finish(index, "tool_calls" if self._called and reason == "stop" else reason, stop))
                case Fail():
                    out += self._end()
                    out.append(event)
                case ToolStart(call=call) | ToolDelta(call=call) if self._called and call == 0:
                    pass  # one call is all that the schema allows
                case _:
                    out.append(event)
        return out

    def flush(self) -> list[Event]:
        return self._end()

    def _text(self, text: str, logprobs: tuple[Logprob, ...] | None, out: list[Event]) -> None:
        before = len(self._object.rest)
        for member in self._object.feed(text):
            match member.key:
                case "message":
                    said = self._message.feed(member.raw) if self._message is not None else member.raw
                    if said:
                        out.append(Text(0, said, logprobs))
                        logprobs = None if logprobs is None else ()
                case "name":
                    self._read_name(member, out)
                case "arguments":
                    self._argue(member.raw, out)
        # A model that does not obey has written plain text.
        if plain := self._object.rest[before:]:
            out.append(Text(0, plain, logprobs))

    def _read_name(self, member: Member, out: list[Event]) -> None:
        self._named += member.raw
        if member.done and self._name is None:
            self._name = StringReader().feed(self._named)
            waiting, self._waiting = self._waiting, ""
            self._argue(waiting, out)

    def _argue(self, raw: str, out: list[Event]) -> None:
        if self._name is None:
            self._waiting += raw
        elif raw:
            if not self._called:
                self._called = True
                out.append(ToolStart(0, 0, "", self._name))
            out.append(ToolDelta(0, 0, raw))

    def _end(self) -> list[Event]:
        """Say what is still held back. Called at the end, perhaps twice."""
        rest = self._message.flush() if self._message is not None else ""
        return [Text(0, rest)] if rest else []
