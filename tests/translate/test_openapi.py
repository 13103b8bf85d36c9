"""The API's description and its page."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from ollama_proxy import assets
from ollama_proxy.translate.openapi import Route, docs_page, document, init_script
from ollama_proxy.translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from ollama_proxy.translate.shapes_messages import MessagesRequest

ROUTES = (
    Route("POST", "/v1/chat/completions", "Answer a conversation", ChatRequest, "Chat"),
    Route("POST", "/v1/completions", "Continue a text", CompletionRequest, "Completions"),
    Route("POST", "/v1/embeddings", "Embed texts", EmbeddingRequest, "Embeddings"),
    Route("GET", "/v1/models", "List the models", None, "Models"),
    Route("GET", "/v1/models/{model}", "Describe a model", None, "Models"),
    Route("DELETE", "/v1/models/{model}", "Delete a model", None, "Models"),
    Route("GET", "/", "Say what this is", None, "Daemon"),
    Route("GET", "/docs/{name}", "The page's files", None, "Daemon"),
)


@pytest.fixture(scope="module")
def described() -> Any:
    # Through JSON, as it is served.
    return json.loads(json.dumps(document(ROUTES, "1.2.3", lambda path: "caller")))


def references(value: Any) -> set[str]:
    match value:
        case dict():
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        case list():
            return set().union(*(references(item) for item in value))
        case _:
            return set()


def test_every_route_is_described_once_under_its_method(described: Any) -> None:
    found = {(method.upper(), path) for path, item in described["paths"].items() for method in item}
    assert found == {(route.method, route.path) for route in ROUTES}
    ids = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)
    assert (described["openapi"], described["info"]["version"]) == ("3.1.0", "1.2.3")


def test_every_reference_leads_somewhere(described: Any) -> None:
    names = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert {"#/components/schemas/ChatRequest", "#/components/schemas/Error"} <= references(described) <= names


def test_the_neighbours_doors_have_refusals_and_streams_of_their_own() -> None:
    paths = document(
        (
            Route("POST", "/v1/messages", "Answer", MessagesRequest, "Messages"),
            Route("POST", "/api/chat", "Answer", ChatRequest, "Ollama"),
            Route("POST", "/v1/chat/completions", "Answer", ChatRequest, "Chat"),
        ),
        "1",
        lambda path: "caller",
    )["paths"]
    found = []
    for item in paths.values():
        answers = item["post"]["responses"]
        (refusal,) = references(answers["4XX"])
        streamed = answers["200"]["content"].keys() - {"application/json"}
        (kind,) = streamed
        found.append((refusal.rpartition("/")[2], kind, answers["200"]["content"][kind]["schema"]["$ref"][21:]))
    assert found == [
        ("AnthropicError", "text/event-stream", "AnthropicEvent"),
        ("OllamaError", "application/x-ndjson", "OllamaChatLine"),
        ("Error", "text/event-stream", "ChatCompletionChunk"),
    ]


def test_every_path_parameter_is_declared(described: Any) -> None:
    for path, item in described["paths"].items():
        for operation in item.values():
            declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_the_request_schemas_check_what_the_shapes_check(described: Any) -> None:
    schema = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(described["components"]["schemas"]["ChatRequest"])
    validator = jsonschema.Draft202012Validator({**schema, "components": described["components"]})
    good = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "temperature": None}
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "temperature": 3})
    assert not validator.is_valid({"model": "m"})


def test_only_what_streams_says_that_it_streams(described: Any) -> None:
    def types(method: str, path: str) -> set[str]:
        return set(described["paths"][path][method]["responses"]["200"]["content"])

    assert types("post", "/v1/chat/completions") == {"application/json", "text/event-stream"}
    assert types("post", "/v1/embeddings") == {"application/json"}
    assert types("get", "/") == {"text/plain"}


class Page(HTMLParser):
    """Collects what a page loads, and what it holds inline."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag in ("script", "style")
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.loads.append(value)
            if name.startswith("on") or name == "style":
                self.inline.append(name)

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


def test_the_page_loads_only_what_is_served_here_and_holds_nothing_inline() -> None:
    page = Page()
    page.feed(docs_page().decode())
    assert page.inline == []
    assert page.loads == ["data:,", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/init.js"]
    for url in page.loads[1:]:
        name = url.removeprefix("/docs/")
        assert name == "init.js" or assets.asset(name) is not None


def test_the_script_starts_swagger_ui_on_our_description() -> None:
    script = init_script().decode()
    assert '"/openapi.json"' in script
    assert 'dom_id: "#swagger-ui"' in script
    assert "://" not in script


def test_the_files_of_swagger_ui_are_gzipped_as_they_are_served() -> None:
    for name, mark in (("swagger-ui.css", b".swagger-ui"), ("swagger-ui-bundle.js", b"SwaggerUIBundle")):
        data = assets.asset(name)
        assert data is not None
        assert mark in gzip.decompress(data)
        assert name in assets.MEDIA_TYPES


@pytest.mark.parametrize("name", ["", "LICENSE", "../tiktoken/cl100k_base.tiktoken", "/etc/passwd", "init.js.gz"])
def test_no_other_file_can_be_had(name: str) -> None:
    assert assets.asset(name) is None
