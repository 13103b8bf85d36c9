"""The way out: what goes over the line, and every way in which a line can fail, told with the backend's name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from ollama_proxy.backends.http import PIECE, Client, Pieces, gate, translated
from ollama_proxy.errors import BackendError, Invalid, UpstreamDown, UpstreamFailed, UpstreamSlow
from ollama_proxy.model import Call

CALL = Call("POST", "/api/chat", b"{}", {"x-mine": "1"})
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    """Run a bare server that does exactly what `handle` says with each connection; its URL."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.close()


@asynccontextmanager
async def client(url: str, *, read_timeout: float = 5, reuse: bool = True) -> AsyncIterator[Client]:
    made = Client(name="lab", url=url, hint="Start it.", connect_timeout=2, read_timeout=read_timeout, reuse=reuse)
    try:
        yield made
    finally:
        await made.aclose()


async def asked(reader: asyncio.StreamReader) -> bytes:
    """Read one request whose body is `{}`."""
    return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2)


async def test_a_call_goes_out_as_it_is_and_its_answer_comes_back() -> None:
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await asked(reader))
        writer.write(b"HTTP/1.1 404 Not Found\r\nx-theirs: 1\r\ncontent-length: 4\r\n\r\nnone")

    async with serving(handle) as url, client(f"{url}/base/") as lab, lab.open(CALL) as reply:
        assert (reply.status, reply.headers["X-Theirs"], await reply.read()) == (404, "1", b"none")
    head = requests[0].lower()
    assert head.startswith(b"post /base/api/chat http/1.1\r\n")
    for line in (b"x-mine: 1", b"content-type: application/json", b"accept-encoding: identity", b"host: 127.0.0.1"):
        assert line in head


async def test_a_connection_is_used_again() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await asked(reader)
            writer.write(OK)

    async with serving(handle) as url, client(url) as lab:
        for _ in range(3):
            assert await lab.fetch(CALL) == (200, b"{}")
    assert connections == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_without_a_word() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await asked(reader)
        writer.write(OK)
        if connections == 1:
            await asked(reader)  # and hang up instead of answering

    async with serving(handle) as url, client(url) as lab:
        assert await lab.fetch(CALL) == (200, b"{}")
        assert await lab.fetch(CALL) == (200, b"{}")
    assert connections == 2


@pytest.mark.parametrize("more", [-1, 0, 1, PIECE + 1])
async def test_a_large_body_is_sent_in_pieces_as_one_of_known_length(more: int) -> None:
    body = bytes(range(256)) * (PIECE // 256) + b"x" * more if more >= 0 else b"x" * (PIECE - 1)
    found: list[tuple[bytes, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found.append((head.lower(), await reader.readexactly(len(body))))
        # The first connection ends without an answer: the call is made once more.
        if len(found) > 1:
            writer.write(OK)

    async with serving(handle) as url, client(url) as lab, lab.open(Call("POST", "/api/chat", body)) as reply:
        assert reply.status == 200
    for head, sent in found:
        assert sent == body
        assert f"content-length: {len(body)}\r\n".encode() in head
        assert b"transfer-encoding" not in head
    assert len(found) == 2


async def test_a_large_body_is_cut_in_pieces_each_time_it_is_sent() -> None:
    body = Pieces(b"x" * (2 * PIECE + 1))
    for _ in range(2):
        assert [len(piece) async for piece in body] == [PIECE, PIECE, 1]


async def test_nobody_there_is_down_with_address_and_hint() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as lab:
        with pytest.raises(UpstreamDown) as caught:
            await lab.fetch(CALL)
    assert caught.value.message == f"The backend 'lab' is not reachable at 127.0.0.1:{port}. Start it."
    assert (caught.value.backend, caught.value.status, caught.value.code) == ("lab", 502, "backend_unreachable")


async def test_a_name_that_does_not_exist_is_down() -> None:
    async with client("http://no-such-host.invalid:1") as lab:
        with pytest.raises(UpstreamDown, match=r"not reachable at no-such-host\.invalid:1"):
            await lab.fetch(CALL)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnone",
    ],
    ids=["nothing", "half a head", "too short", "no last chunk", "no chunk", "no gzip"],
)
@pytest.mark.parametrize("piecewise", [False, True])
async def test_a_line_that_breaks_is_down_whenever_it_breaks(answer: bytes, piecewise: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)

    async with serving(handle) as url, client(url) as lab:
        with pytest.raises(UpstreamDown, match=r"connection to the backend 'lab' was lost \(.+\)\. Start it"):
            await consume(lab, piecewise=piecewise)


async def test_what_speaks_no_http_may_speak_https() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        # What TLS says to plain HTTP: https://www.rfc-editor.org/rfc/rfc8446#section-6
        writer.write(b"\x15\x03\x03\x00\x02\x02\x46")

    async with serving(handle) as url, client(url) as lab:
        with pytest.raises(UpstreamDown, match=r"'lab' does not answer in HTTP\. If it serves HTTPS, write https://"):
            await lab.fetch(CALL)


async def consume(lab: Client, *, piecewise: bool) -> None:
    async with lab.open(CALL) as reply:
        if piecewise:
            async for _ in reply.chunks():
                pass
        else:
            await reply.read()


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"])
async def test_silence_is_slow_and_names_the_setting(begin: bytes) -> None:
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(begin)
        await done.wait()

    async with serving(handle) as url, client(url, read_timeout=0.1) as lab:
        with pytest.raises(UpstreamSlow, match=r"\[backends\.lab\]") as caught:
            await lab.fetch(CALL)
        done.set()
    assert (caught.value.status, caught.value.backend) == (504, "lab")


async def test_leaving_before_the_end_hangs_up() -> None:
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}")
        assert await reader.read() == b""
        left.set()

    async with serving(handle) as url, client(url) as lab:
        async with lab.open(CALL) as reply:
            assert await anext(aiter(reply.chunks())) == b"{}"
        await asyncio.wait_for(left.wait(), 5)


