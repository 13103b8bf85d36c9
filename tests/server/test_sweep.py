"""What is over is forgotten, with the bytes that hang on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_proxy.server import sweep
from ollama_proxy.server.keys import ACCOUNTS, BLOBS
from ollama_proxy.server.shelf import kept
from ollama_proxy.stored import Stored

from .filing import NOW, Desk, desk


@pytest.fixture
async def files() -> AsyncIterator[Desk]:
    async with desk() as made:
        yield made


def thing(id: str, kind: str, expires: float | None) -> Stored:
    return Stored(id=id, kind=kind, owner="", created=NOW, data=b"{}", expires=expires)


async def test_objects_of_every_kind_go_when_their_time_is_over_however_many(files: Desk) -> None:
    over = [thing(f"resp_{number}", "response", NOW + 1) for number in range(1100)]
    await kept(files.app, lambda objects: objects.add(*over, thing("resp_x", "response", NOW + 100)))
    assert await sweep.sweep(files.app) == 0
    files.clock.now = NOW + 1

    assert await sweep.sweep(files.app) == 1100
    assert await sweep.sweep(files.app) == 0
    assert await kept(files.app, lambda objects: objects.sum_of("response")) == (1, 2)


async def test_bytes_go_with_their_object_and_others_stay(files: Desk) -> None:
    short = await files.upload(
        **{"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}, name="a.jsonl"
    )
    long = await files.upload()
    files.clock.now = NOW + 3600

    assert await sweep.sweep(files.app) == 1
    assert files.names() == [long["id"]] != [short["id"]]


async def test_a_file_that_was_never_finished_goes_after_its_hour(files: Desk) -> None:
    async with files.app[BLOBS].open_new("file-half") as sink:
        await sink.write(b"x")
        await sink.close()
    half = Stored(
        id="file-half", kind="file", owner="", created=NOW, data=b"{}", expires=NOW + 3600, status="new", parent="batch"
    )
    await kept(files.app, lambda objects: objects.add(half))
    assert (await files.ask("GET", "/v1/files/file-half"))[0] == 404
    assert (await files.ask("DELETE", "/v1/files/file-half"))[0] == 404
    assert (await files.ask("GET", "/v1/files"))[1]["data"] == []
    files.clock.now = NOW + 3600

    assert await sweep.sweep(files.app) == 1
    assert files.names() == []


async def test_without_a_database_nothing_is_opened_for_it(files: Desk) -> None:
    assert await sweep.sweep(files.app) == 0
    assert files.app[ACCOUNTS].store is None


async def test_a_folder_that_cannot_be_read_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING, logger=sweep.__name__):
        async with desk(f'[files]\nfolder = "{tmp_path / "file"}"\n') as files:
            async with asyncio.timeout(5):
                while not caplog.messages:  # noqa: ASYNC110 - it is a task of the application's own
                    await asyncio.sleep(0.01)
            assert (await files.ask("GET", "/v1/files"))[0] == 200
    assert caplog.messages == ["unfinished files could not be removed: Files cannot be kept or read: Not a directory."]
