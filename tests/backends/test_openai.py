"""A server on OpenAI's own wire: its list, its key, and what it cannot be told to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.backends.openai import OpenAIBackend
from ollama_proxy.backends.table import build
from ollama_proxy.errors import ModelNotFound, Unsupported, UpstreamDown, UpstreamFailed
from ollama_proxy.model import Call
from tests.conftest import Clock
from tests.fakes.openai import CHAT, MODELS, Answer, FakeOpenAI, fake_openai


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with fake_openai() as made:
        yield made


@pytest.fixture
async def backend(fake: FakeOpenAI, clock: Clock) -> AsyncIterator[OpenAIBackend]:
    made = OpenAIBackend(name="lab", url=fake.url, api_key="sk-ours", clock=clock)
    yield made
    await made.aclose()


def listed(fake: FakeOpenAI) -> int:
    return sum(call.path == MODELS for call in fake.calls)


# --- the list -----------------------------------------------------------------------------------------------------


async def test_the_list_is_kept_for_a_while_and_asked_for_again_after_it(
    fake: FakeOpenAI, backend: OpenAIBackend, clock: Clock
) -> None:
    first = await backend.models()
    assert [info.id for info in first] == ["small", "embed"]
    clock.forward(9)
    assert await backend.models() is first
    assert listed(fake) == 1
    fake.models.pop()
    clock.forward(2)
    assert [info.id for info in await backend.models()] == ["small"]


async def test_a_fresh_list_is_asked_for_at_once_and_stays_the_same_object_if_nothing_changed(
    fake: FakeOpenAI, backend: OpenAIBackend
) -> None:
    first = await backend.models()
    assert await backend.models(fresh=True) is first
    assert listed(fake) == 2


async def test_callers_that_come_at_once_share_one_request(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    await asyncio.gather(*(backend.models() for _ in range(5)), *(backend.models(fresh=True) for _ in range(5)))
    assert listed(fake) == 1


async def test_callers_that_come_at_once_share_a_failure_too(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    fake.script(MODELS, Answer(status=500, body={"error": "starting"}))
    answers = await asyncio.gather(*(backend.models() for _ in range(5)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["starting"] * 5
    assert listed(fake) == 1


async def test_a_list_that_failed_is_asked_for_again(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    fake.script(MODELS, Answer(status=500, body={"error": "starting"}))
    with pytest.raises(UpstreamFailed, match="starting"):
        await backend.models()
    assert len(await backend.models()) == 2


async def test_a_model_is_shown_even_if_it_came_after_the_last_list(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    await backend.models()
    fake.models.append({"id": "new", "max_model_len": 4096})
    info = await backend.show("new")
    assert (info.context, info.capabilities, info.backend) == (4096, None, "lab")
    with pytest.raises(ModelNotFound, match="'lab'"):
        await backend.show("gone")


async def test_no_model_is_known_to_be_in_memory(backend: OpenAIBackend) -> None:
    assert await backend.running() == ()


# --- the way there ------------------------------------------------------------------------------------------------


async def test_our_key_and_the_configured_headers_are_sent(fake: FakeOpenAI, clock: Clock) -> None:
    headers = {"X-Org": "lab", "HTTP-Referer": "me"}
    made = OpenAIBackend(name="lab", url=f"{fake.url}/", api_key="sk-ours", headers=headers, clock=clock)
    await made.models()
    await made.aclose()
    sent = fake.calls[0].headers
    assert (sent["authorization"], sent["x-org"], sent["http-referer"]) == ("Bearer sk-ours", "lab", "me")
    assert fake.calls[0].path == "/models"


async def test_a_configured_authorization_wins_and_without_a_key_none_is_sent(fake: FakeOpenAI, clock: Clock) -> None:
    for kwargs in ({"api_key": "k", "headers": {"Authorization": "Basic eA=="}}, {}):
        made = OpenAIBackend(name="lab", url=fake.url, clock=clock, **kwargs)  # type: ignore[arg-type]
        await made.models()
        await made.aclose()
    assert [call.headers.get("authorization") for call in fake.calls] == ["Basic eA==", None]


async def test_a_refused_key_names_the_setting(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    fake.key = "sk-theirs"
    with pytest.raises(UpstreamFailed, match=r"\[backends\.lab\]"):
        await backend.models()
    assert "sk-ours" not in (await backend.check()).detail


async def test_a_redirect_is_told_not_followed(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    fake.script(CHAT, Answer(status=307, headers={"location": "https://elsewhere/v1/chat/completions"}))
    with pytest.raises(UpstreamFailed, match="redirects to https://elsewhere/v1"):
        async with backend.open(Call("POST", CHAT, b"{}")):
            pass
    assert len(fake.calls) == 1


async def test_without_a_url_the_setting_is_named(clock: Clock) -> None:
    made = OpenAIBackend(name="lab", url="", clock=clock)
    with pytest.raises(UpstreamDown, match=r"no url under \[backends\.lab\]"):
        await made.models()
    assert (await made.check()).state == "down"


async def test_the_bytes_of_a_call_go_out_as_they_are(fake: FakeOpenAI, backend: OpenAIBackend) -> None:
    body = b'{ "model":"small",  "messages":[{"role":"user","content":"h\\u00e9"}] }'
    async with backend.open(Call("POST", CHAT, body)) as reply:
        assert json.loads(await reply.read())["choices"][0]["message"]["content"] == "Hello you."
    assert fake.calls[0].data == body
    assert fake.calls[0].headers["content-type"] == "application/json"


def test_its_own_wire_passes_through(clock: Clock) -> None:
    made = OpenAIBackend(name="lab", url="http://127.0.0.1:9/v1", clock=clock)
    assert made.passes == {"/chat/completions", "/completions", "/embeddings"}


# --- health, and what the wire has not ----------------------------------------------------------------------------


async def test_it_is_up_when_it_lists_and_down_with_the_reason_when_not(
    fake: FakeOpenAI, backend: OpenAIBackend
) -> None:
    assert (await backend.check()).state == "up"
    fake.script(MODELS, Answer(body=b"<html>", content_type="text/html"))
    health = await backend.check()
    assert health.state == "down"
    assert "no list of models" in health.detail


@pytest.mark.parametrize("what", ["fetch", "delete", "load", "unload"])
async def test_what_the_wire_has_not_is_refused_in_a_clear_sentence(backend: OpenAIBackend, what: str) -> None:
    async def pull(model: str) -> None:
        async for _ in backend.pull(model):
            pass

    call: Any = {"fetch": pull, "delete": backend.delete, "load": backend.load, "unload": backend.unload}[what]
    with pytest.raises(Unsupported, match=f"'lab' cannot be told to {what} 'small'"):
        await call("small")
    assert not backend.pulls("small")


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"api_key": "written"}, "Bearer written"),
        ({"api_key_env": "LAB_KEY"}, "Bearer from-env"),
        ({"api_key": "written", "api_key_env": "LAB_KEY"}, "Bearer written"),
        ({"api_key_env": "MISSING"}, None),
        ({}, None),
    ],
)
async def test_the_key_is_the_one_written_or_the_one_in_the_environment(
    fake: FakeOpenAI, clock: Clock, tmp_path: Path, settings: dict[str, Any], expected: str | None
) -> None:
    env = {"LAB_KEY": "from-env"}
    made = build("lab", type="openai", url=fake.url, env=env, clock=clock, data_dir=tmp_path, **settings)
    await made.models()
    await made.aclose()
    assert fake.calls[0].headers.get("authorization") == expected
