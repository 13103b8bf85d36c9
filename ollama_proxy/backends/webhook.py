"""Telling something to a URL of the user's, until it is heard: a POST of JSON, tried again with growing pauses.

Never follows redirects, and never tells the URL in a message: it may hold a secret.
"""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp

from ..policy.backoff import Backoff

__all__ = ["Webhook"]

# What may go away by itself: https://developer.mozilla.org/docs/Web/HTTP/Status
PASSING = frozenset({408, 425, 429})
LONGEST_PAUSE = 60.0


class Webhook:
    """Posts to URLs. `tries` in all, `pause` seconds after the first and twice as long after each more, `timeout`
    seconds for each."""

    def __init__(self, *, tries: int = 7, pause: float = 1.0, timeout: float = 10.0) -> None:
        self._tries = tries
        self._backoff = Backoff(pause, LONGEST_PAUSE)
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def post(self, url: str, body: bytes) -> str:
        """Send `body` (JSON). Return "" when it was taken, else why it never was. All tries have the same
        idempotency-key, for a receiver that took it and could not say so."""
        headers = {
            "content-type": "application/json",
            "user-agent": "oproxy",
            "idempotency-key": hashlib.sha256(body).hexdigest()[:32],
        }
        why = ""
        async with aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            for n in range(self._tries):
                if n:
                    await asyncio.sleep(self._backoff.pause(n))
                try:
                    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                        if response.status < 300:
                            return ""
                        why = f"HTTP {response.status}"
                        if response.status < 500 and response.status not in PASSING:
                            return why
                except (aiohttp.InvalidURL, ValueError) as exc:
                    return type(exc).__name__
                except (aiohttp.ClientError, OSError) as exc:
                    # TimeoutError is an OSError. The texts of these name the address.
                    why = type(exc).__name__
        return why
