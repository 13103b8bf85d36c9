"""Kept chat completions: golden cases of what is written down, and the lists' queries.

A folder under `cases/stored_chat/` holds `request.json` and `answer.json`, what is kept of them as `out.json` and the
messages as they are listed as `messages.json`. `REGEN=1` rewrites the last two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.events import Usage
from ollama_proxy.translate import stored_chat, validate
from ollama_proxy.translate.shapes import ChatRequest
from tests.shapes import check
from tests.test_cases import CASES, golden, pretty

FOLDERS = sorted((CASES / "stored_chat").glob("*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_answer_and_its_messages_become_what_is_kept(folder: Path) -> None:
    _, fields = validate.decode((folder / "request.json").read_bytes(), ChatRequest)
    answer = stored_chat.read((folder / "answer.json").read_bytes())
    assert answer is not None
    body = stored_chat.complete(
        answer, id="chatcmpl-case", model="smollm2", created=1700000000, usage=Usage(prompt=9, completion=3)
    )
    made = pretty(json.loads(stored_chat.document(body, fields, request_id="req_1")))
    assert json.loads(made) == json.loads(golden(folder / "out.json", made))
    listed = pretty([json.loads(piece.data) for piece in stored_chat.messages(fields, "chatcmpl-case")])
    assert json.loads(listed) == json.loads(golden(folder / "messages.json", listed))


def test_there_are_cases() -> None:
    assert len(FOLDERS) >= 5


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"choices":1}', b'{"choices":[1]}', b'{"choices":[{}]}']
)
def test_what_is_no_completion_is_not_read(body: bytes) -> None:
    assert stored_chat.read(body) is None
    assert stored_chat.identified(body, "x") == body or b'"choices"' in body


def test_a_foreign_answer_gets_our_id_and_keeps_all_else() -> None:
    body = b'{"choices":[],"id":"chatcmpl-1","x":1.50,"created":1}'
    assert stored_chat.identified(body, "ours") == b'{"choices":[],"id":"ours","x":1.50,"created":1}'


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_metadata_is_found_by_any_part_of_it(metadata: dict[str, str]) -> None:
    _, fields = validate.decode(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', ChatRequest)
    body = stored_chat.document(b'{"choices":[]}', fields, request_id="req_1")
    data = stored_chat.with_metadata(body, metadata)
    for count in range(len(metadata) + 1):
        assert stored_chat.matches(data, dict(list(metadata.items())[:count]))
    assert not stored_chat.matches(data, {**metadata, "another": "x"})
    assert json.loads(stored_chat.with_metadata(data, None))["metadata"] == {}


def test_the_other_answers_fit_openais_shapes() -> None:
    check("ChatCompletionDeleted", stored_chat.deleted("x"))
    check("ErrorResponse", stored_chat.not_found("x" * 1000).body())
    assert len(stored_chat.not_found("x" * 1000).message) < 200


def test_messages_are_numbered_by_their_place() -> None:
    messages: Any = [{"role": "user", "content": str(n)} for n in range(12)]
    pieces = stored_chat.messages({"messages": msgspec.Raw(json.dumps(messages).encode())}, "id")
    assert [piece.id for piece in pieces] == [f"id-{n}" for n in range(12)]
    assert [json.loads(piece.data)["content"] for piece in pieces] == [str(n) for n in range(12)]
