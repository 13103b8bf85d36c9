"""Query strings, read by the shapes that describe them: a Struct a route, as for bodies (`shapes_queries`).

Lists are written `name=a&name=b`, `name[]=a` or `name[0]=a`, objects `name[key]=value`. A parameter that is empty says
nothing: SDKs leave one empty where they have nothing to say. Raises only errors.Invalid.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ..errors import Invalid
from .validate import convert
from .wording import SHOWN, bare_of

__all__ = ["parse"]

S = TypeVar("S", bound=msgspec.Struct)
Pairs = Iterable[tuple[str, str]]

# Numbers of thousands of digits are not converted.
INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
INDEX = re.compile(r"\[\d+\]")


def parse(pairs: Pairs, struct: type[S]) -> tuple[S, tuple[str, ...]]:
    """Read a query string; return also the names of what has no meaning here, in the order they came. A shape that
    forbids unknown fields refuses those."""
    kinds = _kinds(struct)
    closed = struct.__struct_config__.forbid_unknown_fields
    said: dict[str, Any] = {}
    unknown: dict[str, None] = {}
    for written, value in pairs:
        name, bracket, inner = written.partition("[")
        if "\0" in value or "\0" in written:
            # No name has one, and not every database can look for it.
            shown = name.replace("\0", "")[:SHOWN]
            raise Invalid(f"Invalid '{shown}': it holds a NUL character.", param=shown, code="invalid_value")
        match kinds.get(name):
            case inspect.ListType():
                if value:
                    said.setdefault(name, []).append(value)
            case inspect.DictType() if bracket and inner.endswith("]"):
                said.setdefault(name, {})[inner[:-1]] = value
            case None | inspect.DictType():
                unknown[written] = None
            case _ if bracket:
                unknown[written] = None
            case kind:
                if value:
                    said[name] = _value(kind, value)
                else:
                    said.pop(name, None)
    if closed and unknown:
        first = next(iter(unknown))[:SHOWN]
        raise Invalid(f"Unknown parameter: '{first}'.", param=first, code="unknown_parameter")
    try:
        return convert(said, struct, ""), tuple(unknown)
    except Invalid as exc:
        # A list of a query has no places that a client could count.
        exc.param = INDEX.sub("", exc.param or "") or None
        exc.message = INDEX.sub("", exc.message, count=1)
        raise


@functools.cache
def _kinds(struct: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    """Return the types of the parameters: of those that may be left out, the one they have otherwise."""
    found = {}
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        bare = bare_of(field.type)
        members = bare.types if isinstance(bare, inspect.UnionType) else (bare,)
        found[field.encode_name] = next(
            bare_of(member) for member in members if not isinstance(bare_of(member), inspect.NoneType)
        )
    return found


def _value(kind: inspect.Type, text: str) -> Any:
    """Return a value as its type has it; what is none stays text, and is refused as such."""
    if isinstance(kind, inspect.IntType) and INTEGER.fullmatch(text):
        return int(text)
    if isinstance(kind, inspect.BoolType):
        return BOOLEANS.get(text.lower(), text)
    return text
