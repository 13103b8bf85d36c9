"""Batches from one state to the next, with an office that answers out of memory: killed at every point, cancelled, out
of time, out of disk, side by side."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_proxy.batches import Runner
from ollama_proxy.batchfiles import Lock, Parts, scan
from ollama_proxy.batchlines import Answer
from ollama_proxy.errors import OproxyError, Overloaded, RateLimited, UpstreamDown
from ollama_proxy.policy.batch import Batch, Kept, Retry, Status, cancelled
from ollama_proxy.sections_state import Batches
from ollama_proxy.tasks import Tasks
from ollama_proxy.translate import batches
from ollama_proxy.turns import Rules, Turns

from .conftest import Clock, Ids

CHAT = "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}
NOW = 1_000_000.0


class Killed(Exception):
    """The process ends here."""


class Office:
    """Keeps everything in memory and answers at once. `asked` has the texts in the order they were asked; `refuse`
    says what a text is refused with, try by try; `steps` counts what was kept, and at step `dies` the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, Kept] = {}
        self.files: dict[str, str] = {}
        self.asked: list[str] = []
        self.behind: list[int] = []
        self.refuse: dict[str, list[OproxyError]] = {}
        self.models = {"m"}
        self.is_busy = False
        self.held = asyncio.Event()
        self.held.set()
        self.running = self.most_running = 0
        self.steps, self.dies = 0, -1
        self.fails: list[OproxyError] = []
        self.batches = Batches(concurrency=2, patience=60.0, tries=3)
        self.on_answer: Callable[[], None] = lambda: None

    def settings(self) -> Batches:
        return self.batches

    def most(self) -> int:
        return 100_000

    def place(self, id: str) -> Path:
        return self.folder / id

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies:
            raise Killed
        if self.fails:
            raise self.fails.pop()

    async def load(self, id: str) -> Kept | None:
        return self.kept.get(id)

    async def save(self, kept: Kept, *, only: Status) -> bool:
        self.step()
        if kept.batch.id not in self.kept or self.kept[kept.batch.id].batch.status != only:
            return False
        self.kept[kept.batch.id] = kept
        return True

    async def keep(self, kept: Kept, id: str, filename: str) -> None:
        self.step()
        self.files[id] = filename

    async def find(self, kept: Kept, model: str) -> str | None:
        return "backend" if model in self.models else None

    def busy(self, backend: str) -> bool:
        return self.is_busy and backend == "backend"

    async def answer(
        self, kept: Kept, body: bytes, *, behind: int, retry: Callable[[OproxyError], Retry | None]
    ) -> Answer | Retry:
        text = json.loads(body)["messages"][0]["content"]
        self.asked.append(text)
        self.behind.append(behind)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.held.wait()
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        self.on_answer()
        if errors := self.refuse.get(text):
            error = errors.pop(0)
            return retry(error) or Answer(error.status, "req_1", msgspec.json.encode(error.body()))
        answer = {"text": text, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}
        return Answer(200, "req_1", json.dumps(answer).encode())


