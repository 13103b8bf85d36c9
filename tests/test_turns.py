from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.errors import Overloaded
from ollama_proxy.settings import load
from ollama_proxy.tasks import Tasks
from ollama_proxy.turns import Rules, Turns

from .conftest import Clock


async def passes() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Client:
    """One request that runs until `finish` is called."""

    def __init__(self, hall: Hall, backend: str, model: str, lane: str) -> None:
        self.running = False
        self.queued: float | None = None
        self.error: Overloaded | None = None
        self._end = asyncio.Event()
        self._hall = hall
        self.task = hall.tasks.start(self._run(backend, model, lane), name="client")

    async def _run(self, backend: str, model: str, lane: str) -> None:
        try:
            async with self._hall.turns.turn(backend, model, lane) as self.queued:
                self.running = True
                self._hall.order.append(lane)
                await self._end.wait()
        except Overloaded as exc:
            self.error = exc
        finally:
            self.running = False

    def finish(self) -> None:
        self._end.set()

    @property
    def done(self) -> bool:
        return self.task.done()


class Hall:
    """Turns, a clock, and clients."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tasks = Tasks()
        self.order: list[str] = []
        self.turns = Turns(self.clock, Rules())

    def rules(self, **rules: object) -> Hall:
        self.turns.change(Rules(**rules))  # type: ignore[arg-type]
        return self

    async def come(self, lane: str = "a", *, model: str = "m", backend: str = "b") -> Client:
        client = Client(self, backend, model, lane)
        await passes()
        return client


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall()
    yield hall
    await hall.tasks.aclose()
    # Whatever a test did: nothing leaks.
    assert hall.turns.state() == {}


async def test_without_limits_nobody_waits(hall: Hall) -> None:
    clients = [await hall.come() for _ in range(50)]

    assert all(client.running and client.queued == 0.0 for client in clients)
    assert hall.turns.state() == {("b", "m"): (50, 0)}


async def test_a_free_slot_is_taken_without_a_pass_of_the_loop(hall: Hall) -> None:
    turn = hall.rules(default=1).turns.turn("b", "m", "a")
    entering = turn.__aenter__()
    with pytest.raises(StopIteration) as done:
        entering.send(None)

    assert done.value.value == 0.0
    await turn.__aexit__(None, None, None)


async def test_more_than_the_backends_limit_wait_and_are_told_how_long(hall: Hall) -> None:
    hall.rules(default=2)
    first, second, third = [await hall.come() for _ in range(3)]
    assert (first.running, second.running, third.running) == (True, True, False)
    assert hall.turns.state() == {("b", "m"): (2, 1)}

    hall.clock.forward(7)
    second.finish()
    await passes()

    assert third.running
    assert third.queued == 7.0


async def test_backends_have_their_own_limits(hall: Hall) -> None:
    hall.rules(default=1, backends={"wide": 0, "two": 2})

    assert [(await hall.come(backend="wide")).running for _ in range(3)] == [True, True, True]
    assert [(await hall.come(backend="two")).running for _ in range(3)] == [True, True, False]
    assert [(await hall.come(backend="other")).running for _ in range(2)] == [True, False]


async def test_one_that_waits_for_its_model_does_not_block_another_model_of_the_backend(hall: Hall) -> None:
    hall.rules(default=2, models={"big": 1})
    big, waiting = await hall.come(model="big"), await hall.come(model="big")
    small = await hall.come(model="small")

    assert (big.running, waiting.running, small.running) == (True, False, True)

    # The backend has a free slot now, but the model has none.
    small.finish()
    await passes()
    assert not waiting.running
    assert hall.turns.state() == {("b", "big"): (1, 1)}

    big.finish()
    await passes()
    assert waiting.running


async def test_a_freed_slot_goes_to_the_first_who_can_use_it(hall: Hall) -> None:
    hall.rules(default=2, models={"big": 1})
    big, small = await hall.come(model="big"), await hall.come(model="small")
    second_big, second_small = await hall.come(model="big"), await hall.come(model="small")

    small.finish()
    await passes()

    assert second_small.running
    assert not second_big.running
    assert big.running


async def test_a_hundred_of_one_caller_delay_anothers_first_by_one_turn(hall: Hall) -> None:
    hall.rules(default=1)
    many = [await hall.come("many") for _ in range(100)]
    await hall.come("one")

    for client in many[:3]:
        client.finish()
    await passes()

    assert hall.order == ["many", "many", "one"]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(hall: Hall) -> None:
    hall.rules(default=1, max_waiting=2)
    running = await hall.come()
    for _ in range(2):
        await hall.come()

    refused = await hall.come()

    assert refused.done
    assert refused.error is not None
    assert (refused.error.status, refused.error.code) == (503, "server_is_overloaded")
    assert refused.error.message == (
        "Our servers are currently overloaded. Please try again later. The backend 'b' has 2 requests waiting already."
    )
    # Nothing is known of how long one takes.
    assert refused.error.headers["retry-after"] == "1"
    assert running.running


async def test_retry_after_is_recent_durations_times_the_place(hall: Hall) -> None:
    hall.rules(default=2, max_waiting=4)
    early = await hall.come()
    hall.clock.forward(6)
    early.finish()
    await passes()
    for _ in range(2 + 4):
        await hall.come()

    refused = await hall.come()

    # Four before it and itself, two at once, six seconds each.
    assert refused.error is not None
    assert refused.error.wait == pytest.approx(5 * 6 / 2)


async def test_retry_after_counts_the_models_own_queue(hall: Hall) -> None:
    hall.rules(models={"big": 1}, max_waiting=3)
    early = await hall.come(model="big")
    hall.clock.forward(4)
    early.finish()
    await passes()
    for _ in range(1 + 3):
        await hall.come(model="big")

    refused = await hall.come(model="big")

    assert refused.error is not None
    assert refused.error.wait == pytest.approx(4 * 4)


async def test_retry_after_is_never_longer_than_clients_heed(hall: Hall) -> None:
    hall.rules(default=1, max_waiting=0)
    early = await hall.come()
    hall.clock.forward(500)
    early.finish()
    await passes()
    await hall.come()

    refused = await hall.come()

    assert refused.error is not None
    assert refused.error.headers["retry-after"] == "60"


async def test_durations_are_a_moving_average_of_those_that_went_well(hall: Hall) -> None:
    hall.rules(default=1, max_waiting=0)
    for seconds, gone in ((10.0, False), (20.0, False), (1000.0, True)):
        client = await hall.come()
        hall.clock.forward(seconds)
        if gone:
            client.task.cancel()
        client.finish()
        await passes()
    await hall.come()

    refused = await hall.come()

    assert refused.error is not None
    assert refused.error.wait == pytest.approx(12.0)


async def test_in_a_full_queue_the_greedy_one_makes_room(hall: Hall) -> None:
    hall.rules(default=1, max_waiting=3)
    many = [await hall.come("many") for _ in range(4)]

    one = await hall.come("one")

    assert [client.done for client in many] == [False, False, False, True]
    assert many[3].error is not None
    assert not one.done
    assert hall.turns.state() == {("b", "m"): (1, 3)}


async def test_one_that_waited_too_long_is_refused_and_loses_its_place(hall: Hall) -> None:
    hall.rules(default=1, max_wait=0.02)
    running, waiting = await hall.come(), await hall.come()

    await waiting.task

    assert waiting.error is not None
    assert (waiting.error.status, waiting.error.code) == (503, "server_is_overloaded")
    assert "waited for the backend 'b' for 0.02 seconds" in waiting.error.message
    assert running.running
    assert hall.turns.state() == {("b", "m"): (1, 0)}


async def test_a_waiting_client_that_leaves_loses_its_place(hall: Hall) -> None:
    hall.rules(default=1)
    running, leaving, behind = [await hall.come() for _ in range(3)]

    leaving.task.cancel()
    await passes()
    assert hall.turns.state() == {("b", "m"): (1, 1)}

    running.finish()
    await passes()
    assert behind.running


@pytest.mark.parametrize("first", ["hand over", "leave"])
async def test_a_client_that_leaves_in_the_pass_in_which_it_gets_its_slot_passes_it_on(hall: Hall, first: str) -> None:
    hall.rules(default=1)
    turn = hall.turns.turn("b", "m", "a")
    await turn.__aenter__()
    leaving, behind = await hall.come(), await hall.come()

    # Both before the task has a chance to run.
    if first == "leave":
        leaving.task.cancel()
    leave = turn.__aexit__(None, None, None)
    with pytest.raises(StopIteration):
        leave.send(None)
    if first == "hand over":
        leaving.task.cancel()
    await passes()

    assert not leaving.running
    assert behind.running
    assert hall.turns.state() == {("b", "m"): (1, 0)}


@pytest.mark.parametrize(("left", "ended"), list(product(range(6), repeat=2)))
async def test_no_slot_leaks_wherever_a_client_leaves(hall: Hall, left: int, ended: int) -> None:
    # One client leaves and another ends, each after so many passes of the loop.
    hall.rules(default=1, models={"m": 1})
    running, leaving, behind = [Client(hall, "b", "m", "a") for _ in range(3)]
    for n in range(7):
        if n == left:
            leaving.task.cancel()
        if n == ended:
            running.finish()
        await asyncio.sleep(0)
    await passes()

    assert behind.running
    assert hall.turns.state() == {("b", "m"): (1, 0)}


async def test_an_error_gives_the_slot_back(hall: Hall) -> None:
    hall.rules(default=1)
    with pytest.raises(ZeroDivisionError):
        async with hall.turns.turn("b", "m", "a"):
            raise ZeroDivisionError

    assert (await hall.come()).running


async def test_raised_limits_let_waiting_ones_in_at_once(hall: Hall) -> None:
    hall.rules(default=1, models={"m": 1})
    clients = [await hall.come() for _ in range(5)]

    hall.rules(default=3)
    await passes()

    assert [client.running for client in clients] == [True, True, True, False, False]


async def test_lowered_limits_leave_those_that_run_alone(hall: Hall) -> None:
    clients = [await hall.come() for _ in range(3)]

    hall.rules(default=2)
    late = await hall.come()
    clients[0].finish()
    await passes()
    seen = [late.running]

    clients[1].finish()
    await passes()
    seen.append(late.running)

    assert seen == [False, True]
    assert clients[2].running


async def test_a_queue_made_smaller_refuses_the_last_of_the_longest_lane(hall: Hall) -> None:
    hall.rules(default=1)
    await hall.come()
    many = [await hall.come("many") for _ in range(3)]
    one = await hall.come("one")

    hall.rules(default=1, max_waiting=2)
    await passes()

    assert [client.error is not None for client in (*many, one)] == [False, True, True, False]
    assert hall.turns.state() == {("b", "m"): (1, 2)}


async def test_those_that_wait_are_judged_by_the_new_longest_wait(hall: Hall) -> None:
    hall.rules(default=1, max_wait=1000)
    await hall.come()
    waiting = await hall.come()
    hall.clock.forward(50)

    hall.rules(default=1, max_wait=40)
    await asyncio.wait_for(waiting.task, 5)

    assert waiting.error is not None


async def test_what_is_idle_is_forgotten_when_rules_change(hall: Hall) -> None:
    hall.rules(default=1)
    (await hall.come()).finish()
    await passes()

    # A slot of before must not count for those that come after.
    hall.rules(default=1)
    assert (await hall.come()).running
    assert not (await hall.come()).running


@pytest.mark.parametrize(
    ("models", "want"),
    [
        ({"qwen3": 3}, 3),
        ({"qwen3:latest": 3}, 3),
        ({"home/qwen3": 3}, 3),
        ({"home/*": 3}, 3),
        ({"qwen3": 3, "*": 1}, 3),
        ({"*": 1, "qwen*": 2}, 2),
        ({"other": 1, "away/qwen3": 1}, 0),
    ],
)
def test_a_models_limit_is_that_of_its_name_or_the_last_glob(models: dict[str, int], want: int) -> None:
    assert Rules(models=models).for_model("home", "qwen3:latest") == want


def test_rules_come_from_the_settings() -> None:
    text = """
        [queue]
        max_concurrent = 4
        max_waiting = 5
        max_wait = 6
        models."big*".max_concurrent = 1
        [backends.home]
        type = "ollama"
        max_concurrent = 0
        [backends.away]
        type = "ollama"
    """
    rules = Rules.of(load(env={}, flags={}, text=text).settings)

    assert rules == Rules(default=4, backends={"home": 0}, models={"big*": 1}, max_waiting=5, max_wait=6.0)
    assert (rules.for_backend("home"), rules.for_backend("away")) == (0, 4)


STEP = st.one_of(
    st.tuples(st.just("come"), st.sampled_from("ab"), st.sampled_from("xyz")),
    st.tuples(st.just("finish"), st.integers(0, 30), st.just("")),
    st.tuples(st.just("leave"), st.integers(0, 30), st.just("")),
    st.tuples(st.just("pass"), st.integers(1, 3), st.just("")),
    st.tuples(st.just("limit"), st.integers(0, 3), st.just("")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_sequence_of_calls_passes_a_limit_or_leaks_a_slot(steps: list[tuple[str, int | str, str]]) -> None:
    asyncio.run(played(steps))


async def played(steps: list[tuple[str, int | str, str]]) -> None:
    hall = Hall().rules(default=2, models={"x": 1}, max_waiting=4)
    limit, clients = 2, list[Client]()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(hall.tasks.aclose)
        for step in steps:
            match step:
                case ("come", str(lane), model):
                    clients.append(Client(hall, "b", model, lane))
                case ("finish", int(n), _) if n < len(clients):
                    clients[n].finish()
                case ("leave", int(n), _) if n < len(clients):
                    clients[n].task.cancel()
                case ("pass", int(n), _):
                    for _ in range(n):
                        await asyncio.sleep(0)
                case ("limit", int(n), _):
                    # Those that run are left alone, so a lower limit shows only once they have gone.
                    limit = n
                    hall.rules(default=n, models={"x": 1}, max_waiting=4)
        # Who was let in a moment ago runs too, though its task has not come to know it.
        before = sum(count for count, _ in hall.turns.state().values())
        await passes()
        state = hall.turns.state()
        running = [client for client in clients if client.running]
        assert sum(count for count, _ in state.values()) == len(running)
        assert sum(count for _, count in state.values()) == sum(not c.done and not c.running for c in clients)
        assert state.get(("b", "x"), (0, 0))[0] <= 1
        if limit and before <= limit:
            assert len(running) <= limit
        # Whoever waits has a reason to.
        for (_, model), (count, waits) in state.items():
            assert not waits or (limit and len(running) >= limit) or (model == "x" and count == 1)
        for client in clients:
            client.finish()
        for _ in range(len(clients)):
            await passes()
        assert all(client.done for client in clients)
    assert hall.turns.state() == {}
