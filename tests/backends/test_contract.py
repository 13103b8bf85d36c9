"""What every kind of backend must do, whatever stands behind it: the same tests for each row of the table.

Ollama and OpenAI-compatible servers are played by the fakes; the embedded backend is the real one, where its weights
have been fetched (`OPROXY_TEST_MODELS`, or the cache of earlier runs).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from ollama_proxy.backends import table
from ollama_proxy.backends.base import Backend
from ollama_proxy.backends.embedded import CHAT_MODEL, EMBEDDING_MODEL
from ollama_proxy.backends.weights import MODELS_FOLDER, SOURCES
from ollama_proxy.errors import ModelNotFound, UpstreamDown, UpstreamSlow
from ollama_proxy.events import Event, Finish, Text, ToolDelta, ToolStart, Usage
from ollama_proxy.model import Ask, Call, Completion, Embedding, Message, Sampling, Tool, ToolCall, ToolResult
from ollama_proxy.model import Text as TextPart
from ollama_proxy.translate.wire import Reader
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import CHAT, Answer, FakeOpenAI, chunk, fake_openai, sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Read at import, before a test has a HOME of its own.
WEIGHTS = Path(os.environ.get("OPROXY_TEST_MODELS") or Path.home() / ".cache" / "oproxy-tests")
FETCHED = all((WEIGHTS / MODELS_FOLDER / SOURCES[name].file).exists() for name in (CHAT_MODEL, EMBEDDING_MODEL))
NO_EMBEDDED = (
    "the extra `embedded` is not installed"
    if importlib.util.find_spec("xllamacpp") is None
    else f"no weights in {WEIGHTS}; the tests of the embedded backend fetch them"
    if not FETCHED
    else ""
)
WEATHER = Tool(
    "get_weather",
    description="Get the weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def built(kind: str, url: str = "", **fields: Any) -> Backend:
    defaults: dict[str, Any] = {"env": {}, "clock": time.monotonic, "data_dir": WEIGHTS}
    return table.build("mine", type=kind, url=url, **{**defaults, **fields})


class Rig(Protocol):
    """One backend with what stands behind it. `chat` and `embed` are its models; `gone` is set when the server sees
    us hang up. The methods make the next chat go another way."""

    backend: Backend
    chat: str
    embed: str
    gone: asyncio.Event

    def calls_a_tool(self, *, stream: bool) -> None: ...
    def sends_a_word_and_waits(self) -> None: ...
    def sends_a_word_and_dies(self) -> None: ...
    def runs_out_of_memory(self) -> None: ...


class OllamaRig:
    chat, embed = "smollm2:latest", "all-minilm:latest"
    word: Mapping[str, Any] = {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False}

    def __init__(self, backend: Backend, fake: FakeOllama) -> None:
        self.backend, self.fake, self.gone = backend, fake, fake.hangups

    def calls_a_tool(self, *, stream: bool) -> None:
        self.fake.play("/api/chat", "tools-rendered-stream" if stream else "tools-rendered-nonstream")

    def sends_a_word_and_waits(self) -> None:
        self.fake.play("/api/chat", [self.word], hold_after=1)

    def sends_a_word_and_dies(self) -> None:
        self.fake.play("/api/chat", [self.word], drop_connection=True)

    def runs_out_of_memory(self) -> None:
        self.fake.play("/api/chat", [{"error": "out of memory"}], status=500)


class OpenAIRig:
    chat, embed = "small", "embed"
    word = sse(chunk("small", {"content": "Hel"}), done=False)

    def __init__(self, backend: Backend, fake: FakeOpenAI) -> None:
        self.backend, self.fake, self.gone = backend, fake, fake.gone

    def calls_a_tool(self, *, stream: bool) -> None:
        """It does so whenever it has tools and no result."""

    def sends_a_word_and_waits(self) -> None:
        self.fake.script(CHAT, Answer(pieces=[self.word], hang=True))

    def sends_a_word_and_dies(self) -> None:
        self.fake.script(CHAT, Answer(pieces=[self.word], cut=True))

    def runs_out_of_memory(self) -> None:
        error = {"message": "out of memory", "type": "server_error", "param": None, "code": None}
        self.fake.script(CHAT, Answer(status=500, body={"error": error}))


class EmbeddedRig:
    chat, embed = CHAT_MODEL, EMBEDDING_MODEL

    def __init__(self, backend: Backend) -> None:
        self.backend, self.gone = backend, asyncio.Event()

    def calls_a_tool(self, *, stream: bool) -> None:
        """It does so by itself, after two examples."""

    def sends_a_word_and_waits(self) -> None:
        pytest.skip("a real model does as it likes; its child's failures have tests of their own")

    sends_a_word_and_dies = runs_out_of_memory = sends_a_word_and_waits


@asynccontextmanager
async def ollama(**fields: Any) -> AsyncIterator[Rig]:
    async with FakeOllama() as fake:
        rig = OllamaRig(built("ollama", fake.url, **fields), fake)
        yield rig
        await rig.backend.aclose()


@asynccontextmanager
async def openai(**fields: Any) -> AsyncIterator[Rig]:
    async with fake_openai() as fake:
        rig = OpenAIRig(built("openai", fake.url, **fields), fake)
        yield rig
        await rig.backend.aclose()


@asynccontextmanager
async def embedded(**fields: Any) -> AsyncIterator[Rig]:
    if NO_EMBEDDED:
        pytest.skip(NO_EMBEDDED)
    rig = EmbeddedRig(built("embedded", context=1024, **fields))
    yield rig
    await rig.backend.aclose()


RIGS: dict[str, Callable[..., AbstractAsyncContextManager[Rig]]] = {
    "ollama": ollama,
    "openai": openai,
    "embedded": embedded,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(table.KINDS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Every kind in turn; one rig for all tests, so that a real model is loaded once."""
    async with RIGS[request.param]() as made:
        yield made


