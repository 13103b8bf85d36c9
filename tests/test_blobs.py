"""Bytes on disk: whole or not there, whatever happens in between."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy import blobs as module
from ollama_proxy.blobs import Blobs, Sink
from ollama_proxy.errors import InsufficientStorage, Overloaded

MIB = 1 << 20
posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and locks are POSIX's")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "deep" / "files")


async def put(blobs: Blobs, id: str, *pieces: bytes) -> None:
    async with blobs.open_new(id) as sink:
        for piece in pieces:
            await sink.write(piece)
        await sink.close()


def names(blobs: Blobs) -> list[str]:
    return sorted(path.name for path in blobs.folder.iterdir()) if blobs.folder.exists() else []


async def test_what_is_written_is_there_when_the_sink_is_closed_and_not_before(blobs: Blobs) -> None:
    async with blobs.open_new("file-1") as sink:
        await sink.write(b"a" * MIB)
        await sink.write(b"bc")
        assert sink.size == MIB + 2
        assert not blobs.path("file-1").exists()
        await sink.close()

    assert blobs.path("file-1").read_bytes() == b"a" * MIB + b"bc"
    assert names(blobs) == ["file-1"]


async def test_an_empty_file_is_a_file(blobs: Blobs) -> None:
    await put(blobs, "file-1")

    assert blobs.path("file-1").read_bytes() == b""


@posix
async def test_files_are_for_this_user_alone(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"x")

    assert stat.S_IMODE(blobs.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(blobs.path("file-1").stat().st_mode) == 0o600


@pytest.mark.parametrize("id", ["", "..", "a/b", "a\\b", "a\0", "file-1.part", "ä", "a" * 101, "a\n"])
def test_what_is_no_id_is_no_path(blobs: Blobs, id: str) -> None:
    with pytest.raises(ValueError, match="no id of a file"):
        blobs.path(id)


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB])
async def test_a_sink_that_is_left_without_being_closed_leaves_nothing(blobs: Blobs, size: int) -> None:
    async with blobs.open_new("file-1") as sink:
        await sink.write(b"x" * size)

    assert names(blobs) == []
    assert blobs.used == 0


async def test_a_sink_cannot_be_closed_after_it_was_dropped(blobs: Blobs) -> None:
    async with blobs.open_new("file-1") as sink:
        await sink.write(b"x" * MIB)
    with pytest.raises(ValueError, match="dropped"):
        await sink.close()

    assert names(blobs) == []


async def test_aborting_what_is_finished_changes_nothing(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"x")
    sink = blobs.open_new("file-2")
    await sink.write(b"y")
    await sink.close()
    await sink.abort()

    assert names(blobs) == ["file-1", "file-2"]
    assert blobs.used == 2


async def test_a_writer_that_is_cancelled_leaves_nothing(blobs: Blobs) -> None:
    began = asyncio.Event()

    async def write() -> None:
        async with blobs.open_new("file-1") as sink:
            while True:
                await sink.write(b"x" * MIB)
                began.set()

    task = asyncio.ensure_future(write())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert names(blobs) == []
    assert blobs.used == 0


async def test_files_are_appended_in_the_order_they_are_given(blobs: Blobs) -> None:
    await put(blobs, "part_1", b"one")
    await put(blobs, "part_2", b"2" * (module.STEP + 1))
    async with blobs.open_new("file-1", digest=True) as sink:
        await sink.write(b"<")
        await sink.append(blobs.path("part_2"))
        await sink.append(blobs.path("part_1"))
        await sink.write(b">")
        await sink.flush()
        md5, size = sink.md5, sink.size
        await sink.close()

    want = b"<" + b"2" * (module.STEP + 1) + b"one>"
    assert blobs.path("file-1").read_bytes() == want
    assert (size, md5) == (len(want), hashlib.md5(want, usedforsecurity=False).hexdigest())


async def test_a_part_that_is_gone_is_told_as_our_fault(blobs: Blobs) -> None:
    async with blobs.open_new("file-1") as sink:
        with pytest.raises(Overloaded, match="No such file"):
            await sink.append(blobs.path("part_1"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_pieces_of_any_size_make_the_same_file(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    asyncio.run(put(blobs, "file-1", *pieces))

    assert blobs.path("file-1").read_bytes() == b"".join(pieces)
    assert blobs.size() == sum(map(len, pieces))


async def test_removing_is_done_once_and_twice_alike(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"x")
    blobs.remove("file-1")
    blobs.remove("file-1")
    blobs.remove("file-2")

    assert names(blobs) == []
    assert blobs.used == 0


async def test_all_files_together_stay_below_their_limit(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"x" * MIB)
    async with blobs.open_new("file-2", total=2 * MIB) as sink:
        await sink.write(b"y" * MIB)
        with pytest.raises(InsufficientStorage, match="max_total"):
            await sink.write(b"z" * MIB)

    assert names(blobs) == ["file-1"]
    assert (blobs.used, blobs.size()) == (MIB, MIB)


async def test_two_at_once_share_the_room(blobs: Blobs) -> None:
    async def write(id: str) -> bool:
        try:
            async with blobs.open_new(id, total=5 * MIB) as sink:
                for _ in range(3):
                    await sink.write(b"x" * MIB)
                    await asyncio.sleep(0)
                await sink.close()
        except InsufficientStorage:
            return False
        return True

    done = await asyncio.gather(write("file-1"), write("file-2"))

    assert blobs.size() <= 5 * MIB
    assert sum(done) == len(names(blobs)) <= 1


async def test_the_size_is_counted_anew_from_what_lies_there(blobs: Blobs) -> None:
    assert Blobs(blobs.folder / "none").size() == 0
    await put(blobs, "file-1", b"x" * 10)
    (blobs.folder / "strange").write_bytes(b"yy")

    again = Blobs(blobs.folder)
    assert (again.used, again.size(), again.used) == (0, 12, 12)


async def test_what_a_killed_process_left_is_swept_and_what_is_being_written_stays(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"x")
    (blobs.folder / "file-2.abc.part").write_bytes(b"left behind")
    async with blobs.open_new("file-3") as sink:
        await sink.write(b"y" * MIB)
        assert blobs.sweep() == 1
        await sink.close()

    assert names(blobs) == ["file-1", "file-3"]


def test_sweeping_what_is_not_there_is_nothing(blobs: Blobs) -> None:
    assert blobs.sweep() == 0


@posix
def test_a_writer_in_another_process_is_left_alone_until_it_is_killed(blobs: Blobs) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from ollama_proxy.blobs import Blobs\n"
        "async def main():\n"
        "    sink = Blobs(pathlib.Path(sys.argv[1])).open_new('file-1')\n"
        "    await sink.write(b'x' * (1 << 20))\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(blobs.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        assert blobs.sweep() == 0
        child.kill()
        child.wait()

    assert len(names(blobs)) == 1
    assert blobs.sweep() == 1
    assert names(blobs) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
async def test_a_full_disk_is_told_and_leaves_nothing(blobs: Blobs) -> None:
    class Full(Sink):
        """Writes to the device that is always full."""

        def _opened(self) -> BinaryIO:
            super()._opened()
            assert self._file is not None
            if self._file.name != "/dev/full":
                self._file.close()
                self._file = open("/dev/full", "wb")  # noqa: SIM115
            return self._file

    async def written(sink: Sink, size: int) -> None:
        await sink.write(b"x" * size)
        await sink.close()

    for size in (1, 2 * MIB):
        async with Full(blobs, blobs.path("file-1"), total=None, digest=False) as sink:
            with pytest.raises(InsufficientStorage, match="disk is full") as caught:
                await written(sink, size)
        assert caught.value.body()["error"]["code"] == "insufficient_storage"
        assert names(blobs) == []
    assert blobs.used == 0


async def test_a_folder_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    async with Blobs(tmp_path / "file" / "files").open_new("file-1") as sink:
        with pytest.raises(Overloaded, match="cannot be kept"):
            await sink.close()
