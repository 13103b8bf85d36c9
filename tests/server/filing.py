"""An application whose clock is ours, two keys, and forms with files in them: for tests of what is kept on the disk."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import BLOBS
from ollama_proxy.settings import load
from tests.conftest import Clock

TOKEN = "the-daemons-own-word"
NOW = 1_800_000_000.0
FLAGS = {"store.ledger": False, "logs.requests": False}


class Desk(NamedTuple):
    """A running application, a session for it, its wall clock, and the folder of its files."""

    app: web.Application
    url: str
    http: aiohttp.ClientSession
    clock: Clock

    @property
    def folder(self) -> Path:
        return self.app[BLOBS].folder

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    async def ask(self, method: str, path: str, *, key: str = "", **kwargs: Any) -> tuple[int, Any]:
        """Ask, and return the status with the JSON that came."""
        headers = {**kwargs.pop("headers", {}), **({"authorization": f"Bearer {key}"} if key else {})}
        async with self.http.request(method, path, headers=headers, **kwargs) as response:
            return response.status, await response.json()

    async def upload(self, data: bytes = b"hello", /, *, name: str = "a.txt", key: str = "", **fields: str) -> Any:
        """Upload a file; return its object."""
        status, made = await self.ask(
            "POST", "/v1/files", key=key, data=form(data, name=name, **{"purpose": "user_data", **fields})
        )
        assert status == 200, made
        return made

    async def content(self, id: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        async with self.http.get(f"/v1/files/{id}/content", headers=headers) as response:
            return response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()}

    async def make_key(self, name: str) -> str:
        """Make a key; return its secret."""
        status, made = await self.ask("POST", "/oproxy/keys", key=TOKEN, json={"name": name})
        assert status == 200, made
        secret: str = made["key"]
        return secret


def form(data: bytes = b"hello", *, field: str = "file", name: str = "a.txt", **fields: str) -> aiohttp.FormData:
    made = aiohttp.FormData()
    for key, value in fields.items():
        made.add_field(key, value)
    made.add_field(field, io.BytesIO(data), filename=name)
    return made


def raw_form(*parts: tuple[str, bytes], boundary: str = "x", end: bool = True) -> tuple[bytes, dict[str, str]]:
    """Return a form's bytes, each part by its Content-Disposition's parameters, and its headers."""
    body = b"".join(
        f"--{boundary}\r\n".encode() + b"Content-Disposition: form-data; " + head.encode("utf-8", "surrogateescape")
        + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )  # fmt: skip
    if end:
        body += f"--{boundary}--\r\n".encode()
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


@asynccontextmanager
async def desk(config: str = "") -> AsyncIterator[Desk]:
    """Serve an application with these settings."""
    clock = Clock(NOW)
    text = f'{config}\n[backends.none]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n'
    app = build_app(load(env={}, flags=FLAGS, text=text), say=lambda line: None, env={}, control=TOKEN, wall=clock)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}"
        async with aiohttp.ClientSession(url) as http:
            yield Desk(app, url, http, clock)
    finally:
        await runner.cleanup()
