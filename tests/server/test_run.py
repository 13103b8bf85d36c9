"""An application on a port: listening, signals, and ending with grace."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.certs import server_context
from ollama_proxy.daemon import DaemonError
from ollama_proxy.policy.address import is_loopback
from ollama_proxy.server.keys import NEW_ID, TASKS
from ollama_proxy.server.run import Ending, Site, base_url, serve_app
from ollama_proxy.tasks import Tasks
from tests.fakes.pairs import make_pair, trusting


class Stage:
    """A small application whose one handler answers in two parts, the second when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.cut = False
        self.left: list[int] = []
        self.leaving = asyncio.Event()
        self.reloads = 0
        self.ending = Ending()
        self.urls: Sequence[str] = ()
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.app = web.Application()
        self.app[TASKS] = Tasks()
        self.app[NEW_ID] = lambda: "0" * 32
        self.app.router.add_get("/slow", self.slow)
        self.app.router.add_get("/quick", self.quick)

    async def quick(self, request: web.Request) -> web.Response:
        return web.Response(text="quick")

    async def slow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one ")
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut = True
            raise
        await response.write(b"two")
        return response

    async def ready(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.url.set_result(urls[0])

    def leave(self, busy: int) -> None:
        self.left.append(busy)
        self.leaving.set()

    def reload(self) -> None:
        self.reloads += 1

    def serve(
        self, *, host: str = "127.0.0.1", port: int = 0, grace: float = 60.0, sites: Sequence[Site] = ()
    ) -> Awaitable[None]:
        return serve_app(
            self.app, sites=sites or [Site(host, port)], grace=lambda: grace, keepalive=75, ready=self.ready,
            leaving=self.leave, reload=self.reload, ending=self.ending,
        )  # fmt: skip


@asynccontextmanager
async def serving(stage: Stage, **options: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Task[None]]]:
    tasks = Tasks()

    async def work() -> None:
        await stage.serve(**options)

    task = tasks.start(work(), name="serve")
    async with aiohttp.ClientSession(await asyncio.wait_for(stage.url, 10)) as session:
        yield session, task
    stage.ending.ask()
    stage.ending.ask()
    await asyncio.wait_for(task, 10)
    await tasks.aclose()


async def test_a_request_is_answered_on_the_url_that_is_told() -> None:
    stage = Stage()
    async with serving(stage) as (session, _), session.get("/quick") as response:
        assert await response.text() == "quick"


async def test_a_running_answer_may_finish_after_the_end_has_begun() -> None:
    stage = Stage()
    async with serving(stage) as (session, task), session.get("/slow") as response:
        await stage.begun.wait()
        stage.ending.ask()
        await stage.leaving.wait()
        assert stage.left == [1]
        stage.go.set()

        assert await response.read() == b"one two"
        await asyncio.wait_for(task, 10)
    assert not stage.cut


async def test_nobody_new_is_let_in_once_the_end_has_begun() -> None:
    stage = Stage()
    async with serving(stage) as (session, _), session.get("/slow"):
        await stage.begun.wait()
        stage.ending.ask()
        await stage.leaving.wait()
        async with aiohttp.ClientSession(await stage.url) as other:
            with pytest.raises(aiohttp.ClientConnectorError):
                await other.get("/quick")
        stage.go.set()


async def test_the_second_wish_to_end_cuts_what_still_runs() -> None:
    stage = Stage()
    async with serving(stage) as (session, task), session.get("/slow") as response:
        await stage.begun.wait()
        stage.ending.ask()
        await stage.leaving.wait()
        assert not task.done()
        stage.ending.ask()

        with pytest.raises(aiohttp.ClientError):
            await response.read()
        await asyncio.wait_for(task, 10)
    assert stage.cut


async def test_the_end_of_the_grace_time_cuts_what_still_runs() -> None:
    stage = Stage()
    async with serving(stage, grace=0.05) as (session, task), session.get("/slow") as response:
        await stage.begun.wait()
        stage.ending.ask()

        with pytest.raises(aiohttp.ClientError):
            await response.read()
        await asyncio.wait_for(task, 10)
    assert stage.cut


async def test_an_idle_connection_does_not_hold_up_the_end() -> None:
    stage = Stage()
    async with serving(stage) as (session, task):
        async with session.get("/quick") as response:
            await response.read()
        stage.ending.ask()
        await asyncio.wait_for(task, 10)
    assert stage.left == []


async def test_a_taken_port_is_told_with_its_number_who_has_it_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DaemonError) as refused:
            await Stage().serve(port=port)
    for word in (f"Port {port}", "lsof", "--port"):
        assert word in refused.value.message


async def test_an_address_of_another_machine_is_refused_in_words() -> None:
    with pytest.raises(DaemonError, match=r"192\.0\.2\.1 is no address of this machine"):
        await Stage().serve(host="192.0.2.1")


async def test_the_application_is_closed_when_it_cannot_listen() -> None:
    closed = []

    async def on_cleanup(app: web.Application) -> None:
        closed.append(True)

    stage = Stage()
    stage.app.on_cleanup.append(on_cleanup)
    with pytest.raises(DaemonError):
        await stage.serve(host="192.0.2.1")
    assert closed == [True]


async def test_two_sites_serve_the_same_and_both_urls_are_told(tmp_path: Path) -> None:
    stage, pair = Stage(), make_pair(tmp_path)
    sites = [Site("127.0.0.1", 0), Site("127.0.0.1", 0, server_context(pair))]
    async with serving(stage, sites=sites) as (session, _):
        http, https = stage.urls
        assert (http[:7], https[:8]) == ("http://", "https://")
        for url in stage.urls:
            async with session.get(f"{url}/quick", ssl=trusting(pair)) as response:
                assert await response.text() == "quick"


