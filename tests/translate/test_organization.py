"""The administration API's questions and pages: OpenAI's shapes, buckets without gaps, pages that fit together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.account import NANO, Key
from ollama_proxy.errors import Invalid, NotFound
from ollama_proxy.translate.organization import (
    COSTS,
    KINDS,
    PROJECT,
    UNLIMITED,
    limit_rows,
    narrowed_keys,
    parse_usage,
    project,
    write_admin_key,
    write_listing,
    write_project_key,
    write_usage,
)
from ollama_proxy.translate.query import parse
from ollama_proxy.translate.shapes_queries import AdminKeysQuery, ProjectKeysQuery
from tests.shapes import check

DAY = 86400
NOW = 20_000 * DAY + 5000.0
START = 20_000 * DAY - 2 * DAY


class Sums(msgspec.Struct, kw_only=True):
    by: tuple[str | int, ...]
    requests: int = 3
    errors: int = 1
    prompt: int = 100
    cached: int = 30
    completion: int = 50
    cost: int = 0


def pairs(**params: Any) -> list[tuple[str, str]]:
    return [(name, str(each)) for name, value in params.items() for each in (value if type(value) is list else [value])]


def refused(kind: str, **params: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse_usage(KINDS[kind], pairs(**params), NOW)
    check("ErrorResponse", caught.value.body())
    return caught.value


def test_a_page_of_completions_has_openais_shape() -> None:
    asked = parse_usage(KINDS["completions"], pairs(start_time=START, group_by=["model", "project_id", "batch"]), NOW)
    page = write_usage(asked, [Sums(by=(START // DAY, "gpt-5")), Sums(by=(START // DAY, ""))])

    check("UsageResponse", page)
    first, second, third = page["data"]
    assert asked.by == ("day", "asked")
    assert [bucket["results"] for bucket in (second, third)] == [[], []]
    assert (first["start_time"], first["end_time"]) == (START, START + DAY)
    result, nameless = first["results"]
    assert result["object"] == "organization.usage.completions.result"
    assert (result["input_tokens"], result["input_cached_tokens"], result["output_tokens"]) == (100, 30, 50)
    assert result["num_model_requests"] == 2
    assert (result["model"], result["project_id"], result["batch"]) == ("gpt-5", PROJECT, False)
    assert (result["user_id"], result["api_key_id"], result["service_tier"]) == (None, None, None)
    assert nameless["model"] is None
    assert (page["has_more"], page["next_page"]) == (False, None)


@pytest.mark.parametrize("kind", ["embeddings", "moderations"])
def test_a_page_of_inputs_has_openais_shape(kind: str) -> None:
    asked = parse_usage(KINDS[kind], pairs(start_time=START, group_by="api_key_id"), NOW)
    page = write_usage(asked, [Sums(by=(START // DAY, "key_1"))])

    check("UsageResponse", page)
    result = page["data"][0]["results"][0]
    assert result["object"] == f"organization.usage.{kind}.result"
    assert (result["input_tokens"], result["api_key_id"]) == (100, "key_1")
    assert "batch" not in result


def test_costs_are_dollars_by_the_day() -> None:
    asked = parse_usage(COSTS, pairs(start_time=START, **{"group_by[]": ["line_item", "api_key_id"]}), NOW)
    page = write_usage(asked, [Sums(by=(START // DAY, "gpt-5", "key_1"), cost=NANO * 3 // 2)])

    check("UsageResponse", page)
    result = page["data"][0]["results"][0]
    assert result["object"] == "organization.costs.result"
    assert result["amount"] == {"value": 1.5, "currency": "usd"}
    assert (result["line_item"], result["api_key_id"], result["project_id"]) == ("gpt-5", "key_1", None)


def test_what_was_only_refused_is_no_usage() -> None:
    asked = parse_usage(KINDS["completions"], pairs(start_time=START), NOW)
    page = write_usage(asked, [Sums(by=(START // DAY,), requests=2, errors=2, prompt=0, cached=0, completion=0)])

    assert page["data"][0]["results"] == []


@pytest.mark.parametrize(("width", "usual", "most"), [("1m", 60, 1440), ("1h", 24, 168), ("1d", 7, 31)])
def test_a_page_has_openais_number_of_buckets(width: str, usual: int, most: int) -> None:
    long = {"start_time": 0, "bucket_width": width}

    assert len(write_usage(parse_usage(KINDS["completions"], pairs(**long), NOW), [])["data"]) == usual
    largest = parse_usage(KINDS["completions"], pairs(**long, limit=most), NOW)
    assert len(write_usage(largest, [])["data"]) == most
    assert refused("completions", **long, limit=most + 1).param == "limit"


@given(
    start=st.integers(0, 10**6),
    length=st.integers(1, 2 * 10**6),
    width=st.sampled_from(["1h", "1d"]),
    limit=st.integers(1, 31),
)
def test_pages_together_hold_every_second_once(start: int, length: int, width: str, limit: int) -> None:
    params = {"start_time": start, "end_time": start + length, "bucket_width": width, "limit": limit}
    seen, token, looked = [], None, []
    for _ in range(2000):
        asked = parse_usage(KINDS["completions"], pairs(**params, **({"page": token} if token else {})), NOW)
        page = write_usage(asked, [])
        seen += [(bucket["start_time"], bucket["end_time"]) for bucket in page["data"]]
        looked.append((asked.since, asked.until))
        token = page["next_page"]
        if not page["has_more"]:
            break

    assert token is None
    assert all(before[1] == after[0] for before, after in pairwise(seen))
    assert seen[0][0] <= start < seen[0][1]
    assert seen[-1][0] < start + length <= seen[-1][1]
    assert all(before[1] == after[0] for before, after in pairwise(looked))
    assert (looked[0][0], looked[-1][1]) == (start, start + length)


def test_filters_are_read_with_and_without_brackets() -> None:
    query = [
        ("start_time", "1"),
        ("models", "a"),
        ("models[]", "b"),
        ("user_ids[0]", "ann"),
        ("api_key_ids[]", "key_1"),
    ]
    asked = parse_usage(KINDS["embeddings"], query, NOW)

    assert asked.only == {
        "asked": ("a", "b"), "caller": ("ann",), "key_id": ("key_1",), "endpoint": KINDS["embeddings"].endpoints,
    }  # fmt: skip


@pytest.mark.parametrize("params", [{"project_ids": "proj_other"}, {"batch": "true"}])
def test_what_there_cannot_be_is_empty(params: dict[str, str]) -> None:
    assert parse_usage(KINDS["completions"], pairs(start_time=START, **params), NOW).only is None


def test_our_own_project_and_no_batch_are_everything() -> None:
    asked = parse_usage(KINDS["completions"], pairs(start_time=START, project_ids=PROJECT, batch="false"), NOW)

    assert set(asked.only or ()) == {"endpoint"}


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({}, "start_time", "missing_required_parameter"),
        ({"start_time": "yesterday"}, "start_time", "invalid_type"),
        ({"start_time": "-5"}, "start_time", "integer_below_min_value"),
        ({"start_time": 5, "end_time": 5}, "end_time", "invalid_value"),
        ({"start_time": 5, "bucket_width": "1w"}, "bucket_width", "invalid_value"),
        ({"start_time": 5, "group_by": "colour"}, "group_by", "invalid_value"),
        ({"start_time": 5, "limit": 0}, "limit", "integer_below_min_value"),
        ({"start_time": 5, "limit": 32}, "limit", "integer_above_max_value"),
        ({"start_time": 5, "page": "page_17"}, "page", "invalid_value"),
        ({"start_time": 5, "page": "hello"}, "page", "invalid_value"),
        ({"start_time": 5, "colour": "red"}, "colour", "unknown_parameter"),
        ({"start_time": 5, "batch": "perhaps"}, "batch", "invalid_type"),
    ],
)
def test_a_wrong_question_is_refused_by_name(params: dict[str, Any], param: str, code: str) -> None:
    error = refused("completions", **params)

    assert (error.param, error.code) == (param, code)


def test_costs_are_narrowed_by_their_line_items() -> None:
    asked = parse_usage(
        COSTS, pairs(start_time=5, **{"line_items[]": ["gpt-5", "gpt-4o"], "api_key_ids": "key_1"}), NOW
    )
    assert asked.only == {"asked": ("gpt-5", "gpt-4o"), "key_id": ("key_1",)}


def test_costs_come_only_by_the_day() -> None:
    with pytest.raises(Invalid, match="'1d'"):
        parse_usage(COSTS, pairs(start_time=5, bucket_width="1h"), NOW)
    with pytest.raises(Invalid, match="Unknown parameter: 'models'"):
        parse_usage(COSTS, pairs(start_time=5, models="gpt-5"), NOW)


# --- lists --------------------------------------------------------------------------------------------------------

ITEMS = [{"id": f"key_{number}"} for number in range(5)]


@pytest.mark.parametrize(
    ("params", "ids", "more"),
    [
        ({}, [0, 1, 2, 3, 4], False),
        ({"limit": 2}, [0, 1], True),
        ({"limit": 2, "after": "key_1"}, [2, 3], True),
        ({"limit": 2, "after": "key_3"}, [4], False),
        ({"after": "key_4"}, [], False),
        ({"order": "desc", "limit": 2}, [4, 3], True),
        ({"limit": 2, "before": "key_4"}, [2, 3], True),
        ({"before": "key_2"}, [0, 1], False),
    ],
)
def test_a_list_comes_in_parts(params: dict[str, Any], ids: list[int], more: bool) -> None:
    page = write_listing(ITEMS, parse(pairs(**params), AdminKeysQuery)[0])

    assert [item["id"] for item in page["data"]] == [f"key_{number}" for number in ids]
    assert page["has_more"] is more
    assert page["first_id"] == (f"key_{ids[0]}" if ids else None)
    assert page["last_id"] == (f"key_{ids[-1]}" if ids else None)


def test_a_cursor_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(Invalid, match="'key_9'"):
        write_listing(ITEMS, AdminKeysQuery(after="key_9"))


def test_the_keys_of_a_project_are_narrowed_by_whether_they_are_in_force() -> None:
    rows = [{"id": "a", "owner_project_access": "active"}, {"id": "b", "owner_project_access": "inactive"}]
    found = {
        access: [row["id"] for row in narrowed_keys(rows, parse(query, ProjectKeysQuery)[0])]
        for access, query in {
            "active": [("owner_project_access", "active")],
            "inactive": [("owner_project_access", "inactive")],
            "any": [("owner_project_access", "any")],
            "": [],
        }.items()
    }
    assert found == {"active": ["a"], "inactive": ["b"], "any": ["a", "b"], "": ["a", "b"]}
    with pytest.raises(Invalid, match="Supported values are: 'active', 'inactive', and 'any'"):
        parse([("owner_project_access", "all")], ProjectKeysQuery)


def test_there_is_one_project() -> None:
    project(PROJECT)
    with pytest.raises(NotFound, match="proj_oproxy"):
        project("proj_other")


KEY = Key(id="key_1", name="laptop", digest="0" * 64, shown="sk-oproxy-…abcd", created=1000.5, expires=2000.0)


def test_a_key_never_tells_its_digest() -> None:
    for record in (write_project_key(KEY, 1500.0), write_admin_key(KEY)):
        assert KEY.digest not in msgspec.json.encode(record).decode()
        assert record["redacted_value"] == "sk-oproxy-…abcd"
        assert record["created_at"] == 1000


@pytest.mark.parametrize(("now", "access"), [(1500.0, "active"), (2000.0, "inactive")])
def test_a_key_that_has_expired_has_no_access(now: float, access: str) -> None:
    assert write_project_key(KEY, now)["owner_project_access"] == access


def test_an_admin_key_is_told_whole_only_once() -> None:
    assert write_admin_key(KEY, value="sk-oproxy-secret")["value"] == "sk-oproxy-secret"
    assert "value" not in write_admin_key(KEY)


def test_no_limit_is_the_largest_number() -> None:
    free, tight = limit_rows([("*", None, None, None), ("gpt-5", 3, 100, 9)])

    assert (free["max_requests_per_1_minute"], free["max_tokens_per_1_minute"]) == (UNLIMITED, UNLIMITED)
    assert "max_requests_per_1_day" not in free
    assert (tight["id"], tight["max_requests_per_1_minute"], tight["max_requests_per_1_day"]) == ("rl-gpt-5", 3, 9)


def test_urls_stay_readable() -> None:
    asked = parse_usage(KINDS["completions"], pairs(start_time=0, limit=1), NOW)

    assert urlencode({"page": write_usage(asked, [])["next_page"]}) == "page=page_86400"
