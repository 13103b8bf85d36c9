"""The embedded backend: its bookkeeping over fake children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.backends.embedded import CHAT_MODEL, EMBEDDING_MODEL, EmbeddedBackend
from ollama_proxy.backends.weights import SOURCES
from ollama_proxy.errors import ModelNotFound, Unsupported, UpstreamDown
from ollama_proxy.model import Call

ROOT = Path(__file__).resolve().parents[2]
FAKE = (sys.executable, "-P", str(ROOT / "tests" / "fakes" / "child.py"))


def gguf(**pairs: str | int) -> bytes:
    """Return the head of a GGUF file; `__` in a name is a dot."""
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs))
    for name, value in pairs.items():
        key = name.replace("__", ".").encode()
        data += struct.pack("<Q", len(key)) + key
        if isinstance(value, str):
            data += struct.pack("<IQ", 8, len(value.encode())) + value.encode()
        else:
            data += struct.pack("<II", 4, value)
    return data


CHAT = gguf(
    general__architecture="llama",
    general__file_type=3,
    general__size_label="135M",
    llama__context_length=8192,
    llama__embedding_length=576,
)
BERT = gguf(general__architecture="bert", general__file_type=1, bert__context_length=512, bert__embedding_length=384)


def install(data: Path, *names: str) -> None:
    """Put stand-ins for the models' files where `pull` would."""
    (data / "models").mkdir(exist_ok=True, parents=True)
    for name in names:
        content = BERT if name == EMBEDDING_MODEL else CHAT
        (data / "models" / SOURCES[name].file).write_bytes(content)


@asynccontextmanager
async def backend(data: Path, **kwargs: Any) -> AsyncIterator[EmbeddedBackend]:
    defaults: dict[str, Any] = {"clock": time.time, "command": FAKE, "needed": ()}
    made = EmbeddedBackend(name="embedded", data_dir=data, **(defaults | kwargs))
    try:
        yield made
    finally:
        await made.aclose()


async def ask(made: EmbeddedBackend, path: str, body: bytes = b"{}") -> dict[str, Any]:
    async with made.open(Call("POST", path, body)) as reply:
        assert reply.status == 200
        return dict(json.loads(await reply.read()))


async def until_down(made: EmbeddedBackend) -> None:
    async with asyncio.timeout(20):
        while (await made.check()).state != "down":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- models -----------------------------------------------------------------------------------------------------


async def test_the_installed_models_are_listed_with_what_their_files_say(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path) as made:
        chat, embedding = await made.models()
    assert (chat.id, chat.parameters, chat.quantization, chat.family) == (CHAT_MODEL, "135M", "Q4_1", "llama")
    assert chat.size == len(CHAT)
    assert chat.capabilities == frozenset({"completion", "tools"})
    assert chat.digest == f"sha256:{SOURCES[CHAT_MODEL].member_sha256}"
    assert (embedding.id, embedding.quantization, embedding.embedding_length) == (EMBEDDING_MODEL, "F16", 384)
    assert embedding.capabilities == frozenset({"embedding"})


async def test_a_models_context_is_what_we_serve_and_never_more_than_it_was_trained_for(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path, context=2048) as made:
        assert [info.context for info in await made.models()] == [2048, 512]
    async with backend(tmp_path, context=100_000) as made:
        assert [info.context for info in await made.models()] == [8192, 512]


async def test_nothing_installed_is_an_empty_list_and_down_with_the_command_that_helps(tmp_path: Path) -> None:
    async with backend(tmp_path) as made:
        assert await made.models() == ()
        health = await made.check()
        assert health.state == "down"
        assert "oproxy models pull smollm2-135m" in health.detail
        with pytest.raises(ModelNotFound, match="oproxy models pull smollm2-135m"):
            await made.show(CHAT_MODEL)


async def test_a_gguf_of_ones_own_is_called_by_its_stem_and_judged_by_its_template(tmp_path: Path) -> None:
    own = tmp_path / "Qwen3-0.6B.Q8_0.gguf"
    own.write_bytes(
        gguf(
            general__architecture="qwen3",
            general__file_type=7,
            qwen3__context_length=1024,
            tokenizer__chat_template="{% if tools %}{% endif %}{% if enable_thinking %}<think>{% endif %}",
        )
    )
    async with backend(tmp_path, model_path=str(own)) as made:
        (info,) = await made.models()
        assert (info.id, info.quantization, info.context) == ("Qwen3-0.6B.Q8_0", "Q8_0", 1024)
        assert info.capabilities == frozenset({"completion", "tools", "thinking"})
        assert info == await made.show("Qwen3-0.6B.Q8_0")
        with pytest.raises(Unsupported, match="a file of yours"):
            await made.delete("Qwen3-0.6B.Q8_0")
    assert own.exists()


async def test_a_file_that_is_no_gguf_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("hello")
    async with backend(tmp_path, model_path=str(tmp_path / "notes.gguf")) as made:
        assert await made.models() == ()
        with pytest.raises(ModelNotFound, match="is no GGUF file"):
            await ask(made, "/chat/completions")


async def test_an_unknown_model_is_told_with_the_known_ones(tmp_path: Path) -> None:
    async with backend(tmp_path) as made:
        with pytest.raises(ModelNotFound, match=f"has: {CHAT_MODEL}, {EMBEDDING_MODEL}"):
            await made.show("gpt-5")


