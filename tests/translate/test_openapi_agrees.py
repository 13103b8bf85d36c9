"""The API's description says what the validators ask: both take and refuse the same bodies and queries."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from ollama_proxy.errors import Invalid
from ollama_proxy.server.routes import ROUTES
from ollama_proxy.translate import files, query, validate
from ollama_proxy.translate.openapi import Route
from ollama_proxy.translate.openapi_answers import ANSWERS, SCHEMAS
from ollama_proxy.translate.responses_items import check_item
from ollama_proxy.translate.responses_tools import check_tool
from ollama_proxy.translate.shapes import CompletionRequest, EmbeddingRequest
from tests.described import DOCUMENT, is_valid, mutated, problems, samples, values

# More of them: OPROXY_TEST_FUZZ=500
COUNT = int(os.environ.get("OPROXY_TEST_FUZZ", "40"))
BODIES = {row.route.request: row.route for row in ROUTES if row.route.request is not None}
QUERIES = {row.route.query: row.route for row in ROUTES if row.route.query is not None}


# What their texts may be is checked behind the validator, with a vocabulary.
STRICTER = {EmbeddingRequest, CompletionRequest}


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def body_schema(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = operation(route)["requestBody"]["content"]["application/json"]["schema"]
    return found


def accepted(body: Any, struct: type[msgspec.Struct]) -> bool:
    """Return whether the validators take a body, with the items and tools in it."""
    try:
        shape, fields = validate.decode(json.dumps(body).encode(), struct)
        validate.check_needs(shape)
        for name, check in LISTS.items():
            found = getattr(shape, name, None)
            for place, each in enumerate(found if isinstance(found, list) and plain(shape, name) else ()):
                check(each, f"{name}[{place}]")
        if hasattr(shape, "purpose"):
            files.check_purpose(shape.purpose)
        choice = json.loads(bytes(fields.get("tool_choice", b"null")))
        if isinstance(choice, dict) and plain(shape, "tool_choice"):
            return isinstance(choice.get("type"), str)
    except Invalid:
        return False
    return True


LISTS: Mapping[str, Callable[[Any, str], object]] = {"input": check_item, "items": check_item, "tools": check_tool}


def plain(shape: msgspec.Struct, name: str) -> bool:
    """Return whether a list is one of plain objects, which are checked one by one."""
    text = str(type(shape).__annotations__.get(name, ""))
    return any(word in text for word in ("Items", "Tools", "Input", "Choice"))


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_says_what_it_answers() -> None:
    routes = {(row.route.method, row.route.path) for row in ROUTES}
    assert routes == set(ANSWERS)
    used = {name for answer in ANSWERS.values() for name in (answer.schema, answer.stream) if name}
    assert used <= set(SCHEMAS)


@pytest.mark.parametrize("struct", BODIES, ids=lambda struct: struct.__name__)
def test_bodies_that_fit_the_document_are_taken_and_others_refused(struct: type[msgspec.Struct]) -> None:
    schema = body_schema(BODIES[struct])
    for body in samples(values(schema), COUNT):
        assert accepted(body, struct), body
    for body in samples(values(schema).flatmap(mutated), COUNT):
        if isinstance(body, dict) and (struct not in STRICTER or is_valid(schema, body)):
            assert accepted(body, struct) == is_valid(schema, body), body


@pytest.mark.parametrize("struct", QUERIES, ids=lambda struct: struct.__name__)
def test_queries_that_fit_the_document_are_taken_and_others_refused(struct: type[msgspec.Struct]) -> None:
    parameters = [each for each in operation(QUERIES[struct])["parameters"] if each["in"] == "query"]
    assert {each["name"] for each in parameters} == set(struct.__struct_fields__)
    for each in parameters:
        for value in samples(values(each["schema"]), COUNT):
            pairs = [*others(parameters, each["name"]), *written(each["name"], value)]
            found, unknown = query.parse(pairs, struct)
            assert unknown == ()
            if value not in ("", [], {}) and not (isinstance(value, float)):
                kept = [one for one in value if one] if isinstance(value, list) else value
                assert msgspec.to_builtins(getattr(found, each["name"])) == kept
        for value in wrong(each["schema"]):
            with pytest.raises(Invalid) as caught:
                query.parse([*others(parameters, each["name"]), *written(each["name"], value)], struct)
            assert caught.value.param == each["name"]
        if each["required"]:
            with pytest.raises(Invalid, match=f"Missing required parameter: '{each['name']}'"):
                query.parse(others(parameters, each["name"]), struct)


def others(parameters: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    return [(each["name"], "1") for each in parameters if each["required"] and each["name"] != name]


def written(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [(f"{name}[]", str(each)) for each in value if each]
    if isinstance(value, dict):
        return [(f"{name}[{key}]", str(each)) for key, each in value.items()]
    if isinstance(value, bool):
        return [(name, str(value).lower())]
    return [(name, str(int(value)) if isinstance(value, float) else str(value))] if value != "" else []


def wrong(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield values that a schema refuses."""
    choices = schema.get("anyOf", [schema])
    if any(each.get("type") in ("integer", "boolean") for each in choices):
        yield "many"
    for each in choices:
        if "minimum" in each:
            yield each["minimum"] - 1
        if "maximum" in each:
            yield each["maximum"] + 1
        if "enum" in each or "enum" in each.get("items", {}):
            yield "nonsense" if "enum" in each else ["nonsense"]


