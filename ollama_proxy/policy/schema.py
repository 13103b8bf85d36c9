"""JSON schemas of a client: whether they are sound, and whether an answer fits. Pure; no reference is ever fetched.

The words are OpenAI's. An answer is never changed here: it streams at once, and a miss is told beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

from ..errors import Invalid
from ..events import Event, Finish, Note, Text, ToolDelta, ToolStart
from ..model import Format, Tool
from ..strict import faults
from . import regex
from .unfold import Unfolding, Unsound

__all__ = ["Checker", "SchemaCheck", "ToolCheck", "check_format", "check_schema", "check_tools"]

Json = Any

# A recursive schema that tries several branches at each level may take branches ** depth steps.
STEPS = 200_000
MESSAGE = 300

DRAFTS: Mapping[str, Any] = {
    "draft-04": jsonschema_rs.Draft4Validator,
    "draft-06": jsonschema_rs.Draft6Validator,
    "draft-07": jsonschema_rs.Draft7Validator,
    "2019-09": jsonschema_rs.Draft201909Validator,
}
# What the validator says of a pattern that it cannot read, and the keywords in which a pattern is none.
NO_PATTERN = 'is not a "regex"'
DATA = ("const", "enum", "default", "examples")
# A pattern that would take long to try is given up.
PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20, dfa_size_limit=1 << 20)


class Checker:
    """Says what is wrong with a JSON text. Raises Unsound for what is no JSON schema."""

    def __init__(self, schema: Mapping[str, Json], *, branches: int = 1) -> None:
        self._branches = branches
        named = str(schema.get("$schema", ""))
        draft = next((each for key, each in DRAFTS.items() if key in named), jsonschema_rs.Draft202012Validator)
        # The name of the draft and the schema's own address are not needed any more, and would be looked up.
        bare = {key: value for key, value in schema.items() if key not in ("$schema", "$id", "id")}
        try:
            self._validator = _validator(draft, bare)
        except jsonschema_rs.ValidationError as exc:
            raise Unsound(tuple(exc.instance_path), f"{exc.message[:MESSAGE].rstrip('.')}.") from None
        except (ValueError, jsonschema_rs.ReferencingError) as exc:
            raise Unsound((), f"{str(exc)[:MESSAGE].rstrip('.')}.") from None

    def miss(self, text: str) -> str | None:
        """Return where and how `text` does not fit, None where it does (or is nested too deep to be tried)."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            return f"not JSON: {exc}"[:MESSAGE]
        return self.miss_value(value)

    def miss_value(self, value: Json) -> str | None:
        if self._branches > 1 and self._branches ** min(_depth(value), 64) > STEPS:
            return None
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as exc:
            where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in exc.instance_path)
            return f"{where.removeprefix('.') or 'answer'}: {exc.message}"[:MESSAGE]
        except ValueError as exc:
            return str(exc)[:MESSAGE]
        return None


def check_format(format: Format, *, param: str = "response_format") -> Checker | None:
    """Return the checker of an answer's form, None for plain text. Raises errors.Invalid for an unsound schema."""
    match format.kind:
        case "text":
            return None
        case "json":
            return Checker({"type": "object"})
    if format.name is None:
        # Ollama's own `format` knows no name and no strictness.
        return check_schema(format.schema or {}, "format", strict=False, param="format")
    what = f"response_format '{format.name}'"
    return check_schema(format.schema or {}, what, strict=format.strict, param=param)


def check_tools(tools: Sequence[Tool], *, legacy: bool = False) -> dict[str, Checker]:
    """Return a checker of the arguments by name of function. Raises errors.Invalid with the place of the culprit.

    `legacy` is whether the tools came as `functions`.
    """
    checkers = {}
    for index, tool in enumerate(tools):
        if tool.kind != "function" or (not tool.parameters and not tool.strict):
            continue
        checkers[tool.name] = check_schema(
            tool.parameters or {},
            f"function '{tool.name}'",
            strict=tool.strict,
            param=f"functions[{index}].parameters" if legacy else f"tools[{index}].function.parameters",
            code="invalid_function_parameters",
            rooted=True,
        )
    return checkers


