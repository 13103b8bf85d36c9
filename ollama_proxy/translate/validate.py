"""Bodies checked against their shapes; what does not fit is told in OpenAI's own words.

The fast path is msgspec alone. Only when it refuses, the body is decoded without a shape and walked beside the type
(`msgspec.inspect`) to find the culprit, its path and the wording. Whatever bytes come in, only `errors.Invalid` comes
out. Knows types and ranges, never what a field means.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from ..errors import Invalid
from .piecewise import decode_pieces
from .wording import SHOWN, bare_of, expected_of, got, invalid_value, join, missing, one_of, show, wrong_type

__all__ = [
    "BAD_JSON",
    "check_needs",
    "convert",
    "decode",
    "ignored_keys",
    "invalid_value",
    "missing",
    "one_of",
    "wrong_type",
]

S = TypeVar("S", bound=msgspec.Struct)

BAD_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
    "figuring out how to fix this, please contact us through our help center at help.openai.com.)"
)

# Bodies larger than this are decoded in pieces, in a thread: a little slower, but others go on meanwhile (bytes).
LARGE = 2 * 1024 * 1024

_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
# RecursionError: nested too deep. ValueError: not UTF-8, or a number with thousands of digits.
_BROKEN = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


def decode(body: bytes, struct: type[S]) -> tuple[S, dict[str, msgspec.Raw]]:
    """Decode a request body into `struct`, and also into its top-level keys, undecoded. Whole numbers that are written
    as decimals (`2.0`, `1e3`) are integers in both where the shape has one. Raises errors.Invalid."""
    try:
        if not body.isascii():
            body.decode()  # msgspec leaves strings under unknown keys unchecked
        fields = _KEYS.decode(body)
        return decode_pieces(body, struct) if len(body) > LARGE else _decoder(struct).decode(body), fields
    except _BROKEN as exc:
        cause = exc
    try:
        # Only what was refused is looked through: hardly a client writes its numbers so.
        if (mended := _with_integers(body, struct)) is not None:
            return _decoder(struct).decode(mended), _KEYS.decode(mended)
    except _BROKEN as exc:
        cause = exc
    raise _explain(body, struct, cause) from None


def convert(value: Any, struct: type[S], path: str) -> S:
    """Check JSON that is decoded already, a part of a body at `path`. Raises errors.Invalid."""
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError:
        pass
    mended = _integers(_type(struct), value)
    try:
        return msgspec.convert(mended, struct)
    except msgspec.ValidationError as exc:
        for problem in _walk(_type(struct), mended, path):
            raise problem from None
        raise Invalid(f"Invalid '{path}': {exc}.", param=path, code="invalid_type") from None


# OpenAI's own words for a parameter that it calls otherwise.
SHOWN_AS = {"conversation": "conversation_id"}


def check_needs(shape: msgspec.Struct) -> None:
    """Check that of each group in `NEEDS` of a shape one parameter is there. Raises errors.Invalid."""
    groups: tuple[tuple[str, ...], ...] = getattr(shape, "NEEDS", ())
    for group in groups:
        if all(getattr(shape, name) is None for name in group):
            which = one_of([f"'{SHOWN_AS.get(name, name)}'" for name in group])
            raise Invalid(
                f"Missing required parameter: '{group[0]}'. One of {which} must be provided.",
                param=group[0],
                code="missing_required_parameter",
            )


def ignored_keys(fields: Mapping[str, msgspec.Raw], struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the top-level keys that `struct` does not know and that are not null, in the order they came."""
    known = _known(struct)
    return tuple(key for key, raw in fields.items() if key not in known and bytes(raw) != b"null")


@functools.cache
def _decoder(struct: type[S]) -> msgspec.json.Decoder[S]:
    return msgspec.json.Decoder(struct)


