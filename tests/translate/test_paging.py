"""The pages of lists, as they are written."""

from __future__ import annotations

import json

from ollama_proxy.translate.paging import unknown_cursor, write_page
from ollama_proxy.translate.shapes_queries import Paging
from tests.shapes import check


def test_an_unknown_cursor_is_named_but_not_at_any_length() -> None:
    assert unknown_cursor(Paging(after="msg_1")).param == "after"
    assert unknown_cursor(Paging(before="msg_1")).param == "before"
    assert len(unknown_cursor(Paging(after="x" * 10_000)).message) < 200


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
