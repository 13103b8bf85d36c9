"""Fetching the images that a request names by URL, without being led into places that only this machine can reach.

Names are resolved here and the connection goes to an address that was judged, so a name cannot change its meaning
between the check and the call. Every failure is the client's: errors.Invalid. Sends no cookies, no keys, no referrer.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Mapping
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec.structs import replace
from yarl import URL

from ..errors import Invalid
from ..model import Image
from ..policy.address import public_address
from ..policy.images import sniff, too_many_bytes, unsupported
from ..policy.memory import Hold
from ..tasks import Tasks

__all__ = ["Allowance", "ImageFetcher"]

REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = {
    "accept": "image/png, image/jpeg, image/webp, image/gif",
    "accept-encoding": "identity",
    "user-agent": "oproxy",
}
# Images of one request that are fetched at once.
AT_ONCE = 4
# Times its size that an image takes: as it came, as base64, and in the backend's request.
COST = 5
# Idle connections to other people's servers are of no use for long.
KEEP_ALIVE = 5


class _Private(OSError):
    """The address is none of the public internet's."""


class _Guard(AbstractResolver):
    """Resolves names, and lets only judged addresses through to the connector."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not self._allow_private and not all(public_address(each["host"]) for each in found):
            # One bad address is enough: a name with both kinds has no honest use.
            raise _Private(host)
        return found

    async def close(self) -> None:
        await self._inner.close()


class Allowance:
    """What the images of one request may take together: `left` of `total` bytes, each image as often as it `occurs`,
    and memory of the request's `hold`."""

    def __init__(self, *, total: int, left: int, occurs: Mapping[str, int], hold: Hold) -> None:
        self.left = left
        self._total = total
        self._occurs = occurs
        self._hold = hold

    def take(self, url: str, size: int, param: str | None) -> None:
        """Take `size` bytes for an image. Raises errors.Invalid, Overloaded and TooLarge."""
        size *= self._occurs.get(url, 1)
        self.left -= size
        if self.left < 0:
            raise too_many_bytes(self._total, param)
        self._hold.take(COST * size)


class ImageFetcher:
    """Fetches images. `max_bytes` bounds one image, `timeout` (seconds) one image with all its redirects,
    `total_timeout` all images of one request.

    `resolver` answers names in place of the system's.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout: float,
        total_timeout: float = 30.0,
        redirects: int,
        allow_private: bool,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._total_timeout = total_timeout
        self._redirects = redirects
        self._allow_private = allow_private
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch_all(self, images: Mapping[str, Image], allowance: Allowance) -> dict[str, Image]:
        """Return the images of one request with their bytes, by URL: a few are fetched at once, all within one time
        and one allowance. Raises errors.Invalid, Overloaded and TooLarge."""
        found: dict[str, Image] = {}
        left = iter(images.items())

        async def work() -> None:
            for url, image in left:
                found[url] = await self.fetch(image, allowance)

        tasks = Tasks()
        try:
            async with asyncio.timeout(self._total_timeout):
                await asyncio.gather(
                    *(tasks.start(work(), name=f"images-{n}") for n in range(min(AT_ONCE, len(images))))
                )
        except TimeoutError:
            url, image = next((url, image) for url, image in images.items() if url not in found)
            raise _refused(
                url,
                f"the {len(images)} images of the request did not arrive within {self._total_timeout:g} seconds "
                "(images_timeout under [server])",
                image.param,
            ) from None
        finally:
            await tasks.aclose()
        return found

    async def fetch(self, image: Image, allowance: Allowance | None = None) -> Image:
        """Return `image` with its bytes and their true type. Raises errors.Invalid with the part's path."""
        if image.data is not None or image.url is None:
            return image
        try:
            async with asyncio.timeout(self._timeout):
                content = await self._follow(image.url, image.param, allowance)
        except TimeoutError:
            raise _refused(image.url, f"it did not arrive within {self._timeout:g} seconds", image.param) from None
        except aiohttp.ClientConnectorDNSError as exc:
            reason = "its host name is unknown"
            if isinstance(exc.__cause__, _Private) or isinstance(exc.os_error, _Private):
                reason = "its address is not on the public internet"
            raise _refused(image.url, reason, image.param) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _refused(image.url, f"the connection failed ({type(exc).__name__})", image.param) from exc
        media_type = sniff(content)
        if media_type is None:
            raise unsupported(image.param)
        return replace(image, data=base64.b64encode(content).decode(), media_type=media_type, url=None)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, start: str, param: str | None, allowance: Allowance | None) -> bytes:
        url = _url(start, start, param)
        for _ in range(self._redirects + 1):
            self._judge(url, start, param)
            async with self._open().get(url, allow_redirects=False, headers=HEADERS) as response:
                if response.status not in REDIRECTS:
                    return await self._read(response, start, param, allowance)
                location = response.headers.get("location")
                if not location:
                    raise _refused(start, "it redirects to nowhere", param)
                url = _url(location, start, param, base=url)
        raise _refused(start, f"it redirects more than {self._redirects} times", param)

    def _judge(self, url: URL, start: str, param: str | None) -> None:
        """Refuse a bad address in the URL itself: aiohttp asks no resolver for it."""
        host = url.raw_host or ""
        try:
            ip_address(host)
        except ValueError:
            if ":" in host or host.replace(".", "").isdigit():
                # aiohttp takes 127.1 or 2130706433 for an address, and the system's resolver would agree.
                raise _refused(start, "its address is malformed", param) from None
            return
        if not self._allow_private and not public_address(host):
            raise _refused(start, "its address is not on the public internet", param)

    async def _read(
        self, response: aiohttp.ClientResponse, start: str, param: str | None, allowance: Allowance | None
    ) -> bytes:
        if response.status != 200:
            raise _refused(start, f"the server answered {response.status}", param)
        too_large = _refused(start, f"it is larger than {self._max_bytes} bytes (image_max_bytes)", param)
        if response.content_length is not None and response.content_length > self._max_bytes:
            raise too_large
        content = bytearray()
        async for data in response.content.iter_any():
            content += data
            if len(content) > self._max_bytes:
                raise too_large
            if allowance is not None:
                allowance.take(start, len(data), param)
        return bytes(content)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            inner = self._resolver or aiohttp.ThreadedResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Guard(inner, allow_private=self._allow_private),
                    use_dns_cache=False,
                    keepalive_timeout=KEEP_ALIVE,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # `fetch` has its own time, for all redirects together.
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def _url(text: str, start: str, param: str | None, *, base: URL | None = None) -> URL:
    try:
        url = URL(text)
        url = base.join(url) if base is not None else url
    except ValueError:
        raise _refused(start, "it is no valid URL", param) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise _refused(start, "only http and https URLs are fetched", param)
    return url.with_user(None) if url.user is not None else url


def _refused(url: str, reason: str, param: str | None) -> Invalid:
    shown = url if len(url) <= 200 else f"{url[:200]}…"
    return Invalid(f"Failed to download image from {shown}: {reason}.", param=param, code="invalid_image_url")