async def test_redirects_are_not_followed() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")

    async with serving(handle) as url, client(url) as lab:
        with pytest.raises(UpstreamFailed, match=r"redirects to http://127.0.0.1:9/"):
            await lab.fetch(CALL)


# --- the gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (aiohttp.ServerTimeoutError(), UpstreamSlow), (aiohttp.SocketTimeoutError(), UpstreamSlow),
        (aiohttp.ConnectionTimeoutError(), UpstreamSlow), (TimeoutError(), UpstreamSlow),
        (aiohttp.ServerDisconnectedError(), UpstreamDown), (aiohttp.ClientPayloadError(), UpstreamDown),
        (aiohttp.ClientOSError(), UpstreamDown), (aiohttp.InvalidURL("x"), UpstreamFailed),
        (aiohttp.ClientConnectionResetError(), UpstreamDown), (aiohttp.TooManyRedirects(None, ()), UpstreamDown),  # type: ignore[arg-type]
        (KeyError("x"), UpstreamFailed), (ValueError("x"), UpstreamFailed),
        (ConnectionResetError(), UpstreamDown), (BrokenPipeError(), UpstreamDown), (OSError(), UpstreamDown),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_every_error_of_the_library_becomes_one_of_ours(error: Exception, want: type[BackendError]) -> None:
    with pytest.raises(want) as caught, gate("lab"):
        raise error
    assert type(caught.value) is want
    assert caught.value.backend == "lab"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [Invalid("x"), UpstreamFailed("x", backend="other")])
def test_our_own_errors_pass_the_gate_as_they_are(error: Exception) -> None:
    assert translated(error, "lab", "") is None
    with pytest.raises(type(error)) as caught, gate("lab"):
        raise error
    assert caught.value is error


def test_a_cancellation_passes_the_gate() -> None:
    with pytest.raises(asyncio.CancelledError), gate("lab"):
        raise asyncio.CancelledError


@pytest.mark.parametrize(("reuse", "upload", "tries"), [(False, False, 1), (True, True, 1), (True, False, 2)])
async def test_a_clients_own_request_is_sent_twice_only_where_that_can_do_no_harm(
    reuse: bool, upload: bool, tries: int
) -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")  # and hang up

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"

    call = Call("POST", "/x?a=%2F", as_is=True, upload=pieces() if upload else None)
    async with serving(handle) as url, client(url, reuse=reuse) as lab:
        with pytest.raises(UpstreamDown):
            await lab.fetch(call)
    assert connections == tries
