"""The served API against its own description: generated requests, right and wrong ones, to every route.

What fits the description is not refused for its form, what does not fit is refused in the API's form; no request makes
an accident, and every answer has a status, a content type and a body that the description names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from ollama_proxy.server.routes import ROUTES
from ollama_proxy.translate.openapi import Route
from tests.conftest import Start
from tests.described import DOCUMENT, is_valid, mutated, problems, samples, values
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import fake_openai
from tests.server.conftest import config

# More of them: OPROXY_TEST_FUZZ=500
COUNT = int(os.environ.get("OPROXY_TEST_FUZZ", "40")) // 8
WORD = "the-daemons-own-word"
# Whole requests of these are another's to refuse: they are passed on as they come.
PASSED = ("/api/",)
# Not asked: a WebSocket, and what would take the models away that other requests ask for.
LEFT_OUT = {("GET", "/v1/responses")}
MODELS = {"/v1/embeddings": "all-minilm", "/api/embed": "embed", "/api/embeddings": "embed"}
# Refusals of the form of a request.
FORM = re.compile(
    r"invalid_type|missing_required_parameter|unknown_parameter|empty_(array|string|object)"
    r"|(array|string|object|integer|decimal)_(above|below)_(max|min)_\w+"
)


class Wire:
    """Sends requests, and checks each answer by the description of its route."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def send(
        self, route: Route, *, names: dict[str, str], query: Iterable[tuple[str, str]] = (), **sent: Any
    ) -> tuple[int, Any]:
        path = re.sub(r"{(\w+)}", lambda found: quote(names[found[1]], safe=""), route.path)
        url = URL(str(self._http._base_url), encoded=True).with_path(path, encoded=True).with_query(list(query))
        headers = {"authorization": f"Bearer {WORD}"}
        async with self._http.request(route.method, url, headers=headers, **sent) as response:
            body = await response.read()
            note = (route.method, str(url), sent, response.status, body[:300])
            assert response.status != 500, note
            described = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
            answer = described.get(str(response.status)) or described.get(f"{response.status // 100}XX")
            assert answer is not None, ("no such status", note)
            content = answer.get("content", {})
            # An Ollama's own refusals of what it does not know.
            if not body or not content or "*/*" in content or body == b"404 page not found":
                return response.status, None
            assert response.content_type in content, note
            schema = content[response.content_type].get("schema", {})
            for each in documents(response.content_type, body):
                assert problems(schema, each) == [], note
            return response.status, json.loads(body) if response.content_type == "application/json" else None


def documents(kind: str, body: bytes) -> list[Any]:
    """Return the JSON documents of a body."""
    if kind == "application/json":
        return [json.loads(body)]
    if kind == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines() if line]
    if kind == "text/event-stream":
        lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]
    return []


@pytest.fixture
async def wire(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Wire]:
    more = "[auth]\nfailures = 0\n[server]\nheader_hold = 0.2\nheartbeat = 0.1\n"
    async with fake_openai() as lab:
        more += f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\nread_timeout = 2\n'
        proxy = await start_proxy(config(ollama.url, more), books=True, control=WORD)
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Wire(http)


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


def names_of(route: Route) -> list[dict[str, str]]:
    """Return what may stand in a path."""
    found = {each["name"]: samples(values(each["schema"]), 3) for each in parameters(route) if each["in"] == "path"}
    return [{name: str(choices[place % len(choices)]) for name, choices in found.items()} for place in range(3)]


def parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DOCUMENT["paths"][route.path][route.method.lower()].get("parameters", [])
    return found


def queries(route: Route) -> list[list[tuple[str, str]]]:
    """Return query strings that fit the description."""
    out: list[list[tuple[str, str]]] = []
    for place in range(3):
        pairs: list[tuple[str, str]] = []
        for number, each in enumerate(parameters(route)):
            if each["in"] != "query" or (not each["required"] and (number + place) % 2):
                continue
            # Ids of what is not there are refused, which is not the form.
            if each["name"] in ("after", "before", "after_id", "before_id", "page", "end_time"):
                continue
            choices = samples(values(each["schema"]), 3)
            pairs += written(each["name"], choices[place % len(choices)])
        out.append(pairs)
    return out


def written(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [(f"{name}[]", str(each)) for each in value]
    if isinstance(value, dict):
        return [(f"{name}[{key}]", str(each)) for key, each in value.items()]
    if isinstance(value, bool):
        return [(name, str(value).lower())]
    return [(name, str(int(value)) if isinstance(value, float) else str(value))]


def bodies(route: Route) -> list[tuple[Any, bool]]:
    """Return bodies, and whether they fit the description."""
    schema = DOCUMENT["paths"][route.path][route.method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    right = samples(values(schema), COUNT)
    found = [*right, *samples(values(schema).flatmap(mutated), COUNT)]
    for body in found[::2]:
        if isinstance(body, dict) and isinstance(body.get("model"), str) and body["model"]:
            # What an Ollama answers itself is its own; the others' models are answered in its form by us.
            body["model"] = MODELS.get(route.path, "small" if route.path.startswith(PASSED) else "smollm2")
    return [(body, is_valid(schema, body)) for body in found]


ASKED = [row.route for row in ROUTES if (row.route.method, row.route.path) not in LEFT_OUT]
BODIES = [route for route in ASKED if route.request is not None]
OTHERS = [route for route in ASKED if route.request is None and not route.file and not route.raw]


async def test_requests_without_a_body_are_answered_as_described(wire: Wire) -> None:
    for route in OTHERS:
        for names, query in zip(names_of(route), queries(route), strict=True):
            status, answer = await wire.send(route, names=names, query=query)
            code = ((answer or {}).get("error") or {}).get("code") if status == 400 and route.query else None
            # How many buckets a page may have depends on their width.
            if not (route.path.startswith("/v1/organization/") and any(name == "limit" for name, _ in query)):
                assert code is None or not FORM.fullmatch(code), (route.path, query, answer)


@pytest.mark.parametrize("route", BODIES, ids=lambda route: f"{route.method} {route.path}")
async def test_bodies_are_answered_as_described(wire: Wire, route: Route) -> None:
    names = names_of(route)[0]
    for body, fits in bodies(route):
        data = json.dumps(body).encode()
        status, answer = await wire.send(route, names=names, data=data)
        if route.path.startswith(PASSED):
            continue
        if not fits:
            assert 400 <= status < 500, (body, answer)
        elif status == 400 and isinstance(answer["error"], dict):
            code = answer["error"].get("code") or ""
            # Which fields belong together is said in words, as is what a text must be.
            assert not FORM.fullmatch(code) or code == "missing_required_parameter", (body, answer)
