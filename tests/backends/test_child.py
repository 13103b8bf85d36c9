"""The supervision of a child process, with a real process that serves canned answers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ollama_proxy.backends.child import PATIENCE, Child
from ollama_proxy.errors import UpstreamDown

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "fakes" / "child.py"


@asynccontextmanager
async def child(
    tmp_path: Path,
    *,
    clock: Callable[[], float] = time.time,
    mode: str = "ready",
    command: tuple[str, ...] = (sys.executable, "-P", str(FAKE)),
    **kwargs: Any,
) -> AsyncIterator[Child]:
    config = {"model": "m.gguf", "mode": mode, "touch": str(tmp_path / "starts")}
    made = Child(name="embedded", what="m", command=command, config=lambda: config, clock=clock, **kwargs)
    try:
        yield made
    finally:
        await made.aclose()


def starts(tmp_path: Path) -> int:
    file = tmp_path / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0


async def answers(url: str) -> bool:
    """Return whether anything listens at the URL."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url + "/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_nothing_runs_before_the_first_use(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        assert made.address is None
        assert made.pid is None
        assert starts(tmp_path) == 0


async def test_the_first_use_starts_it_and_the_second_shares_it(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        async with made.use() as first:
            assert await answers(first.url)
        async with made.use() as second:
            assert second == first
        assert first.version == "1.0"
        assert starts(tmp_path) == 1


async def test_uses_at_the_same_time_share_one_start(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        addresses = await asyncio.gather(*(made.start() for _ in range(5)))
        assert len(set(addresses)) == 1
        assert starts(tmp_path) == 1


async def test_a_client_that_leaves_does_not_end_the_start_others_wait_for(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        leaver = asyncio.ensure_future(made.start())
        stayer = asyncio.ensure_future(made.start())
        await asyncio.sleep(0)
        leaver.cancel()
        assert await answers((await stayer).url)
        assert starts(tmp_path) == 1


async def test_stop_ends_the_process_and_the_next_use_starts_another(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        first = await made.start()
        await made.stop()
        assert made.pid is None
        assert not await answers(first.url)
        assert await answers((await made.start()).url)
        assert starts(tmp_path) == 2


async def test_stop_during_a_start_leaves_no_process(tmp_path: Path) -> None:
    async with child(tmp_path, mode="silent") as made:
        waiter = asyncio.ensure_future(made.start())
        await until(lambda: starts(tmp_path))
        await made.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert made.pid is None


async def test_a_killed_child_is_started_anew_by_the_next_use(tmp_path: Path) -> None:
    async with child(tmp_path) as made:
        await made.start()
        assert made.pid is not None
        os.kill(made.pid, signal.SIGTERM)
        await until(lambda: made.address is None)
        assert "crashed" in made.trouble
        assert await answers((await made.start()).url)
        assert made.trouble == ""
        assert starts(tmp_path) == 2


async def test_a_child_that_reports_an_error_is_told_with_its_words(tmp_path: Path) -> None:
    async with child(tmp_path, mode="error") as made:
        with pytest.raises(UpstreamDown, match=r"m did not start: no such model.*a line on stderr") as caught:
            await made.start()
        assert caught.value.backend == "embedded"


async def test_a_child_that_dies_without_a_word_is_told_with_its_last_lines_and_status(tmp_path: Path) -> None:
    async with child(tmp_path, mode="crash") as made:
        with pytest.raises(UpstreamDown, match=r"exit status 7.*out of luck"):
            await made.start()


async def test_a_child_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    async with child(tmp_path, mode="silent", start_timeout=0.3) as made:
        with pytest.raises(UpstreamDown, match=r"was not ready within 0\.3 seconds"):
            await made.start()
        assert made.pid is None


async def test_a_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    async with child(tmp_path, command=(str(tmp_path / "nothing"),)) as made:
        with pytest.raises(UpstreamDown, match="could not be started"):
            await made.start()


async def test_crashes_in_a_row_make_the_pause_grow_and_a_long_one_is_told_at_once(tmp_path: Path) -> None:
    now = [1000.0]
    pauses = (0.0, 0.0, PATIENCE + 5)
    async with child(tmp_path, mode="error", clock=lambda: now[0], pauses=pauses) as made:
        for _ in range(3):
            with pytest.raises(UpstreamDown, match="did not start"):
                await made.start()
        with pytest.raises(UpstreamDown, match=r"crashed 3 times and is tried again in 9 seconds"):
            await made.start()
        assert starts(tmp_path) == 3
        now[0] += PATIENCE + 5
        with pytest.raises(UpstreamDown, match="did not start"):
            await made.start()
        assert starts(tmp_path) == 4


async def test_a_crash_after_a_long_sound_life_is_a_first_one(tmp_path: Path) -> None:
    now = [1000.0]
    async with child(tmp_path, clock=lambda: now[0], pauses=(0.0, 3600.0)) as made:
        for _ in range(3):
            await made.start()
            assert made.pid is not None
            now[0] += 3600.0
            os.kill(made.pid, signal.SIGTERM)
            await until(lambda: made.address is None)
        assert await answers((await made.start()).url)


async def test_an_unused_child_is_put_to_rest(tmp_path: Path) -> None:
    async with child(tmp_path, idle=0.05) as made:
        async with made.use() as address:
            assert made.expires_at is None
        await until(lambda: made.pid is None)
        await made.stop()
        assert not await answers(address.url)
        assert made.trouble == ""


async def test_a_child_in_use_is_not_put_to_rest(tmp_path: Path) -> None:
    async with child(tmp_path, idle=0.01) as made:
        async with made.use():
            pass
        async with made.use() as address:
            await asyncio.sleep(0.05)
            assert await answers(address.url)


async def test_what_it_says_on_stderr_is_kept_in_bounds(tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('x' * 1_000_000 + '\\n' + 'the end\\n' * 10_000); sys.exit(9)"
    async with child(tmp_path, command=(sys.executable, "-c", program)) as made:
        with pytest.raises(UpstreamDown, match="the end / the end / the end"):
            await made.start()
        assert sum(map(len, made.stderr)) < 1_000_000


PARENT = """
import asyncio, sys, time
from ollama_proxy.backends.child import Child

async def main():
    child = Child(name="e", what="m", command=sys.argv[1:], config=lambda: {"model": "m"}, clock=time.time)
    print((await child.start()).url, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_a_parent_killed_with_sigkill_takes_its_child_with_it() -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, sys.executable, "-P", str(FAKE)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    url = (await parent.stdout.readline()).decode().strip()
    assert await answers(url)
    parent.kill()
    await parent.wait()

    async with asyncio.timeout(20):
        while await answers(url):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
