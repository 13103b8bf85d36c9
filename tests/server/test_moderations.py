"""Judgements over HTTP: guards and chat models behind, one request at the gate, one row in the books."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import openai
import pytest

from ollama_proxy.policy.books import Books
from ollama_proxy.policy.guard_words import GRANITE, SHIELD
from ollama_proxy.server.answers import ANSWERS
from ollama_proxy.server.keys import ENGINE
from ollama_proxy.translate.moderations import CATEGORIES
from tests.conftest import Proxy, Start
from tests.fakes.ollama import Answer, FakeOllama, whole
from tests.fakes.openai import Answer as Passed
from tests.fakes.openai import fake_openai
from tests.server.conftest import config
from tests.shapes import check

PNG = "data:image/png;base64,iVBORw0KGgo="
DETAILS = {"family": "llama", "families": ["llama"], "parameter_size": "1B", "quantization_level": "Q4_0"}
COUNTS = {"prompt_eval_count": 10, "eval_count": 2}


class Judges(FakeOllama):
    """An Ollama with models that judge by a word: what holds "evil" is hateful."""

    def __init__(self) -> None:
        super().__init__()
        self.models = []
        self.said: str | None = None
        self.hold: asyncio.Event | None = None
        self.running = self.most = 0

    def have(self, name: str, *able: str) -> None:
        entry = {"name": name, "model": name, "size": 1, "digest": name, "modified_at": "2026-11-21T06:02:59Z"}
        self.models.append({**entry, "details": DETAILS, "capabilities": ["completion", *able]})

    def _of_model(self, path: str, body: dict[str, Any], model: dict[str, Any]) -> Answer:
        if path not in ("/api/chat", "/api/generate"):
            return super()._of_model(path, body, model)
        put = body.get("prompt") or body["messages"][-1]["content"]
        said = self.said if self.said is not None else verdict(model["name"], body, "evil" in put)
        done = {"model": model["name"], "done": True, "done_reason": "stop", **COUNTS}
        if path == "/api/generate":
            return whole({**done, "response": said})
        return whole({**done, "message": {"role": "assistant", "content": said}})

    async def _send(self, request: Any, answer: Answer) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hold is not None and request.path in ("/api/chat", "/api/generate"):
                await self.hold.wait()
            return await super()._send(request, answer)
        finally:
            self.running -= 1


def verdict(name: str, body: dict[str, Any], evil: bool) -> str:
    if name.startswith("llama-guard"):
        return "unsafe\nS10" if evil else "safe"
    if name.startswith("shieldgemma"):
        return "Yes" if evil and "No Hate Speech" in body["prompt"] else "No"
    if name.startswith("granite"):
        return "Yes" if evil and body["messages"][0]["content"] == "social_bias" else "No"
    return json.dumps({category: int(evil and category == "hate") for category in CATEGORIES})


class Court(NamedTuple):
    proxy: Proxy
    ollama: Judges
    http: aiohttp.ClientSession

    async def judge(self, given: Any, **body: Any) -> tuple[int, Any, Any]:
        async with self.http.post("/v1/moderations", json={"input": given, **body}) as response:
            return response.status, await response.json(), response.headers


@pytest.fixture
async def ollama() -> AsyncIterator[Judges]:
    async with Judges() as fake:
        yield fake


@pytest.fixture
async def court(start_proxy: Start, ollama: Judges) -> AsyncIterator[Court]:
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as session:
        yield Court(proxy, ollama, session)


@pytest.mark.parametrize(
    ("name", "header", "calls"),
    [
        ("llama-guard3:1b", "guard/llama-guard3:1b", 1),
        ("shieldgemma:2b", "guard/shieldgemma:2b", len(SHIELD)),
        ("granite3-guardian:2b", "guard/granite3-guardian:2b", len(GRANITE)),
        ("llama3.2:latest", "chat/llama3.2:latest", 1),
    ],
)
async def test_every_judge_gives_openais_answer(court: Court, name: str, header: str, calls: int) -> None:
    court.ollama.have(name)
    status, body, headers = await court.judge(["good", "evil", "fine"])
    assert status == 200
    check("CreateModerationResponse", body)
    assert (headers["x-oproxy-moderation"], body["model"]) == (header, "omni-moderation-latest")
    assert [result["flagged"] for result in body["results"]] == [False, True, False]
    assert body["results"][1]["categories"]["hate"] is True
    asked = court.ollama.asked("/api/generate" if name.startswith("shield") else "/api/chat")
    assert len(asked) == 3 * calls
    assert all(call["options"]["temperature"] == 0 for call in asked)
    assert "x-oproxy-ignored" not in headers


async def test_a_guard_is_asked_before_a_chat_model_and_settings_choose(start_proxy: Start, ollama: Judges) -> None:
    for name in ("llama3.2", "llama-guard3", "qwen3"):
        ollama.have(f"{name}:latest")
    for settings, header in (
        ("", "guard/llama-guard3:latest"),
        ('[moderations]\nmethod = "chat"\n[models]\ndefault = "qwen3"\n', "chat/qwen3:latest"),
        ('[moderations]\nmethod = "guard"\n', "guard/llama-guard3:latest"),
        ('[moderations]\nmodel = "llama3.2"\n', "chat/llama3.2:latest"),
        ('[models.aliases]\n"omni-moderation-latest" = "qwen3"\n', "chat/qwen3:latest"),
    ):
        proxy = await start_proxy(config(ollama.url, settings))
        async with (
            aiohttp.ClientSession(proxy.url) as http,
            http.post("/v1/moderations", json={"input": "a"}) as response,
        ):
            assert (response.status, response.headers["x-oproxy-moderation"]) == (200, header), settings


async def test_a_model_is_taken_by_its_name(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    court.ollama.have("llama3.2:latest")
    _, body, headers = await court.judge("evil", model="llama3.2")
    assert headers["x-oproxy-moderation"] == "chat/llama3.2:latest"
    assert (body["model"], body["results"][0]["flagged"]) == ("llama3.2", True)
    status, body, _ = await court.judge("evil", model="nothing")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("settings", ["", '[moderations]\nmethod = "guard"\n', '[moderations]\nmodel = "gone"\n'])
async def test_no_judge_is_a_refusal_that_says_what_to_do(start_proxy: Start, ollama: Judges, settings: str) -> None:
    if settings:
        ollama.have("llama3.2:latest")
    proxy = await start_proxy(config(ollama.url, settings))
    async with aiohttp.ClientSession(proxy.url) as http, http.post("/v1/moderations", json={"input": "a"}) as response:
        body = await response.json()
    assert (response.status, body["error"]["code"]) == (404, "model_not_found")
    assert ("[moderations]" if "gone" in settings else "oproxy models pull") in body["error"]["message"]
    check("ErrorResponse", body)


async def test_parts_have_one_result_together(court: Court) -> None:
    court.ollama.have("llama3.2:latest", "vision")
    image = {"type": "image_url", "image_url": {"url": PNG}}
    status, body, _ = await court.judge([{"type": "text", "text": "evil"}, image, {"type": "text", "text": "b"}])
    assert (status, len(body["results"])) == (200, 1)
    check("CreateModerationResponse", body)
    (call,) = court.ollama.asked("/api/chat")
    assert json.loads(call["messages"][-1]["content"]) == {"content": ["evil", "b"]}
    assert call["messages"][-1]["images"] == ["iVBORw0KGgo="]
    assert call["format"]["additionalProperties"] is False


@pytest.mark.parametrize("name", ["llama3.2", "shieldgemma", "llama-guard3", "granite3-guardian"])
async def test_images_that_a_model_cannot_see_are_refused(court: Court, name: str) -> None:
    court.ollama.have(f"{name}:latest")
    status, body, _ = await court.judge([{"type": "image_url", "image_url": {"url": PNG}}], model=name)
    assert (status, body["error"]["code"]) == (400, "invalid_content_type")
    assert court.ollama.asked("/api/chat") == court.ollama.asked("/api/generate") == []


async def test_images_go_to_a_model_that_sees_where_nobody_chose_one(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    court.ollama.have("llava:latest", "vision")
    _, _, headers = await court.judge([{"type": "image_url", "image_url": {"url": PNG}}])
    assert headers["x-oproxy-moderation"] == "chat/llava:latest"


async def test_empty_texts_are_not_asked_about(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    status, body, _ = await court.judge(["", "evil", " "])
    assert [result["flagged"] for result in body["results"]] == [False, True, False]
    assert len(court.ollama.asked("/api/chat")) == 1
    status, body, _ = await court.judge("")
    assert (status, body["results"][0]["flagged"]) == (200, False)
    check("CreateModerationResponse", body)


@pytest.mark.parametrize("said", ["", "I will not.", '{"hate": 1}'])
async def test_an_answer_that_is_no_verdict_is_the_backends_fault(court: Court, said: str) -> None:
    court.ollama.have("llama3.2:latest")
    court.ollama.said = said
    status, body, _ = await court.judge(["a", "b"])
    assert status == 502
    assert "[moderations]" in body["error"]["message"]


async def test_a_text_that_is_too_long_is_told_as_the_input(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    court.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    status, body, _ = await court.judge("long")
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "input")


async def test_a_backend_that_fails_once_fails_the_request(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    court.ollama.play("/api/chat", [{"error": "model runner has unexpectedly stopped"}], status=500)
    status, body, _ = await court.judge(["a", "b", "c"])
    assert status >= 500
    assert "unexpectedly stopped" in body["error"]["message"]


async def test_texts_are_asked_about_at_once_but_not_all(start_proxy: Start, ollama: Judges) -> None:
    ollama.have("llama-guard3:latest")
    proxy = await start_proxy(config(ollama.url, "[queue]\nmax_concurrent = 3\n"))
    ollama.hold = asyncio.Event()
    async with aiohttp.ClientSession(proxy.url) as http:
        request = asyncio.ensure_future(http.post("/v1/moderations", json={"input": ["evil"] * 8}))
        for _ in range(500):
            if ollama.running == 3 and len(ollama.asked("/api/chat")) == 3:
                break
            await asyncio.sleep(0.01)
        ollama.hold.set()
        async with await request as response:
            assert len((await response.json())["results"]) == 8
    assert ollama.most == 3
    assert proxy.app[ENGINE].turns.state() == {}


async def test_a_request_counts_once_and_all_that_it_took_is_booked(start_proxy: Start, ollama: Judges) -> None:
    ollama.have("llama-guard3:latest")
    proxy = await start_proxy(config(ollama.url, "[limits]\nrequests_per_minute = 10\n"), books=True, control="boss")
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/moderations", json={"input": ["a"] * 5}) as response:
            assert response.status == 200
            assert response.headers["x-ratelimit-remaining-requests"] == "9"
        where = f"/v1/organization/usage/moderations?start_time={int(time.time()) - 60}&group_by=model"
        async with http.get(where, headers={"authorization": "Bearer boss"}) as usage:
            found = [row for bucket in (await usage.json())["data"] for row in bucket["results"]]
    assert [(row["input_tokens"], row["num_model_requests"], row["model"]) for row in found] == [
        (50, 1, "omni-moderation-latest")
    ]


async def test_a_key_may_be_bound_to_openais_name_alone(start_proxy: Start, ollama: Judges) -> None:
    ollama.have("llama-guard3:latest")
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control="boss")
    async with aiohttp.ClientSession(proxy.url, headers={"authorization": "Bearer boss"}) as http:
        async with http.post("/oproxy/keys", json={"name": "m", "models": ["omni-moderation-*"]}) as made:
            secret = (await made.json())["key"]
        mine = {"authorization": f"Bearer {secret}"}
        async with http.post("/v1/moderations", json={"input": "a"}, headers=mine) as response:
            assert response.status == 200
        body = {"input": "a", "model": "llama-guard3"}
        async with http.post("/v1/moderations", json=body, headers=mine) as response:
            assert response.status in (403, 404)


async def test_an_answer_without_a_request_is_the_same(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    books = Books(0.0)
    body = json.loads(await ANSWERS["/v1/moderations"](court.proxy.app, b'{"input":"evil"}', books))
    check("CreateModerationResponse", body)
    assert body["results"][0]["flagged"] is True
    assert books.usage is not None
    assert (books.usage.prompt, books.served) == (10, "llama-guard3:latest")


async def test_the_sdk_reads_it(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")
    async with openai.AsyncOpenAI(base_url=f"{court.proxy.url}/v1", api_key="x", max_retries=0) as client:
        for model in ("omni-moderation-latest", "text-moderation-latest"):
            made = await client.moderations.create(input="evil", model=model)
            assert made.id.startswith("modr-")
            assert made.results[0].categories.hate is True
            assert made.results[0].category_scores.hate == 1.0
            assert made.results[0].flagged


async def test_scores_are_the_backends_likelihoods(court: Court) -> None:
    court.ollama.have("llama-guard3:latest")

    def token(text: str, logprob: float, *top: Any) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": list(top)}

    both = token("unsafe", -0.25), token("safe", -1.5)
    told = [token("\n\n", 0.0), token("unsafe", -0.25, *both), token("\n", 0.0), token("S10", 0.0)]
    answer = {"message": {"role": "assistant", "content": "\n\nunsafe\nS10"}, "done": True, "logprobs": told}
    court.ollama.play("/api/chat", [{"model": "llama-guard3", "done_reason": "stop", **COUNTS, **answer}])
    _, body, _ = await court.judge("x")
    (call,) = court.ollama.asked("/api/chat")
    assert (call["logprobs"], call["top_logprobs"]) == (True, 5)
    assert body["results"][0]["category_scores"]["hate"] == pytest.approx(1 / (1 + math.exp(-1.25)))


async def test_a_client_that_leaves_frees_the_model(start_proxy: Start, ollama: Judges) -> None:
    ollama.have("llama-guard3:latest")
    proxy = await start_proxy(config(ollama.url, "[queue]\nmax_concurrent = 2\n"))
    ollama.hold = asyncio.Event()
    async with aiohttp.ClientSession(proxy.url) as http:
        request = asyncio.ensure_future(http.post("/v1/moderations", json={"input": ["a"] * 5}))
        for _ in range(500):
            if len(ollama.asked("/api/chat")) == 2:
                break
            await asyncio.sleep(0.01)
        request.cancel()
        await asyncio.wait_for(ollama.hangups.wait(), 5)
        for _ in range(500):
            if not proxy.app[ENGINE].turns.state():
                break
            await asyncio.sleep(0.01)
    assert proxy.app[ENGINE].turns.state() == {}
    assert len(ollama.asked("/api/chat")) == 2


async def test_a_backend_that_has_openais_own_model_is_passed_the_request(start_proxy: Start) -> None:
    result = {"id": "modr-7", "model": "omni-moderation-latest", "results": [{"flagged": True}]}
    async with fake_openai() as lab:
        lab.models = [{"id": "omni-moderation-latest", "object": "model", "created": 1, "owned_by": "openai"}]
        bodies: list[dict[str, Any]] = [{}, {"results": []}, {"results": [1]}, {"choices": []}]
        odd = [Passed(body=body) for body in bodies]
        refused = Passed(status=400, body={"error": {"message": "No."}})
        lab.script("/moderations", Passed(body=result), refused, *odd)
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n')
        async with aiohttp.ClientSession(proxy.url) as http:
            async with http.post("/v1/moderations", json={"input": "a", "new": 1}) as response:
                assert await response.json() == result
                assert response.headers["x-oproxy-moderation"] == "passed/omni-moderation-latest"
            async with http.post("/v1/moderations", json={"input": "a"}) as response:
                assert (response.status, (await response.json())["error"]["message"]) == (400, "No.")
            for _ in odd:
                async with http.post("/v1/moderations", json={"input": "a"}) as response:
                    assert response.status == 502
        sent = [call.body for call in lab.calls if call.path == "/moderations"]
    assert sent[0] == {"input": "a", "new": 1, "model": "omni-moderation-latest"}