# Where openai-python declares the parameters of our lists.
SDK = {
    "/v1/files": "file_list_params.FileListParams",
    "/v1/batches": "batch_list_params.BatchListParams",
    "/v1/chat/completions": "chat.completion_list_params.CompletionListParams",
    "/v1/chat/completions/{completion_id}/messages": "chat.completions.message_list_params.MessageListParams",
    "/v1/responses/{response_id}": "responses.response_retrieve_params.ResponseRetrieveParamsBase",
    "/v1/responses/{response_id}/input_items": "responses.input_item_list_params.InputItemListParams",
    "/v1/conversations/{conversation_id}/items": "conversations.item_list_params.ItemListParams",
    "/v1/organization/usage/completions": "admin.organization.usage_completions_params.UsageCompletionsParams",
    "/v1/organization/usage/embeddings": "admin.organization.usage_embeddings_params.UsageEmbeddingsParams",
    "/v1/organization/usage/moderations": "admin.organization.usage_moderations_params.UsageModerationsParams",
    "/v1/organization/costs": "admin.organization.usage_costs_params.UsageCostsParams",
    "/v1/organization/admin_api_keys": "admin.organization.admin_api_key_list_params.AdminAPIKeyListParams",
    "/v1/organization/projects/{project_id}/api_keys": (
        "admin.organization.projects.api_key_list_params.APIKeyListParams"
    ),
    "/v1/organization/projects/{project_id}/rate_limits": (
        "admin.organization.projects.rate_limit_list_rate_limits_params.RateLimitListRateLimitsParams"
    ),
}


@pytest.mark.parametrize("path", SDK)
def test_every_parameter_of_the_sdks_lists_is_known(path: str) -> None:
    module, _, name = SDK[path].rpartition(".")
    theirs = set(getattr(importlib.import_module(f"openai.types.{module}"), name).__annotations__)
    (route,) = (row.route for row in ROUTES if (row.route.method, row.route.path) == ("GET", path))
    assert route.query is not None
    # Events that are sent again are as they were; that is told in `x-oproxy-ignored`.
    assert theirs - set(route.query.__struct_fields__) - {"include_obfuscation"} == set()


def test_no_handler_reads_a_query_that_is_not_declared() -> None:
    root = Path(query.__file__).parents[1] / "server"
    for path in sorted(root.glob("*.py")):
        for line in path.read_text().splitlines():
            # What is forwarded is another server's to read.
            if "request.query" in line and path.name not in ("forward.py", "forward_socket.py"):
                assert "query.parse(request.query.items(), " in line or "parse_usage(" in line, (path.name, line)


def test_a_form_says_its_file_and_its_fields() -> None:
    content = operation(next(row.route for row in ROUTES if row.route.file == "file"))["requestBody"]["content"]
    schema = content["multipart/form-data"]["schema"]
    assert schema["required"] == ["file", "purpose"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert set(schema["properties"]["purpose"]["enum"]) == set(files.PURPOSES)


CASES = Path(__file__).parents[1] / "cases"
STREAMS = {"chat": "ChatCompletionChunk", "responses": "ResponseEvent", "messages": "AnthropicEvent"}


@pytest.mark.parametrize("kind", STREAMS)
def test_recorded_streams_fit_the_document_event_by_event(kind: str) -> None:
    found = sorted((CASES / kind).glob("*/out.sse"))
    assert found
    for path in found:
        for line in path.read_text().splitlines():
            if line.startswith("data: ") and line != "data: [DONE]":
                schema = {"$ref": f"#/components/schemas/{STREAMS[kind]}"}
                assert problems(schema, json.loads(line[6:])) == [], (path.parent.name, line[:300])