@functools.cache
def _known(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(struct.__struct_encode_fields__)


@functools.cache
def _type(struct: type[msgspec.Struct]) -> inspect.Type:
    kind = inspect.type_info(struct)
    for found in _structs(kind, set()):
        hints = get_type_hints(found.cls, include_extras=True).values()
        orders = {frozenset(words): words for hint in hints for words in _words(hint)}
        for field in found.fields:
            for literal in _literals(field.type):
                # msgspec has sorted them; OpenAI lists them as its schema does.
                literal.values = orders.get(frozenset(literal.values), literal.values)
    return kind


def _structs(kind: inspect.Type, seen: set[int]) -> Iterator[inspect.StructType]:
    if id(kind) in seen:
        return
    seen.add(id(kind))
    parts = _parts(kind)
    if isinstance(kind, inspect.StructType):
        yield kind
        parts = [field.type for field in kind.fields]
    for part in parts:
        yield from _structs(part, seen)


def _literals(kind: inspect.Type) -> Iterator[inspect.LiteralType]:
    if isinstance(kind, inspect.LiteralType):
        yield kind
    for part in _parts(kind):
        yield from _literals(part)


def _parts(kind: inspect.Type) -> list[inspect.Type]:
    """Return the types that a type is made of; a structure's fields are none."""
    match kind:
        case inspect.Metadata():
            return [kind.type]
        case inspect.UnionType():
            return list(kind.types)
        case inspect.DictType():
            return [kind.key_type, kind.value_type]
        case inspect.ListType() | inspect.VarTupleType():
            return [kind.item_type]
    return []


def _words(hint: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the words of each Literal in an annotation, in the order they are written."""
    if get_origin(hint) is Literal:
        yield tuple(word for word in get_args(hint) if word is not None)
        return
    for part in get_args(hint):
        yield from _words(part)


@functools.cache
def _asks_a_model(struct: type[msgspec.Struct]) -> bool:
    return any(field.name == "model" and field.required for field in msgspec.structs.fields(struct))


def _explain(body: bytes, struct: type[msgspec.Struct], cause: Exception) -> Invalid:
    """Find out what is wrong with a body that `struct` did not take."""
    try:
        body.decode()
        value = _any(body)
    except _BROKEN:
        return Invalid(BAD_JSON)
    value = _integers(_type(struct), value)
    if not isinstance(value, dict):
        return Invalid(f"Invalid body: expected an object, but got {got(value)} instead.", code="invalid_type")
    if _asks_a_model(struct) and value.get("model") in (None, ""):
        return Invalid("you must provide a model parameter")
    for problem in _walk(_type(struct), value, ""):
        return problem
    # The walk sees only the last of duplicate keys; msgspec checked them all.
    return Invalid(f"Invalid request: {cause}.", code="invalid_type")


# --- whole numbers --------------------------------------------------------------------------------------------------


def _any(body: bytes) -> Any:
    return decode_pieces(body, Any) if len(body) > LARGE else _ANY.decode(body)


def _with_integers(body: bytes, struct: type[msgspec.Struct]) -> bytes | None:
    """Return a body with integers in place of whole numbers that are written as decimals; None if there are none."""
    body.decode()
    value = _any(body)
    mended = _integers(_type(struct), value)
    return msgspec.json.encode(mended) if mended is not value else None


def _integers(kind: inspect.Type, value: Any) -> Any:
    """Return `value` with the integers that JSON Schema sees in it; what has none is returned as it is, and nothing is
    changed in place. https://json-schema.org/draft/2020-12/json-schema-core#section-4.2.3"""
    match value:
        case float():
            return int(value) if value.is_integer() and _integer_only(kind) else value
        case list():
            item = _item_type(kind)
            mended: Any = [_integers(item, each) for each in value] if item is not None else value
            return mended if any(new is not old for new, old in zip(mended, value, strict=True)) else value
        case dict():
            fields = _field_types(kind, value)
            changed = {
                key: new
                for key, old in value.items()
                if key in fields and (new := _integers(fields[key], old)) is not old
            }
            return {**value, **changed} if changed else value
    return value


def _members(kind: inspect.Type) -> list[inspect.Type]:
    bare = bare_of(kind)
    return [bare_of(member) for member in bare.types] if isinstance(bare, inspect.UnionType) else [bare]


def _integer_only(kind: inspect.Type) -> bool:
    members = _members(kind)
    return any(isinstance(member, inspect.IntType) for member in members) and not any(
        isinstance(member, inspect.FloatType | inspect.AnyType) for member in members
    )


def _item_type(kind: inspect.Type) -> inspect.Type | None:
    for member in _members(kind):
        if isinstance(member, inspect.ListType | inspect.VarTupleType):
            return member.item_type
    return None


def _field_types(kind: inspect.Type, value: Mapping[str, Any]) -> dict[str, inspect.Type]:
    """Return the types of the keys of an object, by the structure that its tag chooses."""
    members = _members(kind)
    structs = [member for member in members if isinstance(member, inspect.StructType)]
    if len(structs) > 1:
        structs = [each for each in structs if each.tag_field and value.get(each.tag_field) == each.tag]
    if structs:
        return {field.encode_name: field.type for field in structs[0].fields}
    for member in members:
        if isinstance(member, inspect.DictType):
            return dict.fromkeys(value, member.value_type)
    return {}


# --- the walk -----------------------------------------------------------------------------------------------------


def _walk(kind: inspect.Type, value: Any, path: str) -> Iterator[Invalid]:
    """Yield what is wrong with `value`, in the order of the shape."""
    match kind:
        case inspect.Metadata():
            yield from _walk(kind.type, value, path)
        case inspect.UnionType():
            yield from _walk_union(kind, value, path)
        case _ if not _fits(kind, value):
            yield wrong_type(path, expected_of([kind]), value)
        case inspect.StructType():
            yield from _walk_struct(kind, value, path)
        case inspect.DictType():
            yield from _walk_dict(kind, value, path)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _length(kind, value, path, "array")
            for index, item in enumerate(value):
                yield from _walk(kind.item_type, item, f"{path}[{index}]")
        case inspect.StrType():
            yield from _length(kind, value, path, "string")
        case inspect.IntType() | inspect.FloatType():
            yield from _range(kind, value, path)
        case inspect.LiteralType():
            if value not in kind.values:
                yield invalid_value(path, value, kind.values)


def _walk_union(kind: inspect.UnionType, value: Any, path: str) -> Iterator[Invalid]:
    members = [bare_of(member) for member in kind.types]
    fitting = [member for member in members if _fits(member, value)]
    structs = [member for member in fitting if isinstance(member, inspect.StructType)]
    if not fitting:
        yield wrong_type(path, expected_of(members), value)
    elif len(structs) > 1:
        field = structs[0].tag_field or "type"
        tag = value.get(field)
        chosen = [member for member in structs if member.tag == tag]
        if chosen:
            yield from _walk_struct(chosen[0], value, path)
        else:
            yield from _wrong_tag(structs, field, value, path)
    elif not any(isinstance(member, inspect.NoneType | inspect.AnyType) for member in fitting):
        yield from _walk(fitting[0], value, path)


def _wrong_tag(structs: Sequence[inspect.StructType], field: str, value: Any, path: str) -> Iterator[Invalid]:
    where = join(path, field)
    if field not in value:
        yield missing(where)
    elif not isinstance(value[field], str):
        yield wrong_type(where, "a string", value[field])
    else:
        yield invalid_value(where, value[field], [member.tag for member in structs])


def _walk_struct(kind: inspect.StructType, value: Any, path: str) -> Iterator[Invalid]:
    if kind.tag_field is not None and value.get(kind.tag_field, kind.tag) != kind.tag:
        yield from _wrong_tag([kind], kind.tag_field, value, path)
    for field in kind.fields:
        where = join(path, field.encode_name)
        if field.encode_name in value:
            yield from _walk(field.type, value[field.encode_name], where)
        elif field.required:
            yield missing(where)
    if kind.forbid_unknown_fields:
        known = {field.encode_name for field in kind.fields} | {kind.tag_field}
        for key in value:
            if key not in known:
                where = join(path, key)
                yield Invalid(f"Unknown parameter: '{where[:SHOWN]}'.", param=where[:SHOWN], code="unknown_parameter")


def _walk_dict(kind: inspect.DictType, value: Any, path: str) -> Iterator[Invalid]:
    yield from _length(kind, value, path, "object")
    for key, item in value.items():
        for problem in _walk(kind.key_type, key, join(path, key)):
            # OpenAI tells of a bad key at the object that holds it.
            yield Invalid(problem.message, param=path, code=problem.code)
        yield from _walk(kind.value_type, item, join(path, key))


def _fits(kind: inspect.Type, value: Any) -> bool:
    """Return whether the JSON type is right."""
    match kind:
        case inspect.AnyType():
            return True
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StrType() | inspect.LiteralType():
            return isinstance(value, str)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


# --- ranges and lengths ---------------------------------------------------------------------------------------------

# What OpenAI says of a thing with too many or too few members: too many, too few, the bound, what came.
_SIZES = {
    "array": ("array too long", "array too short", "an array with {} length {}", "an array with length {}"),
    "string": ("string too long", "string too short", "a string with {} length {}", "a string with length {}"),
    "object": (
        "object has too many properties",
        "object has too few properties",
        "an object with {} {} properties",
        "an object with {} properties",
    ),
}


def _length(
    kind: inspect.ListType | inspect.VarTupleType | inspect.StrType | inspect.DictType, value: Any, path: str, what: str
) -> Iterator[Invalid]:
    size, (above, below, bound, got) = len(value), _SIZES[what]
    if kind.max_length is not None and size > kind.max_length:
        code = f"{what}_above_max_{'properties' if what == 'object' else 'length'}"
        expected = bound.format("maximum", kind.max_length)
        yield Invalid(
            f"Invalid '{path}': {above}. Expected {expected}, but got {got.format(size)} instead.",
            param=path,
            code=code,
        )
    elif kind.min_length is not None and size < kind.min_length:
        code = f"{what}_below_min_length" if size else f"empty_{what}"
        expected = bound.format("minimum", kind.min_length)
        below, got = (below, got.format(size)) if size else (f"empty {what}", f"an empty {what}")
        yield Invalid(f"Invalid '{path}': {below}. Expected {expected}, but got {got} instead.", param=path, code=code)
    elif isinstance(kind, inspect.StrType) and kind.pattern is not None and re.search(kind.pattern, value) is None:
        yield Invalid(
            f"Invalid '{path}': string does not match pattern. "
            f"Expected a string that matches the pattern '{kind.pattern}'.",
            param=path,
            code="invalid_value",
        )


def _range(kind: inspect.IntType | inspect.FloatType, value: Any, path: str) -> Iterator[Invalid]:
    word = "integer" if isinstance(kind, inspect.IntType) else "decimal"
    if kind.le is not None and value > kind.le:
        yield _outside(path, word, "above maximum", "above_max", "<=", kind.le, value)
    elif kind.ge is not None and value < kind.ge:
        yield _outside(path, word, "below minimum", "below_min", ">=", kind.ge, value)


def _outside(path: str, word: str, side: str, code: str, sign: str, bound: float, value: Any) -> Invalid:
    expected = f"{sign} {show(bound)}"
    return Invalid(
        f"Invalid '{path}': {word} {side} value. Expected a value {expected}, but got {show(value)} instead.",
        param=path,
        code=f"{word}_{code}_value",
    )
