"""POST /v1/embeddings: requests in, vectors out."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.embeddings import EmbeddingAsk, parse, write
from ollama_proxy.translate.wire import Vectors

SHAPES = json.loads((Path(__file__).parents[1] / "shapes.json").read_text())


def spell(ids: Sequence[int], model: str) -> str:
    return "" if ids == [0] else f"<{','.join(map(str, ids))}>"


def ask(input: Any, **fields: Any) -> EmbeddingAsk:
    return parse(json.dumps({"model": "m", "input": input, **fields}).encode(), decode_tokens=spell)


@pytest.mark.parametrize(
    ("input", "texts"),
    [
        ("a", ("a",)),
        (["b", "a", "b"], ("b", "a", "b")),
        ([1, 2], ("<1,2>",)),
        ([[1], [2, 3]], ("<1>", "<2,3>")),
        (["x"] * 2048, ("x",) * 2048),
    ],
)
def test_an_input_comes_in_four_forms_and_keeps_its_order(input: Any, texts: tuple[str, ...]) -> None:
    assert ask(input).embedding.inputs == texts


@pytest.mark.parametrize(
    ("input", "param", "code"),
    [
        ("", "input", "empty_string"),
        ([], "input", "empty_array"),
        (["a", ""], "input[1]", "empty_string"),
        ([[1], []], "input[1]", "empty_array"),
        ([[0]], "input[0]", "empty_string"),
        (["a"] * 2049, "input", "array_above_max_length"),
        (["a", 1], "input[1]", "invalid_type"),
        ({"text": "a"}, "input", "invalid_type"),
        (None, "input", "invalid_type"),
    ],
)
def test_a_wrong_input_is_refused_in_openais_words(input: Any, param: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(input)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"dimensions": 0}, "dimensions"), ({"encoding_format": "hex"}, "encoding_format"), ({"user": 1}, "user")],
)
def test_a_wrong_parameter_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask("a", **fields)
    assert caught.value.param == param


def test_the_rest_of_a_request_is_kept() -> None:
    parsed = ask(
        "a",
        dimensions=3,
        encoding_format="base64",
        user="u",
        keep_alive=60,
        options={"num_ctx": 512, "numa": True, "seed": None},
        task="query",
    )
    assert (parsed.encoding_format, parsed.extra, parsed.ignored) == ("base64", {"user": "u"}, ("task",))
    assert (parsed.embedding.dimensions, parsed.embedding.keep_alive) == (3, 60)
    assert parsed.embedding.options == {"num_ctx": 512, "numa": True}
    assert ask("a", encoding_format=None, dimensions=None).encoding_format == "float"


def test_an_answer_has_openais_shape() -> None:
    body = json.loads(write(Vectors(((0.5, -0.25), (1.0, 0.0)), 9), model="m"))
    jsonschema.validate(body, {"$ref": "#/components/schemas/CreateEmbeddingResponse", **SHAPES})
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_base64_is_little_endian_float32(row: list[float]) -> None:
    body = json.loads(write(Vectors((tuple(row),), None), model="m", encoding_format="base64"))
    assert list(struct.unpack(f"<{len(row)}f", base64.b64decode(body["data"][0]["embedding"]))) == row
    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_a_longer_vector_is_cut_and_has_length_one_again() -> None:
    body = json.loads(write(Vectors(((0.6, 0.0, 0.8), (0.0, 0.0, 1.0)), 1), model="m", dimensions=2))
    assert [row["embedding"] for row in body["data"]] == [[1.0, 0.0], [0.0, 0.0]]
    cut = json.loads(write(Vectors(((0.3, 0.4, 0.5),), 1), model="m", dimensions=2))["data"][0]["embedding"]
    assert cut == pytest.approx([0.6, 0.8])
    assert math.hypot(*cut) == pytest.approx(1)


def test_a_vector_of_the_asked_length_is_left_as_it_is() -> None:
    assert json.loads(write(Vectors(((3.0, 4.0),), 1), model="m", dimensions=2))["data"][0]["embedding"] == [3.0, 4.0]


def test_more_dimensions_than_the_model_has_are_refused_with_the_number() -> None:
    with pytest.raises(Invalid) as caught:
        write(Vectors(((1.0, 0.0),), 1), model="m", dimensions=3)
    assert caught.value.message == "Invalid value for 'dimensions' = 3. Must be less than or equal to 2."
    assert caught.value.param == "dimensions"
