"""Conversations' items: golden cases, and that whatever a client adds is kept whole or refused in OpenAI's words.

A folder under `cases/conversations/` holds `request.json` (what is posted to a conversation's items) and `out.json`,
the answer or the refusal. `REGEN=1` rewrites it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid, NotFound, OproxyError
from ollama_proxy.translate import conversations, shapes_responses, validate
from ollama_proxy.translate.shapes_conversations import CreateItems
from tests.conftest import Ids
from tests.shapes import check
from tests.test_cases import CASES, golden, pretty, refusal

FOLDERS = sorted((CASES / "conversations").glob("*"))
KINDS = [*shapes_responses.ITEMS, *shapes_responses.OTHER_ITEMS]


def numbered() -> Any:
    ids = Ids()
    return lambda prefix: f"{prefix}{ids()[-4:]}"


def answer(body: bytes) -> bytes:
    try:
        shape, _ = validate.decode(body, CreateItems)
        return conversations.write_items(conversations.new_items(shape.items, numbered()))
    except OproxyError as error:
        return refusal(error)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_items_become_what_is_kept(folder: Path) -> None:
    made = pretty(json.loads(answer((folder / "request.json").read_bytes())))
    assert json.loads(made) == json.loads(golden(folder / "out.json", made))


def test_there_are_cases() -> None:
    assert len(FOLDERS) >= 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["id", "role", "content", "status", "call_id", "name", "arguments", "output", "input", "summary", "x"]
TEXTS = {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text(max_size=5)}


@st.composite
def any_item(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an item that is often nearly right."""
    item: dict[str, Any] = {}
    if draw(st.booleans()):
        item["type"] = draw(st.sampled_from(KINDS) | JSON)
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
        item[name] = draw(TEXTS.get(name, st.text(max_size=5)) | JSON)
    return item


@given(st.lists(any_item(), max_size=3))
def test_an_item_is_kept_with_all_it_has_or_refused(items: list[dict[str, Any]]) -> None:
    try:
        pieces = conversations.new_items(items, numbered())
    except (Invalid, NotFound) as exc:
        check("ErrorResponse", exc.body())
        return
    assert len({piece.id for piece in pieces}) == len(items)
    for item, piece in zip(items, pieces, strict=True):
        kept = msgspec.json.decode(piece.data)
        assert kept["id"] == piece.id
        assert kept["type"] == item.get("type") or item.get("type") is None
        for name, value in item.items():
            if name not in ("id", "type", "content", "status"):
                assert kept[name] == value


def test_a_conversation_is_written_with_all_its_keys() -> None:
    data = conversations.document("conv_1", 1700000000.9, None)
    assert json.loads(data) == {"id": "conv_1", "object": "conversation", "created_at": 1700000000, "metadata": {}}
    check("ConversationResource", data)
    assert json.loads(conversations.with_metadata(data, {"a": "b"}))["metadata"] == {"a": "b"}
    check("DeletedConversationResource", conversations.deleted("conv_1"))
