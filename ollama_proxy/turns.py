"""Turns: how many requests a backend and a model of it answer at once, and who is next. Ollama's own queue never
refuses and knows no callers: whoever came with a hundred requests would let everybody else wait for all of them.

A slot is handed from the one that leaves to the next that waits in one step, so none is ever free while somebody waits
who could use it. Starts no task and calls no backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import TracebackType

import msgspec

from .errors import Overloaded
from .policy.fair import FairQueue
from .policy.options import is_glob
from .sections import Settings

__all__ = ["Rules", "Turn", "Turns"]

BUSY = "Our servers are currently overloaded. Please try again later."
# Of the moving average over durations: the last ten count for nine tenths.
WEIGHT = 0.2
# Clients are not told to wait for longer: openai-node heeds no more than 60 s, openai-python no more than 120 s.
LONGEST_WAIT = 60.0
SHORTEST_WAIT = 1.0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How many run at once; 0: any number. `backends` has those that say so themselves, `models` (names or globs of
    served models, with or without "backend/") holds for each backend by itself."""

    default: int = 0
    backends: Mapping[str, int] = {}
    models: Mapping[str, int] = {}
    max_waiting: int = 200
    max_wait: float = 120.0

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Return the rules that the settings give."""
        queue = settings.queue
        return cls(
            default=queue.max_concurrent,
            backends={
                name: backend.max_concurrent
                for name, backend in settings.backends.items()
                if backend.max_concurrent is not None
            },
            models={name: each.max_concurrent for name, each in queue.models.items()},
            max_waiting=queue.max_waiting,
            max_wait=queue.max_wait,
        )

    @property
    def unlimited(self) -> bool:
        """Whether nothing is limited at all."""
        return not (self.default or any(self.backends.values()) or any(self.models.values()))

    def for_backend(self, backend: str) -> int:
        return self.backends.get(backend, self.default)

    def for_model(self, backend: str, model: str) -> int:
        """Return the model's own limit. An exact name counts before a glob, a later line before an earlier one."""
        names = (
            model,
            f"{backend}/{model}",
            model.removesuffix(":latest"),
            f"{backend}/{model.removesuffix(':latest')}",
        )
        limit = 0
        for exact in (False, True):
            for key, value in self.models.items():
                if is_glob(key) is not exact and any(fnmatchcase(name, key) for name in names):
                    limit = value
        return limit


