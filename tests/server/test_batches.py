"""Batches over HTTP: made, told of, cancelled, and what their lines leave in files, ledger and limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

import aiohttp
import openai
import pytest

from ollama_proxy.server.answers import ANSWERS
from ollama_proxy.server.batches import KINDS
from ollama_proxy.server.keys import BATCHES
from ollama_proxy.translate.shapes_batches import Endpoint
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import Setup
from tests.server.conftest import config as impatient
from tests.server.test_ledger import rows
from tests.server.test_moderations import Judges
from tests.shapes import check

OVER = {"completed", "failed", "expired", "cancelled"}
QUIET = "[logs]\nrequests = false\n"


def line(id: str, text: str = "Hello", url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    """Return a request of a batch."""
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": id, "method": "POST", "url": url, "body": asked}


def jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


class Client:
    """What a client of batches does, by plain HTTP."""

    def __init__(self, http: aiohttp.ClientSession, key: str = "") -> None:
        self.http = http
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    async def upload(self, data: bytes, purpose: str = "batch") -> str:
        form = aiohttp.FormData()
        form.add_field("purpose", purpose)
        form.add_field("file", data, filename="in.jsonl")
        async with self.http.post("/v1/files", data=form, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["id"])

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.http.post(path, json=body, headers=self.headers) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path, headers=self.headers) as response:
            return response.status, await response.json()

    async def submit(self, lines: Sequence[Any] | bytes, **more: Any) -> dict[str, Any]:
        file = await self.upload(lines if isinstance(lines, bytes) else jsonl(lines))
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
        status, batch = await self.post("/v1/batches", asked)
        assert status == 200, batch
        return dict(batch)

    async def batch(self, id: str) -> dict[str, Any]:
        status, batch = await self.get(f"/v1/batches/{id}")
        assert status == 200, batch
        check("Batch", {name: value for name, value in batch.items() if value is not None})
        return dict(batch)

    async def over(self, id: str) -> dict[str, Any]:
        """Return a batch once it is over."""
        async with asyncio.timeout(20):
            while (batch := await self.batch(id))["status"] not in OVER:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return batch

    async def results(self, id: str | None) -> dict[str, dict[str, Any]]:
        """Return the lines of a results file by their custom ids."""
        assert id is not None
        async with self.http.get(f"/v1/files/{id}/content", headers=self.headers) as response:
            assert response.status == 200
            found = [json.loads(each) for each in (await response.text()).splitlines()]
        assert len({each["custom_id"] for each in found}) == len(found)
        return {each["custom_id"]: each for each in found}


async def chats(ollama: FakeOllama, count: int = 1) -> None:
    """Return when the model was asked so often."""
    async with asyncio.timeout(10):
        while len(ollama.asked("/api/chat")) < count:
            ollama.arrived.clear()
            await ollama.arrived.wait()


def config(url: str, more: str = "") -> str:
    """Return a config for backends that may be as slow as a test wants them."""
    return impatient(url, more).replace("read_timeout = 2", "read_timeout = 60")


@pytest.fixture
async def setup(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Setup]:
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as session:
        yield Setup(proxy, ollama, session)


@pytest.fixture
async def client(setup: Setup) -> Client:
    setup.proxy.app[BATCHES].lines.first_wait = 0.01
    return Client(setup.http)


async def test_a_batch_is_answered_line_by_line(setup: Setup, client: Client) -> None:
    made = await client.submit([line("a", "one"), line("b", "two")], metadata={"for": "test"})

    assert made["status"] == "validating"
    assert set(made) >= {"id", "object", "errors", "output_file_id", "cancelled_at", "usage", "model"}
    over = await client.over(made["id"])
    assert over["status"] == "completed", over
    assert over["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert over["error_file_id"] is None
    found = await client.results(over["output_file_id"])
    assert set(found) == {"a", "b"}
    assert found["a"]["error"] is None
    assert found["a"]["response"]["status_code"] == 200
    check("CreateChatCompletionResponse", found["a"]["response"]["body"])
    assert over["usage"]["input_tokens"] == 42
    assert over["usage"]["total_tokens"] == 42 + over["usage"]["output_tokens"]


async def test_the_sdk_makes_polls_lists_and_cancels_batches_and_reads_their_results(
    setup: Setup, client: Client
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="sk-any") as sdk:
        file = await sdk.files.create(file=("in.jsonl", jsonl([line("a"), line("b")])), purpose="batch")
        made = await sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"k": "v"},
            output_expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (made.object, made.status, made.metadata) == ("batch", "validating", {"k": "v"})
        assert made.expires_at == made.created_at + 86400
        await client.over(made.id)
        over = await sdk.batches.retrieve(made.id)
        assert over.status == "completed"
        assert over.usage is not None
        assert over.output_file_id is not None
        results = await sdk.files.content(over.output_file_id)
        assert len(results.text.splitlines()) == 2
        output = await sdk.files.retrieve(over.output_file_id)
        assert output.purpose == "batch_output"
        assert output.filename == f"{made.id}_output.jsonl"
        assert output.expires_at == output.created_at + 3600

        second = await sdk.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        await client.over(second.id)
        assert [each.id async for each in sdk.batches.list(limit=1)] == [second.id, made.id]
        _, page = await client.get("/v1/batches?limit=1")
        page["data"] = [{name: value for name, value in each.items() if value is not None} for each in page["data"]]
        check("ListBatchesResponse", page)
        assert (page["first_id"], page["last_id"], page["has_more"]) == (second.id, second.id, True)
        with pytest.raises(openai.ConflictError) as caught:
            await sdk.batches.cancel(made.id)
        assert caught.value.body["message"] == "Cannot cancel a batch with status 'completed'."  # type: ignore[index]
        with pytest.raises(openai.NotFoundError):
            await sdk.batches.retrieve("batch_nowhere")


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ({"endpoint": "/v1/audio/speech"}, "endpoint", "invalid_value"),
        ({"endpoint": None}, "endpoint", "invalid_type"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"input_file_id": 7}, "input_file_id", "invalid_type"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "output_expires_after.seconds",
            "integer_below_min_value",
        ),
    ],
)
async def test_a_wrong_request_is_refused_as_openai_does(
    client: Client, wrong: dict[str, Any], param: str, code: str
) -> None:
    asked = {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "24h", **wrong}
    status, answer = await client.post("/v1/batches", asked)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, code), answer
    check("ErrorResponse", answer)


async def test_what_is_missing_or_not_there_is_named(client: Client) -> None:
    status, answer = await client.post("/v1/batches", {})
    assert (status, answer["error"]["code"]) == (400, "missing_required_parameter")
    asked = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
    asked["input_file_id"] = await client.upload(b"x", purpose="user_data")
    status, answer = await client.post("/v1/batches", asked)
    assert (status, answer["error"]["param"]) == (400, "input_file_id")
    for path in ("/v1/batches/batch_x", "/v1/batches/%00"):
        assert (await client.get(path))[0] == 404
    assert (await client.post("/v1/batches/batch_x/cancel"))[0] == 404
    assert (await client.get("/v1/batches?after=batch_x"))[0] == 400
    assert (await client.get("/v1/batches?limit=101"))[0] == 400


@pytest.mark.parametrize("id", ["file-nonexistent-xyz", "../../etc/passwd", "file-\0", "x" * 5000])
async def test_a_batch_of_a_file_that_is_not_there_fails_as_at_openai(client: Client, id: str) -> None:
    asked = {"input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    status, made = await client.post("/v1/batches", asked)
    assert (status, made["status"], made["errors"]) == (200, "validating", None)
    over = await client.over(made["id"])
    assert over["status"] == "failed"
    assert over["failed_at"] is not None
    assert over["errors"]["data"] == [
        {
            "code": "invalid_request",
            "line": None,
            "message": f"Cannot find file {id[:100]}, or organization org-oproxy does not have access to it.",
            "param": "file_id",
        }
    ]
    assert over["request_counts"] == {"total": 0, "completed": 0, "failed": 0}


async def test_an_unknown_key_is_named_and_every_null_is_accepted(setup: Setup, client: Client) -> None:
    file = await client.upload(jsonl([line("a")]))
    asked = {
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": None,
        "output_expires_after": None,
        "priority": "high",
    }
    async with setup.http.post("/v1/batches", json=asked) as response:
        assert response.status == 200
        assert response.headers["x-oproxy-ignored"] == "priority"


async def test_what_is_wrong_with_lines_is_told_when_they_were_looked_through(setup: Setup, client: Client) -> None:
    lines = [line("a"), line("b", model="nosuch"), line("c", stream=True), line("a"), line("d", url="/v1/embeddings")]
    made = await client.submit(jsonl(lines) + b"no json\n")
    over = await client.over(made["id"])
    assert (over["status"], over["output_file_id"], over["error_file_id"]) == ("failed", None, None)
    assert [(each["line"], each["code"], each["param"]) for each in over["errors"]["data"]] == [
        (2, "model_not_found", "body.model"),
        (3, "streaming_unsupported", "body.stream"),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "invalid_url", "url"),
        (6, "invalid_json_line", None),
    ]
    assert over["errors"]["data"][0]["message"] == "The provided model 'nosuch' is not supported by the Batch API."
    assert setup.ollama.asked("/api/chat") == []


# --- answered -----------------------------------------------------------------------------------------------------


async def test_what_a_line_is_refused_with_goes_to_the_errors_file(client: Client) -> None:
    made = await client.submit([line("good"), line("bad", temperature=9), line("worse", messages=[])])
    over = await client.over(made["id"])
    assert over["status"] == "completed"
    assert over["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert set(await client.results(over["output_file_id"])) == {"good"}
    errors = await client.results(over["error_file_id"])
    assert set(errors) == {"bad", "worse"}
    assert errors["bad"]["response"]["status_code"] == 400
    assert errors["bad"]["response"]["body"]["error"]["code"] == "decimal_above_max_value"
    assert errors["bad"]["response"]["request_id"].startswith("req_")
    assert errors["bad"]["error"] is None


async def test_a_backend_that_fails_is_asked_again(setup: Setup, client: Client) -> None:
    for _ in range(2):
        setup.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    made = await client.submit([line("a")])
    over = await client.over(made["id"])
    assert over["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    for _ in range(3):
        setup.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    made = await client.submit([line("a")])
    over = await client.over(made["id"])
    assert over["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    errors = await client.results(over["error_file_id"])
    assert errors["a"]["response"]["status_code"] >= 500
    assert len(setup.ollama.asked("/api/chat")) == 6


@pytest.mark.parametrize(
    ("endpoint", "body", "shape"),
    [
        ("/v1/completions", {"prompt": "Once"}, "CreateCompletionResponse"),
        ("/v1/embeddings", {"input": "text", "model": "all-minilm"}, "CreateEmbeddingResponse"),
        ("/v1/responses", {"input": "text"}, "Response"),
    ],
)
async def test_other_endpoints_are_answered_too(
    client: Client, endpoint: str, body: dict[str, Any], shape: str
) -> None:
    lines = [{"custom_id": id, "method": "POST", "url": endpoint, "body": {"model": "smollm2", **body}} for id in "ab"]
    made = await client.submit(lines, endpoint=endpoint)
    over = await client.over(made["id"])
    assert over["status"] == "completed", over
    found = await client.results(over["output_file_id"])
    assert set(found) == {"a", "b"}
    check(shape, found["a"]["response"]["body"])
    assert over["usage"]["input_tokens"] > 0


async def test_texts_are_judged_in_a_batch(start_proxy: Start) -> None:
    async with Judges() as judges:
        judges.have("llama-guard3:1b")
        proxy = await start_proxy(config(judges.url))
        async with aiohttp.ClientSession(proxy.url) as http:
            client, url = Client(http), "/v1/moderations"
            lines = [
                {"custom_id": text, "method": "POST", "url": url, "body": {"input": text}} for text in ("ok", "evil")
            ]
            over = await client.over((await client.submit(lines, endpoint=url))["id"])
            found = await client.results(over["output_file_id"])
    assert over["model"] is None
    for text, flagged in (("ok", False), ("evil", True)):
        body = found[text]["response"]["body"]
        check("CreateModerationResponse", body)
        assert body["results"][0]["flagged"] is flagged


async def test_a_batch_is_cancelled_and_the_model_is_let_go(setup: Setup, client: Client) -> None:
    setup.ollama.play("/api/chat", "chat-nonstream", hold_after=0)
    setup.ollama.play("/api/chat", "chat-nonstream", hold_after=0)
    made = await client.submit([line(str(number)) for number in range(5)])
    await chats(setup.ollama, 2)
    status, answer = await client.post(f"/v1/batches/{made['id']}/cancel")
    assert (status, answer["status"]) == (200, "cancelling")
    over = await client.over(made["id"])
    assert over["status"] == "cancelled"
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    errors = await client.results(over["error_file_id"])
    assert {each["error"]["code"] for each in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 5
    status, answer = await client.post(f"/v1/batches/{made['id']}/cancel")
    assert (status, answer["status"]) == (200, "cancelled")


async def test_an_input_that_is_deleted_ends_the_batch(setup: Setup, client: Client) -> None:
    setup.ollama.play("/api/chat", "chat-nonstream", delay=0.2)
    setup.ollama.play("/api/chat", "chat-nonstream", delay=0.2)
    made = await client.submit([line(str(number)) for number in range(5)])
    await chats(setup.ollama)
    async with setup.http.delete(f"/v1/files/{made['input_file_id']}") as response:
        assert response.status == 200
    over = await client.over(made["id"])
    assert over["status"] == "failed"
    assert [each["code"] for each in over["errors"]["data"]] == ["input_file_not_found"]


# --- whose, and what it costs -------------------------------------------------------------------------------------

WORD = "the-daemons-own-word"


async def booked(start_proxy: Start, ollama: FakeOllama, more: str = "") -> tuple[Any, aiohttp.ClientSession]:
    proxy = await start_proxy(config(ollama.url, QUIET + more), books=True, control=WORD)
    proxy.app[BATCHES].lines.first_wait = 0.01
    return proxy, aiohttp.ClientSession(proxy.url)


async def make_key(http: aiohttp.ClientSession, name: str, **body: Any) -> str:
    headers = {"authorization": f"Bearer {WORD}"}
    async with http.post("/oproxy/keys", json={"name": name, **body}, headers=headers) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["key"])


async def test_a_key_sees_its_own_batches_only(start_proxy: Start, ollama: FakeOllama) -> None:
    _, http = await booked(start_proxy, ollama)
    async with http:
        one, other = Client(http, await make_key(http, "one")), Client(http, await make_key(http, "other"))
        made = await one.submit([line("a")])
        over = await one.over(made["id"])
        assert (await other.get(f"/v1/batches/{made['id']}"))[0] == 404
        assert (await other.post(f"/v1/batches/{made['id']}/cancel"))[0] == 404
        assert (await other.get("/v1/batches"))[1]["data"] == []
        assert (await other.get(f"/v1/files/{over['output_file_id']}/content"))[0] == 404
        assert [each["id"] for each in (await one.get("/v1/batches"))[1]["data"]] == [made["id"]]
        asked = {
            "input_file_id": made["input_file_id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        status, foreign = await other.post("/v1/batches", asked)
        assert (status, foreign["status"]) == (200, "validating")
        assert (await other.over(foreign["id"]))["errors"]["data"][0]["param"] == "file_id"
        own = Client(http, WORD)
        assert {each["id"] for each in (await own.get("/v1/batches"))[1]["data"]} == {made["id"], foreign["id"]}


async def test_each_line_is_one_row_of_the_ledger_however_often_it_was_tried(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    _, http = await booked(start_proxy, ollama)
    async with http:
        client = Client(http, await make_key(http, "one"))
        made = await client.submit([line("a"), line("b", metadata={"tag": "mine"}), line("c", temperature=9)])
        over = await client.over(made["id"])
        found = await client.results(over["output_file_id"]) | await client.results(over["error_file_id"])
    booked_rows = [row for row in rows() if row["endpoint"] == "/v1/chat/completions"]
    assert len(booked_rows) == 3
    assert {row["caller"] for row in booked_rows} == {"one"}
    by_id = {row["id"]: row for row in booked_rows}
    assert {by_id[found[id]["response"]["request_id"]]["tag"] for id in ("a", "c")} == {made["id"]}
    good = by_id[found["b"]["response"]["request_id"]]
    assert (good["tag"], good["status"], good["prompt"], good["completion"]) == ("mine", 200, 21, 8)
    assert by_id[found["c"]["response"]["request_id"]]["status"] == 400
    assert good["address"] == "127.0.0.1"


async def test_our_own_limits_are_waited_for_and_a_spent_budget_is_an_error(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    _, http = await booked(start_proxy, ollama, "[batches]\nconcurrency = 4\n")
    async with http:
        slow = Client(http, await make_key(http, "slow", rates={"concurrent": 1}))
        made = await slow.submit([line(str(number)) for number in range(2)])
        over = await slow.over(made["id"])
        assert over["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        poor = Client(http, await make_key(http, "poor", budget={"tokens_per_day": 40}))
        made = await poor.submit([line(str(number)) for number in range(6)])
        over = await poor.over(made["id"])
        assert over["status"] == "completed"
        errors = await poor.results(over["error_file_id"])
        assert errors
        assert {each["response"]["body"]["error"]["code"] for each in errors.values()} == {"insufficient_quota"}
        assert {each["response"]["status_code"] for each in errors.values()} == {429}


async def test_a_key_that_is_revoked_half_way_opens_nothing_any_more(start_proxy: Start, ollama: FakeOllama) -> None:
    ollama.play("/api/chat", "chat-nonstream", delay=0.2)
    _, http = await booked(start_proxy, ollama, "[batches]\nconcurrency = 1\n")
    async with http:
        client, own = Client(http, await make_key(http, "one")), Client(http, WORD)
        made = await client.submit([line(str(number)) for number in range(3)])
        await chats(ollama)
        assert (await own.post("/oproxy/keys/one", {"revoked": True}))[0] == 200
        over = await own.over(made["id"])
        errors = await own.results(over["error_file_id"])
        assert len(errors) == 2
        assert {each["response"]["status_code"] for each in errors.values()} == {401}
        assert len(ollama.asked("/api/chat")) == 1
    booked_rows = [row for row in rows() if row["endpoint"] == "/v1/chat/completions"]
    assert [(row["caller"], row["status"]) for row in booked_rows].count(("one", 401)) == 2


async def test_nobody_who_waits_is_delayed_by_a_batch(setup: Setup, client: Client) -> None:
    # Somebody is being answered, and it takes long.
    setup.ollama.play("/api/chat", "chat-nonstream", hold_after=0)
    first = asyncio.ensure_future(setup.chat())
    await chats(setup.ollama)
    made = await client.submit([line(str(number), f"line {number}") for number in range(3)])
    async with asyncio.timeout(10):
        while (await client.batch(made["id"]))["status"] == "validating":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for _ in range(3):
        status, _, _ = await setup.chat(messages=[{"role": "user", "content": "me first"}])
        assert status == 200
    # They were all answered before the first line was asked.
    assert [body["messages"][-1]["content"] for body in setup.ollama.asked("/api/chat")] == ["Hello", *["me first"] * 3]
    first.cancel()
    assert (await client.over(made["id"]))["status"] == "completed"
    assert len(setup.ollama.asked("/api/chat")) == 7


async def left_lying(start_proxy: Start, ollama: FakeOllama) -> dict[str, Any]:
    """Return a batch whose application was stopped while it was answered."""
    ollama.play("/api/chat", "chat-nonstream", hold_after=0)
    proxy = await start_proxy(config(ollama.url, "[batches]\nconcurrency = 1\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        made = await Client(http).submit([line("a", "one"), line("b", "two")])
        await chats(ollama)
    mine = [task for task in asyncio.all_tasks() if task.get_name().startswith("batch")]
    for task in mine:
        task.cancel()
    await asyncio.gather(*mine, return_exceptions=True)
    return made


async def test_another_application_goes_on_where_one_was_stopped(start_proxy: Start, ollama: FakeOllama) -> None:
    made = await left_lying(start_proxy, ollama)
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as http:
        over = await Client(http).over(made["id"])
    assert over["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_what_nobody_is_at_can_be_cancelled(start_proxy: Start, ollama: FakeOllama) -> None:
    made = await left_lying(start_proxy, ollama)
    # It may be taken up before the cancelling comes, but not get far.
    for _ in range(2):
        ollama.play("/api/chat", "chat-nonstream", hold_after=0)
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as http:
        client = Client(http)
        status, answer = await client.post(f"/v1/batches/{made['id']}/cancel")
        assert (status, answer["status"]) == (200, "cancelling")
        over = await client.over(made["id"])
        assert over["status"] == "cancelled"
        assert set(await client.results(over["error_file_id"])) == {"a", "b"}


def test_every_endpoint_of_a_batch_has_an_answer() -> None:
    assert set(get_args(Endpoint)) >= set(KINDS)
    assert set(get_args(Endpoint)) <= set(ANSWERS)
