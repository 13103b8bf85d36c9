"""Every golden answer fits OpenAI's own schemas, and so does every error body."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_proxy import errors
from ollama_proxy.framing import SseDecoder
from tests.shapes import check

CASES = Path(__file__).parent / "cases"
# folder of cases -> (schema of a whole answer, schema of a streamed piece)
SHAPES = {
    "chat": ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    "completions": ("CreateCompletionResponse", "CreateCompletionResponse"),
    "embeddings": ("CreateEmbeddingResponse", ""),
    "models": ("ListModelsResponse", ""),
    "moderations": ("CreateModerationResponse", ""),
    "conversations": ("ConversationItemList", ""),
    "stored_chat": ("CreateChatCompletionResponse", ""),
}


# What is answered in another's form, or as events, which translate/test_responses_cases.py checks.
FOREIGN = {"messages", "responses"}


def answers(name: str) -> list[Path]:
    return sorted(path for path in CASES.glob(f"*/*/{name}") if path.parts[-3] not in FOREIGN)


@pytest.mark.parametrize("path", answers("out.json"), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_whole_answer_fits_the_schema(path: Path) -> None:
    body = json.loads(path.read_bytes())
    check("ErrorResponse" if "error" in body else SHAPES[path.parts[-3]][0], body)


@pytest.mark.parametrize("path", answers("out.sse"), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_chunk_of_a_stream_fits_the_schema(path: Path) -> None:
    events = SseDecoder().feed(path.read_bytes())
    assert events[-1].data == b"[DONE]"
    chunks = [json.loads(event.data) for event in events[:-1]]
    for chunk in chunks:
        check("ErrorResponse" if "error" in chunk else SHAPES[path.parts[-3]][1], chunk)


def test_the_schemas_refuse_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="finish_reason"):
        check("CreateChatCompletionResponse", {"id": "x", "choices": [{"index": 0}]})


@pytest.mark.parametrize(
    "error",
    [
        errors.Invalid("no", param="n", code="invalid_value"),
        errors.ContextTooLong(limit=10, tokens=20),
        errors.ModelNotFound("m"),
        errors.UpstreamBusy("busy"),
        errors.Internal("req_1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_body_fits_the_schema(error: errors.OproxyError) -> None:
    check("ErrorResponse", error.body())
