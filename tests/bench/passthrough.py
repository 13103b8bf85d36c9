"""The yardstick: the barest proxy aiohttp can be. `python -m tests.bench.passthrough PORT UPSTREAM_URL`."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

if importlib.util.find_spec("uvloop"):
    import uvloop

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
else:
    loop_factory = None

SESSION = web.AppKey("session", aiohttp.ClientSession)


async def forward(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    session = request.app[SESSION]
    async with session.post(request.path, data=body, headers={"content-type": "application/json"}) as upstream:
        if "ndjson" not in upstream.headers["content-type"]:
            return web.Response(body=await upstream.read(), content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        async for data in upstream.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def main(port: int, upstream: str) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=100)
        async with aiohttp.ClientSession(upstream, connector=connector) as app[SESSION]:
            yield

    app.cleanup_ctx.append(session)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2]))
