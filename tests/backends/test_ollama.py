"""The Ollama backend against a server that answers like one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from ollama_proxy.backends.base import Progress
from ollama_proxy.backends.ollama import OllamaBackend, epoch, resolve_url
from ollama_proxy.errors import ModelNotFound, UpstreamDown, UpstreamFailed, UpstreamSlow
from ollama_proxy.events import Event, Fail, Finish
from ollama_proxy.events import Text as Said
from ollama_proxy.model import Ask, Message, ModelInfo, Text
from tests.conftest import Clock
from tests.fakes.ollama import FakeOllama, traces


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as server:
        yield server


@pytest.fixture
async def backend(fake: FakeOllama, clock: Clock) -> AsyncIterator[OllamaBackend]:
    made = OllamaBackend(name="ollama", url=fake.url, clock=clock)
    yield made
    await made.aclose()


def paths(fake: FakeOllama) -> list[str]:
    return [call.path for call in fake.calls]


# --- the address ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:80", "http://1.2.3.4:80"),
        (":5000", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("http://0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("::1", "http://[::1]:11434"),
        ("::", "http://[::1]:11434"),
        ("[::]:5000", "http://[::1]:5000"),
        ("[fe80::1]", "http://[fe80::1]:11434"),
        ("[fe80::1]:5000", "http://[fe80::1]:5000"),
        ("http://example.com", "http://example.com:80"),
        ("HTTP://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("example.com:odd", "http://example.com:11434"),
        ("example.com:99999", "http://example.com:11434"),
        (' "host:1" ', "http://host:1"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_an_address_is_read_as_ollamas_own_client_reads_it(host: str, url: str) -> None:
    assert resolve_url("", {"OLLAMA_HOST": host}) == url
    assert resolve_url(host, {}) == url


def test_a_configured_address_wins_over_the_environment() -> None:
    assert resolve_url("http://a:1", {"OLLAMA_HOST": "b:2"}) == "http://a:1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T06:08:00.934391815Z", 1795241280.934391),
        ("2026-11-21T07:08:00+01:00", 1795241280.0),
        ("", None),
        ("soon", None),
    ],
)
def test_times_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert epoch(text) == seconds


# --- models ---------------------------------------------------------------------------------------------------------


async def test_models_are_listed_with_what_they_can(backend: OllamaBackend) -> None:
    found = {info.id: info for info in await backend.models()}
    tools = found["smollm2-tools:latest"]
    assert tools.backend == "ollama"
    assert tools.capabilities == frozenset({"completion", "tools"})
    assert (tools.context, tools.parameters, tools.quantization) == (8192, "134.52M", "Q4_1")
    assert tools.digest
    assert tools.created > 1_700_000_000
    assert found["all-minilm:latest"].can("embedding")


async def test_an_empty_list_is_a_list(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/tags", [{"models": None}])
    assert await backend.models() == ()


async def test_a_list_is_asked_for_once_in_a_while(fake: FakeOllama, backend: OllamaBackend, clock: Clock) -> None:
    first = await backend.models()
    assert await backend.models() is first
    assert paths(fake) == ["/api/tags"]
    clock.forward(10)
    assert await backend.models() is first
    await backend.models(fresh=True)
    assert paths(fake) == ["/api/tags"] * 3


async def test_who_asks_at_once_shares_one_request(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/tags", "meta-tags", delay=0.05)
    fake.play("/api/show", "meta-show", delay=0.05)
    await asyncio.gather(*(backend.show("smollm2:latest") for _ in range(20)))
    assert paths(fake) == ["/api/tags", "/api/show"]


async def test_who_asks_at_once_shares_one_failure(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/tags", [{"error": "boom"}], status=500, delay=0.05)
    asked = [backend.models() for _ in range(5)]
    assert all(isinstance(each, UpstreamFailed) for each in await asyncio.gather(*asked, return_exceptions=True))
    assert paths(fake) == ["/api/tags"]
    assert await backend.models()


async def test_when_the_one_who_asks_leaves_the_next_one_asks(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/tags", "meta-tags", delay=30)
    first, second = asyncio.ensure_future(backend.models()), asyncio.ensure_future(backend.models())
    await asyncio.wait_for(fake.arrived.wait(), 5)
    first.cancel()
    assert await second
    assert paths(fake) == ["/api/tags"] * 2


@pytest.mark.parametrize(
    ("name", "template", "think"),
    [
        ("smollm2", "rendered", ()),
        ("smollm2-tools", "rendered", ()),
        ("smollm2-parser", "rendered", (False, True)),
        ("smollm2-jinja", "native", ()),
        ("smollm2-jinja-think", "native", ()),
    ],
)
async def test_a_model_is_described(
    backend: OllamaBackend, name: str, template: str, think: tuple[bool | str, ...]
) -> None:
    info = await backend.show(name)
    assert info.id == f"{name}:latest"
    assert (info.template, info.think, info.context) == (template, think, 8192)


async def test_a_description_lives_as_long_as_its_model(fake: FakeOllama, backend: OllamaBackend, clock: Clock) -> None:
    await backend.show("smollm2")
    await backend.show("SmolLM2:latest")
    assert paths(fake).count("/api/show") == 1
    next(model for model in fake.models if model["name"] == "smollm2:latest")["digest"] = "made anew"
    await backend.models(fresh=True)
    assert (await backend.show("smollm2")).digest == "made anew"
    assert paths(fake).count("/api/show") == 2
    clock.forward(3600)
    await backend.show("smollm2")
    assert paths(fake).count("/api/show") == 3


async def test_an_unknown_model_is_looked_for_twice_and_refused(fake: FakeOllama, backend: OllamaBackend) -> None:
    with pytest.raises(ModelNotFound, match="oproxy models pull nope"):
        await backend.show("nope")
    assert paths(fake) == ["/api/tags"] * 2


async def test_an_old_server_is_asked_about_each_model() -> None:
    async with FakeOllama("v0.24.0") as fake:
        backend = OllamaBackend(name="old", url=fake.url)
        found = {info.id: info for info in await backend.models()}
        assert found["smollm2:latest"].capabilities == frozenset({"completion"})
        assert found["smollm2:latest"].context == 8192
        assert paths(fake).count("/api/show") == len(found)
        await backend.models(fresh=False)
        await backend.aclose()


@pytest.mark.parametrize("answer", [[b"<html>"], [[1]], [{"models": [{}]}]])
async def test_another_kind_of_server_is_told_apart(
    fake: FakeOllama, backend: OllamaBackend, answer: list[object]
) -> None:
    fake.play("/api/tags", answer)
    with pytest.raises(UpstreamFailed, match="does not answer like Ollama"):
        await backend.models()


async def test_a_server_without_the_path_is_told_apart(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/tags", "meta-404", status=404)
    with pytest.raises(UpstreamFailed):
        await backend.models()


# --- memory, pulls, health ------------------------------------------------------------------------------------------


async def test_models_are_loaded_with_the_window_of_later_requests(fake: FakeOllama, backend: OllamaBackend) -> None:
    await backend.load("smollm2", keep_alive="2m", options={"num_ctx": 2048})
    await backend.load("all-minilm", options={"num_ctx": 512})
    assert fake.asked("/api/generate") == [
        {
            "model": "smollm2:latest",
            "stream": False,
            "prompt": "",
            "truncate": False,
            "shift": False,
            "options": {"num_ctx": 2048},
            "keep_alive": "2m",
        }
    ]
    assert fake.asked("/api/embed") == [
        {"model": "all-minilm:latest", "stream": False, "input": [], "options": {"num_ctx": 512}}
    ]
    running = {each.id: each for each in await backend.running()}
    assert running["smollm2:latest"].context == 2048
    assert running["smollm2:latest"].expires_at == 1795241280.934391
    assert running["smollm2:latest"].digest
    await backend.unload("smollm2")
    await backend.unload("all-minilm")
    assert await backend.running() == ()


async def test_a_deleted_model_is_gone_from_the_list(fake: FakeOllama, backend: OllamaBackend) -> None:
    await backend.models()
    await backend.delete("smollm2:latest")
    assert "smollm2:latest" not in [info.id for info in await backend.models()]
    with pytest.raises(ModelNotFound):
        await backend.delete("smollm2:latest")


async def test_a_pull_tells_its_progress(fake: FakeOllama, backend: OllamaBackend) -> None:
    steps = [step async for step in backend.pull("all-minilm")]
    assert steps[0] == Progress("pulling manifest")
    assert steps[2] == Progress("pulling 38d45623cca1", "sha256:38d45623cca1", 46203200, 20000000)
    assert steps[-1] == Progress("success")


async def test_a_pull_that_fails_says_why(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/pull", "manage-pull-offline-stream")
    seen: list[Progress] = []
    with pytest.raises(UpstreamFailed, match="no such host"):
        seen += [step async for step in backend.pull("x")]
    fake.play("/api/pull", [{"error": "pull model manifest: file does not exist"}])
    with pytest.raises(ModelNotFound):
        seen += [step async for step in backend.pull("x")]
    fake.play("/api/pull", "manage-pull-invalid-name")
    with pytest.raises(Exception, match="invalid model name"):
        seen += [step async for step in backend.pull("x")]


@pytest.mark.parametrize("answer", [[{"status": "pulling manifest"}], [], [{"status": "success"}, b"junk\n"]])
async def test_a_pull_that_does_not_end_well_is_no_success(
    fake: FakeOllama, backend: OllamaBackend, answer: list[object]
) -> None:
    fake.play("/api/pull", answer)
    with pytest.raises(UpstreamFailed):
        async for _ in backend.pull("x"):
            pass


async def test_a_pull_that_is_left_is_ended(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/pull", [{"status": "pulling manifest"}], hold_after=1)
    pull = backend.pull("x")
    await anext(pull)
    await pull.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(fake.hangups.wait(), 5)


async def test_a_sign_of_life_has_the_version(backend: OllamaBackend) -> None:
    health = await backend.check()
    assert (health.state, health.version) == ("up", "0.34.4")


async def test_no_sign_of_life_is_no_error() -> None:
    backend = OllamaBackend(name="away", url="http://127.0.0.1:9")
    health = await backend.check()
    assert health.state == "down"
    assert "away" in health.detail
    with pytest.raises(UpstreamDown, match="ollama serve"):
        await backend.models()
    await backend.aclose()


async def test_a_silent_server_is_slow(fake: FakeOllama) -> None:
    backend = OllamaBackend(name="slow", url=fake.url, read_timeout=0.1)
    fake.play("/api/tags", "meta-tags", delay=30)
    with pytest.raises(UpstreamSlow):
        await backend.models()
    await backend.aclose()


async def test_a_key_and_headers_are_sent_and_the_host_is_the_servers(fake: FakeOllama) -> None:
    backend = OllamaBackend(name="cloud", url=fake.url, api_key="secret", headers={"x-team": "a"})
    await backend.check()
    headers = fake.calls[0].headers
    assert (headers["authorization"], headers["x-team"]) == ("Bearer secret", "a")
    assert headers["host"] == fake.url.removeprefix("http://")
    await backend.aclose()


# --- a chat ---------------------------------------------------------------------------------------------------------

ASK = Ask(model="smollm2:latest", messages=(Message("user", (Text("Hi"),)),), stream=True)
INFO = ModelInfo(id="smollm2:latest", backend="ollama")


async def test_a_client_that_leaves_ends_the_answer(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/chat", "chat-stream", hold_after=2)
    async with backend.open(backend.wire.chat(ASK, INFO)) as reply:
        async for _ in reply.chunks():
            break
    await asyncio.wait_for(fake.hangups.wait(), 5)


async def test_a_lost_connection_is_ours_to_tell(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/chat", "chat-stream", cut_after=200, drop_connection=True)
    reader = backend.wire.chat_reader(ASK, backend="ollama")

    async def relay() -> None:
        async with backend.open(backend.wire.chat(ASK, INFO)) as reply:
            async for data in reply.chunks():
                reader.feed(data)

    with pytest.raises(UpstreamDown):
        await relay()
    assert isinstance(reader.flush()[-1], Fail)


async def test_a_recorded_chat_comes_through(fake: FakeOllama, backend: OllamaBackend) -> None:
    fake.play("/api/chat", "chat-stream", pauses=0.001)
    reader = backend.wire.chat_reader(ASK, backend="ollama")
    events: list[Event] = []
    async with backend.open(backend.wire.chat(ASK, INFO)) as reply:
        assert reply.status == 200
        async for data in reply.chunks():
            events += reader.feed(data)
    events += reader.flush()
    recorded = [json.loads(chunk)["message"]["content"] for chunk in traces()["chat-stream"].chunks]
    assert [event.text for event in events if isinstance(event, Said)] == [text for text in recorded if text]
    assert any(isinstance(event, Finish) for event in events)
