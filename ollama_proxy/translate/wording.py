"""OpenAI's words for what is wrong with a body: types, values and numbers named its way. Checks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect

from ..errors import Invalid

__all__ = ["SHOWN", "bare_of", "expected_of", "got", "invalid_value", "join", "missing", "one_of", "show", "wrong_type"]

# How much of a wrong value is repeated in the message.
SHOWN = 100


def bare_of(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def missing(path: str) -> Invalid:
    """Return OpenAI's error for a parameter that is not there."""
    return Invalid(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def wrong_type(path: str, expected: str, value: Any) -> Invalid:
    """Return OpenAI's error for a value of the wrong JSON type; `expected` has its article: "a string"."""
    return Invalid(
        f"Invalid type for '{path}': expected {expected}, but got {got(value)} instead.",
        param=path,
        code="invalid_type",
    )


def invalid_value(path: str, value: str, supported: Sequence[Any]) -> Invalid:
    """Return OpenAI's error for a word that is not in the list."""
    words = one_of([f"'{word}'" for word in supported], "and")
    return Invalid(
        f"Invalid value: '{value[:SHOWN]}'. Supported values are: {words}.",
        param=path,
        code="invalid_value",
    )


def one_of(words: Sequence[str], last: str = "or") -> str:
    """Join words as English does: `a`, `a or b`, `a, b, or c`."""
    if len(words) < 3:
        return f" {last} ".join(words)
    return f"{', '.join(words[:-1])}, {last} {words[-1]}"


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def show(value: float) -> str:
    """Print a number as JSON has it, 2.0 as 2."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = msgspec.json.encode(value).decode() if isinstance(value, float) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def got(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def expected_of(kinds: Sequence[inspect.Type]) -> str:
    """Name the types OpenAI's way: `a string`, `one of a string or array of objects`."""
    names: list[str] = []
    for kind in kinds:
        name = _noun(kind)
        if name and name not in names:
            names.append(name)
    article = "an" if names[0][0] in "aeiou" else "a"
    return f"{'one of ' if len(names) > 1 else ''}{article} {one_of(names)}"


def _noun(kind: inspect.Type) -> str:
    match bare_of(kind):
        case inspect.NoneType():
            return ""
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType():
            return "integer"
        case inspect.FloatType():
            return "decimal"
        case inspect.StrType() | inspect.LiteralType():
            return "string"
        case (inspect.ListType() | inspect.VarTupleType()) as array:
            return f"array of {_plural(array.item_type)}"
        case _:
            return "object"


def _plural(kind: inspect.Type) -> str:
    """Name what an array holds, `objects`, `strings`, `integer arrays`."""
    bare = bare_of(kind)
    members = bare.types if isinstance(bare, inspect.UnionType) else (bare,)
    nouns: list[str] = []
    for member in members:
        noun = _noun(member)
        noun = "integer arrays" if noun.startswith("array of integer") else f"{noun}s"
        if noun not in nouns:
            nouns.append(noun)
    return one_of(nouns)
