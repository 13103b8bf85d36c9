"""A server that speaks OpenAI's wire like the servers people run, and does as it is told.

By default it answers chats, completions and embeddings of its models with a few words and true usage. `script(path,
Answer(…))` gives the next answer on a path: another status or body, pieces of a stream, a cut, silence. It records each
call, and `gone` is set when a client hangs up on a stream, or in its own request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CHAT, COMPLETIONS, EMBEDDINGS, MODELS = "/chat/completions", "/completions", "/embeddings", "/models"
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
WORDS = ("Hel", "lo ", "you", ".")


@dataclass
class Recorded:
    """One call as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    data: bytes
    # The path with its query, as it was written.
    target: str = ""

    @property
    def body(self) -> Any:
        return json.loads(self.data)


@dataclass
class Answer:
    """One scripted answer. `pieces` are written one by one in place of `body`; `cut` breaks the connection after them,
    `hang` leaves it open until the client goes, `silent` sends no head at all."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] = ()
    content_type: str = "application/json"
    cut: bool = False
    hang: bool = False
    silent: bool = False


def sse(*records: Any, done: bool = True) -> bytes:
    """Return records as a stream of events."""
    out = b"".join(b"data: " + json.dumps(record).encode() + b"\n\n" for record in records)
    return out + b"data: [DONE]\n\n" if done else out


def chunk(model: str, delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one chunk of a chat; without `delta` it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return {**head, "choices": choices, **more}


class FakeOpenAI:
    """`url` ends in /v1. `models` are the entries it lists; `key`, if set, is the only key it takes."""

    def __init__(self) -> None:
        self.url = ""
        self.models: list[dict[str, Any]] = [
            {"id": name, "object": "model", "created": 1700000000, "owned_by": "fake"} for name in ("small", "embed")
        ]
        self.key = ""
        self.calls: list[Recorded] = []
        self.gone = asyncio.Event()
        # Set when the first request has begun to come in.
        self.receiving = asyncio.Event()
        # What is answered on every path that it does not know; None: 404.
        self.elsewhere: Answer | None = None
        # What is done with a WebSocket on any path; None: 404.
        self.socket: Callable[[web.WebSocketResponse], Awaitable[None]] | None = None
        self._scripts: dict[str, list[Answer]] = {}

    def script(self, path: str, *answers: Answer) -> None:
        self._scripts.setdefault(path, []).extend(answers)

    # --- the server -------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1")
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.receiving.set()
        if self.socket is not None and "upgrade" in headers:
            self.calls.append(Recorded(request.method, path, headers, b"", request.raw_path))
            socket = web.WebSocketResponse(protocols=("realtime",))
            await socket.prepare(request)
            try:
                await self.socket(socket)
            finally:
                self.gone.set()
            return socket
        try:
            data = await request.read()
        except (asyncio.CancelledError, web.RequestPayloadError, ConnectionError):
            self.gone.set()
            raise
        call = Recorded(request.method, path, headers, data, request.raw_path)
        self.calls.append(call)
        if scripts := self._scripts.get(path):
            return await self._play(request, scripts.pop(0))
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        if path == MODELS:
            return web.json_response({"object": "list", "data": self.models})
        if path not in (CHAT, COMPLETIONS, EMBEDDINGS):
            if self.elsewhere is not None:
                return await self._play(request, self.elsewhere)
            return error(404, "Invalid URL", "invalid_request_error", None)
        return await self._answer(request, path, call.body)

    async def _answer(self, request: web.Request, path: str, body: dict[str, Any]) -> web.StreamResponse:
        model = body.get("model")
        if model not in [entry["id"] for entry in self.models]:
            return error(404, f"The model `{model}` does not exist.", "invalid_request_error", "model_not_found")
        if path == EMBEDDINGS:
            return web.json_response(embeddings(body))
        records = completion(body) if path == COMPLETIONS else chat(body)
        if not body.get("stream"):
            return web.json_response(records[0])
        return await self._play(request, Answer(pieces=[sse(r, done=False) for r in records] + [sse()]))

    async def _play(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        try:
            if answer.silent:
                await asyncio.sleep(3600)
            if not answer.pieces and not answer.hang:
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                headers = {"content-type": answer.content_type, **answer.headers}
                return web.Response(status=answer.status, body=data, headers=headers)
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            json_kind = answer.content_type == "application/json"
            response.content_type = "text/event-stream" if json_kind else answer.content_type
            await response.prepare(request)
            for piece in answer.pieces:
                await response.write(piece)
            if answer.hang:
                await asyncio.sleep(3600)
            if answer.cut:
                assert request.transport is not None
                request.transport.close()
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        return response


def error(status: int, message: str, type: str, code: str | None) -> web.Response:
    body = {"error": {"message": message, "type": type, "param": None, "code": code}}
    return web.json_response(body, status=status)


# --- what it answers --------------------------------------------------------------------------------------------


def chat(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of an answer: one body, or chunks. With tools and no result yet, the first tool is called."""
    model, messages = body["model"], body["messages"]
    calls: list[dict[str, Any]] = []
    if body.get("tools") and messages[-1]["role"] != "tool":
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city":"Paris"}'}
        calls = [{"id": "call_1", "type": "function", "function": function}]
    finish = "tool_calls" if calls else "stop"
    if not body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": None if calls else "".join(WORDS)}
        if calls:
            message["tool_calls"] = calls
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model}
        return [{**head, "choices": choices, "usage": USAGE}]
    wanted = (body.get("stream_options") or {}).get("include_usage")
    more = {"usage": None} if wanted else {}
    deltas: Iterable[dict[str, Any]] = ({"content": word} for word in WORDS)
    if calls:
        start = {**calls[0], "index": 0, "function": {"name": calls[0]["function"]["name"], "arguments": ""}}
        rest = ({"index": 0, "function": {"arguments": piece}} for piece in ('{"city":', '"Paris"}'))
        deltas = ({"tool_calls": [call]} for call in (start, *rest))
    records = [chunk(model, {"role": "assistant", "content": None if calls else ""}, **more)]
    records += [chunk(model, delta, **more) for delta in deltas]
    records.append(chunk(model, {}, finish, **more))
    return records + ([chunk(model, usage=USAGE)] if wanted else [])


def completion(body: dict[str, Any]) -> list[dict[str, Any]]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": body["model"]}
    wanted = (body.get("stream_options") or {}).get("include_usage")
    texts = WORDS if body.get("stream") else ("".join(WORDS),)
    records: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}]} for text in texts
    ]
    records[-1]["choices"][0]["finish_reason"] = "stop"
    if not body.get("stream"):
        records[-1]["usage"] = USAGE
    elif wanted:
        records.append({**head, "choices": [], "usage": USAGE})
    return records


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Return vectors that tell their input: its length, its number."""
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    rows: list[dict[str, Any]] = []
    for index, text in enumerate(inputs):
        vector: Any = [float(len(text)), float(index), 0.5]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    # No order is promised but by the index.
    rows.reverse()
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
    return {"object": "list", "data": rows, "model": body["model"], "usage": usage}


@asynccontextmanager
async def fake_openai() -> AsyncIterator[FakeOpenAI]:
    """Serve a fake on a free port."""
    fake = FakeOpenAI()
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}/v1"
    try:
        yield fake
    finally:
        await runner.cleanup()
