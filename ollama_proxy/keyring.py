"""The keys in force: those of the database, those of the environment, and the daemon's own word for its commands.

Looked up in memory by digest; the database is read again as soon as it says that keys changed. Decides who somebody is,
never what they may: that is `policy.credentials`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from .account import Caller, Key
from .policy import credentials
from .policy.redact import mask_key
from .store import StoreError

if TYPE_CHECKING:
    from .store import Keys

__all__ = ["CONTROL", "Keyring"]

log = logging.getLogger(__name__)

# The caller behind `oproxy` commands on this machine, which know the daemon's token from its state file.
CONTROL = "oproxy-cli"
# Seconds between looks at whether keys changed by another process.
AGAIN = 0.5


class Keyring:
    """All keys by digest. `keys` is the database's table (None: no database, or not yet); `given` maps names
    to keys that the environment holds; `control` is the daemon's token; `wall` epoch seconds."""

    def __init__(
        self,
        keys: Keys | None = None,
        *,
        wall: Callable[[], float],
        control: str = "",
        given: Mapping[str, str] = {},
    ) -> None:
        self.keys = keys
        # Whether there are keys in the database that were not read yet.
        self.incomplete = False
        self._wall = wall
        self._control = control
        self._given = {digest: key_of(name, secret, digest) for name, secret, digest in digested(given)}
        self._stored: dict[str, Key] = {}
        self._version = -1
        # Who sent what from where, as long as no key changes.
        self._callers: dict[tuple[str, str], Caller] = {}
        self._digests: dict[str, str] = {}

    def find(self, secret: str) -> Key | None:
        """Return the key behind what was sent, also one that is expired or revoked; None for a stranger's."""
        found = self._digests.get(secret)
        if found is None:
            found = credentials.digest(secret)
            if len(self._digests) > 4096:
                self._digests.clear()
            if found in self._stored or found in self._given:
                self._digests[secret] = found
        return self._stored.get(found) or self._given.get(found)

    def controls(self, secret: str) -> bool:
        """Return whether this is the daemon's own token."""
        # What came in a header may hold bytes that are no text.
        sent = secret.encode("utf-8", "surrogateescape")
        return bool(self._control) and hmac.compare_digest(sent, self._control.encode())

    def caller(self, secret: str | None, address: str) -> Caller | None:
        """Return who sent this key, None where it opens nothing. Raises Unauthorized for a key that did once."""
        if not secret:
            return None
        known = self._callers.get((secret, address))
        if known is not None:
            return known
        key = self.find(secret)
        if key is None:
            if self.controls(secret):
                return Caller(name=CONTROL, address=address, admin=True)
            return None
        if key.revoked is not None:
            raise credentials.incorrect(secret, "has been revoked")
        if key.expires is not None and key.expires <= self._wall():
            raise credentials.incorrect(secret, "has expired")
        caller = Caller(name=key.name, key=key, address=address, admin=key.admin)
        if key.expires is None:
            if len(self._callers) > 4096:
                self._callers.clear()
            self._callers[secret, address] = caller
        return caller

    def all(self) -> list[Key]:
        """Return every key in force, the environment's after the database's."""
        return [*self._stored.values(), *self._given.values()]

    def give(self, given: Mapping[str, str]) -> None:
        """Take other keys of the environment."""
        self._given = {digest: key_of(name, secret, digest) for name, secret, digest in digested(given)}
        self._callers = {}

    def read(self) -> bool:
        """Read the keys anew if they changed; return whether they did. Blocks; StoreError when the database fails."""
        if self.keys is None:
            return False
        version = self.keys.version()
        if version == self._version:
            self.incomplete = False
            return False
        self._stored = {key.digest: key for key in self.keys.all()}
        self._version = version
        self._callers = {}
        self.incomplete = False
        return True

    async def run(self) -> None:
        """Follow changes by others until cancelled. A database that fails leaves the keys as they are."""
        while True:
            await asyncio.sleep(AGAIN)
            reading = asyncio.get_running_loop().run_in_executor(None, self.read)
            try:
                await asyncio.shield(reading)
            except StoreError as exc:
                log.debug("keys could not be read: %s", exc.message)
            except asyncio.CancelledError:
                # The database is closed next, which must not happen under a thread that reads from it.
                await asyncio.wait({reading})
                raise


def digested(given: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    return [(name, secret, credentials.digest(secret)) for name, secret in given.items()]


def key_of(name: str, secret: str, digest: str) -> Key:
    """Return a key that only the environment knows: it may everything, like OpenAI's."""
    return Key(id=f"key_env_{name}", name=name, digest=digest, shown=mask_key(secret), created=0.0)
