"""The engine without a server in front: routes, answers and failures, with fake Ollamas behind."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from ollama_proxy.engine import Engine, with_sampling
from ollama_proxy.errors import ContextTooLong, Invalid, ModelNotFound, OproxyError, UpstreamDown, UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Text, ToolDelta, ToolStart, Usage
from ollama_proxy.legs import most
from ollama_proxy.model import (
    Ask,
    Completion,
    Embedding,
    Format,
    Image,
    Message,
    Sampling,
    Tool,
    ToolChoice,
    ToolResult,
)
from ollama_proxy.model import Text as Words
from ollama_proxy.policy.books import Books
from ollama_proxy.policy.route import Target
from ollama_proxy.server.keys import ENGINE
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

HI = Message("user", (Words("Hi"),))
GIF = b"GIF89a" + b"\x01\x00\x01\x00\x00\x00\x00;"
CONFIG = """
[models]
num_ctx = 1024
[models.aliases]
fast = "smollm2"
[models.options.smollm2]
temperature = 0.25
top_k = 7
num_gpu = 0
keep_alive = "5m"
[server]
image_allow_private = true
"""


class Bench:
    """An engine with one Ollama, and what each test does with it."""

    def __init__(self, engine: Engine, ollama: FakeOllama) -> None:
        self.engine, self.ollama = engine, ollama
        self.books = Books(engine.clock())

    async def target(self, asked: str = "smollm2", kind: str | None = "chat") -> Target:
        return await self.engine.route(asked, kind, self.books)

    async def whole(self, **fields: Any) -> list[Event]:
        return await self.engine.chat_whole(ask(**fields), await self.target(), self.books)

    async def batches(self, **fields: Any) -> list[list[Event]]:
        asked = ask(**{"stream": True, **fields})
        source = await self.engine.chat(asked, await self.target(), self.books)
        async with aclosing(source) as found:
            return [batch async for batch in found]


def ask(**fields: Any) -> Ask:
    return Ask(**{"model": "smollm2", "messages": (HI,), **fields})


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


DONE = record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)


def words(events: list[Event]) -> dict[int, str]:
    """Return the text of each choice."""
    said: dict[int, str] = {}
    for event in events:
        if isinstance(event, Text):
            said[event.index] = said.get(event.index, "") + event.text
    return said


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
async def bench(start_proxy: Start, ollama: FakeOllama) -> Bench:
    backend = f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n'
    return Bench((await start_proxy(CONFIG + backend)).app[ENGINE], ollama)


# --- finding the model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["smollm2", "smollm2:latest", "ollama/smollm2", "fast"])
async def test_a_model_is_found_by_all_its_names_and_booked(bench: Bench, asked: str) -> None:
    assert (await bench.target(asked)).info.id == "smollm2:latest"
    assert (bench.books.asked, bench.books.backend, bench.books.served) == (asked, "ollama", "smollm2:latest")


async def test_a_model_that_has_just_been_pulled_is_found_at_once(bench: Bench) -> None:
    with pytest.raises(ModelNotFound):
        await bench.target("brand-new")
    bench.ollama.models.append({**bench.ollama.models[0], "name": "brand-new:latest", "model": "brand-new:latest"})
    assert (await bench.target("brand-new")).info.id == "brand-new:latest"


async def test_an_unknown_model_is_told_with_what_is_near(bench: Bench) -> None:
    with pytest.raises(ModelNotFound, match=r"smolm2.*Did you mean"):
        await bench.target("smolm2")


async def test_with_no_backend_there_the_model_is_not_blamed(start_proxy: Start) -> None:
    proxy = await start_proxy('[backends.lab]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    engine = proxy.app[ENGINE]
    with pytest.raises(UpstreamDown, match="'lab'"):
        await engine.route("smollm2", "chat", Books(0.0))


# --- chat ---------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_whole_with_one_usage_at_its_end(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [record("Hello", done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)])
    events = await bench.whole()
    assert words(events) == {0: "Hello"}
    assert [type(event) for event in events[-2:]] == [Finish, Usage]
    assert events[-1] == Usage(9, 3)
    assert bench.books.usage == Usage(9, 3)
    assert bench.books.stream is False
    assert bench.ollama.asked("/api/chat")[0]["stream"] is False


async def test_an_answer_streams_in_the_batches_in_which_it_came(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [record("Hel"), record("lo"), DONE], pauses=0.05)
    batches = await bench.batches()
    assert [words(batch) for batch in batches[:2]] == [{0: "Hel"}, {0: "lo"}]
    assert batches[-1] == [Usage(9, 3)]
    assert bench.books.first is not None
    assert bench.books.stream is True


async def test_what_the_config_says_is_sent_unless_the_client_said_otherwise(bench: Bench) -> None:
    await bench.whole(sampling=Sampling(temperature=0.5), options={"num_gpu": 3})
    (body,) = bench.ollama.asked("/api/chat")
    assert body["options"] == {"temperature": 0.5, "top_k": 7, "num_gpu": 3, "num_ctx": 1024}
    assert body["keep_alive"] == "5m"


async def test_n_choices_are_n_calls_numbered_with_seeds_of_their_own_and_one_usage(bench: Bench) -> None:
    for word in "abc":
        bench.ollama.play("/api/chat", [record(word, done=True, done_reason="stop", prompt_eval_count=9, eval_count=2)])
    events = await bench.whole(n=3, sampling=Sampling(seed=7))
    assert sorted(words(events)) == [0, 1, 2]
    assert sorted(words(events).values()) == ["a", "b", "c"]
    assert sorted(body["options"]["seed"] for body in bench.ollama.asked("/api/chat")) == [7, 8, 9]
    assert [event for event in events if isinstance(event, Usage)] == [Usage(9, 6)]


async def test_a_failing_choice_ends_the_others(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [record("a"), DONE], hold_after=1)
    bench.ollama.play("/api/chat", [{"error": "no luck"}], status=500)
    with pytest.raises(UpstreamFailed, match="no luck"):
        await bench.whole(n=2)
    await asyncio.wait_for(bench.ollama.hangups.wait(), 5)


async def test_an_early_refusal_is_raised(bench: Bench) -> None:
    bench.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    with pytest.raises(ContextTooLong) as caught:
        await bench.batches()
    assert caught.value.limit is not None


@pytest.mark.parametrize(
    ("records", "how"),
    [
        ([record("Hi"), {"error": "model runner has unexpectedly stopped"}], {}),
        ([record("Hi")], {}),
        ([record("Hi"), b"{broken\n"], {}),
        ([record("Hi"), record("there")], {"cut_after": 150, "drop_connection": True}),
    ],
    ids=["an error", "no end", "no JSON", "a broken line"],
)
async def test_a_failure_in_the_middle_keeps_what_came_and_is_booked(bench: Bench, records: Any, how: Any) -> None:
    bench.ollama.play("/api/chat", records, pauses=0.02, **how)
    seen: list[Event] = []
    source = await bench.engine.chat(ask(stream=True), await bench.target(), bench.books)
    failure = await drained(source, seen)
    assert isinstance(failure, OproxyError)
    assert words(seen) == {0: "Hi"}
    assert bench.books.usage is not None
    assert bench.books.usage.completion > 0


async def drained(source: Any, into: list[Event]) -> OproxyError | None:
    """Read to the end; return what it failed with, raised or told."""
    try:
        async with aclosing(source) as batches:
            async for batch in batches:
                into.extend(batch)
    except OproxyError as exc:
        return exc
    return next((event.error for event in into if isinstance(event, Fail)), None)


@pytest.mark.parametrize("n", [1, 2])
async def test_leaving_in_the_middle_hangs_up_and_books_what_came(bench: Bench, n: int) -> None:
    for _ in range(n):
        bench.ollama.play("/api/chat", [record("Once upon"), DONE], hold_after=1)
    source = await bench.engine.chat(ask(stream=True, n=n), await bench.target(), bench.books)
    async with aclosing(source) as batches:
        assert words(await anext(batches))
    await asyncio.wait_for(bench.ollama.hangups.wait(), 5)
    assert bench.books.usage is not None
    assert (bench.books.usage.exact, bench.books.usage.completion > 0) == (False, True)
    assert bench.engine.fleet.members["ollama"].running == 0


async def test_a_cancelled_whole_answer_hangs_up(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [DONE], delay=30)
    work = asyncio.ensure_future(bench.whole())
    for _ in range(500):
        if bench.ollama.asked("/api/chat"):
            break
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(bench.ollama.hangups.wait(), 5)


async def test_a_forced_call_gets_an_id_of_ours(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [record('{"x": 1}', done=True, done_reason="stop")])
    tool = Tool("f", parameters={"type": "object", "properties": {"x": {"type": "integer"}}})
    events = await bench.whole(tools=(tool,), tool_choice=ToolChoice("required"))
    (start,) = [event for event in events if isinstance(event, ToolStart)]
    assert start.id.startswith("call_")
    assert len(start.id) == 29
    assert "".join(event.arguments for event in events if isinstance(event, ToolDelta)) == '{"x": 1}'


async def test_what_had_no_effect_is_booked(bench: Bench) -> None:
    await bench.whole(ignored=("user",), messages=(Message("user", (Words("Hi"),), "ann"),))
    assert bench.books.ignored == ("user", "messages.name")


async def test_an_answer_that_misses_its_schema_is_booked(bench: Bench) -> None:
    bench.ollama.play("/api/chat", [record('{"x": "no"}', done=True, done_reason="stop")])
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    events = await bench.whole(format=Format("schema", "s", schema))
    assert [event.reason for event in events if isinstance(event, Finish)] == ["content_filter"]
    assert "x" in bench.books.notes["schema_miss"]


# --- images -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def pictures() -> AsyncIterator[str]:
    """Return the URL of a server with one picture."""

    async def picture(request: web.BaseRequest) -> web.Response:
        return web.Response(body=GIF, content_type="image/gif")

    runner = web.ServerRunner(web.Server(picture), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/a.gif"
    await runner.cleanup()


def sees(bench: Bench) -> None:
    """Let the model see."""
    bench.ollama.play("/api/show", [{"capabilities": ["completion", "vision"], "details": {"family": "llama"}}])


async def test_an_image_is_fetched_and_sent(bench: Bench, pictures: str) -> None:
    sees(bench)
    await bench.whole(messages=(Message("user", (Words("Look"), Image(url=pictures, param="p"))),))
    (message,) = bench.ollama.asked("/api/chat")[0]["messages"]
    assert message["images"] == [base64.b64encode(GIF).decode()]


async def test_a_model_that_cannot_see_is_told_before_anything_is_fetched(bench: Bench) -> None:
    with pytest.raises(Invalid, match="cannot") as caught:
        await bench.whole(messages=(Message("user", (Image(url="http://127.0.0.1:9/", param="p"),)),))
    assert caught.value.param == "p"


async def test_an_image_in_a_tools_result_is_fetched_too(bench: Bench, pictures: str) -> None:
    sees(bench)
    answer = ToolResult("call_1", (Words("here"), Image(url=pictures, param="p")), "look")
    await bench.whole(messages=(HI, Message("tool", (answer,))))
    assert base64.b64encode(GIF).decode() in str(bench.ollama.asked("/api/chat")[0]["messages"])


# --- texts and embeddings -----------------------------------------------------------------------------------------


async def test_texts_are_continued_prompt_by_prompt(bench: Bench) -> None:
    for word in "abcd":
        answer = {"response": word, "done": True, "done_reason": "length", "prompt_eval_count": 2, "eval_count": 1}
        bench.ollama.play("/api/generate", [answer])
    prompts = [Completion(model="smollm2", prompt=text, sampling=Sampling(seed=1)) for text in ("x", "y")]
    target = await bench.target(kind="completion")
    events = await bench.engine.complete_whole(prompts, target, bench.books, copies=2)
    assert sorted(words(events)) == [0, 1, 2, 3]
    assert events[-1] == Usage(4, 4)
    asked = bench.ollama.asked("/api/generate")
    assert sorted((body["prompt"], body["options"]["seed"]) for body in asked) == [
        ("x", 1), ("x", 2), ("y", 1), ("y", 2),
    ]  # fmt: skip


async def test_a_text_of_no_tokens_asks_nobody(bench: Bench) -> None:
    prompt = Completion(model="smollm2", prompt="one two", sampling=Sampling(max_tokens=0))
    events = await bench.engine.complete_whole([prompt], await bench.target(), bench.books)
    assert events == [Finish(0, "length"), Usage(2, 0, exact=False)]
    assert bench.ollama.asked("/api/generate") == []


async def test_texts_are_embedded_in_order_and_counted(bench: Bench) -> None:
    target = await bench.target("all-minilm", "embedding")
    vectors = await bench.engine.embed(Embedding(model="all-minilm", inputs=("a", "bcd")), target, bench.books)
    assert [row[0] for row in vectors.rows] == [0.001, 0.003]
    assert vectors.tokens == 4
    assert bench.books.usage == Usage(4, 0)


async def test_a_backend_that_loses_an_embedding_is_at_fault(bench: Bench) -> None:
    bench.ollama.play("/api/embed", [{"embeddings": [[1.0]], "prompt_eval_count": 2}], type="application/json")
    target = await bench.target("all-minilm", "embedding")
    with pytest.raises(UpstreamDown, match="1 embeddings for 2 inputs"):
        await bench.engine.embed(Embedding(model="all-minilm", inputs=("a", "b")), target, bench.books)


async def test_a_model_is_loaded_with_the_window_that_its_requests_have(bench: Bench) -> None:
    await bench.engine.load(await bench.target(), keep_alive=-1)
    body = bench.ollama.asked("/api/generate")[-1]
    assert (body["options"]["num_ctx"], body["keep_alive"]) == (1024, -1)
    await bench.engine.load(await bench.target())
    assert bench.ollama.asked("/api/generate")[-1]["keep_alive"] == "5m"


def test_defaults_fill_only_what_is_open() -> None:
    own = Sampling(temperature=0.0, stop=("a",))
    assert with_sampling(own, {"temperature": 1.0, "stop": ("b",), "seed": 5}) == Sampling(
        temperature=0.0, stop=("a",), seed=5
    )
    assert with_sampling(own, {}) is own


def test_the_longest_input_is_what_counts_against_a_window() -> None:
    assert most(("a", "one two three"), "m") == 3
    assert most((), "m") == 0
