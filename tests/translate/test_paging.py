"""The pages of lists: what a query asks for, and how a page is written."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.paging import Paging, parse_paging, unknown_cursor, write_page
from tests.shapes import check


def test_a_query_that_says_nothing_takes_the_lists_own_way() -> None:
    assert parse_paging([]) == Paging(limit=20, ascending=False)
    assert parse_paging([], order="asc", usual=10_000, most=10_000) == Paging(limit=10_000, ascending=True)


def test_empty_values_say_nothing() -> None:
    assert parse_paging([("limit", ""), ("order", ""), ("after", "")]) == Paging(limit=20, ascending=False)


def test_all_is_read_and_the_rest_is_kept() -> None:
    pairs = [("metadata[a]", "1"), ("after", "x"), ("limit", "3"), ("order", "asc"), ("before", "y"), ("model", "m")]
    paging = parse_paging(pairs)
    assert paging == Paging(3, True, "x", "y", (("metadata[a]", "1"), ("model", "m")))


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
        parse_paging([(name, value)])
    assert (caught.value.param, caught.value.code) == (name, code)
    assert text in caught.value.message


@given(st.lists(st.tuples(st.sampled_from(["after", "before", "limit", "order", "x"]), st.text())))
def test_whatever_comes_only_the_clients_error_comes_out(pairs: list[tuple[str, str]]) -> None:
    with contextlib.suppress(Invalid):
        assert 1 <= parse_paging(pairs).limit <= 100


def test_an_unknown_cursor_is_named_but_not_at_any_length() -> None:
    assert unknown_cursor(Paging(1, True, after="msg_1")).param == "after"
    assert unknown_cursor(Paging(1, True, before="msg_1")).param == "before"
    assert len(unknown_cursor(Paging(1, True, after="x" * 10_000)).message) < 200


def test_a_page_names_its_first_and_last() -> None:
    page = json.loads(write_page([b'{"id":"a"}', b'{"id":"b"}'], ["a", "b"], more=True))
    assert page == {
        "object": "list",
        "data": [{"id": "a"}, {"id": "b"}],
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }


def test_an_empty_page_fits_openais_shapes() -> None:
    for name in ("ConversationItemList", "ChatCompletionList", "ChatCompletionMessageList", "ResponseItemList"):
        check(name, write_page([], [], more=False))