class World:
    """An office and the folder of its batches, which outlive the processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.office = Office(folder)
        self.said: list[str] = []
        self.wall = Clock(NOW)
        self.ids = Ids()

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Runner]:
        """Run a process until the block ends."""
        tasks = Tasks()
        runner = Runner(
            self.folder / "batches",
            self.office,
            tasks,
            wall=self.wall,
            clock=time.monotonic,
            new_id=self.ids,
            say=self.said.append,
            first_wait=0.001,
        )
        try:
            yield runner
        finally:
            await tasks.aclose()

    def submit(self, runner: Runner, texts: Sequence[str], *, owner: str = "", name: str = "1") -> str:
        id = f"batch_{name}"
        (self.folder / f"file-in{name}").write_bytes(b"".join(line(text) for text in texts))
        return self.make(runner, id, f"file-in{name}", owner)

    def make(self, runner: Runner, id: str, input: str, owner: str = "") -> str:
        batch = Batch(id=id, endpoint=CHAT, input_file_id=input, created_at=int(NOW), expires_at=int(NOW) + 86400)
        runner.prepare(id)
        self.office.kept[id] = Kept(batch=batch, owner=owner, output=f"file-out{id}", errors=f"file-err{id}")
        runner.start(id)
        return id

    def cancel(self, runner: Runner, id: str) -> None:
        kept = self.office.kept[id]
        self.office.kept[id] = msgspec.structs.replace(kept, batch=cancelled(kept.batch, self.wall()))
        runner.stir(id)

    async def status(self, id: str, *wanted: str) -> Batch:
        """Return a batch once it is in one of these states (over, if none is named)."""
        async with asyncio.timeout(10):
            while (batch := self.office.kept[id].batch).status not in (wanted or OVER):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return batch

    def answers(self, batch: Batch) -> dict[str, Any]:
        return self.lines(batch.output_file_id)

    def errors(self, batch: Batch) -> dict[str, Any]:
        return self.lines(batch.error_file_id)

    def lines(self, id: str | None) -> dict[str, Any]:
        """Return a results file's lines by custom id, each of which is there once."""
        if id is None:
            return {}
        assert id in self.office.files
        lines = [json.loads(each) for each in (self.folder / id).read_bytes().splitlines()]
        found = {each["custom_id"]: each for each in lines}
        assert len(found) == len(lines)
        return found

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def line(text: str, model: str = "m") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": f"id-{text}", "method": "POST", "url": CHAT, "body": body}).encode() + b"\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


TEXTS = tuple("abcdef")
IDS = {f"id-{text}" for text in TEXTS}


async def test_every_line_is_answered_and_nothing_of_the_work_is_left(world: World) -> None:
    async with world.process() as runner:
        batch = await world.status(world.submit(runner, TEXTS))
        # The folder goes in a thread; only after that the end is reported.
        await world.until(lambda: bool(world.said) and not (world.folder / "batches" / batch.id).exists())

    assert batch.status == "completed"
    assert set(world.answers(batch)) == IDS
    assert batch.error_file_id is None
    assert sorted(world.office.asked) == list(TEXTS)
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (6, 6, 0)
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (12, 6, 18)
    assert batch.model == "m"
    assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert world.office.files == {"file-outbatch_1": "batch_1_output.jsonl"}
    assert world.said == ["batch_1 completed: 6 of 6 requests answered, 0 failed"]


async def test_a_last_line_without_its_end_counts_and_an_empty_one_does_not(world: World) -> None:
    async with world.process() as runner:
        (world.folder / "file-in").write_bytes(line("a") + b"\n  \r\n" + line("b").rstrip())
        batch = await world.status(world.make(runner, "batch_1", "file-in"))

    assert set(world.answers(batch)) == {"id-a", "id-b"}


# --- killed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", range(7))
async def test_stopped_after_any_number_of_answers_it_goes_on_and_asks_none_of_them_again(
    world: World, answers: int
) -> None:
    stop = asyncio.Event()
    left = answers

    def answered() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            world.office.held.clear()
            stop.set()

    if answers < len(TEXTS):
        world.office.on_answer = answered
    async with world.process() as runner:
        id = world.submit(runner, TEXTS)
        if answers < len(TEXTS):
            await stop.wait()
        else:
            await world.status(id)
    done = done_on_disk(world, id)
    before = len(world.office.asked)
    world.office.on_answer = lambda: None
    world.office.held.set()
    async with world.process() as runner:
        runner.start(id)
        batch = await world.status(id)

    assert batch.status == "completed"
    assert set(world.answers(batch)) == IDS
    assert batch.request_counts.completed == 6
    assert batch.usage.input_tokens == 12
    assert not done & {f"id-{text}" for text in world.office.asked[before:]}


