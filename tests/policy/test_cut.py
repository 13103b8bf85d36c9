"""The readers of JSON in pieces: any cut gives the same members and the same text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.cut import ObjectReader, StringReader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def members(pieces: list[str]) -> tuple[ObjectReader, dict[str, str]]:
    reader = ObjectReader()
    found: dict[str, str] = {}
    ended: set[str] = set()
    for piece in pieces:
        for member in reader.feed(piece):
            assert member.key not in ended
            found[member.key] = found.get(member.key, "") + member.raw
            if member.done:
                ended.add(member.key)
    return reader, found


def cuts(text: str) -> list[list[str]]:
    return [[text], list(text), *([text[:at], text[at:]] for at in range(len(text) + 1))]


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3), st.sampled_from([None, 1]), st.booleans())
def test_the_members_of_any_object_are_found_at_any_cut(value: dict, indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    for pieces in cuts(text)[:60]:
        reader, found = members(pieces)
        assert reader.state == "done"
        assert {key: json.loads(raw) for key, raw in found.items()} == value


def test_a_value_comes_out_as_soon_as_it_is_written() -> None:
    reader = ObjectReader()
    assert [m.raw for m in reader.feed('{"a": {"x": [1, "}')] == ['{"x": [1, "}']
    assert [(m.raw, m.done) for m in reader.feed('"]} , ')] == [('"]}', True)]


@pytest.mark.parametrize("text", ["hello", "[1]", '"a"', '{"a" 1}', '{"a": }', "{a: 1}"])
def test_what_is_no_object_is_told_and_kept(text: str) -> None:
    reader, _ = members([text])
    assert reader.state == "broken"
    assert text.endswith(reader.rest)
    assert reader.rest


def test_what_follows_the_object_is_dropped() -> None:
    reader, found = members(['{"a":1}', "}}} and so on"])
    assert (reader.state, found) == ("done", {"a": "1"})


@given(st.text(), st.booleans())
def test_any_string_reads_the_same_at_any_cut(text: str, ascii: bool) -> None:
    raw = json.dumps(text, ensure_ascii=ascii)
    for pieces in cuts(raw)[:80]:
        reader = StringReader()
        assert "".join([*map(reader.feed, pieces), reader.flush()]) == text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (r'"\ud83d\ude00!"', "😀!"),
        (r'"\ud83dx"', "\ufffdx"),
        (r'"\ude00x"', "\ufffdx"),
        (r'"\ud83d\u0041"', "\ufffdA"),
        (r'"\ud83d\n"', "\ufffd\n"),
        (r'"\ud83d', "\ufffd"),
        (r'"a\u00', "a"),
        (r'"a\/\"\\\b\f\r\t"', 'a/"\\\b\f\r\t'),
        ("123", "123"),
        ("null", "null"),
    ],
)
def test_escapes_and_their_halves_read_the_same_at_any_cut(raw: str, said: str) -> None:
    for pieces in cuts(raw):
        reader = StringReader()
        assert "".join([*map(reader.feed, pieces), reader.flush()]) == said


def test_text_that_needs_no_more_is_not_held_back() -> None:
    reader = StringReader()
    assert reader.feed('"Hel') == "Hel"
    assert reader.feed("lo\\") == "lo"
    assert reader.feed("n") == "\n"
