"""Fetching one wheel through the user's own pip, and going on with a download that broke off.

`pip download` works by whatever index, mirror, key or proxy the user has configured, so no host is named here. What it
has fetched when the connection breaks, or when we leave, is kept; the next time pip is only asked for the address, and
the rest is fetched by HTTP Range. Wherever that is not possible, pip begins anew. Never installs anything.
"""
# ruff: noqa: ASYNC240  a look at a file's size is quicker than a thread

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from ..errors import UpstreamFailed
from ..private import opener
from ..tasks import Tasks
from .base import Progress

__all__ = ["LOOK", "download", "running"]

# How often a growing file is looked at, in seconds.
LOOK = 0.2
# An index without metadata of its own (PEP 658) makes pip fetch the wheel to know its name; that is not what we asked
# for, and seen by this many bytes.
METADATA_LIMIT = 2_000_000
# Silence of a server for so long (seconds) is a broken connection; so many in a row without a byte end the download.
SILENCE = 60
TRIES = 5


class _Archive(msgspec.Struct):
    url: str


class _Item(msgspec.Struct):
    download_info: _Archive


class _Report(msgspec.Struct):
    """The part of pip's report that we read. https://pip.pypa.io/en/stable/reference/installation-report/"""

    install: list[_Item]


async def download(
    work: Path, partial: Path, *, requirement: str, size: int, sha256: str, environ: Mapping[str, str]
) -> AsyncGenerator[Progress, None]:
    """Fetch the wheel of `requirement` into `work`/wheels, going on with `partial` if it is there.

    When it breaks off or is left, `partial` keeps what came. Raises UpstreamFailed with pip's own words.
    """
    wheels = work / "wheels"
    wheels.mkdir()
    environ = {**environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    status = f"pulling {requirement}"
    have = min(partial.stat().st_size, size) if partial.is_file() else 0
    yield Progress(status=status, digest=sha256, total=size, completed=have)
    if have:
        async with aclosing(_go_on(work, partial, requirement, size, environ)) as counts:
            async for count in counts:
                yield Progress(status=status, digest=sha256, total=size, completed=count)
        whole = partial.stat().st_size == size and await asyncio.to_thread(_digest, partial) == sha256
        if whole:
            partial.replace(wheels / f"{requirement}.whl")
            return
        # Another file than the one we know, or no way to go on with it.
        partial.unlink()
    async with aclosing(_by_pip(work, partial, requirement, environ)) as counts:
        async for count in counts:
            yield Progress(status=status, digest=sha256, total=size, completed=min(count, size))
    partial.unlink(missing_ok=True)


async def _by_pip(work: Path, partial: Path, requirement: str, environ: Mapping[str, str]) -> AsyncGenerator[int, None]:
    """Let pip fetch the wheel; yield how many bytes are there. The growing file gets a second name, `partial`, which
    stays when pip clears up after a broken connection."""
    command = [*pip(), "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-d", str(work / "wheels"), requirement]
    async with running(command, environ) as (process, output):
        while not output.done():
            await asyncio.wait({output}, timeout=LOOK)
            yield await asyncio.to_thread(_grown, work, partial)
        text = (await output)[0].decode("utf-8", "replace")
    if process.returncode != 0:
        raise _pip_failed(requirement, text)


async def _go_on(
    work: Path, partial: Path, requirement: str, size: int, environ: Mapping[str, str]
) -> AsyncGenerator[int, None]:
    """Fetch the rest of `partial`; yield its size as it grows. Ends early where there is no way to go on with it;
    raises UpstreamFailed where there is, but the connection broke again and again."""
    url = await _address(work, requirement, environ)
    if url is None:
        return
    # The proxies of the environment are meant for the internet, as pip takes them to be.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        failures = 0
        while (have := partial.stat().st_size) < size and failures < TRIES:
            try:
                async with aclosing(_range(session, url, partial, have)) as counts:
                    async for count in counts:
                        failures = 0
                        yield min(count, size)
                if partial.stat().st_size <= have:
                    return
            except (aiohttp.ClientError, TimeoutError):
                failures += 1
                await asyncio.sleep(LOOK)
        if failures:
            raise UpstreamFailed(
                f"The download of {requirement} broke off {failures} times; pull again to go on with it.",
                code="pull_failed",
            )


async def _range(session: aiohttp.ClientSession, url: str, partial: Path, have: int) -> AsyncGenerator[int, None]:
    """Ask for what comes after the first `have` bytes and append it. A server that knows no ranges sends all of it.
    https://www.rfc-editor.org/rfc/rfc9110#name-range-requests"""
    headers = {"range": f"bytes={have}-", "accept-encoding": "identity", "user-agent": "oproxy"}
    async with session.get(url, headers=headers) as response:
        begins = response.headers.get("content-range", "").startswith(f"bytes {have}-")
        if response.status != 200 and not (response.status == 206 and begins):
            return
        with open(partial, "ab" if response.status == 206 else "wb", opener=opener) as file:  # noqa: ASYNC230
            async for data in response.content.iter_any():
                file.write(data)
                yield file.tell()


async def _address(work: Path, requirement: str, environ: Mapping[str, str]) -> str | None:
    """Ask pip where it would fetch the wheel from; None where it does not say, or it is no place for HTTP."""
    report = work / "report.json"
    command = [*pip(), "install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--report", str(report), requirement]
    async with running(command, environ) as (process, output):
        while not output.done():
            await asyncio.wait({output}, timeout=LOOK)
            if await asyncio.to_thread(_grown, work) > METADATA_LIMIT:
                return None
    if process.returncode != 0:
        return None
    try:
        items = msgspec.json.decode(report.read_bytes(), type=_Report).install
    except (OSError, msgspec.DecodeError):
        return None
    url = items[0].download_info.url if len(items) == 1 else ""
    return url if url.startswith(("http://", "https://")) else None


# --- pip ----------------------------------------------------------------------------------------------------------


def pip() -> list[str]:
    """Return the command that is pip. Raises UpstreamFailed where there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    # A venv made by uv has no pip of its own; any other pip will do, as nothing is installed.
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise UpstreamFailed(
        f"Models are fetched with pip, and there is none. Run `{sys.executable} -m ensurepip --upgrade`, "
        "or give a GGUF file of your own with `model_path` in the backend's config.",
        code="pip_missing",
    )


@asynccontextmanager
async def running(
    command: Sequence[str], environ: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.Future[tuple[bytes, bytes]]]]:
    """Run a command with its output gathered; leaving early kills it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
    )
    output = Tasks().start(process.communicate(), name=f"run {command[0]}")
    try:
        yield process, output
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(output, return_exceptions=True)


def _grown(work: Path, partial: Path | None = None) -> int:
    """Return the size of the largest file below `work`, which is the wheel in the making. pip downloads into the
    temporary folder first, which is ours; there it is given the name `partial` too."""
    largest, place = 0, ""
    for folder, _, files in os.walk(work):
        for file in files:
            # pip moves and deletes its files as it likes.
            with contextlib.suppress(OSError):
                if (size := os.stat(os.path.join(folder, file)).st_size) > largest:
                    largest, place = size, os.path.join(folder, file)
    if partial is not None and place.endswith(".whl") and not partial.exists():
        # A disk without such links only cannot go on with a download.
        with contextlib.suppress(OSError):
            os.link(place, partial)
    return largest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip_failed(requirement: str, text: str) -> UpstreamFailed:
    if "No space left on device" in text:
        return UpstreamFailed("The disk is full; free some space and pull again.", code="disk_full")
    errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")]
    words = " ".join(errors or text.split("\n")[-3:]).strip()
    return UpstreamFailed(f"pip could not fetch {requirement}: {words}", code="pull_failed")