class _Gate:
    """What may be passed by `limit` requests at once (0: any number)."""

    __slots__ = ("limit", "running", "seconds", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting = 0
        # The moving average of durations; 0: none known.
        self.seconds = 0.0

    def full(self) -> bool:
        return 0 < self.limit <= self.running

    def took(self, seconds: float) -> None:
        self.seconds = self.seconds + WEIGHT * (seconds - self.seconds) if self.seconds else seconds

    def wait(self, ahead: int) -> float:
        """Return how long one waits for this gate with so many before it."""
        return (ahead + 1) * self.seconds / self.limit if self.limit else 0.0


class _Backend(_Gate):
    """A backend's gate, its models' gates, and who waits for either."""

    __slots__ = ("models", "queue")

    def __init__(self, limit: int, most: int) -> None:
        super().__init__(limit)
        self.models: dict[str, _Gate] = {}
        self.queue: FairQueue[Turn] = FairQueue(most)


class Turn:
    """One request's turn, as an async context: entering waits for it and gives the seconds waited, leaving passes it
    on. Raises Overloaded when there is no room to wait, or when it took too long."""

    __slots__ = (
        "_turns",
        "backend",
        "backend_name",
        "came",
        "lane",
        "late",
        "model",
        "model_name",
        "ready",
        "started",
        "timer",
    )

    def __init__(self, turns: Turns, backend: str, model: str, lane: str, late: bool) -> None:
        self._turns = turns
        self.backend_name = backend
        self.model_name = model
        self.lane = lane
        self.late = late
        self.came = self.started = 0.0
        self.ready: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> float:
        turns = self._turns
        self.backend, self.model = backend, model = turns._gates(self.backend_name, self.model_name)
        if not ((0 < backend.limit <= backend.running) or (0 < model.limit <= model.running)):
            # Nobody waits who could go now: whoever waits for this very model would have been let in before.
            backend.running += 1
            model.running += 1
            self.started = turns.clock()
            return 0.0
        return await turns._wait(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns._leave(self, measured=kind is None)


class Turns:
    """The turns of all backends. `clock` gives seconds; everything happens on one event loop. `unlimited`: no turn is
    needed."""

    def __init__(self, clock: Callable[[], float], rules: Rules) -> None:
        self.clock = clock
        self.rules = rules
        self.unlimited = rules.unlimited
        self._backends: dict[str, _Backend] = {}

    def turn(self, backend: str, model: str, lane: str, *, late: bool = False) -> Turn:
        """Return the turn of one request to `model` (as served) of `backend`; `lane` is who asks. `late`: it goes when
        no other can. Turns must not be nested: one that holds a turn and waits for another may wait for itself."""
        return Turn(self, backend, model, lane, late)

    def state(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return, by (backend, model), how many are running and how many wait; models without either are left out."""
        return {
            (backend, model): (gate.running, gate.waiting)
            for backend, place in self._backends.items()
            for model, gate in place.models.items()
            if gate.running or gate.waiting
        }

    def change(self, rules: Rules) -> None:
        """Go by other rules from now on, those that wait already too; those that run are left alone."""
        self.rules = rules
        self.unlimited = rules.unlimited
        for name, backend in list(self._backends.items()):
            backend.limit = rules.for_backend(name)
            backend.queue.most = rules.max_waiting
            for model, gate in list(backend.models.items()):
                gate.limit = rules.for_model(name, model)
                if not gate.running and not gate.waiting:
                    del backend.models[model]
            # First who may go, then who has to: a waiting room made smaller is no reason to refuse who need not wait.
            self._hand_over(backend)
            for turn in backend.queue.trim():
                self._refuse(turn, self._full(turn))
            for turn in backend.queue:
                self._time(turn)
            if not backend.models:
                del self._backends[name]

    # --- one request ------------------------------------------------------------------------------------------

    def _gates(self, backend: str, model: str) -> tuple[_Backend, _Gate]:
        place = self._backends.get(backend)
        if place is None:
            place = self._backends[backend] = _Backend(self.rules.for_backend(backend), self.rules.max_waiting)
        gate = place.models.get(model)
        if gate is None:
            gate = place.models[model] = _Gate(self.rules.for_model(backend, model))
        return place, gate

    async def _wait(self, turn: Turn) -> float:
        turn.came = self.clock()
        queue = turn.backend.queue
        out = queue.push(turn.lane, turn)
        if out is turn:
            raise self._full(turn)
        turn.model.waiting += 1
        turn.ready = asyncio.get_running_loop().create_future()
        if out is not None:
            self._refuse(out, self._full(out))
        self._time(turn)
        try:
            await turn.ready
        except BaseException:
            # Refused, or the client is gone; perhaps in the very moment in which the slot was handed over.
            if queue.remove(turn):
                turn.model.waiting -= 1
            elif _granted(turn.ready):
                self._leave(turn, measured=False)
            raise
        finally:
            if turn.timer is not None:
                turn.timer.cancel()
        return max(0.0, turn.started - turn.came)

    def _leave(self, turn: Turn, *, measured: bool) -> None:
        """Give the slot back. Requests that failed or whose client left say little of how long one takes."""
        backend, model = turn.backend, turn.model
        backend.running -= 1
        model.running -= 1
        if measured:
            seconds = max(0.0, self.clock() - turn.started)
            backend.took(seconds)
            model.took(seconds)
        if backend.queue:
            self._hand_over(backend)

    def _hand_over(self, backend: _Backend) -> None:
        """Let in all who may go now."""
        while not backend.full() and (turn := backend.queue.pop(_goes_first) or backend.queue.pop(_may_go)) is not None:
            turn.model.waiting -= 1
            assert turn.ready is not None
            if turn.ready.done():
                # Its client left a moment ago, and its task has not yet run to say so.
                continue
            backend.running += 1
            turn.model.running += 1
            turn.started = self.clock()
            turn.ready.set_result(None)

    # --- refusals ---------------------------------------------------------------------------------------------

    def _time(self, turn: Turn) -> None:
        """Set when a waiting one has waited long enough, by the rules in force."""
        if turn.timer is not None:
            turn.timer.cancel()
        left = max(0.0, self.rules.max_wait - (self.clock() - turn.came))
        turn.timer = asyncio.get_running_loop().call_later(left, self._expire, turn)

    def _expire(self, turn: Turn) -> None:
        queue = turn.backend.queue
        if turn not in queue:
            return
        # Its place says how long it had still to wait.
        ahead = queue.position(turn)
        queue.remove(turn)
        why = f"The request waited for the backend '{turn.backend_name}' for {self.rules.max_wait:g} seconds."
        self._refuse(turn, self._overloaded(turn, ahead, why))

    def _refuse(self, turn: Turn, refusal: Overloaded) -> None:
        """Wake one that was just taken out of the queue, with the reason."""
        turn.model.waiting -= 1
        if turn.ready is not None and not turn.ready.done():
            turn.ready.set_exception(refusal)

    def _full(self, turn: Turn) -> Overloaded:
        backend = turn.backend
        return self._overloaded(
            turn,
            backend.queue.ahead(turn.lane),
            f"The backend '{turn.backend_name}' has {len(backend.queue)} requests waiting already.",
        )

    def _overloaded(self, turn: Turn, ahead: int, why: str) -> Overloaded:
        wait = max(turn.backend.wait(ahead), turn.model.wait(turn.model.waiting))
        return Overloaded(f"{BUSY} {why}", wait=min(max(wait, SHORTEST_WAIT), LONGEST_WAIT))


def _goes_first(turn: Turn) -> bool:
    return not turn.late and not turn.model.full()


def _may_go(turn: Turn) -> bool:
    return not turn.model.full()


def _granted(ready: asyncio.Future[None]) -> bool:
    return ready.done() and not ready.cancelled() and ready.exception() is None
