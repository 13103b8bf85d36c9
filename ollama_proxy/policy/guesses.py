"""How many keys an address may try. Pure: the clock comes in as a number of seconds.

Only a wrong key that is new to us counts: a client that sends the same wrong one for ever tests nothing and blocks
nobody. Once an address has tried too many, it is told to wait whatever it sends, right or wrong, so that it cannot tell
a right guess; but for the keys that have worked from there before. So the users of one machine, or those behind one
proxy, go on working while one of them guesses; who comes with a key for the first time waits until a try is free.
"""

from __future__ import annotations

import functools
from ipaddress import IPv6Address, ip_address

from .limit import SLACK, Bucket

__all__ = ["Guesses", "place_of"]

# `failures` is a number of tries in so many seconds.
PERIOD = 60.0
# So many addresses, wrong keys and right keys by address are remembered at most.
MOST = 10_000


class Guesses:
    """The tries of all addresses. Each method returns the seconds to wait; 0: the key is judged for what it is."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._worked: dict[tuple[str, str], None] = {}
        self._tried: dict[tuple[str, str], None] = {}

    def right(self, address: str, key: str, *, limit: int, now: float) -> float:
        """Look at a right key by its digest."""
        place = place_of(address)
        if (place, key) in self._worked:
            return 0.0
        wait = self._wait(place, limit, now)
        if not wait:
            remember(self._worked, (place, key))
        return wait

    def wrong(self, address: str, digest: str, *, limit: int, now: float) -> float:
        """Look at a wrong key by its digest, and count it."""
        place = place_of(address)
        if (place, digest) in self._tried:
            return 0.0
        wait = self._wait(place, limit, now)
        if not wait:
            remember(self._tried, (place, digest))
            if place not in self._buckets:
                self._make_room(limit, now)
            self._buckets.setdefault(place, Bucket(now)).add(1.0)
        return wait

    def _wait(self, place: str, limit: int, now: float) -> float:
        bucket = self._buckets.get(place)
        if bucket is None:
            return 0.0
        over = bucket.leak(now, limit / PERIOD) + 1.0 - limit
        return over * PERIOD / limit if over > limit * SLACK else 0.0

    def _make_room(self, limit: int, now: float) -> None:
        """Forget the addresses that have waited long enough, else the one that has tried the least."""
        if len(self._buckets) < MOST:
            return
        levels = {place: bucket.leak(now, limit / PERIOD) for place, bucket in self._buckets.items()}
        gone = [place for place, level in levels.items() if not level] or [min(levels, key=levels.__getitem__)]
        for place in gone:
            del self._buckets[place]


def remember(found: dict[tuple[str, str], None], entry: tuple[str, str]) -> None:
    """Add an entry; the oldest gives way."""
    if len(found) >= MOST:
        del found[next(iter(found))]
    found[entry] = None


@functools.lru_cache(maxsize=4096)
def place_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of one user, who may take any address in it."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip if ip.ipv4_mapped or ip.is_loopback else ip.exploded[:19])
