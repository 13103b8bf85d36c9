"""How long to wait for the next piece of a body: not for ever, and not longer and longer for a client that sends just
enough to stay connected. Pure.
"""

from __future__ import annotations

__all__ = ["patience"]


def patience(received: int, waited: float, *, timeout: float, rate: int) -> float:
    """Return the seconds to wait for the next piece; zero or less: the client is too slow.

    `received` bytes came in `waited` seconds of waiting; the time in which we did not read does not count. A client
    gets `timeout` seconds for each piece, and for all of them `timeout` and a second for each `rate` bytes it sends
    (0: any rate will do). A slow line passes, whatever the size: only its rate is judged.
    """
    if not rate:
        return timeout
    return min(timeout, timeout + received / rate - waited)
