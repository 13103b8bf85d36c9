"""`oproxy files`: in a pipe, without a daemon; and on a terminal, for its bar."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from ollama_proxy.cli import files
from ollama_proxy.cli.client import Api, ApiError, run
from ollama_proxy.cli.failure import Failure
from tests.conftest import BOOKLESS
from tests.server.filing import TOKEN, Desk, desk


def ended(command: Callable[..., None], *args: Any, **kwargs: Any) -> int:
    """Run a command in this process; return its exit status."""
    try:
        command(*args, **kwargs)
    except typer.Exit as exc:
        return exc.exit_code
    return 0


def test_a_file_goes_up_is_listed_comes_back_and_is_removed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ |= BOOKLESS
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    assert ended(files.upload, [path, tmp_path / "none", tmp_path], purpose="batch") == 1
    out, err = capfdbinary.readouterr()
    id = out.decode().strip()
    assert id.startswith("file-")
    assert f"{tmp_path / 'none'}: No such file".encode() in err
    assert f"{tmp_path}: Is a directory".encode() in err

    assert ended(files.list_files) == 0
    rows = [line.split("\t") for line in capfdbinary.readouterr()[0].decode().splitlines()]
    assert rows[0] == ["ID", "NAME", "PURPOSE", "SIZE", "CREATED", "EXPIRES"]
    assert (len(rows), rows[1][:4]) == (2, [id, "in.jsonl", "batch", "9 B"])
    assert ended(files.show, id) == 0
    shown = dict(line.split("\t") for line in capfdbinary.readouterr()[0].decode().splitlines())
    assert (shown["name"], shown["bytes"]) == ("in.jsonl", "9")

    assert ended(files.download, id, output=Path("-")) == 0
    assert capfdbinary.readouterr() == (b'{"a": 1}\n', b"")
    with pytest.raises(Failure, match=r"in\.jsonl is there already"):
        files.download(id)
    path.write_bytes(b"other")
    assert ended(files.download, id, force=True) == 0
    assert path.read_bytes() == b'{"a": 1}\n'
    if sys.platform != "win32":
        # The person names the link, and with it the place it leads to; a device is no file to be replaced.
        (tmp_path / "link").symlink_to(tmp_path / "place")
        (tmp_path / "null").symlink_to(os.devnull)
        assert ended(files.download, id, output=tmp_path / "link") == 0
        assert ended(files.download, id, output=tmp_path / "null") == 0
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "place").read_bytes() == b'{"a": 1}\n'
        assert (tmp_path / "null").is_char_device()
        with pytest.raises(Failure, match="place is there already"):
            files.download(id, output=tmp_path / "link")

    assert ended(files.rm, [id, "file-none"]) == 1
    err = capfdbinary.readouterr()[1]
    assert f"{id} is removed.".encode() in err
    assert b"file-none: No such File object: file-none" in err
    assert ended(files.list_files, as_json=True) == 0
    assert json.loads(capfdbinary.readouterr()[0]) == []
    with pytest.raises(Failure, match="No such File object"):
        files.show("file-none")


# --- against an application of the test's own ------------------------------------------------------------------------


@pytest.fixture
async def desk_of_files() -> AsyncIterator[Desk]:
    async with desk() as made:
        yield made


def connected(files_desk: Desk) -> Any:
    """Return what stands for `client.connect`."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Api]:
        yield Api(files_desk.http, "", inside=True, token=TOKEN)

    return connect


async def test_a_big_file_goes_up_in_parts(desk_of_files: Desk, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 1000)
    told: list[int] = []
    async with connected(desk_of_files)() as api:
        made = await files.in_parts(api, path, 1000, "user_data", told.append)

    assert (made["filename"], made["bytes"], made["object"]) == ("big.bin", 1000, "file")
    assert sum(told) == 1000
    assert desk_of_files.names() == [made["id"]]


async def test_parts_that_fail_are_given_up(desk_of_files: Desk, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 1000)
    async with connected(desk_of_files)() as api:
        with pytest.raises(ApiError, match="1000 bytes together, but the upload was created for 999"):
            await files.in_parts(api, path, 999, "user_data", lambda count: None)

    assert desk_of_files.names() == []


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def broken() -> AsyncIterator[bytes]:
    yield b"half"
    raise ApiError("The connection was lost.")


async def test_a_download_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    await files.save(chunks(b"he", b"llo"), path, 5)
    with pytest.raises(ApiError):
        await files.save(broken(), tmp_path / "other.txt", 5)

    assert path.read_bytes() == b"hello"
    assert [name for name in os.listdir(tmp_path) if name != "home"] == ["out.txt"]


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\a.txt", "a.txt"),
        ("/", "file-1"),
        ("..", "file-1"),
        (".", "file-1"),
        ("", "file-1"),
        ("a\x1b[31m\n.txt", "a[31m.txt"),
        ("ä" * 300, "ä" * 150),
        (".bashrc", ".bashrc"),
    ],
)
def test_a_downloads_name_does_not_lead_out_of_the_folder(name: str, want: str) -> None:
    assert files.plain_name(name, "file-1") == want


def test_what_the_api_refuses_becomes_a_message() -> None:
    async def refused() -> None:
        raise ApiError("No such File object: x")

    with pytest.raises(Failure, match="No such File object: x"):
        run(refused())


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with files.bar("a", 10) as told:
        told(10)

    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
async def test_on_a_terminal_a_bar_is_shown_on_stderr_and_the_ids_on_stdout(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 100_000)
    ours, theirs = os.openpty()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ollama_proxy", "files", "upload", str(path), "--json",
        env={**os.environ, **BOOKLESS, "TERM": "xterm"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    out, _ = await asyncio.wait_for(child.communicate(), 60)
    seen = io.BytesIO()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        seen.write(data)
    os.close(ours)
    (made,) = json.loads(out)

    assert (child.returncode, made["bytes"], made["filename"]) == (0, 100_000, "a.txt")
    assert b"a.txt" in seen.getvalue()