async def test_delete_stops_the_child_and_removes_the_file(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path) as made:
        await made.load(CHAT_MODEL)
        await made.delete(CHAT_MODEL)
        assert await made.models() == ()
        assert await made.running() == ()
        with pytest.raises(ModelNotFound):
            await made.delete(CHAT_MODEL)


# --- calls ------------------------------------------------------------------------------------------------------


async def test_chat_and_embeddings_go_to_children_of_their_own(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path) as made:
        chat = await ask(made, "/chat/completions", b'{"a":1}')
        completion = await ask(made, "/v1/completions")
        embedding = await ask(made, "/embeddings")
    assert (chat["path"], completion["path"], embedding["path"]) == (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    )
    assert chat["body"] == '{"a":1}'
    assert chat["pid"] == completion["pid"] != embedding["pid"]
    assert chat["model"].endswith(SOURCES[CHAT_MODEL].file)
    assert embedding["model"].endswith(SOURCES[EMBEDDING_MODEL].file)


async def test_every_child_has_a_secret_key_of_its_own(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path) as made:
        keys = {(await ask(made, path))["authorization"] for path in ("/chat/completions", "/embeddings")}
    async with backend(tmp_path) as other:
        keys.add((await ask(other, "/chat/completions"))["authorization"])
    assert len(keys) == 3
    assert all(key.startswith("Bearer ") and len(key) > 40 for key in keys)


async def test_a_missing_file_is_never_fetched_by_a_request(tmp_path: Path) -> None:
    async with backend(tmp_path) as made:
        with pytest.raises(ModelNotFound, match="oproxy models pull all-minilm-l6-v2"):
            await ask(made, "/embeddings")
        assert await made.running() == ()


async def test_a_crash_in_the_middle_of_an_answer_is_told_and_the_next_request_starts_anew(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path) as made:
        first = (await ask(made, "/chat/completions"))["pid"]
        async with made.open(Call("POST", "/die", b"{}", stream=True)) as reply:
            chunks = reply.chunks()
            assert await anext(chunks) == b"half"
            with pytest.raises(UpstreamDown, match="embedded"):
                await anext(chunks)
        await until_down(made)
        assert (await ask(made, "/chat/completions"))["pid"] != first
        assert (await made.check()).state == "up"


async def test_a_missing_extra_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path, needed=("no_such_module",)) as made:
        health = await made.check()
        assert health.state == "down"
        assert "pip install 'ollama-proxy[embedded]'" in health.detail
        assert "pip install 'ollama-proxy[embedded]'" in made.hint
        with pytest.raises(UpstreamDown, match="no_such_module"):
            await ask(made, "/chat/completions")
        assert [info.id for info in await made.models()] == [CHAT_MODEL]


# --- life -------------------------------------------------------------------------------------------------------


async def test_health_is_idle_then_up_then_idle_again(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path) as made:
        assert (await made.check()).state == "idle"
        await made.load(CHAT_MODEL)
        health = await made.check()
        assert (health.state, health.version) == ("up", "1.0")
        await made.unload(CHAT_MODEL)
        assert (await made.check()).state == "idle"


async def test_running_lists_started_children_with_their_memory(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path, clock=lambda: 1000.0, wall=lambda: 1_700_000_000.0, idle=300.0) as made:
        assert await made.running() == ()
        await made.load(EMBEDDING_MODEL)
        (running,) = await made.running()
        assert (running.id, running.context, running.expires_at) == (EMBEDDING_MODEL, 512, 1_700_000_300.0)
        assert sys.platform == "win32" or (running.size is not None and running.size > 1_000_000)


@pytest.mark.parametrize(
    ("keep_alive", "expires"),
    [("5m", 1300.0), (60, 1060.0), ("90s", 1090.0), ("1h", 4600.0), (-1, None), ("-1m", None)],
)
async def test_keep_alive_is_understood_as_ollama_does(
    tmp_path: Path, keep_alive: str | int, expires: float | None
) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path, clock=lambda: 1000.0, wall=lambda: 1000.0) as made:
        await made.load(CHAT_MODEL, keep_alive=keep_alive)
        assert [running.expires_at for running in await made.running()] == [expires]


async def test_a_keep_alive_of_zero_unloads(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path) as made:
        await made.load(CHAT_MODEL)
        await made.load(CHAT_MODEL, keep_alive=0)
        assert await made.running() == ()


async def test_a_keep_alive_that_is_none_is_refused(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL)
    async with backend(tmp_path) as made:
        with pytest.raises(Unsupported, match="keep_alive"):
            await made.load(CHAT_MODEL, keep_alive="soon")


async def test_aclose_ends_all_children(tmp_path: Path) -> None:
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    async with backend(tmp_path) as made:
        pids = [(await ask(made, path))["pid"] for path in ("/chat/completions", "/embeddings")]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_importing_the_backend_loads_nothing_of_the_extra() -> None:
    program = (
        "import sys, ollama_proxy.backends.embedded, ollama_proxy.backends.weights\n"
        "print({'xllamacpp', 'numpy', 'gguf', 'safetensors'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "none"