def done_on_disk(world: World, id: str) -> set[str]:
    try:
        lines = (world.folder / "batches" / id / "output.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return set()
    return {json.loads(each)["custom_id"] for each in lines}


def is_idle(runner: Runner) -> bool:
    return not runner.tended


def over_or_asked(runner: Runner, office: Office) -> bool:
    return not runner.tended or len(office.asked) >= 3


@pytest.mark.parametrize("ending", ["completed", "cancelled", "expired", "failed"])
@pytest.mark.parametrize("step", range(1, 8))
async def test_killed_at_any_step_it_comes_to_the_same_end(
    world: World, ending: str, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    office = world.office
    office.refuse["b"] = [UpstreamDown("gone")] * 3
    office.dies = step
    for _ in range(2):
        async with world.process() as runner:
            if not office.kept:
                id = world.submit(runner, TEXTS)
            else:
                runner.start(id)
            await world.until(partial(over_or_asked, runner, office))
            if office.kept[id].batch.status == "in_progress":
                match ending:
                    case "cancelled":
                        world.cancel(runner, id)
                    case "expired":
                        world.wall.forward(86400)
                        runner.stir(id)
                    case "failed":
                        (world.folder / "file-in1").unlink(missing_ok=True)
            await world.until(partial(is_idle, runner))
        office.dies = -1
    batch = await world.status(id)

    # Somebody who is faster than the cancelling gets all the answers.
    assert batch.status in (ending, "completed")
    answered, refused = world.answers(batch), world.errors(batch)
    assert not set(answered) & set(refused)
    assert batch.request_counts.completed == len(answered)
    assert batch.request_counts.failed == len(refused)
    if batch.status != "failed":
        assert set(answered) | set(refused) == IDS
    assert not (world.folder / "batches" / id).exists()


async def test_another_process_that_is_at_it_is_left_alone(world: World) -> None:
    async with world.process() as runner, world.process() as other:
        world.office.held.clear()
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) == 2)
        other.start(id)
        await world.until(lambda: not other.tended)
        world.office.held.set()
        batch = await world.status(id)

    assert batch.status == "completed"
    assert sorted(world.office.asked) == list(TEXTS)


async def test_what_another_process_has_left_is_found(world: World) -> None:
    async with world.process() as runner:
        world.office.held.clear()
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) == 2)
    world.office.held.set()
    (world.folder / "batches" / "batch_2").mkdir()
    async with world.process() as runner:
        watching = asyncio.ensure_future(runner.watch())
        batch = await world.status(id)
        watching.cancel()

    assert batch.status == "completed"
    # It may be about to be kept.
    assert (world.folder / "batches" / "batch_2").exists()


def test_a_lock_ends_with_its_process_and_not_before(tmp_path: Path) -> None:
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
    assert not Lock(tmp_path / "nowhere").take()


def test_a_lock_that_was_let_go_of_is_not_taken_by_a_thread_that_comes_late(tmp_path: Path) -> None:
    late, other = Lock(tmp_path), Lock(tmp_path)
    late.release()
    assert not late.take()
    assert other.take()
    other.release()


def answered(number: int) -> bytes:
    return batches.write_line(number, "ab" * 16, f"id-{number}", status=200, request_id="r", body=b'{"a":"\xc3\xa4"}')


def test_parts_that_were_cut_anywhere_keep_what_is_whole(tmp_path: Path) -> None:
    first, second = answered(0), answered(1)
    path = tmp_path / "output.jsonl"
    for cut in (*range(0, len(second), 7), len(second) - 1, len(second)):
        path.write_bytes(first + second[:cut])
        parts = Parts(tmp_path)
        written = parts.open()
        whole = cut == len(second)
        assert list(written.numbers) == ([0, 1] if whole else [0])
        parts.append(answered(2), failed=False)
        parts.append(answered(3), failed=True)
        parts.close()
        assert path.read_bytes() == first + (second if whole else b"") + answered(2)
        (tmp_path / "errors.jsonl").unlink()


