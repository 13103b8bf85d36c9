"""A server that answers like Ollama, out of recordings of a real one.

Without a script it lists, shows, loads, chats and embeds as the recorded server did. `play(path, …)` gives the next
answer on a path: a recording by its name, or records of one's own, whole or cut, slow, or broken off. It keeps every
call that came in (`arrived` is set by the first); `hangups` is set when a client left before its answer was complete.

`traces/` holds the recordings, one JSON object a line: what was asked (long bodies left out) and the answer in the
pieces in which it came. Long streams were shortened in the middle (`shortened`).
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from aiohttp import web

__all__ = ["Call", "FakeOllama", "Trace", "traces"]

FOLDER = Path(__file__).parent / "traces"
NDJSON, JSON = "application/x-ndjson", "application/json; charset=utf-8"
# Recorded descriptions, by the model that they are of.
SHOWS = {
    "smollm2:latest": "meta-show",
    "smollm2-tools:latest": "meta-show-tools-model",
    "smollm2-jinja:latest": "meta-show-jinja-model",
    "smollm2-jinja-think:latest": "think-native-show",
    "smollm2-parser:latest": "meta-show-parser-model",
    "smollm2-params:latest": "meta-show-params-model",
    "all-minilm:latest": "meta-show-embed-model",
}
PULL: tuple[dict[str, Any], ...] = (
    {"status": "pulling manifest"},
    {"status": "pulling 38d45623cca1", "digest": "sha256:38d45623cca1", "total": 46203200},
    {"status": "pulling 38d45623cca1", "digest": "sha256:38d45623cca1", "total": 46203200, "completed": 20000000},
    {"status": "pulling 38d45623cca1", "digest": "sha256:38d45623cca1", "total": 46203200, "completed": 46203200},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
)


@dataclass(frozen=True)
class Trace:
    """One recorded exchange."""

    name: str
    method: str
    path: str
    status: int
    chunks: tuple[str, ...]
    request: Any = None
    type: str = JSON
    shortened: bool = False
    end: str = ""

    @property
    def body(self) -> bytes:
        return "".join(self.chunks).encode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@cache
def traces(version: str = "v0.34.4") -> dict[str, Trace]:
    """Return the recordings of one Ollama, by name."""
    lines = (FOLDER / f"{version}.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return {each["name"]: Trace(**{**each, "chunks": tuple(each["chunks"])}) for each in found}


@dataclass(frozen=True)
class Call:
    """One call as it came in. `json` is None for a body that is none."""

    method: str
    path: str
    headers: dict[str, str]
    json: Any


@dataclass
class Answer:
    """One scripted answer. Times are seconds; `cut_after` counts bytes, `hold_after` pieces."""

    status: int = 200
    chunks: Sequence[bytes] = ()
    type: str = NDJSON
    pauses: float = 0
    delay: float = 0
    cut_after: int | None = None
    hold_after: int | None = None
    drop_connection: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class FakeOllama:
    """`url` is set once started. `models` are the entries of /api/tags; `loaded` the ids in memory with their body."""

    def __init__(self, version: str = "v0.34.4") -> None:
        self.version = version
        self.url = ""
        self.calls: list[Call] = []
        self.arrived = asyncio.Event()
        self.hangups = asyncio.Event()
        self.models: list[dict[str, Any]] = traces(version)["meta-tags"].json["models"]
        self.loaded: dict[str, dict[str, Any]] = {}
        self._script: dict[str, deque[Answer]] = defaultdict(deque)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def play(self, path: str, what: str | Sequence[Any], **how: Any) -> None:
        """Give the next answer on `path`: a recording's name, or records (bytes are sent as they are).

        `how` are the fields of `Answer`: status, type, pauses, delay, cut_after, hold_after, drop_connection.
        """
        if isinstance(what, str):
            trace = traces(self.version).get(what) or traces()[what]
            given: dict[str, Any] = {"status": trace.status, "type": trace.type}
            chunks = [chunk.encode() for chunk in trace.chunks]
        else:
            given = {}
            chunks = [each if isinstance(each, bytes) else line(each) for each in what]
        self._script[path].append(Answer(**{**given, "chunks": chunks, **how}))

    def asked(self, path: str) -> list[Any]:
        """Return the bodies of the calls on `path`."""
        return [call.json for call in self.calls if call.path == path]

    # --- answering --------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Call(request.method, request.path, headers, body))
        self.arrived.set()
        script = self._script[request.path]
        answer = script.popleft() if script else self._default(request.method, request.path, body or {})
        try:
            return await self._send(request, answer)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hangups.set()
            raise

    async def _send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if answer.delay:
            await asyncio.sleep(answer.delay)
        response = web.StreamResponse(status=answer.status, headers={"content-type": answer.type, **answer.headers})
        await response.prepare(request)
        left = answer.cut_after
        for number, chunk in enumerate(answer.chunks):
            if answer.hold_after == number:
                await asyncio.Event().wait()
            if answer.pauses:
                await asyncio.sleep(answer.pauses)
            piece = chunk if left is None else chunk[:left]
            if piece:
                await response.write(piece)
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    break
        if answer.hold_after == len(answer.chunks):
            await asyncio.Event().wait()
        if answer.drop_connection:
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write_eof()
        return response

    def _default(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        match method, path:
            case (("GET" | "HEAD"), "/"):
                return Answer(chunks=[b"Ollama is running"], type="text/plain; charset=utf-8")
            case "GET", "/api/version":
                return whole({"version": self.version.removeprefix("v")})
            case "GET", "/api/tags":
                return whole({"models": self.models})
            case "GET", "/api/ps":
                return whole({"models": list(self.loaded.values())})
            case "POST", "/api/pull":
                return Answer(chunks=[line(each) for each in PULL])
            case (("POST" | "DELETE"), ("/api/show" | "/api/delete" | "/api/chat" | "/api/generate" | "/api/embed")):
                model = self._model(str(body.get("model", "")))
                if model is None:
                    return whole({"error": f"model '{body.get('model', '')}' not found"}, 404)
                return self._of_model(path, body, model)
        return Answer(status=404, chunks=[b"404 page not found"], type="text/plain")

    def _model(self, name: str) -> dict[str, Any] | None:
        wanted = {name.lower(), f"{name}:latest".lower()}
        return next((each for each in self.models if each["name"].lower() in wanted), None)

    def _of_model(self, path: str, body: dict[str, Any], model: dict[str, Any]) -> Answer:
        match path:
            case "/api/show":
                return whole(self._show(model))
            case "/api/delete":
                self.models.remove(model)
                return Answer(type=JSON)
            case "/api/embed":
                self._load(body, model)
                inputs = [body["input"]] if isinstance(body.get("input"), str) else body.get("input") or []
                rows = [[len(text) / 1000, 0.6, 0.8, 0.0] for text in inputs]
                counts = {"prompt_eval_count": sum(map(len, inputs))} if inputs else {}
                return whole({"model": body["model"], "embeddings": rows, **counts})
            case "/api/chat":
                empty, name = not body.get("messages"), "chat"
            case _:
                empty, name = not body.get("prompt"), "generate"
        self._load(body, model)
        if empty:
            reason = "unload" if body.get("keep_alive") == 0 else "load"
            return whole({"model": body["model"], "response": "", "done": True, "done_reason": reason})
        trace = traces()[f"{name}-stream" if body.get("stream", True) else f"{name}-nonstream"]
        return Answer(chunks=[chunk.encode() for chunk in trace.chunks], type=trace.type)

    def _show(self, model: dict[str, Any]) -> dict[str, Any]:
        recorded = traces(self.version).get(SHOWS.get(model["name"], ""))
        shown: dict[str, Any] = (
            recorded.json if recorded else {"details": model["details"], "template": "{{ .Prompt }}"}
        )
        made_for = "embedding" if model["details"]["family"] == "bert" else "completion"
        shown.setdefault("capabilities", model.get("capabilities", [made_for]))
        return shown

    def _load(self, body: dict[str, Any], model: dict[str, Any]) -> None:
        if body.get("keep_alive") == 0:
            self.loaded.pop(model["name"], None)
            return
        window = (body.get("options") or {}).get("num_ctx", 4096)
        more = {"expires_at": "2026-11-21T06:08:00.934391815Z", "size_vram": 0, "context_length": window}
        self.loaded[model["name"]] = {key: model[key] for key in ("name", "model", "size", "digest", "details")} | more


def line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def whole(record: Any, status: int = 200) -> Answer:
    return Answer(status=status, chunks=[line(record).rstrip()], type=JSON)
