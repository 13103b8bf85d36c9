"""Query strings, read by their shapes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.query import parse
from ollama_proxy.translate.shapes_queries import (
    ChatsQuery,
    CompletionsUsageQuery,
    FilesQuery,
    ItemsQuery,
    Paging,
    ProjectKeysQuery,
    ResponseQuery,
)


def test_a_query_that_says_nothing_takes_the_lists_own_way() -> None:
    assert parse([], Paging) == (Paging(limit=20, order="desc"), ())
    assert parse([], FilesQuery)[0].limit == 10_000
    assert parse([], ChatsQuery)[0].ascending


def test_empty_values_say_nothing() -> None:
    assert parse([("limit", ""), ("order", ""), ("after", "")], Paging)[0] == Paging()
    assert parse([("include", ""), ("include[]", "")], ItemsQuery)[0] == ItemsQuery()


def test_all_is_read_and_the_rest_is_named() -> None:
    pairs = [("metadata[a]", "1"), ("after", "x"), ("limit", "3"), ("order", "asc"), ("before", "y"), ("model", "m")]
    expected = Paging(limit=3, order="asc", after="x", before="y")
    assert parse(pairs, Paging) == (expected, ("metadata[a]", "model"))
    found, ignored = parse([*pairs, ("metadata[b[c]]", ""), ("metadata", "x"), ("after[]", "z")], ChatsQuery)
    assert (found.metadata, found.model, found.after) == ({"a": "1", "b[c]": ""}, "m", "x")
    assert ignored == ("metadata", "after[]")


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        ("limit", "0", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
        ("limit", "-5", "integer_below_min_value", "got -5 instead"),
        ("limit", "101", "integer_above_max_value", "Expected a value <= 100, but got 101 instead."),
        ("limit", "ten", "invalid_type", "expected an integer"),
        ("limit", "1.5", "invalid_type", "expected an integer"),
        ("limit", "--1", "invalid_type", "expected an integer"),
        ("limit", "٣", "invalid_type", "expected an integer"),
        ("limit", "9" * 5000, "invalid_type", "expected an integer"),
        ("order", "up", "invalid_value", "Invalid value: 'up'. Supported values are: 'asc' and 'desc'."),
        ("order", "ASC", "invalid_value", "Supported values are"),
    ],
)
def test_what_is_wrong_is_told_in_openais_words(name: str, value: str, code: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse([(name, value)], Paging)
    assert (caught.value.param, caught.value.code) == (name, code)
    assert text in caught.value.message


@given(st.lists(st.tuples(st.sampled_from(["after", "before", "limit", "order", "x"]), st.text())))
def test_whatever_comes_only_the_clients_error_comes_out(pairs: list[tuple[str, str]]) -> None:
    with contextlib.suppress(Invalid):
        assert 1 <= parse(pairs, Paging)[0].limit <= 100


def test_a_list_may_be_written_in_any_form_and_is_refused_without_a_place() -> None:
    words = ["reasoning.encrypted_content", "message.output_text.logprobs"]
    for names in (("include", "include"), ("include[]", "include[]"), ("include[0]", "include[1]")):
        assert parse(list(zip(names, words, strict=True)), ItemsQuery)[0].include == words
    with pytest.raises(
        Invalid, match=r"^Invalid value: 'everything'\. Supported values are: 'file_search_call"
    ) as caught:
        parse([("include[0]", "everything")], ItemsQuery)
    assert (caught.value.param, caught.value.code) == ("include", "invalid_value")


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_booleans_are_read_as_sdks_write_them(text: str, value: bool) -> None:
    assert parse([("stream", text)], ResponseQuery)[0].stream is value


def test_what_is_no_boolean_is_refused() -> None:
    with pytest.raises(Invalid, match="Invalid type for 'stream': expected a boolean, but got a string instead"):
        parse([("stream", "yes")], ResponseQuery)


def test_a_closed_query_refuses_what_it_does_not_know() -> None:
    with pytest.raises(Invalid, match=r"Unknown parameter: 'colour\[\]'\.") as caught:
        parse([("limit", "1"), ("colour[]", "red")], ProjectKeysQuery)
    assert (caught.value.param, caught.value.code) == ("colour[]", "unknown_parameter")


def test_what_must_be_there_is_missed() -> None:
    with pytest.raises(Invalid, match="Missing required parameter: 'start_time'") as caught:
        parse([("start_time", "")], CompletionsUsageQuery)
    assert caught.value.param == "start_time"
