"""`oproxy batch` without a daemon, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from ollama_proxy.cli import batch as batch_command
from ollama_proxy.cli.failure import Failure
from tests.fakes.ollama import FakeOllama

CHAT = "/v1/chat/completions"


class Ended(NamedTuple):
    """What a command left behind."""

    code: int | None
    out: str
    err: str


class Shell:
    """Runs `oproxy batch` in this process, with the fake as the only Ollama and no daemon."""

    def __init__(self, ollama: FakeOllama, folder: Path) -> None:
        self.ollama, self.folder = ollama, folder
        config = folder / "config.toml"
        books = "[store]\nledger = false\n[logs]\nrequests = false\n"
        config.write_text(f'{books}[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
        os.environ["OPROXY_CONFIG"] = str(config)

    async def __call__(self, *args: str) -> Ended:
        # A command has an event loop of its own.
        return await asyncio.to_thread(self.run, *args)

    def run(self, *args: str) -> Ended:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                get_command(batch_command.app).main(list(args), prog_name="oproxy batch", standalone_mode=False)
                code = 0
            except (Failure, OSError) as exc:
                code = getattr(exc, "exit_code", 1)
                err.write(str(exc))
        out.seek(0)
        return Ended(code, out.read(), err.getvalue())

    def write(self, *lines: Any) -> None:
        (self.folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def line(id: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], **body}
    return {"custom_id": id, "method": "POST", "url": CHAT, "body": asked}


@pytest.fixture
async def oproxy(tmp_path: Path) -> AsyncIterator[Shell]:
    async with FakeOllama() as fake:
        yield Shell(fake, tmp_path)


async def test_a_file_is_handed_in_watched_and_its_answers_fetched(oproxy: Shell) -> None:
    oproxy.write(line("a"), line("b", temperature=9))
    made = await oproxy("submit", str(oproxy.folder / "in.jsonl"), "--watch")
    assert made.code == 0, made.err
    id = made.out.strip()
    assert id.startswith("batch_")
    assert f"{id} is completed: 1 of 2 answered, 1 failed" in made.err
    assert "\x1b" not in made.err

    results = await oproxy("results", id)
    if sys.platform != "win32":
        # A link that the person names is followed.
        (oproxy.folder / "errors.jsonl").symlink_to(oproxy.folder / "place")
    errors = await oproxy("results", id, "--errors", "-o", str(oproxy.folder / "errors.jsonl"))
    listed = await oproxy("list")
    shown = await oproxy("show", id, "--json")
    assert [json.loads(each)["custom_id"] for each in results.out.splitlines()] == ["a"]
    assert errors.out == ""
    assert sys.platform == "win32" or (oproxy.folder / "errors.jsonl").is_symlink()
    assert json.loads((oproxy.folder / "errors.jsonl").read_text())["custom_id"] == "b"
    head, row = (each.split("\t") for each in listed.out.splitlines())
    assert head == ["ID", "STATUS", "ANSWERED", "FAILED", "TOTAL", "ENDPOINT", "CREATED"]
    assert row[:6] == [id, "completed", "1", "1", "2", CHAT]
    assert json.loads(shown.out)["id"] == id


async def test_without_a_daemon_a_batch_waits_for_whoever_watches_it(oproxy: Shell) -> None:
    oproxy.write(line("a"))
    made = await oproxy("submit", str(oproxy.folder / "in.jsonl"))
    id = made.out.strip()
    assert made.code == 0, made.err
    assert "No daemon runs" in made.err
    watched = await oproxy("watch", id, "--json")
    assert watched.code == 0, watched.err
    assert json.loads(watched.out)["request_counts"]["total"] == 1


async def test_a_batch_that_failed_is_told_with_its_lines_and_ends_with_status_1(oproxy: Shell) -> None:
    oproxy.write(line("a"), line("b", model="nosuch"))
    made = await oproxy("submit", str(oproxy.folder / "in.jsonl"), "--watch")
    id = made.out.strip()
    assert made.code == 1
    assert "line 2: The provided model 'nosuch' is not supported by the Batch API." in made.err
    results, shown, cancelled = await oproxy("results", id), await oproxy("show", id), await oproxy("cancel", id)
    assert results.code == 1
    assert f"oproxy batch show {id}" in results.err
    assert "error      line 2: The provided model" in shown.out
    assert cancelled.code == 1
    assert "Cannot cancel a batch with status 'failed'." in cancelled.err


async def test_what_is_no_batch_file_is_told_before_anything_is_sent(oproxy: Shell) -> None:
    (oproxy.folder / "in.txt").write_text("hello\n")
    no_requests = await oproxy("submit", str(oproxy.folder / "in.txt"))
    missing = await oproxy("submit", str(oproxy.folder / "nowhere.jsonl"))
    unknown = await oproxy("show", "batch_nowhere")
    assert no_requests.code == missing.code == unknown.code == 1
    assert '"custom_id"' in no_requests.err
    assert "nowhere.jsonl" in missing.err
    assert "No batch found with id 'batch_nowhere'." in unknown.err
    assert oproxy.ollama.calls == []


async def test_a_file_that_makes_no_batch_is_not_kept(oproxy: Shell) -> None:
    oproxy.write(line("a"))
    refused = await oproxy("submit", str(oproxy.folder / "in.jsonl"), "--endpoint", "/v1/audio/speech")
    assert refused.code == 1
    assert "Invalid value: '/v1/audio/speech'" in refused.err
    folder = Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "files"
    assert [path.name for path in folder.iterdir() if path.is_file()] == []


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "errors_file", "only_errors", "word"),
    [
        ("in_progress", None, False, "oproxy batch watch b"),
        ("completed", None, True, "No request of b failed."),
        ("cancelled", None, True, "b is cancelled"),
        ("completed", "file-1", False, "oproxy batch results b --errors"),
        ("failed", None, False, "oproxy batch show b"),
    ],
)
def test_no_results_have_a_reason(status: str, errors_file: str | None, only_errors: bool, word: str) -> None:
    told = batch_command.nothing({"id": "b", "status": status, "error_file_id": errors_file}, only_errors)
    assert word in told


@pytest.mark.parametrize("text", ["", "\n", "[]", '{"url": 7}', "\xff", '{"custom_id": "a"}'])
def test_a_first_line_without_an_endpoint_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Failure, match="--endpoint"):
        batch_command.first_url(path)
    path.write_text(json.dumps(line("a")))
    assert batch_command.first_url(path) == CHAT