def test_a_closed_part_takes_no_more(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.open()
    parts.close()
    with pytest.raises(ValueError, match="closed"):
        parts.append(answered(0), failed=False)


def test_an_answer_that_does_not_fit_on_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    parts = Parts(tmp_path)
    parts.open()
    parts.append(answered(0), failed=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(answered(0)) + 20, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            parts.append(answered(1), failed=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "output.jsonl").read_bytes() == answered(0)
    parts.append(answered(1), failed=False)
    parts.close()
    assert (tmp_path / "output.jsonl").read_bytes() == answered(0) + answered(1)


# --- refused ------------------------------------------------------------------------------------------------------


async def test_what_fails_is_tried_again_and_in_the_end_an_error(world: World) -> None:
    world.office.refuse = {
        "a": [UpstreamDown("gone"), UpstreamDown("gone")],
        "b": [UpstreamDown("gone")] * 3,
        "c": [RateLimited("slow down", wait=0.001)] * 9,
        "d": [RateLimited("too large for the limit", wait=None)],
    }
    async with world.process() as runner:
        batch = await world.status(world.submit(runner, TEXTS))

    assert batch.status == "completed"
    assert set(world.answers(batch)) == IDS - {"id-b", "id-d"}
    errors = world.errors(batch)
    assert {id: each["response"]["status_code"] for id, each in errors.items()} == {"id-b": 502, "id-d": 429}
    assert errors["id-b"]["response"]["body"]["error"]["code"] == "backend_unreachable"
    asked = world.office.asked
    assert [asked.count(text) for text in TEXTS] == [3, 3, 10, 1, 1, 1]
    assert (batch.request_counts.completed, batch.request_counts.failed) == (4, 2)


async def test_a_store_that_fails_for_a_while_is_waited_for(world: World) -> None:
    world.office.fails = [Overloaded("no database", wait=1.0)]
    async with world.process() as runner:
        batch = await world.status(world.submit(runner, TEXTS))

    assert batch.status == "completed"
    assert sorted(world.office.asked) == list(TEXTS)


async def test_what_is_wrong_with_the_input_is_told_with_its_lines(world: World) -> None:
    async with world.process() as runner:
        wrong = line("b").replace(b'"POST"', b'"GET"')
        (world.folder / "file-in").write_bytes(line("a") + wrong + line("c", "nosuch") + b"{\n" + line("a"))
        batch = await world.status(world.make(runner, "batch_1", "file-in"))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(each.line, each.code) for each in batch.errors.data] == [
        (2, "invalid_method"),
        (3, "model_not_found"),
        (4, "invalid_json_line"),
        (5, "duplicate_custom_id"),
    ]
    assert world.office.asked == []
    assert batch.failed_at is not None
    assert batch.in_progress_at is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (b'{"x": "' + b"y" * 300_000 + b'"}\n', "request_too_large"),
        (b"".join(line(str(number)) for number in range(50_001)), "too_many_tasks"),
    ],
)
async def test_an_input_that_is_empty_or_too_large_fails(world: World, data: bytes, code: str) -> None:
    async with world.process() as runner:
        (world.folder / "file-in").write_bytes(data)
        batch = await world.status(world.make(runner, "batch_1", "file-in"))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data] == [code]


async def test_of_very_many_faults_a_hundred_are_told(world: World) -> None:
    async with world.process() as runner:
        (world.folder / "file-in").write_bytes(b"{\n" * 5000)
        first = await world.status(world.make(runner, "batch_1", "file-in"))
        (world.folder / "file-in2").write_bytes(b"".join(line(str(n), "nosuch") for n in range(500)))
        second = await world.status(world.make(runner, "batch_2", "file-in2"))

    for batch in (first, second):
        assert batch.errors is not None
        assert len(batch.errors.data) == 100


# --- ended from outside -------------------------------------------------------------------------------------------