async def test_the_end_waits_for_the_answers_of_both_sites_and_lets_nobody_new_in(tmp_path: Path) -> None:
    stage, pair = Stage(), make_pair(tmp_path)
    sites = [Site("127.0.0.1", 0, server_context(pair)), Site("127.0.0.1", 0)]
    async with serving(stage, sites=sites) as (session, task):
        trust = trusting(pair)
        https, http = stage.urls
        async with session.get(f"{https}/slow", ssl=trust) as one, session.get(f"{http}/slow") as other:
            await stage.begun.wait()
            stage.ending.ask()
            await stage.leaving.wait()
            assert stage.left == [2]
            async with aiohttp.ClientSession() as late:
                for url in stage.urls:
                    with pytest.raises(aiohttp.ClientConnectorError):
                        await late.get(f"{url}/quick", ssl=trust)
            stage.go.set()
            assert await one.read() == await other.read() == b"one two"
        await asyncio.wait_for(task, 10)
    assert not stage.cut


async def test_an_idle_https_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    stage, pair = Stage(), make_pair(tmp_path)
    async with serving(stage, sites=[Site("127.0.0.1", 0, server_context(pair))]) as (session, task):
        async with session.get("/quick", ssl=trusting(pair)) as response:
            await response.read()
        stage.ending.ask()
        await asyncio.wait_for(task, 10)
    assert stage.left == []


async def test_a_client_that_speaks_plain_http_to_https_does_no_harm(tmp_path: Path) -> None:
    stage, pair = Stage(), make_pair(tmp_path)
    async with serving(stage, sites=[Site("127.0.0.1", 0, server_context(pair))]) as (session, _):
        url = stage.urls[0]
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{url.replace('https', 'http')}/quick")
        async with session.get("/quick", ssl=trusting(pair)) as response:
            assert await response.text() == "quick"


async def test_a_taken_port_of_https_names_its_setting(tmp_path: Path) -> None:
    context = server_context(make_pair(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DaemonError) as refused:
            await Stage().serve(sites=[Site("127.0.0.1", 0), Site("127.0.0.1", port, context)])
    for word in (f"Port {port}", "lsof", "[tls]", "OPROXY_TLS_PORT"):
        assert word in refused.value.message
    assert "--port" not in refused.value.message


async def test_one_port_for_both_is_refused_in_words(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sites = [Site("127.0.0.1", port), Site("127.0.0.1", port, server_context(make_pair(tmp_path)))]
    with pytest.raises(DaemonError, match=f"cannot share port {port}"):
        await Stage().serve(sites=sites)


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ("127.0.0.1", "http://127.0.0.1:8"),
        ("0.0.0.0", "http://127.0.0.1:8"),
        ("::", "http://127.0.0.1:8"),
        ("::1", "http://[::1]:8"),
        ("box.lan", "http://box.lan:8"),
    ],
)
def test_the_url_is_one_this_machine_can_reach(host: str, want: str) -> None:
    assert base_url(host, 8) == want
    assert base_url(host, 8, secure=True) == want.replace("http", "https")


@pytest.mark.parametrize(
    ("host", "want"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_only_loopback_addresses_count_as_loopback(host: str, want: bool) -> None:
    assert is_loopback(host) == want


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_few_memory_arenas_unless_the_environment_says_how_many(tmp_path: Path) -> None:
    # In a process of its own, since it holds for all of one.
    source = (
        "import ctypes, re, threading\n"
        "from ollama_proxy.server.run import limit_arenas\n"
        "done = limit_arenas()\n"
        "def work(barrier):\n"
        "    barrier.wait(); kept = [bytearray(9000) for _ in range(100)]; barrier.wait()\n"
        "barrier = threading.Barrier(17)\n"
        "threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(16)]\n"
        "[each.start() for each in threads]\n"
        "barrier.wait(); barrier.wait()\n"
        "libc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p\n"
        "file = libc.fopen(b'info.xml', b'w')\n"
        "libc.malloc_info(0, ctypes.c_void_p(file)); libc.fclose(ctypes.c_void_p(file))\n"
        "print(done, len(re.findall('<heap nr', open('info.xml').read())))\n"
    )

    def arenas(env: dict[str, str]) -> tuple[str, int]:
        command = [sys.executable, "-c", source]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=tmp_path)
        done, count = ran.stdout.split()
        return done, int(count)

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done, count = arenas(env)
    assert (done, count <= 2) == ("True", True)
    done, count = arenas({**env, "MALLOC_ARENA_MAX": "6"})
    assert (done, count > 2) == ("False", True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
def test_large_blocks_leave_no_holes_in_the_arenas() -> None:
    # By default, the first large block that is given back has the next ones taken out of the arena.
    source = (
        "import ctypes, sys\n"
        "from ollama_proxy.server.run import limit_arenas\n"
        "class Info(ctypes.Structure):\n"
        "    _fields_ = [(str(number), ctypes.c_size_t) for number in range(10)]\n"
        "libc = ctypes.CDLL(None); libc.mallinfo2.restype = Info\n"
        "sys.argv[1:] and limit_arenas()\n"
        "bytearray(9_000_000)\n"
        "before = getattr(libc.mallinfo2(), '3'); kept = bytearray(2_000_000)\n"
        "print(getattr(libc.mallinfo2(), '3') - before)\n"
    )

    def mapped(*arguments: str) -> int:
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", source, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout)

    assert (mapped(), mapped("limited")) == (0, 1)
