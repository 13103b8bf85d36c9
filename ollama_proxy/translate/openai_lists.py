"""What OpenAI-compatible servers answer in lists: embeddings, and their models with whatever they tell of them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterator, Mapping, Sequence
from sys import byteorder
from typing import Any

import msgspec
from msgspec import Struct

from ..errors import UpstreamFailed
from ..model import ModelInfo
from .openai_errors import stream_error, unreadable
from .wire import Vectors

__all__ = ["read_models", "read_vectors"]

_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)

# Where servers tell the longest context: vLLM, OpenRouter, LM Studio and Mistral, Groq; llama.cpp has it in `meta`.
CONTEXTS = ("max_model_len", "context_length", "max_context_length", "context_window")


class _Row(Struct):
    embedding: str | list[float]
    index: int = 0


class _Tokens(Struct):
    prompt_tokens: int | None = None


class _Embeddings(Struct):
    data: list[_Row]
    usage: _Tokens | None = None


def read_vectors(body: bytes, *, backend: str) -> Vectors:
    """Read embeddings as numbers or base64, in the order of their indexes. Raises errors.UpstreamFailed, or the
    server's own error."""
    try:
        answer = msgspec.json.decode(body, type=_Embeddings)
        indexes = sorted(row.index for row in answer.data)
        # A server that numbers nothing keeps the order.
        numbered = indexes == list(range(len(indexes)))
        rows = sorted(answer.data, key=lambda row: row.index) if numbered else answer.data
        vectors = tuple(_vector(row.embedding) for row in rows)
    except _BROKEN as exc:
        raise _told(body, backend) or unreadable(body, backend) from exc
    return Vectors(vectors, answer.usage.prompt_tokens if answer.usage is not None else None)


def _told(body: bytes, backend: str) -> Exception | None:
    """Return the error that a body holds."""
    try:
        return stream_error(msgspec.json.decode(body), backend=backend, model="", param="input")
    except _BROKEN:
        return None


def _vector(embedding: str | Sequence[float]) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return tuple(embedding)
    floats = array("f", base64.b64decode(embedding, validate=True))
    if byteorder == "big":
        floats.byteswap()
    return tuple(floats)


def read_models(body: bytes, *, backend: str) -> tuple[ModelInfo, ...]:
    """Read GET /models: OpenAI's `{"data": […]}`, or a bare list. Raises errors.UpstreamFailed."""
    try:
        answer = msgspec.json.decode(body)
    except _BROKEN:
        answer = None
    if (error := stream_error(answer, backend=backend, model="")) is not None:
        raise error
    entries = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(entries, list):
        raise UpstreamFailed(
            f"The backend '{backend}' answered GET /models with something that is no list of models. "
            "Its url must be the one below which /chat/completions is, most often ending in /v1.",
            backend=backend,
        )
    return tuple(_models(entries, backend))


def _models(entries: Sequence[Any], backend: str) -> Iterator[ModelInfo]:
    seen: set[str] = set()
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        id = entry.get("id")
        if isinstance(id, str) and id and id not in seen:
            seen.add(id)
            yield _model(id, entry, backend)


def _model(id: str, entry: Mapping[str, Any], backend: str) -> ModelInfo:
    meta = entry.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    context = next((found for key in CONTEXTS if (found := _number(entry, key))), None)
    return ModelInfo(
        id=id,
        backend=backend,
        created=_number(entry, "created") or 0,
        owned_by=_text(entry, "owned_by") or "library",
        size=_number(meta, "size"),
        parameters=_billions(_number(meta, "n_params")),
        quantization=_text(entry, "quantization"),
        family=_text(entry, "arch"),
        context=context or _number(meta, "n_ctx_train"),
        embedding_length=_number(meta, "n_embd"),
    )


def _number(entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) and value else None


def _billions(count: int | None) -> str | None:
    """Write a number of parameters as Ollama does: 134.52M, 8.0B."""
    if count is None:
        return None
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.2f}M"
