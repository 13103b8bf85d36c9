"""All backends together: their models as last listed, and their exchange when the config changes.

A backend that is away must not slow down the others: its failure is remembered for a moment and its last list kept.
A backend that a new config no longer has is closed when its last running call has ended, never before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from ..errors import BackendError, UpstreamDown
from ..model import Call, ModelInfo
from .base import Backend, Health, Reply, Running
from .http import unexpected

__all__ = ["Fleet", "Member"]

# A list may be this old (seconds) before it is asked for again; a failure is believed for as long as RETRY.
FRESH = 5.0
RETRY = 2.0


class Member:
    """One backend with its last list of models and its running calls."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self.backend = backend
        self.models: tuple[ModelInfo, ...] = ()
        self.error: BackendError | None = None
        self.running = 0
        # Of these, those that nobody waits for.
        self.behind = 0
        self.retired = False
        self._clock = clock
        # Until then (clock seconds) the list is believed.
        self.until = 0.0
        self._refresh = asyncio.Lock()

    async def refresh(self, *, fresh: bool = False) -> bool:
        """Ask for the list when it is due; return whether the list may have changed. Never raises."""
        if not fresh and self._clock() < self.until:
            return False
        async with self._refresh:
            if not fresh and self._clock() < self.until:
                return False
            before = self.models
            try:
                self.models = await self.backend.models(fresh=fresh)
                self.error = None
                self.until = self._clock() + FRESH
            except Exception as exc:
                # Whatever it is, it is this backend's trouble: the others are listed.
                self.error = exc if isinstance(exc, BackendError) else unexpected(exc, self.backend.name)
                self.until = self._clock() + RETRY
            return self.models is not before

    async def check(self) -> Health:
        """Ask the backend for a sign of life; never raises. One whose list of models cannot be read is down: no
        request reaches it."""
        try:
            health = await self.backend.check()
        except Exception as exc:
            return Health(state="down", detail=unexpected(exc, self.backend.name).message)
        if health.state != "down" and self.error is not None:
            # The failure may be over.
            await self.refresh(fresh=True)
            if self.error is not None:
                return Health(state="down", version=health.version, detail=self.error.message)
        return health

    async def runs(self) -> tuple[Running, ...]:
        """Return the models in memory, none for a backend that does not tell; never raises."""
        try:
            return await self.backend.running()
        except Exception as exc:
            unexpected(exc, self.backend.name)
            return ()

    def due(self) -> bool:
        return self._clock() >= self.until

    async def release(self) -> None:
        """A call has ended, or the config has let go: close the backend if nobody needs it any more."""
        if self.retired and not self.running:
            await self.backend.aclose()


class Borrowed:
    """A call to a member, as an async context that keeps the member from being closed. It begins when it is its
    `turn` (None: at once), after `waited` seconds. `behind`: nobody waits for its answer."""

    __slots__ = ("_behind", "_member", "_opening", "_turn", "begun", "waited")

    def __init__(
        self, member: Member, call: Call, turn: AbstractAsyncContextManager[float] | None, *, behind: bool = False
    ) -> None:
        self._member = member
        self._behind = behind
        self._opening = member.backend.open(call)
        self._turn = turn
        self.waited = 0.0
        # Whether the backend was called, or the turn has not come yet.
        self.begun = turn is None

    async def __aenter__(self) -> Reply:
        # Before the turn: a backend that is taken out of the config lets those finish that wait for it.
        self._member.running += 1
        self._member.behind += self._behind
        try:
            if self._turn is None:
                return await self._opening.__aenter__()
            self.waited = await self._turn.__aenter__()
            self.begun = True
        except BaseException:
            if self._done():
                await self._member.release()
            raise
        try:
            return await self._opening.__aenter__()
        except BaseException as exc:
            await self._turn.__aexit__(type(exc), exc, exc.__traceback__)
            if self._done():
                await self._member.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._opening.__aexit__(kind, value, trace)
        finally:
            if self._turn is not None:
                await self._turn.__aexit__(kind, value, trace)
            if self._done():
                await self._member.release()

    def _done(self) -> bool:
        """Count it out; returns whether its backend waits to be let go."""
        self._member.running -= 1
        self._member.behind -= self._behind
        return self._member.retired


class Fleet:
    """The configured backends by name, in the order of the config (which decides ties)."""

    def __init__(self, backends: Mapping[str, Backend], *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.members: dict[str, Member] = {name: Member(b, clock) for name, b in backends.items()}
        self._listed: tuple[ModelInfo, ...] | None = None
        # Until then (clock seconds) no list is due.
        self._fresh_until = 0.0
        # Counts the changes of the list, so that whoever derives something from it knows when it is stale.
        self.version = 0

    async def listed(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """Return all models of all backends that answer or have answered, in config order."""
        if not fresh and self._listed is not None and self._clock() < self._fresh_until:
            return self._listed
        members = list(self.members.values())
        if fresh or any(member.due() for member in members):
            changed = await asyncio.gather(*(member.refresh(fresh=fresh) for member in members))
            if any(changed):
                self._listed = None
        self._fresh_until = min((member.until for member in members), default=0.0)
        if self._listed is None:
            self._listed = tuple(info for member in self.members.values() for info in member.models)
            self.version += 1
        return self._listed

    def down(self) -> list[BackendError]:
        """Return why each backend that did not answer last time did not."""
        return [member.error for member in self.members.values() if member.error is not None]

    def busy(self, name: str) -> bool:
        """Return whether a backend answers somebody who waits, or is about to."""
        member = self.members.get(name)
        return member is not None and member.running > member.behind

    def open(
        self, name: str, call: Call, turn: AbstractAsyncContextManager[float] | None = None, *, behind: bool = False
    ) -> Borrowed:
        """Send `call` to the backend when it is its turn; it stays open at least as long as this context."""
        member = self.members.get(name)
        if member is None:
            # The config was exchanged between choosing the model and calling it.
            raise UpstreamDown(f"The backend '{name}' has just been removed from the configuration.", backend=name)
        return Borrowed(member, call, turn, behind=behind)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Backend]:
        """Keep a backend open for what is more than a call (a WebSocket)."""
        member = self.members.get(name)
        if member is None:
            raise UpstreamDown(f"The backend '{name}' has just been removed from the configuration.", backend=name)
        member.running += 1
        try:
            yield member.backend
        finally:
            member.running -= 1
            await member.release()

    def __getitem__(self, name: str) -> Backend:
        return self.members[name].backend

    def replace(self, backends: Mapping[str, Backend]) -> list[Member]:
        """Take over another set at once, and return the members that are out of it, to be released. Backends that
        are the same object stay as they are."""
        old = self.members
        new: dict[str, Member] = {}
        for name, backend in backends.items():
            member = old.get(name)
            new[name] = member if member and member.backend is backend else Member(backend, self._clock)
        self.members = new
        self._listed = None
        self._fresh_until = 0.0
        out = [member for name, member in old.items() if new.get(name) is not member]
        for member in out:
            member.retired = True
        return out

    async def aclose(self) -> None:
        await asyncio.gather(*(member.backend.aclose() for member in self.members.values()))
