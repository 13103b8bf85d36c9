"""Requests for judgements, and their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.errors import Invalid
from ollama_proxy.model import Image, Text
from ollama_proxy.translate import validate
from ollama_proxy.translate.moderations import CATEGORIES, ModerationAsk, parse_shape, write
from ollama_proxy.translate.shapes_moderations import ModerationRequest
from tests.shapes import check

PNG = "data:image/png;base64,aGVsbG8="


def parse(**body: Any) -> ModerationAsk:
    return parse_shape(*validate.decode(json.dumps(body).encode(), ModerationRequest))


def test_a_text_texts_and_parts_are_one_many_and_one_thing() -> None:
    assert parse(input="a").things == ((Text("a"),),)
    assert parse(input=["a", "b"]).things == ((Text("a"),), (Text("b"),))
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}]
    (thing,) = parse(input=parts).things
    assert thing[0] == Text("a")
    assert isinstance(thing[1], Image)
    assert (thing[1].data, thing[1].param) == ("aGVsbG8=", "input[1].image_url.url")


def test_openais_name_stands_where_none_is_said() -> None:
    assert parse(input="a").model == parse(input="a", model=None).model == "omni-moderation-latest"
    assert parse(input="a", model="mine", colour="red", size=None).ignored == ("colour",)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": None}, "input", "invalid_type"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a"] * 2049}, "input", "array_above_max_length"),
        ({"input": [1, 2]}, "input[0]", "invalid_type"),
        ({"input": ["a", {"type": "text", "text": "b"}]}, "input[1]", "invalid_type"),
        ({"input": [{"type": "text", "text": "b"}, "a"]}, "input[1]", "invalid_type"),
        ({"input": [{"type": "sound"}]}, "input[0].type", "invalid_value"),
        ({"input": [{"type": "text"}]}, "input[0].text", "missing_required_parameter"),
        (
            {"input": [{"type": "image_url", "image_url": {"url": "no"}}]},
            "input[0].image_url.url",
            "invalid_value",
        ),
        ({"input": "a", "model": 7}, "model", "invalid_type"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(**body)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_the_older_models_read_text_only() -> None:
    with pytest.raises(Invalid, match="text-moderation-latest"):
        parse(model="text-moderation-latest", input=[{"type": "image_url", "image_url": {"url": PNG}}])


def answer(ask: ModerationAsk, **scores: float) -> Any:
    all_of = dict.fromkeys(CATEGORIES, 0.0) | scores
    return json.loads(write(ask, [all_of] * len(ask.things), id="modr-1"))


def test_an_answer_has_openais_form() -> None:
    out = answer(parse(input=["a", "b"]), hate=0.5, sexual=0.49)
    check("CreateModerationResponse", out)
    assert (out["id"], out["model"], len(out["results"])) == ("modr-1", "omni-moderation-latest", 2)
    first = out["results"][0]
    assert first["flagged"] is True
    assert [name for name, flag in first["categories"].items() if flag] == ["hate"]
    assert first["category_scores"]["sexual"] == 0.49
    assert set(first["categories"]) == set(first["category_scores"]) == set(first["category_applied_input_types"])
    assert first["category_applied_input_types"]["sexual"] == ["text"]
    assert answer(parse(input="a"), hate=0.4)["results"][0]["flagged"] is False


def test_an_image_counts_for_what_it_can_show() -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}}
    out = answer(parse(input=[image]), hate=0.9, violence=0.9)
    check("CreateModerationResponse", out)
    result = out["results"][0]
    assert result["category_applied_input_types"]["hate"] == []
    assert result["category_applied_input_types"]["violence"] == ["image"]
    assert (result["category_scores"]["hate"], result["categories"]["violence"]) == (0.0, True)
    both = answer(parse(input=[image, {"type": "text", "text": "a"}]), hate=0.9)["results"][0]
    assert both["category_applied_input_types"]["violence"] == ["text", "image"]
    assert both["category_applied_input_types"]["hate"] == ["text"]
    assert both["categories"]["hate"] is True


def test_the_older_models_have_the_older_categories() -> None:
    result = answer(parse(input="a", model="text-moderation-stable"), illicit=0.9)["results"][0]
    assert len(result["categories"]) == len(result["category_scores"]) == 11
    assert "illicit" not in result["categories"]
    assert result["flagged"] is False
    assert "category_applied_input_types" not in result