# --- asking -------------------------------------------------------------------------------------------------------


def said(role: Any, text: str) -> Message:
    return Message(role, (TextPart(text),))


def called(city: str, id: str) -> Message:
    return Message("assistant", (ToolCall(id, "get_weather", json.dumps({"city": city})),))


def question(rig: Rig, *messages: Message, **fields: Any) -> Ask:
    asked = messages or (said("user", "Say hi"),)
    return Ask(model=rig.chat, messages=asked, sampling=Sampling(temperature=0, max_tokens=60), **fields)


async def send(rig: Rig, call: Call, reader: Reader, *, model: str) -> list[Event]:
    """Return the events of one call, as the engine gets them."""
    backend, events = rig.backend, list[Event]()
    async with backend.open(call) as reply:
        if reply.status >= 400:
            raise backend.wire.error(reply.status, await reply.read(), backend=backend.name, model=model)
        async for data in reply.chunks():
            events += reader.feed(data)
        return events + reader.flush()


async def chat(rig: Rig, ask: Ask) -> list[Event]:
    wire = rig.backend.wire
    info = await rig.backend.show(rig.chat)
    return await send(rig, wire.chat(ask, info), wire.chat_reader(ask, backend="mine"), model=ask.model)


def ended(events: list[Event]) -> Usage:
    """Check that an answer is whole, and return its usage."""
    assert sum(isinstance(event, Finish) for event in events) == 1
    (usage,) = [event for event in events if isinstance(event, Usage)]
    assert usage.prompt > 0
    assert usage.completion > 0
    return usage


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


# --- the contract -------------------------------------------------------------------------------------------------


async def test_every_kind_in_the_table_is_under_contract() -> None:
    assert set(table.KINDS) == set(RIGS)


async def test_it_says_its_name_and_kind_and_what_to_do_without_it(rig: Rig) -> None:
    assert rig.backend.name == "mine"
    assert rig.backend.kind in table.KINDS
    assert rig.backend.hint.endswith(".")


async def test_it_lists_its_models_and_shows_one(rig: Rig) -> None:
    listed = await rig.backend.models()
    assert {rig.chat, rig.embed} <= {info.id for info in listed}
    assert {info.backend for info in listed} == {"mine"}
    shown = await rig.backend.show(rig.chat)
    assert (shown.id, shown.backend) == (rig.chat, "mine")
    assert shown.can("completion")
    assert (await rig.backend.show(rig.embed)).can("embedding")


async def test_a_model_it_has_not_is_not_found(rig: Rig) -> None:
    with pytest.raises(ModelNotFound, match="nonesuch"):
        await rig.backend.show("nonesuch")


async def test_a_chat_ends_in_a_finish_with_usage_streamed_or_whole(rig: Rig) -> None:
    for stream in (False, True):
        events = await chat(rig, question(rig, stream=stream))
        ended(events)
        assert text(events)
    assert sum(isinstance(event, Text) for event in events) > 1


async def test_a_completion_ends_in_a_finish_with_usage_streamed_or_whole(rig: Rig) -> None:
    info = await rig.backend.show(rig.chat)
    for stream in (False, True):
        ask = Completion(model=rig.chat, prompt="The capital of France is", stream=stream,
                         sampling=Sampling(temperature=0, max_tokens=5))  # fmt: skip
        wire = rig.backend.wire
        events = await send(rig, wire.complete(ask, info), wire.completion_reader(ask, backend="mine"), model=ask.model)
        ended(events)
        assert text(events)


