"""Decoding large JSON piece by piece. `msgspec` holds the interpreter's lock for as long as one call takes, which is
seconds for megabytes of small values; between the pieces, other threads (the event loop's among them) go on.

The result is that of one call: same types, same constraints. Errors are the library's, but without the place: whoever
wants to explain one looks for it (`validate`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

__all__ = ["PIECE", "decode_pieces"]

# What is decoded in one call (bytes): a millisecond or two.
PIECE = 256 * 1024

_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])

Buffer = bytes | msgspec.Raw


def decode_pieces(raw: Buffer, hint: Any, *, piece: int = PIECE) -> Any:
    """Decode JSON as the type `hint`, no more than about `piece` bytes at once. Raises what the library raises.

    A single string or number is decoded in one call, however long it is: that is quick.
    """
    view = memoryview(raw)
    if view.nbytes > piece:
        bare, metas = _bare(hint)
        match bytes(view[:64]).lstrip()[:1]:
            case b"[":
                for member in _members(bare):
                    if member is Any or get_origin(member) is list:
                        found: Any = _list(raw, member, piece)
                        return _checked(found, metas + _bare(member)[1])
            case b"{":
                if (found := _object(raw, _members(bare), piece)) is not None:
                    return _checked(found, metas)
    return _decoder(hint).decode(raw)


def _list(raw: Buffer, kind: Any, piece: int) -> list[Any]:
    """Decode an array: small items together, large ones by themselves."""
    item = Any if kind is Any else get_args(kind)[0]
    decoder = _decoder(list[item])  # type: ignore[valid-type]
    found: list[Any] = []
    group: list[msgspec.Raw] = []
    size = 0
    for each in _ITEMS.decode(raw):
        length = memoryview(each).nbytes
        if size + length > piece and group:
            found += decoder.decode(b"[" + b",".join(group) + b"]")
            group, size = [], 0
        if length > piece:
            found.append(decode_pieces(each, item, piece=piece))
        else:
            group.append(each)
            size += length
    if group:
        found += decoder.decode(b"[" + b",".join(group) + b"]")
    return found


def _object(raw: Buffer, members: Sequence[Any], piece: int) -> Any:
    """Decode an object, key by key; None where it has to be decoded as a whole."""
    structs = [each for each in members if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    maps = [each for each in members if each is Any or (get_origin(each) is dict and get_args(each)[0] is str)]
    if not structs and not maps:
        return None
    fields = _KEYS.decode(raw)
    if not structs:
        value = Any if maps[0] is Any else get_args(maps[0])[1]
        return {key: decode_pieces(each, value, piece=piece) for key, each in fields.items()}
    chosen = _chosen(structs, fields)
    if chosen is None:
        return None
    values = {
        field.name: decode_pieces(fields[field.encode_name], field.type, piece=piece)
        for field in _fields(chosen)
        if field.encode_name in fields
    }
    try:
        return chosen(**values)
    except (TypeError, ValueError) as exc:
        raise msgspec.ValidationError(str(exc)) from exc


def _chosen(structs: Sequence[type[msgspec.Struct]], fields: dict[str, msgspec.Raw]) -> type[msgspec.Struct] | None:
    """Return which of the structures an object is, by its tag; None where that is not for us to say."""
    for struct in structs:
        config = struct.__struct_config__
        if config.array_like or config.forbid_unknown_fields:
            return None
        if config.tag_field is None:
            return struct if len(structs) == 1 else None
        if config.tag_field in fields and msgspec.json.decode(fields[config.tag_field]) == config.tag:
            return struct
    return None


def _checked(value: Any, metas: Sequence[msgspec.Meta]) -> Any:
    """Return an array or object that has the length it should have. Raises msgspec.ValidationError."""
    for meta in metas:
        above = meta.max_length is not None and len(value) > meta.max_length
        if above or (meta.min_length is not None and len(value) < meta.min_length):
            raise msgspec.ValidationError("wrong length")
    return value


@functools.cache
def _decoder(hint: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(hint)


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(struct)


def _bare(hint: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """Return a type without its annotations, and these."""
    metas: tuple[msgspec.Meta, ...] = ()
    while get_origin(hint) is Annotated:
        metas += tuple(each for each in hint.__metadata__ if isinstance(each, msgspec.Meta))
        hint = hint.__origin__
    return hint, metas


def _members(hint: Any) -> list[Any]:
    """Return what a type may be: the members of a union, or itself."""
    if get_origin(hint) not in (Union, UnionType):
        return [hint]
    return [each for member in get_args(hint) if member is not NoneType for each in _members(member)]
