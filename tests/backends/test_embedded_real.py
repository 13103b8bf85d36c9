"""The embedded backend with the real llama.cpp and the real models, which are fetched once and kept.

`llamacpp/*.json` are its answers as recorded (request, status, body); whoever reads them elsewhere may trust them, for
here the same requests are asked again and must be answered in the same shape. Skipped where the extra or the package
index is not there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ollama_proxy.backends import weights
from ollama_proxy.backends.embedded import CHAT_MODEL, EMBEDDING_MODEL, EmbeddedBackend
from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.framing import SseDecoder
from ollama_proxy.model import Call

ROOT = Path(__file__).resolve().parents[2]
# Read at import: the suite may point HOME elsewhere later, and the models are to be fetched once, not once a run.
MODELS = Path(os.environ.get("OPROXY_TEST_MODELS") or Path.home() / ".cache" / "oproxy-tests")
RECORDED = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (Path(__file__).parent / "llamacpp").glob("*.json")
}

missing = [m for m in ("xllamacpp", "gguf", "numpy", "safetensors") if importlib.util.find_spec(m) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"the extra `embedded` is not installed: {missing}"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models() -> Path:
    for name in (CHAT_MODEL, EMBEDDING_MODEL):
        try:
            await weights.ensure(name, MODELS)
        except UpstreamFailed as exc:
            pytest.skip(f"no weights: {exc}")
    return MODELS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(models: Path) -> AsyncIterator[EmbeddedBackend]:
    made = EmbeddedBackend(name="embedded", data_dir=models, clock=time.time, context=1024)
    yield made
    await made.aclose()


async def ask(real: EmbeddedBackend, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    async with real.open(Call("POST", path, json.dumps(body).encode())) as reply:
        return reply.status, await reply.read()


def records(answer: bytes) -> list[Any]:
    """Return the JSON documents of an answer, streamed or not."""
    if answer.startswith(b"{"):
        return [json.loads(answer)]
    decoder = SseDecoder()
    events = [*decoder.feed(answer), *decoder.flush()]
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


def shape(value: Any) -> Any:
    """Return keys and types without values; a list is the set of its elements' shapes."""
    if isinstance(value, dict):
        return tuple((key, shape(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return frozenset(map(shape, value))
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("name", sorted(RECORDED))
async def test_it_still_answers_in_the_shape_recorded(real: EmbeddedBackend, name: str) -> None:
    case = RECORDED[name]
    status, answer = await ask(real, case["path"], case["body"])
    assert status == case["status"]
    assert shape(records(answer)) == shape(records(case["answer"].encode()))


async def test_the_recordings_cover_whole_and_streamed_answers_tools_and_errors() -> None:
    assert {"chat", "chat_stream", "tools", "tools_stream", "schema", "overflow", "completion"} <= set(RECORDED)


async def test_two_examples_make_the_model_call_the_tool_with_arguments_that_fit(real: EmbeddedBackend) -> None:
    _, answer = await ask(real, "/chat/completions", RECORDED["tools"]["body"])
    choice = json.loads(answer)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}


async def test_a_tools_result_goes_into_the_prompt(real: EmbeddedBackend) -> None:
    body = RECORDED["tools"]["body"]
    told = [*body["messages"][:2], {"role": "tool", "tool_call_id": "call_1", "content": "sunny and 31 degrees"}]
    status, answer = await ask(real, "/apply-template", {"messages": told, "tools": body["tools"]})
    assert status == 200
    prompt = json.loads(answer)["prompt"]
    assert "<tools>\n{" in prompt
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>' in prompt
    assert "<tool_response>\nsunny and 31 degrees\n</tool_response>" in prompt


async def test_without_tools_our_template_says_what_the_models_own_says(real: EmbeddedBackend) -> None:
    asked = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    _, answer = await ask(real, "/apply-template", {"messages": asked})
    assert json.loads(answer)["prompt"] == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\n?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


async def test_an_answer_with_a_schema_fits_the_schema(real: EmbeddedBackend) -> None:
    _, answer = await ask(real, "/chat/completions", RECORDED["schema"]["body"])
    value = json.loads(json.loads(answer)["choices"][0]["message"]["content"])
    assert set(value) == {"city", "temp"}
    assert isinstance(value["city"], str)
    assert isinstance(value["temp"], int)


async def test_embeddings_are_unit_vectors_that_know_what_is_alike(real: EmbeddedBackend) -> None:
    texts = ["A cat sits on the mat.", "A kitten is lying on a rug.", "The stock market fell sharply."]
    _, answer = await ask(real, "/embeddings", {"input": texts})
    cat, kitten, stock = (row["embedding"] for row in json.loads(answer)["data"])
    assert [len(cat), len(kitten), len(stock)] == [384] * 3
    assert math.isclose(dot(cat, cat), 1.0, abs_tol=1e-3)
    assert dot(cat, kitten) > 0.5 > 0.2 > dot(cat, stock)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def busy(real: EmbeddedBackend) -> bool:
    async with real.open(Call("GET", "/slots")) as reply:
        return any(slot["is_processing"] for slot in json.loads(await reply.read()))


async def test_leaving_a_stream_frees_the_model(real: EmbeddedBackend) -> None:
    body = {"messages": [{"role": "user", "content": "Count."}], "stream": True, "ignore_eos": True, "max_tokens": 900}
    async with real.open(Call("POST", "/chat/completions", json.dumps(body).encode(), stream=True)) as reply:
        chunks = reply.chunks()
        assert await anext(chunks)
        assert await busy(real)
    async with asyncio.timeout(3):
        while await busy(real):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_without_our_key_nobody_gets_in(real: EmbeddedBackend) -> None:
    await real.load(CHAT_MODEL)
    post = real._chat
    key, post.key = post.key, "guessed"
    try:
        status, _ = await ask(real, "/chat/completions", RECORDED["chat"]["body"])
    finally:
        post.key = key
    assert status == 401


PARENT = """
import asyncio, sys, time
from pathlib import Path
from ollama_proxy.backends.embedded import CHAT_MODEL, EmbeddedBackend

async def main():
    backend = EmbeddedBackend(name="e", data_dir=Path(sys.argv[1]), clock=time.time, context=256)
    await backend.load(CHAT_MODEL)
    print(backend._chat.child.address.url, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_the_real_child_ends_with_a_parent_killed_with_sigkill(models: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(models)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    host, port = (await parent.stdout.readline()).decode().strip().removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:
                break
            writer.close()
            await asyncio.sleep(0.02)