def check_schema(
    schema: Mapping[str, Json], what: str, *, strict: bool, param: str, code: str | None = None, rooted: bool = False
) -> Checker:
    """Return the checker of `schema`. `what` names it in the message: `response_format 'x'`, `function 'f'`.

    Raises errors.Invalid. `strict` holds it to the rules of OpenAI's structured outputs; `rooted` asks for an object at
    its root, as arguments are (where it says nothing, it means one).
    """
    try:
        kind = schema.get("type", None if strict else "object")
        if (strict or rooted) and kind != "object":
            raise Unsound((), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.")
        unfolding = Unfolding(schema)
        checker = Checker(schema, branches=unfolding.branches)
        if strict and (fault := next(faults(schema), None)) is not None:
            raise Unsound(*fault)
    except Unsound as exc:
        place = "" if exc.message.startswith("schema must") else f"In context={exc.path!r}, "
        raise Invalid(f"Invalid schema for {what}: {place}{exc.message}", param=param, code=code) from None
    return checker


def _validator(draft: Any, schema: Mapping[str, Json]) -> Any:
    """Return a validator. Raises what `draft` raises."""
    try:
        return draft(schema, retriever=_refuse, pattern_options=PATTERNS)
    except jsonschema_rs.ValidationError as exc:
        mended = _with_plain_patterns(schema) if NO_PATTERN in exc.message else schema
        if mended == schema:
            raise
        try:
            return draft(mended, retriever=_refuse, pattern_options=PATTERNS)
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
            raise exc from None


def _with_plain_patterns(schema: Json) -> Json:
    """Return a schema with its patterns in a syntax that the validator takes, where it does not take their own."""
    match schema:
        case dict():
            out: dict[str, Json] = {}
            for key, value in schema.items():
                if key == "pattern" and isinstance(value, str):
                    out[key] = _plain(value)
                elif key == "patternProperties" and isinstance(value, dict):
                    out[key] = {_plain(name): _with_plain_patterns(each) for name, each in value.items()}
                else:
                    out[key] = value if key in DATA else _with_plain_patterns(value)
            return out
        case list():
            return [_with_plain_patterns(each) for each in schema]
    return schema


def _plain(pattern: str) -> str:
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=PATTERNS)
    except (ValueError, jsonschema_rs.ValidationError):
        written = regex.plain(pattern)
        return pattern if written is None else written
    return pattern


def _refuse(uri: str) -> Json:
    raise ValueError("references to other documents are not followed")


def _depth(value: Json) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            each
            for one in level
            if isinstance(one, dict | list)
            for each in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


# --- answers --------------------------------------------------------------------------------------------------------


class SchemaCheck:
    """Gathers the answer's text and says at its end whether it fits: a miss turns "stop" into "content_filter", and a
    Note tells where. An answer that is a tool call has no such form."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._text: list[str] = []
        self._called = False

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            match event:
                case Text(text=text):
                    self._text.append(text)
                case ToolStart():
                    self._called = True
                case Finish(index, reason, stop) if not self._called:
                    miss = self._checker.miss("".join(self._text))
                    if miss is not None:
                        out.append(Note({"schema_miss": miss}))
                        event = Finish(index, "content_filter" if reason == "stop" else reason, stop)
            out.append(event)
        return out

    def flush(self) -> list[Event]:
        return []


class ToolCheck:
    """Gathers the arguments of calls and tells in a Note which do not fit their function's parameters."""

    def __init__(self, checkers: Mapping[str, Checker]) -> None:
        self._checkers = checkers
        self._calls: dict[int, tuple[str, list[str]]] = {}

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            match event:
                case ToolStart(call=call, name=name) if name in self._checkers:
                    self._calls[call] = (name, [])
                case ToolDelta(call=call, arguments=piece) if call in self._calls:
                    self._calls[call][1].append(piece)
                case Finish():
                    out += self._misses()
            out.append(event)
        return out

    def flush(self) -> list[Event]:
        return []

    def _misses(self) -> list[Event]:
        calls, self._calls = self._calls, {}
        found = [
            f"{name}: {miss}"
            for name, pieces in calls.values()
            if (miss := self._checkers[name].miss("".join(pieces) or "{}")) is not None
        ]
        return [Note({"tool_miss": "; ".join(found)})] if found else []