async def test_a_cancelled_batch_keeps_its_answers_and_says_of_the_rest_that_it_was_cancelled(world: World) -> None:
    async with world.process() as runner:
        world.office.on_answer = lambda: world.office.held.clear() if len(world.office.asked) > 3 else None
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) >= 5)
        world.cancel(runner, id)
        batch = await world.status(id)

    assert batch.status == "cancelled"
    answers, errors = world.answers(batch), world.errors(batch)
    assert set(answers) | set(errors) == IDS
    assert not set(answers) & set(errors)
    assert answers
    assert all(each["error"]["code"] == "batch_cancelled" and each["response"] is None for each in errors.values())
    assert None not in (batch.cancelling_at, batch.cancelled_at)
    assert world.office.running == 0


@pytest.mark.parametrize("seen", [True, False])
async def test_cancelled_in_the_moment_of_its_last_answer_it_keeps_them_all(world: World, seen: bool) -> None:
    async with world.process() as runner:
        id = "batch_1"

        def last() -> None:
            if len(world.office.asked) == 6 and world.office.kept[id].batch.status == "in_progress":
                world.cancel(runner, id)
                if not seen:
                    runner.lines.runs[id].stir.clear()

        world.office.on_answer = last
        batch = await world.status(world.submit(runner, TEXTS))

    assert batch.status == "cancelled"
    assert set(world.answers(batch)) | set(world.errors(batch)) == IDS


async def test_out_of_time_while_nobody_was_at_it_nothing_more_is_asked(world: World) -> None:
    async with world.process() as runner:
        world.office.held.clear()
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) == 2)
    world.office.held.set()
    async with world.process() as runner:
        world.wall.forward(86400)
        runner.start(id)
        batch = await world.status(id)

    assert batch.status == "expired"
    assert len(world.office.asked) == 2


async def test_cancelled_before_it_was_looked_through_it_has_no_results(world: World) -> None:
    async with world.process() as runner:
        id = world.submit(runner, TEXTS)
        world.cancel(runner, id)
        batch = await world.status(id)

    assert batch.status == "cancelled"
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert world.office.asked == []


async def test_what_is_not_answered_in_time_expires(world: World) -> None:
    async with world.process() as runner:
        world.office.held.clear()
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) == 2)
        world.wall.forward(86400)
        runner.stir(id)
        batch = await world.status(id)

    assert batch.status == "expired"
    assert {each["error"]["code"] for each in world.errors(batch).values()} == {"batch_expired"}
    assert set(world.errors(batch)) == IDS
    assert batch.output_file_id is None
    assert batch.expired_at == NOW + 86400


async def test_an_input_that_is_deleted_half_way_ends_the_batch_with_what_it_has(world: World) -> None:
    async with world.process() as runner:

        def gone() -> None:
            # Two run at once: the third is begun when one of them is written down.
            if len(world.office.asked) >= 3:
                (world.folder / "file-in1").unlink(missing_ok=True)

        world.office.on_answer = gone
        batch = await world.status(world.submit(runner, TEXTS))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data] == ["input_file_not_found"]
    assert world.answers(batch)
    assert batch.request_counts.completed == len(world.answers(batch))
    assert batch.request_counts.total == 6


async def test_an_input_that_is_not_there_fails_at_once(world: World) -> None:
    async with world.process() as runner:
        batch = await world.status(world.make(runner, "batch_1", "file-nowhere"))

    assert batch.status == "failed"
    assert batch.output_file_id is None


async def test_a_batch_that_is_forgotten_is_given_up(world: World) -> None:
    async with world.process() as runner:
        world.office.held.clear()
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) == 2)
        del world.office.kept[id]
        runner.stir(id)
        await world.until(lambda: not runner.tended)

    assert not (world.folder / "batches" / id).exists()
    assert world.office.files == {}


# --- whose turn it is ---------------------------------------------------------------------------------------------


async def test_so_many_lines_are_answered_at_once_as_the_settings_say(world: World) -> None:
    world.office.batches = Batches(concurrency=3)
    async with world.process() as runner:
        world.office.held.clear()
        ids = [world.submit(runner, TEXTS, name=str(number)) for number in range(3)]
        await world.until(lambda: world.office.running == 3)
        world.office.held.set()
        for id in ids:
            assert (await world.status(id)).status == "completed"

    assert world.office.most_running == 3
    assert len(world.office.asked) == 18


