from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from ollama_proxy.backends.webhook import Webhook


class Receiver:
    """A server that answers what it is told to and then 204. 0: it hangs up; -1: it says nothing."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        status = self.answers.pop(0) if self.answers else 204
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        if status == -1:
            await asyncio.sleep(5)
        return web.Response(status=max(status, 200), headers={"location": self.url} if status == 302 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook?secret=xyzzy"
    yield receiver
    await runner.cleanup()


async def test_a_webhook_that_fails_twice_is_tried_a_third_time_with_the_same_words(receiver: Receiver) -> None:
    receiver.answers = [500, 0]

    assert await Webhook(pause=0.01).post(receiver.url, b'{"a":1}') == ""

    assert receiver.bodies == [b'{"a":1}'] * 3
    assert {each["content-type"] for each in receiver.headers} == {"application/json"}
    assert len({each["idempotency-key"] for each in receiver.headers}) == 1


async def test_different_words_have_different_idempotency_keys(receiver: Receiver) -> None:
    await Webhook().post(receiver.url, b"1")
    await Webhook().post(receiver.url, b"2")

    assert len({each["idempotency-key"] for each in receiver.headers}) == 2


async def test_a_webhook_is_given_up_at_last(receiver: Receiver) -> None:
    receiver.answers = [503] * 9

    assert await Webhook(tries=3, pause=0.01).post(receiver.url, b"{}") == "HTTP 503"
    assert len(receiver.bodies) == 3


async def test_a_webhook_that_does_not_answer_is_given_up_and_its_url_is_not_told(receiver: Receiver) -> None:
    receiver.answers = [-1]

    why = await Webhook(tries=1, timeout=0.05).post(receiver.url, b"{}")

    assert "Timeout" in why
    assert "xyzzy" not in why


@pytest.mark.parametrize("status", [302, 400, 401, 404])
async def test_what_does_not_go_away_by_itself_is_not_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers = [status] * 3

    assert await Webhook(pause=0.01).post(receiver.url, b"{}") == f"HTTP {status}"
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("status", [408, 429])
async def test_what_may_go_away_by_itself_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]

    assert await Webhook(pause=0.01).post(receiver.url, b"{}") == ""
    assert len(receiver.bodies) == 2


async def test_a_webhook_that_cannot_be_reached_is_told_by_the_kind_of_error(receiver: Receiver) -> None:
    host = receiver.url.split("/hook")[0].rsplit(":", 1)[0]

    why = await Webhook(tries=2, pause=0.01).post(f"{host}:1/hook?secret=xyzzy", b"{}")

    assert why == "ClientConnectorError"


async def test_a_url_that_is_none_is_not_tried_again() -> None:
    assert await Webhook(pause=100).post("http://[/", b"{}") == "InvalidUrlClientError"
