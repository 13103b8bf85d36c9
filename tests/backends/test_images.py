"""Images are fetched from public addresses only, within their size and time, with every redirect judged anew."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from ollama_proxy.backends.images import ImageFetcher
from ollama_proxy.errors import Invalid
from ollama_proxy.model import Image

PNG = b"\x89PNG\r\n\x1a\n" + bytes(500)
PARAM = "messages[0].content[0].image_url.url"


class Names(AbstractResolver):
    """A resolver that knows these names; each question takes the next address of a name's list."""

    def __init__(self, known: dict[str, list[str]]) -> None:
        self.known = known
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.known:
            raise OSError(None, "unknown")
        addresses = self.known[host]
        ip = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [
            ResolveResult(
                hostname=host, host=each, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
            for each in ip.split()
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def image(request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type=request.query.get("type", "text/plain"))

    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.query["n"])):
            await response.write(PNG)
        return response

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(PNG[:10])
        await asyncio.sleep(60)
        return response

    async def redirect(request: web.Request) -> web.Response:
        left = int(request.match_info["n"])
        to = f"/redirect/{left - 1}" if left > 1 else "/image"
        return web.Response(status=302, headers={"location": request.query.get("to", to)})

    async def other(request: web.Request) -> web.Response:
        return web.Response(status=int(request.query.get("status", "200")), text="<html>")

    async def headers(request: web.Request) -> web.Response:
        assert "authorization" not in request.headers
        return web.Response(body=PNG)

    app = web.Application()
    for path, handler in {
        "/image": image, "/chunked": chunked, "/slow": slow, "/redirect/{n}": redirect, "/other": other,
        "/headers": headers,
    }.items():  # fmt: skip
        app.router.add_get(path, handler)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


Make = Callable[..., ImageFetcher]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[ImageFetcher] = []

    def one(**settings: object) -> ImageFetcher:
        given = {"max_bytes": 2000, "timeout": 10.0, "redirects": 3, "allow_private": True, **settings}
        made.append(ImageFetcher(**given))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for fetcher in made:
        await fetcher.aclose()


async def refusal(fetcher: ImageFetcher, url: str) -> str:
    with pytest.raises(Invalid) as caught:
        await fetcher.fetch(Image(url=url, param=PARAM))
    assert caught.value.param == PARAM
    assert caught.value.code == "invalid_image_url"
    return caught.value.message


@pytest.mark.parametrize("path", ["/image", "/image?type=image/gif", "/chunked?n=1", "/redirect/3", "/headers"])
async def test_an_image_arrives_with_its_true_type(server: TestServer, make: Make, path: str) -> None:
    url = str(server.make_url(path).with_user("me").with_password("secret"))
    image = await make().fetch(Image(url=url, detail="low", param=PARAM))
    assert image == Image(data=base64.b64encode(PNG).decode(), media_type="image/png", detail="low", param=PARAM)


async def test_an_image_that_is_here_already_is_left_alone(make: Make) -> None:
    image = Image(data="AA==", media_type="image/png")
    assert await make().fetch(image) is image


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/redirect/4", "redirects more than 3 times"),
        ("/redirect/1?to=", "redirects to nowhere"),
        ("/redirect/1?to=file:///etc/passwd", "only http and https"),
        ("/redirect/1?to=http://%5B", "no valid URL"),
        ("/other?status=404", "answered 404"),
        ("/chunked?n=5", "larger than 2000 bytes"),
    ],
)
async def test_every_failure_is_told_with_its_reason(server: TestServer, make: Make, path: str, reason: str) -> None:
    assert reason in await refusal(make(), str(server.make_url(path)))


async def test_an_announced_size_is_believed_when_it_is_too_large(server: TestServer, make: Make) -> None:
    assert "larger than 100 bytes" in await refusal(make(max_bytes=100), str(server.make_url("/image")))


async def test_a_slow_image_is_given_up(server: TestServer, make: Make) -> None:
    assert "did not arrive within 0.2 seconds" in await refusal(make(timeout=0.2), str(server.make_url("/slow")))


async def test_what_is_no_image_is_refused(server: TestServer, make: Make) -> None:
    with pytest.raises(Invalid) as caught:
        await make().fetch(Image(url=str(server.make_url("/other")), param=PARAM))
    assert (caught.value.code, caught.value.param) == ("invalid_image_format", PARAM)


async def test_an_unreachable_server_is_the_clients_error(make: Make) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert "connection failed" in await refusal(make(), f"http://127.0.0.1:{held.getsockname()[1]}/x")


@pytest.mark.parametrize("url", ["ftp://example.com/x", "file:///etc/passwd", "http://", "//x/y", "http://["])
async def test_other_urls_are_not_fetched(make: Make, url: str) -> None:
    await refusal(make(resolver=Names({})), url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "127.1", "2130706433",
        "127.0.0.1.", "[64:ff9b::7f00:1]",
    ],
)  # fmt: skip
async def test_addresses_that_only_we_can_reach_are_refused(server: TestServer, make: Make, host: str) -> None:
    names = Names({})
    message = await refusal(make(allow_private=False, resolver=names), f"http://{host}:{server.port}/image")
    assert "public internet" in message or "malformed" in message
    assert names.asked == []


@pytest.mark.parametrize("addresses", ["127.0.0.1", "8.8.8.8 127.0.0.1"])
async def test_names_of_such_addresses_are_refused(server: TestServer, make: Make, addresses: str) -> None:
    fetcher = make(allow_private=False, resolver=Names({"innocent.example": [addresses]}))
    assert "public internet" in await refusal(fetcher, f"http://innocent.example:{server.port}/image")


async def test_an_unknown_name_is_told(make: Make) -> None:
    fetcher = make(allow_private=False, resolver=Names({}))
    assert "host name is unknown" in await refusal(fetcher, "http://nowhere.example/image")


async def test_a_name_is_asked_for_once_and_the_judged_address_used(server: TestServer, make: Make) -> None:
    names = Names({"rebinding.example": ["127.0.0.1", "192.0.2.1"]})
    image = await make(resolver=names).fetch(Image(url=f"http://rebinding.example:{server.port}/image"))
    assert image.media_type == "image/png"
    assert names.asked == ["rebinding.example"]


async def test_a_redirect_is_judged_anew(server: TestServer, make: Make) -> None:
    names = Names({"start.example": ["127.0.0.1"]})
    fetcher = make(resolver=names)
    location = f"http://2130706433:{server.port}/image"
    url = f"http://start.example:{server.port}/redirect/1?to={location}"
    assert "malformed" in await refusal(fetcher, url)