async def test_a_tool_is_called_and_its_result_is_taken(rig: Rig) -> None:
    examples = (
        *(said("user", "Weather in Rome?"), called("Rome", "call_1")),
        *(said("user", "Weather in Oslo?"), called("Oslo", "call_2")),
        said("user", "Weather in Paris?"),
    )
    for stream in (False, True):
        rig.calls_a_tool(stream=stream)
        events = await chat(rig, question(rig, *examples, tools=(WEATHER,), stream=stream))
        (start,) = [event for event in events if isinstance(event, ToolStart)]
        arguments = "".join(event.arguments for event in events if isinstance(event, ToolDelta))
        assert start.name == "get_weather"
        assert start.id == "" or start.id.startswith("call_")
        assert "city" in json.loads(arguments)
        assert [event.reason for event in events if isinstance(event, Finish)] == ["tool_calls"]
    answered = (
        *examples[:2],
        Message("tool", (ToolResult("call_1", (TextPart("sunny"),), "get_weather"),)),
        said("user", "Thanks"),
    )
    ended(await chat(rig, question(rig, *answered)))


async def test_embeddings_come_in_the_order_of_their_inputs(rig: Rig) -> None:
    backend, info = rig.backend, await rig.backend.show(rig.embed)

    async def embed(*inputs: str) -> tuple[tuple[float, ...], ...]:
        async with backend.open(backend.wire.embed(Embedding(model=rig.embed, inputs=inputs), info)) as reply:
            assert reply.status == 200
            return backend.wire.read_embeddings(await reply.read(), backend="mine").rows

    inputs = ("a", "a cat sits on the mat", "stocks fell")
    together = await embed(*inputs)
    assert len({len(row) for row in together}) == 1
    for row, one in zip(together, inputs, strict=True):
        (alone,) = await embed(one)
        # The fake of OpenAI's wire writes the place of an input into the second number; a real model's vectors are
        # a little different in company.
        assert row[0] == pytest.approx(alone[0], abs=1e-2)
    assert len({row[0] for row in together}) == 3


async def test_it_gives_a_sign_of_life(rig: Rig) -> None:
    assert (await rig.backend.check()).state in ("up", "idle")
    assert isinstance(await rig.backend.running(), tuple)


# --- when things go wrong -----------------------------------------------------------------------------------------


async def test_an_error_status_keeps_the_backends_words_and_says_that_it_is_its_fault(rig: Rig) -> None:
    rig.runs_out_of_memory()
    with pytest.raises(Exception, match="out of memory") as caught:
        await chat(rig, question(rig))
    error: Any = caught.value
    assert error.status >= 500
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}


async def test_an_answer_that_breaks_off_is_a_failure_that_names_the_backend(rig: Rig) -> None:
    rig.sends_a_word_and_dies()
    with pytest.raises(UpstreamDown, match="'mine'"):
        await chat(rig, question(rig, stream=True))


async def test_leaving_an_answer_closes_the_connection_so_that_the_model_is_free(rig: Rig) -> None:
    rig.sends_a_word_and_waits()
    ask = question(rig, stream=True)
    async with rig.backend.open(rig.backend.wire.chat(ask, await rig.backend.show(rig.chat))) as reply:
        assert await anext(reply.chunks())
        assert not rig.gone.is_set()
    async with asyncio.timeout(5):
        await rig.gone.wait()


@pytest.mark.parametrize("kind", [kind for kind in sorted(table.KINDS) if kind != "embedded"])
async def test_silence_is_a_timeout_that_names_the_backend(kind: str) -> None:
    async with RIGS[kind](read_timeout=0.2) as rig:
        rig.sends_a_word_and_waits()
        with pytest.raises(UpstreamSlow, match="'mine'"):
            await chat(rig, question(rig, stream=True))


@pytest.mark.parametrize("kind", [kind for kind in sorted(table.KINDS) if kind != "embedded"])
async def test_an_unreachable_backend_is_named_with_what_to_do_and_its_check_never_raises(kind: str) -> None:
    with socket.socket() as taken:
        # Bound, but nobody listens.
        taken.bind(("127.0.0.1", 0))
        backend = built(kind, f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(UpstreamDown, match="'mine'") as caught:
            await backend.models()
        assert backend.hint in caught.value.message
        with pytest.raises(UpstreamDown):
            async with backend.open(Call("POST", CHAT, b"{}")):
                pass
        health = await backend.check()
        assert (health.state, bool(health.detail)) == ("down", True)
        await backend.aclose()


@pytest.mark.parametrize("kind", sorted(table.KINDS))
async def test_it_may_be_closed_twice_and_unused(kind: str) -> None:
    async with RIGS[kind]() as rig:
        await rig.backend.aclose()
        await rig.backend.models()
        await rig.backend.aclose()
        await rig.backend.aclose()