async def test_owners_take_turns_and_so_do_an_owners_batches(world: World) -> None:
    world.office.batches = Batches(concurrency=1)
    async with world.process() as runner:
        world.office.held.clear()
        ids = [
            world.submit(runner, ["a1", "a2", "a3", "a4"], owner="a", name="1"),
            world.submit(runner, ["a5", "a6"], owner="a", name="2"),
            world.submit(runner, ["b1", "b2"], owner="b", name="3"),
        ]
        for id in ids:
            await world.status(id, "in_progress")
        await world.until(lambda: len(runner.lines.runs) == 3 and len(world.office.asked) == 1)
        world.office.held.set()
        for id in ids:
            await world.status(id)

    # The first was begun when its batch was alone, perhaps.
    asked = world.office.asked[1:]
    assert {text[0] for text in asked[:2]} == {"a", "b"}
    assert {"a5", "a6"} & set([text for text in asked if text[0] == "a"][:2])
    assert {"a1", "a2"} & set([text for text in asked if text[0] == "a"][:2])
    assert sorted(world.office.asked) == ["a1", "a2", "a3", "a4", "a5", "a6", "b1", "b2"]


async def test_a_line_is_begun_only_when_nobody_waits_for_the_backend(world: World) -> None:
    world.office.is_busy = True
    async with world.process() as runner:
        id = world.submit(runner, TEXTS)
        await world.status(id, "in_progress")
        await world.until(lambda: any(run.blocked for run in runner.lines.runs.values()))
        assert world.office.asked == []
        world.office.is_busy = False
        await world.status(id)

    assert sorted(world.office.asked) == list(TEXTS)
    assert set(world.office.behind) == {2}


async def test_a_line_does_not_let_others_go_first_for_ever(world: World) -> None:
    world.office.is_busy = True
    world.office.batches = Batches(patience=0.0)
    async with world.process() as runner:
        await world.status(world.submit(runner, TEXTS))

    assert sorted(world.office.asked) == list(TEXTS)
    assert set(world.office.behind) == {1}


async def test_counts_are_known_while_it_runs(world: World) -> None:
    async with world.process() as runner:
        world.office.on_answer = lambda: world.office.held.clear() if len(world.office.asked) > 3 else None
        id = world.submit(runner, TEXTS)
        await world.until(lambda: len(world.office.asked) >= 5)
        live = runner.live(id)
        assert live is not None
        assert live.batch.request_counts.total == 6
        await world.until(lambda: runner.live(id).batch.request_counts.completed >= 3)  # type: ignore[union-attr]
        world.office.on_answer = lambda: None
        world.office.held.set()
        await world.status(id)
        await world.until(lambda: runner.live(id) is None)


async def test_what_nobody_waits_for_goes_after_all_others_of_the_queue() -> None:
    turns = Turns(Clock(), Rules(default=1))
    order: list[str] = []

    async def ask(name: str, *, late: bool) -> None:
        async with turns.turn("backend", "m", name, late=late):
            order.append(name)

    async with asyncio.TaskGroup() as group, turns.turn("backend", "m", "first"):
        for name, late in (("batch 1", True), ("batch 2", True), ("somebody", False), ("somebody else", False)):
            group.create_task(ask(name, late=late))
            await asyncio.sleep(0)
        assert order == []

    assert order == ["somebody", "somebody else", "batch 1", "batch 2"]


# --- how much it takes --------------------------------------------------------------------------------------------


def test_an_input_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    text = "x" * 10_000
    with path.open("wb") as file:
        for number in range(3000):
            file.write(line(f"{number} {text}"))
    size = path.stat().st_size

    tracemalloc.start()
    found = scan(path, CHAT, most=100_000, stop=lambda: False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(found.lines) == 3000
    assert found.lines.read(2999).startswith(b'{"custom_id": "id-2999 ')
    assert size > 30_000_000
    # The line at hand, and some hundred bytes for each.
    assert peak < 2_000_000
