"""Decoding piece by piece gives what decoding at once gives, wherever the pieces end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.translate.piecewise import decode_pieces
from ollama_proxy.translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from ollama_proxy.translate.shapes_messages import MessagesRequest
from ollama_proxy.translate.shapes_responses import ResponsesRequest

SHAPES: tuple[type[msgspec.Struct], ...] = (
    ChatRequest, CompletionRequest, EmbeddingRequest, MessagesRequest, ResponsesRequest,
)  # fmt: skip
REQUESTS = sorted((Path(__file__).parents[1] / "cases").rglob("request.json"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def outcome(work: Any) -> Any:
    """Return what comes out, or that nothing does: the errors' words differ."""
    try:
        return work()
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "refused"


@given(JSON, st.integers(1, 50))
def test_any_value_is_the_same(value: Any, piece: int) -> None:
    raw = json.dumps(value).encode()
    assert decode_pieces(raw, Any, piece=piece) == msgspec.json.decode(raw)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_request_that_we_have_is_the_same_in_every_shape(shape: type[msgspec.Struct]) -> None:
    accepted = 0
    for path in REQUESTS:
        raw = path.read_bytes()
        want = outcome(lambda raw=raw: msgspec.json.decode(raw, type=shape))
        for piece in (1, 20, 200):
            assert outcome(lambda raw=raw, piece=piece: decode_pieces(raw, shape, piece=piece)) == want, path
        accepted += want != "refused"
    assert accepted > 3


class Inner(msgspec.Struct, tag="inner"):
    a: int
    b: Annotated[str, msgspec.Meta(max_length=3)] = ""


class Other(msgspec.Struct, tag="other"):
    c: list[int]


class Named(msgspec.Struct):
    first: int = msgspec.field(name="First")


class Outer(msgspec.Struct):
    items: Annotated[list[Inner | Other], msgspec.Meta(min_length=1, max_length=3)] | str | None
    free: dict[str, Any] = {}
    named: Named | None = None
    few: Annotated[dict[str, int], msgspec.Meta(max_length=2)] = {}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"items":[{"type":"inner","a":1,"b":"xyz"},{"type":"other","c":[1,2,3]}],"unknown":[1]}',
        b'{"items":"text","named":{"First":7},"free":{"x":[1,{"y":null}]}}',
        b'{"items":null,"few":{"a":1,"b":2}}',
        b'{"items":[]}',
        b'{"items":[{"type":"other","c":[]},{"type":"other","c":[]},{"type":"other","c":[]},{"type":"other","c":[]}]}',
        b'{"items":[{"type":"inner","a":1,"b":"wxyz"}]}',
        b'{"items":[{"type":"inner","a":"1"}]}',
        b'{"items":[{"type":"inner"}]}',
        b'{"items":[{"type":"nobody","a":1}]}',
        b'{"items":[{"a":1}]}',
        b'{"items":{"type":"inner","a":1}}',
        b'{"items":null,"few":{"a":1,"b":2,"c":3}}',
        b'{"items":null,"few":{"a":"1"}}',
        b'{"items":null,"named":{"First":"7"}}',
        b'{"items":null,"items":"twice"}',
        b'{"free":{}}',
        b'{"items":null,"free":[1,2,3,4,5]}',
        b'  {"items" : null , "free" : { "a" : [ 1 , 2 ] } } ',
        b'{"items":null',
        b'{"items":null}}',
        b"[1,2,3]",
        b"[" * 2000 + b"]" * 2000,
        b"",
    ],
)
@pytest.mark.parametrize("piece", [1, 10, 30, 1000])
def test_types_and_constraints_hold_in_every_piece(raw: bytes, piece: int) -> None:
    want = outcome(lambda: msgspec.json.decode(raw, type=Outer))
    assert outcome(lambda: decode_pieces(raw, Outer, piece=piece)) == want


def test_no_call_decodes_much_more_than_a_piece() -> None:
    raw = json.dumps([{"a": number} for number in range(10_000)]).encode()
    sizes: list[int] = []

    class Item(msgspec.Struct):
        a: int

        def __post_init__(self) -> None:
            sizes.append(self.a)

    assert decode_pieces(raw, list[Item], piece=500) == [Item(number) for number in range(10_000)]
    assert sizes[:10_000] == list(range(10_000))
