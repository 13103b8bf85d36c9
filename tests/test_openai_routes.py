"""Every route that OpenAI has: what becomes of it is written down, and it is answered in OpenAI's form."""

from __future__ import annotations

import re

import aiohttp
import pytest

from ollama_proxy.declared import kind_of
from ollama_proxy.sections import GROUPS
from ollama_proxy.server.groups import GROUP_OF, group_of
from ollama_proxy.server.urls import Table
from tests.conftest import Start
from tests.openai_routes import README, SHIPPED, TABLE, methods, readme, shipped, table

MADE = "run: python -m tests.openai_routes"


def test_what_becomes_of_each_method_is_written_down_and_true() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == shipped(), MADE
    assert TABLE.read_text(encoding="utf-8") == table(), MADE
    text = README.read_text(encoding="utf-8")
    assert text == readme(text), MADE


def test_the_groups_of_paths_are_those_of_the_settings() -> None:
    assert set(GROUP_OF.values()) == set(GROUPS)
    assert kind_of(("backends", "x", "serves")) is not None
    # Each is a path of OpenAI's.
    first = {sdk.path.split("/")[1] for sdk in methods()}
    assert set(GROUP_OF) <= first
    assert group_of("/v1/audio/speech") == "audio"
    assert group_of("/v1/audiobooks") == ""


def test_a_word_in_a_path_comes_before_a_name() -> None:
    found = Table(["GET\t/v1/agents/{id}", "POST\t/v1/agents/{id}", "GET\t/v1/agents/vaults"])
    assert found.find("/v1/agents/vaults/") == ("/v1/agents/vaults", frozenset({"GET"}))
    assert found.find("/v1/agents/a1") == ("/v1/agents/{id}", frozenset({"GET", "POST"}))
    assert found.find("/v1/agents//") is None
    assert found.find("/v1/agents/a/b") is None


@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_route_is_answered_in_openais_form(start_proxy: Start, slash: str) -> None:
    proxy = await start_proxy("[backends]\n")
    async with aiohttp.ClientSession(proxy.url) as http:
        for sdk in methods():
            path = "/v1" + re.sub(r"{\w+}", "x1", sdk.path) + slash
            async with http.request(sdk.method, path, json={} if sdk.method == "POST" else None) as answer:
                place = f"{sdk.method} {path}"
                assert answer.content_type == "application/json", place
                assert answer.status != 500, place
                body = await answer.json()
                if answer.status >= 400:
                    assert set(body["error"]) == {"message", "type", "param", "code"}, place
                if sdk.how != "served" and not path.startswith("/v1/organization"):
                    assert (answer.status, body["error"]["code"]) == (404, "not_served_here"), place
                    assert body["error"]["type"] == "invalid_request_error"


async def test_a_method_that_a_route_does_not_have_is_405_in_openais_form(start_proxy: Start) -> None:
    proxy = await start_proxy("[backends]\n")
    async with aiohttp.ClientSession(proxy.url) as http:
        for path in {sdk.path for sdk in methods() if not sdk.path.startswith("/organization")}:
            async with http.patch("/v1" + re.sub(r"{\w+}", "x1", path)) as answer:
                assert answer.status == 405, path
                assert answer.headers["allow"], path
                assert (await answer.json())["error"]["type"] == "invalid_request_error"
