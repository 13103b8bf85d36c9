"""All backends together: lists while some are away, and exchange while calls run. Backends are fake Ollamas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.backends import table
from ollama_proxy.backends.base import Backend
from ollama_proxy.backends.fleet import FRESH, RETRY, Fleet
from ollama_proxy.errors import UpstreamDown
from ollama_proxy.model import Call
from tests.conftest import Clock
from tests.fakes.ollama import FakeOllama

VERSION = Call("GET", "/api/version")
CHAT = Call("POST", "/api/chat", b'{"model": "smollm2", "messages": []}')


class Yard:
    """Two fakes and the fleet of them."""

    def __init__(self, one: FakeOllama, two: FakeOllama, clock: Clock, folder: Path) -> None:
        self.one, self.two, self.clock, self._folder = one, two, clock, folder
        two.models = two.models[:2]
        self.fleet = Fleet({"one": self.backend("one", one), "two": self.backend("two", two)}, clock=clock)

    def backend(self, name: str, fake: FakeOllama) -> Backend:
        return table.build(name, env={}, clock=self.clock, data_dir=self._folder, type="ollama", url=fake.url)

    async def names(self, *, fresh: bool = False) -> list[str]:
        return [f"{info.backend}/{info.id}" for info in await self.fleet.listed(fresh=fresh)]


@pytest.fixture
async def yard(clock: Clock, tmp_path: Path) -> AsyncIterator[Yard]:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(FakeOllama()) for _ in range(2)]
        made = Yard(one, two, clock, tmp_path)
        yield made
        await made.fleet.aclose()


def lists(fake: FakeOllama) -> int:
    return len(fake.asked("/api/tags"))


async def test_models_are_listed_in_the_order_of_the_config_and_not_asked_for_again_at_once(yard: Yard) -> None:
    names = await yard.names()
    assert names[0].startswith("one/")
    assert [name.partition("/")[0] for name in names] == ["one"] * (len(names) - 2) + ["two"] * 2
    version = yard.fleet.version
    assert await yard.names() == names
    assert (lists(yard.one), lists(yard.two), yard.fleet.version) == (1, 1, version)


async def test_a_list_is_asked_for_again_when_it_is_old_or_wanted_fresh(yard: Yard) -> None:
    await yard.names()
    yard.clock.forward(FRESH + 1)
    await yard.names()
    assert lists(yard.one) == 2
    await yard.names(fresh=True)
    assert lists(yard.one) == 3


async def test_many_at_once_ask_once(yard: Yard) -> None:
    await asyncio.gather(*(yard.names() for _ in range(20)))
    assert lists(yard.one) == 1


async def test_the_version_grows_with_every_change_of_the_list(yard: Yard) -> None:
    before = len(await yard.names())
    version = yard.fleet.version
    yard.two.models.pop()
    assert len(await yard.names(fresh=True)) == before - 1
    assert yard.fleet.version > version


async def test_one_that_is_away_is_named_keeps_its_last_list_and_does_not_hide_the_others(yard: Yard) -> None:
    names = await yard.names()
    await yard.two.stop()
    assert await yard.names(fresh=True) == names
    (error,) = yard.fleet.down()
    assert (type(error), error.backend) == (UpstreamDown, "two")


async def test_one_that_was_away_from_the_start_is_found_when_it_is_back(yard: Yard) -> None:
    yard.two.play("/api/tags", [{"error": "starting"}], status=500)
    assert all(name.startswith("one/") for name in await yard.names())
    assert len(yard.fleet.down()) == 1
    assert len([name for name in await yard.names() if name.startswith("two/")]) == 0  # believed for a moment
    assert lists(yard.two) == 1
    yard.clock.forward(RETRY + 0.1)
    assert len([name for name in await yard.names() if name.startswith("two/")]) == 2
    assert yard.fleet.down() == []


async def test_a_call_counts_as_running_until_its_context_ends(yard: Yard) -> None:
    member = yard.fleet.members["one"]
    async with yard.fleet.open("one", VERSION) as reply:
        assert (reply.status, member.running) == (200, 1)
        await reply.read()
    assert member.running == 0


async def test_a_call_that_cannot_be_made_does_not_count(yard: Yard) -> None:
    await yard.one.stop()
    with pytest.raises(UpstreamDown):
        async with yard.fleet.open("one", VERSION):
            pass
    assert yard.fleet.members["one"].running == 0


async def test_a_backend_that_has_just_been_removed_is_told(yard: Yard) -> None:
    yard.fleet.replace({"one": yard.fleet["one"]})
    with pytest.raises(UpstreamDown, match="'two' has just been removed"):
        yard.fleet.open("two", VERSION)


async def test_the_same_backend_stays_with_its_list_and_its_calls_when_others_go(yard: Yard) -> None:
    names = await yard.names()
    member = yard.fleet.members["one"]
    (gone,) = yard.fleet.replace({"one": yard.fleet["one"]})
    assert (gone.backend.name, gone.retired) == ("two", True)
    assert yard.fleet.members["one"] is member
    assert await yard.names() == [name for name in names if name.startswith("one/")]
    assert lists(yard.one) == 1
    await gone.release()


async def test_a_removed_backend_is_closed_when_its_last_call_has_ended_and_not_before(yard: Yard) -> None:
    yard.one.play("/api/chat", [{"a": 1}, {"a": 2}], pauses=0.05)
    async with yard.fleet.open("one", CHAT) as reply:
        (gone,) = yard.fleet.replace({"two": yard.fleet["two"]})
        await gone.release()
        assert await reply.read() == b'{"a":1}\n{"a":2}\n'
        assert gone.running == 1
    assert gone.running == 0
    assert not yard.one.hangups.is_set()


async def test_a_held_backend_is_not_closed_while_it_is_held(yard: Yard) -> None:
    closed: list[str] = []

    class Closing:
        name = "one"

        async def aclose(self) -> None:
            closed.append(self.name)

    backend: Any = Closing()
    yard.fleet.replace({"one": backend})
    async with yard.fleet.hold("one") as held:
        assert held is backend
        (gone,) = yard.fleet.replace({})
        await gone.release()
        assert closed == []
    assert closed == ["one"]
    with pytest.raises(UpstreamDown, match="'one' has just been removed"):
        async with yard.fleet.hold("one"):
            pass


async def test_another_address_under_the_same_name_is_asked_from_then_on(yard: Yard) -> None:
    await yard.names()
    old = yard.fleet.members["one"]
    assert yard.fleet.replace({"one": yard.backend("one", yard.two), "two": yard.fleet["two"]}) == [old]
    names = await yard.names()
    assert len([name for name in names if name.startswith("one/")]) == 2
    await old.release()
