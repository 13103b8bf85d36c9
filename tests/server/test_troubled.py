"""Whatever one backend raises is that backend's trouble: the others answer, and it is told which is down and why."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from ollama_proxy.backends.http import translated
from ollama_proxy.errors import BackendError, Invalid, ModelNotFound
from ollama_proxy.server.keys import ENGINE
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import fake_openai

from .conftest import HELLO, config

LAB = '[backends.lab]\ntype = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
ERRORS: list[Exception] = [
    ValueError("Forbidden control character detected in headers. SECRET"),
    aiohttp.InvalidURL(URL("http://me:SECRET@h")),
    LookupError("unknown encoding: SECRET"),
    RecursionError("SECRET"),
    UnicodeEncodeError("ascii", "SECRET→", 6, 7, "no"),
    UnicodeError("label too long: SECRET"),
    ssl.SSLError(1, "SECRET"),
    ssl.SSLCertVerificationError(1, "SECRET"),
    OSError(24, "Too many open files: SECRET"),
    TypeError("SECRET"),
    KeyError("SECRET"),
    AssertionError("SECRET"),
    RuntimeError("SECRET"),
    msgspec.DecodeError("SECRET"),
    ModelNotFound("nothing"),
    Invalid("wrong"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_backend_that_raises_anything_is_down_alone(
    start_proxy: Start, ollama: FakeOllama, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    proxy = await start_proxy(LAB + config(ollama.url))

    async def raises(*args: Any, **kwargs: Any) -> Any:
        raise error

    lab = proxy.app[ENGINE].fleet["lab"]
    for name in ("models", "show", "running", "check", "load", "unload"):
        setattr(lab, name, raises)
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/chat/completions", json={"model": "smollm2", "messages": HELLO}) as response:
            assert response.status == 200
        for path in ("/v1/models", "/api/tags", "/oproxy/models", "/oproxy/running", "/api/ps"):
            async with http.get(path) as response:
                assert response.status == 200, path
        async with http.get("/v1/health") as response:
            body = await response.json()
            states = {each["name"]: each for each in body["backends"]}
        assert (response.status, states["ollama"]["state"], states["lab"]["state"]) == (200, "up", "down")
        assert states["lab"]["detail"]
        # Its own models are not "not there": it could not be asked.
        async with http.post("/v1/chat/completions", json={"model": "lab/x", "messages": HELLO}) as response:
            told = (await response.json())["error"]["message"]
            assert response.status == 502
    assert "SECRET" not in str(body) + told
    assert not caplog.records, "no traceback for each request"


@pytest.mark.parametrize("error", [each for each in ERRORS if not isinstance(each, (Invalid, ModelNotFound))], ids=repr)
def test_the_gate_lets_nothing_foreign_through(error: Exception) -> None:
    ours = translated(error, "lab", "Start it.")
    assert isinstance(ours, BackendError)
    assert (ours.status, ours.backend) == (502, "lab")
    assert "SECRET" not in ours.message


def test_what_is_no_error_of_the_backend_stays_what_it_is() -> None:
    for error in (asyncio.CancelledError(), KeyboardInterrupt(), MemoryError(), Invalid("x")):
        assert translated(error, "lab", "") is None


@pytest.mark.parametrize("key", ["sk-1\n", "sk-1\r\n", "\tsk-1 "])
async def test_white_space_around_a_key_of_the_environment_is_dropped(start_proxy: Start, key: str) -> None:
    async with fake_openai() as fake:
        fake.key = "sk-1"
        text = f'[backends.lab]\ntype = "openai"\nurl = "{fake.url}"\napi_key_env = "LAB_KEY"\n'
        proxy = await start_proxy(text, env={"LAB_KEY": key})
        async with (
            aiohttp.ClientSession(proxy.url) as http,
            http.post("/v1/chat/completions", json={"model": "small", "messages": HELLO}) as response,
        ):
            assert response.status == 200


@pytest.mark.parametrize("key", ["sk-\n1", "sk\x00"])
async def test_a_key_that_cannot_be_sent_takes_nobody_else_down(
    start_proxy: Start, ollama: FakeOllama, key: str
) -> None:
    """The config's check refuses it; what comes by another way is that backend's trouble."""
    async with fake_openai() as fake:
        text = f'[backends.lab]\ntype = "openai"\nurl = "{fake.url}"\napi_key_env = "LAB_KEY"\n'
        proxy = await start_proxy(text + config(ollama.url), env={"LAB_KEY": key})
        async with aiohttp.ClientSession(proxy.url) as http:
            async with http.post("/v1/chat/completions", json={"model": "smollm2", "messages": HELLO}) as response:
                assert response.status == 200
            async with http.get("/v1/health") as response:
                details = {each["name"]: each["detail"] for each in (await response.json())["backends"]}
    assert "See url, api_key and headers under [backends.lab]." in details["lab"]
