"""Embeddings and model lists of OpenAI-compatible servers."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.model import ModelInfo
from ollama_proxy.translate.openai import WIRE
from ollama_proxy.translate.openai_lists import read_models, read_vectors
from ollama_proxy.translate.wire import Vectors


def vectors(*rows: Any, **more: Any) -> Vectors:
    return WIRE.read_embeddings(json.dumps({"data": rows, **more}).encode(), backend="b")


def row(embedding: Any, **more: Any) -> dict[str, Any]:
    return {"object": "embedding", "embedding": embedding, **more}


def test_numbers_and_base64_are_the_same_vectors() -> None:
    values = [0.5, -1.25, 3.0]
    packed = base64.b64encode(struct.pack("<3f", *values)).decode()
    assert vectors(row(values), row(packed)).rows == (tuple(values), tuple(values))


def test_the_order_is_that_of_the_indexes() -> None:
    found = vectors(row([2.0], index=2), row([0.0], index=0), row([1.0], index=1))
    assert found.rows == ((0.0,), (1.0,), (2.0,))


def test_without_usable_indexes_the_order_is_as_it_came() -> None:
    assert vectors(row([2.0]), row([1.0])).rows == ((2.0,), (1.0,))
    assert vectors(row([2.0], index=0), row([1.0], index=0)).rows == ((2.0,), (1.0,))


def test_tokens_are_the_servers_or_unknown() -> None:
    assert vectors(row([1.0]), usage={"prompt_tokens": 5}).tokens == 5
    assert vectors(row([1.0])).tokens is None


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b'{"data":[{"embedding":"!!"}]}', b'{"data":[{"embedding":"AAA="}]}', b'{"data":[1]}']
)
def test_embeddings_that_cannot_be_read_are_the_backends_fault(body: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="'b'"):
        WIRE.read_embeddings(body, backend="b")


def test_an_error_with_status_200_is_told() -> None:
    with pytest.raises(UpstreamFailed, match="Unexpected endpoint"):
        WIRE.read_embeddings(b'{"error":"Unexpected endpoint"}', backend="b")


# --- models -------------------------------------------------------------------------------------------------------


def models(*entries: Any) -> tuple[ModelInfo, ...]:
    return read_models(json.dumps({"object": "list", "data": entries}).encode(), backend="b")


def test_a_model_is_described_by_what_openai_tells_and_its_abilities_are_unknown() -> None:
    (info,) = models({"id": "gpt", "object": "model", "created": 5, "owned_by": "openai"})
    assert info == ModelInfo(id="gpt", backend="b", created=5, owned_by="openai")
    assert info.capabilities is None
    assert info.can("vision")


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"max_context_length": 8192}, 8192),
        ({"context_length": 100}, 100),
        ({"context_window": 131072}, 131072),
        ({"meta": {"n_ctx_train": 2048}}, 2048),
        ({"meta": None}, None),
        ({"max_model_len": None}, None),
    ],
)
def test_the_context_is_read_wherever_a_server_tells_it(entry: dict[str, Any], context: int | None) -> None:
    (info,) = models({"id": "m", **entry})
    assert info.context == context


def test_llamacpp_tells_size_parameters_and_width() -> None:
    meta = {"n_ctx_train": 8192, "n_embd": 576, "n_params": 134515008, "size": 98000000}
    (info,) = models({"id": "m", "meta": meta})
    assert (info.size, info.parameters, info.embedding_length) == (98000000, "134.52M", 576)
    (big,) = models({"id": "m", "meta": {"n_params": 8030261248}})
    assert big.parameters == "8.0B"


def test_a_bare_list_will_do_and_what_is_no_model_is_left_out() -> None:
    entries = [{"id": "a"}, {"id": "a"}, {"id": ""}, {}, 5, {"id": 7}]
    assert [info.id for info in read_models(json.dumps(entries).encode(), backend="b")] == ["a"]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'"x"', b'{"data":{}}'])
def test_what_is_no_list_says_that_the_url_may_be_wrong(body: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="/v1"):
        read_models(body, backend="b")


def test_a_list_that_is_an_error_is_that_error() -> None:
    with pytest.raises(UpstreamFailed, match="Unexpected endpoint"):
        read_models(b'{"error":"Unexpected endpoint or method."}', backend="b")


@pytest.mark.parametrize(("body", "said"), [(b"<html>", "it is a page"), (b"", "it is empty"), (b"null", "null")])
def test_embeddings_that_are_none_are_told_as_every_other_answer(body: bytes, said: str) -> None:
    with pytest.raises(UpstreamFailed, match=f"^The backend 'b' sent an answer that cannot be read: {said}"):
        read_vectors(body, backend="b")
