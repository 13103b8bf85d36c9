"""`oproxy logs` over a log of its own, and what it writes run for real."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import web
from typer.main import get_command

from ollama_proxy.account import Entry
from ollama_proxy.cli import logs
from ollama_proxy.cli.failure import Failure
from ollama_proxy.cli.logs_as import Form, written
from ollama_proxy.cli.logs_filter import Filter, status_test
from ollama_proxy.cli.logs_said import answer_sections
from ollama_proxy.cli.logs_section import text_of
from ollama_proxy.recorder import Record, Recorder
from ollama_proxy.recorder.read import Found, entries
from tests.fakes.ollama import FakeOllama
from tests.fakes.terminal import terminal

NOW = time.time()
CHAT = "/v1/chat/completions"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What's **2+2**?\x1b[31m"}]},
]
ANSWER = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "**Four**."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}


class Ended(NamedTuple):
    """What a command left behind."""

    code: int | None
    out: str
    err: str

    @property
    def table(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


def command(args: Sequence[str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = get_command(logs.app).main(list(args), prog_name="oproxy logs", standalone_mode=False)
        except Exception as exc:
            code = getattr(exc, "exit_code", 1)
            err.write(f"{getattr(exc, 'message', repr(exc))}\n")
    return Ended(code or 0, out.getvalue(), err.getvalue())


class Shell:
    """Runs `oproxy` with a log folder of its own."""

    def __init__(self, folder: Path, config: Path, ollama: str) -> None:
        self.folder = folder
        self.log = folder / "requests.jsonl"
        config.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama}"\n[logs]\nfolder = "{folder}"\n')
        self.env = {**os.environ, "OPROXY_CONFIG": str(config)}

    async def __call__(self, *args: str) -> Ended:
        """Run the command in this process, in a thread, for it brings a loop of its own."""
        os.environ["OPROXY_CONFIG"] = self.env["OPROXY_CONFIG"]
        return await asyncio.to_thread(command, args)

    async def run(self, *command: str, **env: str) -> Ended:
        child = await asyncio.create_subprocess_exec(
            *command, env={**self.env, **env},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(child.communicate(), 60)
        return Ended(child.returncode, out.decode(), err.decode())

    def record(self, *records: Record) -> None:
        recorder = Recorder(
            self.folder, max_size=10**7, max_age=1e9, max_files=9, max_total=10**8, buffer=99, bodies="all"
        )  # fmt: skip
        for each in records:
            recorder.record(each)
        recorder.close()


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
def oproxy(tmp_path: Path, ollama: FakeOllama) -> Shell:
    return Shell(tmp_path / "logs", tmp_path / "config.toml", ollama.url)


def item(
    number: int, body: Any = None, answer: Any = ANSWER, *, ago: float = 0.0, path: str = CHAT, **entry: Any
) -> Record:
    body = {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.5} if body is None else body
    given: dict[str, Any] = {
        "status": 200,
        "asked": "gpt-4o",
        "served": "smollm2",
        "backend": "ollama",
        "prompt": 9,
        "completion": 3,
    }
    given |= {"first": 0.012, "total": 1.5, "listed": 52_500, "caller": "laptop", **entry}
    return Record(
        entry=Entry(id=f"req_{number:04x}{'beef' * 7}", at=NOW - ago, endpoint=path, **given),
        method="POST",
        path=path,
        request=body if isinstance(body, bytes) else json.dumps(body).encode(),
        answer=None if answer is None else json.dumps(answer).encode(),
        ignored=("seed",),
        headers={"content-type": "application/json"},
    )


def found(record: Record, **more: Any) -> Found:
    return Found(
        at="", entry=record.entry, method=record.method, path=record.path, headers=record.headers,
        request=json.loads(record.request), answer=json.loads(record.answer or b"null"), **more,
    )  # fmt: skip


# --- the table ----------------------------------------------------------------------------------------------------


async def test_the_last_requests_are_a_table_with_the_newest_at_the_bottom(oproxy: Shell) -> None:
    oproxy.record(*(item(number, ago=100.0 - number) for number in range(30)), item(30, status=404, code="not_found"))
    listed = await oproxy("-n", "3")
    assert listed.code == 0
    assert listed.table[0] == ["#", "TIME", "ID", "MODEL", "STATUS", "TOKENS", "FIRST", "TOTAL", "LIST", "CALLER"]
    assert [row[0] for row in listed.table[1:]] == ["3", "2", "1"]
    assert listed.table[3][2:] == [
        "001ebeef", "gpt-4o → smollm2", "404 not_found", "9+3", "12 ms", "1.5 s", "$0.000052500", "laptop",
    ]  # fmt: skip
    assert len((await oproxy()).table) == 21


async def test_json_is_the_lines_as_they_are(oproxy: Shell) -> None:
    oproxy.record(item(1), item(2))
    lines = [json.loads(line) for line in (await oproxy("--json")).out.splitlines()]
    assert [line["entry"]["id"][:8] for line in lines] == ["req_0001", "req_0002"]
    assert lines[0]["answer"] == ANSWER


async def test_filters_choose(oproxy: Shell) -> None:
    oproxy.record(
        item(1, ago=3 * 86400, key="key_1", tag="night"),
        item(2, ago=7200, asked="other", served="other", total=9.0),
        item(3, body={"model": "m", "prompt": "a Nußbaum"}, status=429),
        item(4, code="upstream"),
    )

    async def ids(*args: str) -> list[str]:
        return [row[2][:4] for row in (await oproxy(*args)).table[1:]]

    assert await ids("--since", "1d") == ["0002", "0003", "0004"]
    assert await ids("--until", "1h") == ["0001", "0002"]
    assert await ids("--model", "smol*,nothing", "--errors") == ["0003", "0004"]
    assert await ids("--key", "key_1", "--tag", "NIGHT") == ["0001"]
    assert await ids("--status", "4xx") == ["0003"]
    assert await ids("--slow", "5") == ["0002"]
    assert await ids("--grep", "nuSSbaum".replace("SS", "ß")) == ["0003"]
    assert await ids("--grep", "BE BRIEF", "--status", "ok", "-n", "1") == ["0004"]
    assert await ids("--grep", "messages") == []


async def test_what_makes_no_sense_is_told(oproxy: Shell) -> None:
    empty = await oproxy()
    assert (empty.code, empty.out) == (0, "")
    assert "yet" in empty.err
    oproxy.record(item(1))
    assert "like that" in (await oproxy("--grep", "nowhere")).err
    for args in (["--since", "soon"], ["--status", "9"], ["prune"], ["prune", "--all", "--before", "7d"]):
        wrong = await oproxy(*args)
        assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    for word in ("7", "nosuch"):
        wrong = await oproxy("show", word)
        assert (wrong.code, wrong.out, wrong.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("word", "fits", "not_"), [("ok", 200, 404), ("error", 500, 200), ("429", 429, 400), ("4xx", 499, 500)]
)
def test_a_status_is_named_in_four_ways(word: str, fits: int, not_: int) -> None:
    assert status_test(word)(fits)
    assert not status_test(word)(not_)


def test_reading_ends_where_nothing_older_can_be_meant() -> None:
    entry = item(1, total=10.0).entry
    assert Filter(since=entry.at + 11).over(entry)
    assert not Filter(since=entry.at + 9).over(entry)
    assert not Filter().over(entry)


async def test_the_log_is_followed(oproxy: Shell) -> None:
    oproxy.record(item(1))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ollama_proxy", "logs", "-f", "--status", "ok",
        env=oproxy.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 30)
        assert b"\t0001beef\t" in await asyncio.wait_for(child.stdout.readline(), 30)
        oproxy.record(item(2, status=500), item(3))
        assert b"\t0003beef\t" in await asyncio.wait_for(child.stdout.readline(), 30)
    finally:
        child.kill()
        await child.communicate()


# --- one request --------------------------------------------------------------------------------------------------


async def test_a_request_is_shown_with_its_books_and_what_was_said(oproxy: Shell) -> None:
    oproxy.record(item(1), item(2, body={"model": "m", "prompt": "other"}))
    await oproxy()
    shown = await oproxy("show", "2")
    assert shown.code == 0
    rows = dict(line.split("\t", 1) for line in shown.out.split("\n\n")[0].splitlines())
    assert rows["id"].startswith("req_0001")
    assert rows["tokens"] == "9 + 3"
    assert rows["ignored"] == "seed"
    assert "--- user\nWhat's **2+2**?[31m\n" in shown.out
    assert "--- assistant\n**Four**.\n" in shown.out
    assert '"temperature": 0.5' in shown.out
    assert json.loads((await oproxy("show", "0001", "--json")).out)["request"]["temperature"] == 0.5
    assert "other" in (await oproxy("show", "last")).out
    # The numbers stay those of the table, whatever has come since.
    oproxy.record(item(3))
    assert "req_0001" in (await oproxy("show", "2")).out


async def test_markdown_is_painted_for_a_person(oproxy: Shell) -> None:
    oproxy.record(item(1))
    async with terminal(
        sys.executable, "-m", "ollama_proxy", "logs", "show", env={**oproxy.env, "TERM": "xterm-256color"}
    ) as screen:
        await screen.until("Four")
        assert "**" not in screen.seen
        assert "\x1b[31m" not in screen.painted


def test_tool_calls_thoughts_choices_and_errors_are_told_apart() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}}
    message = {"role": "assistant", "content": None, "reasoning": "Hm.", "tool_calls": [call]}
    answer = {
        "choices": [{"message": message, "finish_reason": "tool_calls"}, {"text": "b", "finish_reason": "length"}],
        "error": {"message": "gone"},
    }
    assert [(each.title, each.text) for each in answer_sections(answer)] == [
        ("assistant thinks (1 of 2)", "Hm."),
        ("assistant calls add (1 of 2)", '{\n  "x": 1\n}'),
        ("answer (2 of 2)", "b"),
        ("ended (2 of 2)", "length"),
        ("error", "gone"),
    ]
    embeddings = {"object": "list", "data": [{"embedding": [0.1, 0.2]}, {"embedding": [0.1, 0.2]}]}
    assert next(answer_sections(embeddings)).text == "2 embeddings of 2 numbers"
    picture = {"type": "image_url", "image_url": {"url": "http://x"}}
    assert text_of([picture, "b"]) == '[image_url {"image_url":{"url":"http://x"}}]\n\nb'


def test_a_message_of_anthropics_is_shown_block_by_block() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "new_kind"},
    ]
    answer = {"type": "message", "content": content, "stop_reason": "max_tokens"}
    assert [(each.title, each.text) for each in answer_sections(answer)] == [
        ("assistant thinks", "hm"),
        ("assistant", "I look."),
        ("assistant calls f", '{\n  "a": 1\n}'),
        ("assistant", '{\n  "type": "new_kind"\n}'),
        ("ended", "max_tokens"),
    ]


def test_an_answer_of_ollamas_own_api_is_shown_as_what_was_said() -> None:
    call = {"id": "a", "function": {"index": 0, "name": "add", "arguments": {"x": 1}}}
    message = {"role": "assistant", "content": "So.", "thinking": "Hm.", "tool_calls": [call]}
    assert [(each.title, each.text) for each in answer_sections({"message": message, "done": True})] == [
        ("assistant thinks", "Hm."),
        ("assistant", "So."),
        ("assistant calls add", '{\n  "x": 1\n}'),
    ]
    generated = {"response": "So", "thinking": "Hm.", "done": True, "done_reason": "length"}
    assert [(each.title, each.text) for each in answer_sections(generated)] == [
        ("assistant thinks", "Hm."),
        ("answer", "So"),
        ("ended", "length"),
    ]
    assert [(each.title, each.text) for each in answer_sections({"error": "gone"})] == [("error", "gone")]


# --- as something that runs ---------------------------------------------------------------------------------------

NASTY = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": 'It\'s "$HOME" `id` \\n \n JSON\n!! ä 💡 @x'}],
    "stop": None,
    "own": {"x": [True, 1.5]},
}
Heard = list[tuple[str, str, Any]]


@pytest.fixture
async def listener() -> AsyncIterator[tuple[str, Heard]]:
    """A server that keeps what it is sent, and its URL."""
    heard: Heard = []

    async def hear(request: web.Request) -> web.Response:
        heard.append((request.path, request.headers.get("authorization", ""), await request.json()))
        return web.json_response({**ANSWER, "object": "chat.completion", "created": 1, "model": "m"})

    app = web.Application()
    app.router.add_post("/{path:.*}", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}", heard
    await runner.cleanup()


@pytest.mark.parametrize("length", [0, 500])
async def test_curl_sends_exactly_what_was_recorded(oproxy: Shell, listener: tuple[str, Heard], length: int) -> None:
    if not (shutil.which("curl") and shutil.which("bash")):
        pytest.skip("curl or bash is not installed")
    url, heard = listener
    body = {**NASTY, "user": "x" * length}
    for path in (CHAT, "/oproxy/$x"):
        text = written(found(item(1, body, path=path)), "curl", url)
        assert ("<<'JSON" in text) == bool(length)
        done = await oproxy.run("bash", "-c", text, OPENAI_API_KEY="sk-mine")
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out)["choices"] == ANSWER["choices"]
        assert heard[-1] == (path, "Bearer sk-mine", body)
    await oproxy.run(
        "bash", "-c", written(found(item(1, body)), "curl", "http://127.0.0.1:1"), OPENAI_BASE_URL=f"{url}/x"
    )
    assert heard[-1] == ("/x/chat/completions", "Bearer any", body)


@pytest.mark.parametrize("length", [0, 500])
async def test_httpie_gets_exactly_what_was_recorded(oproxy: Shell, tmp_path: Path, length: int) -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    program = tmp_path / "bin" / "http"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps([sys.argv[1:], sys.stdin.read()]))\n")
    program.chmod(0o700)
    body = {**NASTY, "user": "x" * length}
    text = written(found(item(1, body)), "httpie", "http://h")
    done = await oproxy.run("bash", "-c", text, PATH=f"{program.parent}:{os.environ['PATH']}", OPENAI_API_KEY="k")
    args, stdin = json.loads(done.out)
    assert args == [
        "POST", "http://h/v1/chat/completions", "Authorization: Bearer k", "Content-Type: application/json",
    ]  # fmt: skip
    assert json.loads(stdin) == body


async def test_python_sends_exactly_what_was_recorded(oproxy: Shell, listener: tuple[str, Heard]) -> None:
    url, heard = listener
    text = written(found(item(1, NASTY)), "python", url)
    assert "extra_body={'own'" in text
    done = await oproxy.run(sys.executable, "-c", text, OPENAI_API_KEY="sk-mine")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["choices"][0]["message"]["content"] == "**Four**."
    assert heard[-1] == (CHAT, "Bearer sk-mine", NASTY)


async def test_python_reaches_ollamas_own_api_and_takes_its_answer_whole(
    oproxy: Shell, listener: tuple[str, Heard]
) -> None:
    url, heard = listener
    text = written(found(item(1, NASTY, path="/api/chat")), "python", url)
    done = await oproxy.run(sys.executable, "-c", text, OPENAI_API_KEY="sk-mine")
    assert (done.code, done.err) == (0, "")
    assert heard[-1] == ("/api/chat", "Bearer sk-mine", {**NASTY, "stream": False})


async def test_every_python_program_compiles() -> None:
    for path in (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/other"):
        for stream in (True, False):
            body = {"model": "m", "input": "x" * 300, "stream": stream, "class": None}
            compile(written(found(item(1, body, path=path)), "python", "http://h"), path, "exec")


async def test_json_is_the_body_alone(oproxy: Shell) -> None:
    oproxy.record(item(1, NASTY))
    assert json.loads((await oproxy("show", "--as", "json")).out) == NASTY


def test_a_post_without_a_body_stays_one() -> None:
    asked = msgspec.structs.replace(found(item(1)), request=msgspec.UNSET)
    assert written(asked, "curl", "http://h").startswith("curl -sS -X POST ")
    assert "-X" not in written(msgspec.structs.replace(asked, method="GET"), "curl", "http://h")


@pytest.mark.parametrize("form", ["curl", "python", "httpie", "json"])
def test_an_upload_is_not_written_as_something_else(form: Form) -> None:
    asked = msgspec.structs.replace(
        found(item(1)), request=msgspec.UNSET, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises(Failure, match="upload"):
        written(asked, form, "http://h")


@pytest.mark.parametrize("done", ["cut", "none"])
def test_what_is_not_whole_is_not_written(done: str) -> None:
    with pytest.raises(Failure):
        written(found(item(1), altered={"request": (done,)}), "curl", "http://h")


# --- again --------------------------------------------------------------------------------------------------------


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": text}, "done": False, **more}


END = said("", done=True, done_reason="stop", prompt_eval_count=9, eval_count=2)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_sent_again_and_both_answers_are_shown(
    oproxy: Shell, ollama: FakeOllama, stream: bool
) -> None:
    oproxy.record(item(1, {"model": "smollm2", "messages": MESSAGES, "stream": stream}))
    ollama.play("/api/chat", [said("Fi"), said("ve."), END])
    done = await oproxy("replay", "1", "--model", "smollm2-jinja")
    assert done.code == 0, done.err
    rows = done.table
    assert rows[1][:2] == ["recorded", "ollama/smollm2"]
    assert rows[2][0] == "replay"
    assert rows[2][1].startswith("ollama/smollm2-jinja")
    assert rows[2][3] == "9+2"
    assert "--- recorded: ollama/smollm2\n**Four**.\n" in done.out
    assert done.out.endswith("\nFive.\n")
    assert ollama.asked("/api/chat")[0]["model"].startswith("smollm2-jinja")
    # The replay is in the log too.
    assert len(list(entries(oproxy.log))) == 2


async def test_a_request_of_ollamas_own_api_is_sent_again_whole(oproxy: Shell, ollama: FakeOllama) -> None:
    answer = said("Four.", done=True, done_reason="stop")
    oproxy.record(item(1, {"model": "smollm2", "messages": MESSAGES}, answer, path="/api/chat"))
    ollama.play("/api/chat", [said("Five.", done=True, prompt_eval_count=9, eval_count=2)], type="application/json")
    done = await oproxy("replay", "1")
    assert done.code == 0, done.err
    assert (done.table[2][3], ollama.asked("/api/chat")[0]["stream"]) == ("9+2", False)
    assert "--- recorded: ollama/smollm2\nFour.\n" in done.out
    assert done.out.endswith("\nFive.\n")


async def test_what_differs_is_shown_and_several_times_are_counted(oproxy: Shell, ollama: FakeOllama) -> None:
    oproxy.record(item(1, {"model": "smollm2", "messages": MESSAGES}))
    ollama.play("/api/chat", [said("**Four**."), END])
    ollama.play("/api/chat", [said("Five."), END])
    done = await oproxy("replay", "--times", "2", "--diff")
    assert done.code == 0, done.err
    assert "replay 1: the same answer." in done.out
    assert "\n-**Four**.\n+Five.\n" in done.out


async def test_a_replay_that_fails_is_told_and_ends_with_1(oproxy: Shell) -> None:
    oproxy.record(item(1, {"model": "nosuch", "messages": MESSAGES}))
    done = await oproxy("replay", "--json")
    assert done.code == 1
    recorded, again = json.loads(done.out)
    assert recorded["text"] == "**Four**."
    assert again["status"] == 404
    assert "nosuch" in again["error"]


async def test_what_is_not_whole_is_not_sent(oproxy: Shell, ollama: FakeOllama) -> None:
    oproxy.record(item(1, {"model": "smollm2", "messages": [{"role": "user", "content": "sk-abcdefgh12345678"}]}))
    done = await oproxy("replay")
    assert (done.code, done.out) == (1, "")
    assert "redacted" in done.err
    assert ollama.asked("/api/chat") == []


# --- removing -----------------------------------------------------------------------------------------------------


async def test_old_lines_are_removed_from_all_files_and_the_rest_stays(oproxy: Shell) -> None:
    oproxy.record(item(1, ago=9 * 86400), item(2, ago=8 * 86400))
    oproxy.log.rename(oproxy.log.with_name("requests-20260101T000000Z-0001.jsonl"))
    oproxy.record(item(3, ago=8 * 86400), item(4, ago=60.0))
    (oproxy.folder / "daemon.jsonl").write_text('{"at":"2020-01-01T00:00:00.000Z","message":"old"}\n')
    done = await oproxy("prune", "--before", "7d")
    assert done.code == 0
    assert "Removed 4 lines" in done.err
    assert [entry.id[:8] for entry, _ in entries(oproxy.log)] == ["req_0004"]
    assert not list(oproxy.folder.glob("daemon*"))


async def test_everything_is_removed_only_with_a_yes(oproxy: Shell) -> None:
    oproxy.record(item(1))
    assert (await oproxy("prune", "--all")).code == 1
    assert oproxy.log.exists()
    assert (await oproxy("prune", "--all", "--yes")).code == 0
    assert list(oproxy.folder.glob("requests*")) == []


async def test_a_file_of_which_nothing_goes_stays_where_it_is(oproxy: Shell) -> None:
    oproxy.record(item(1, ago=60.0), item(2))
    (oproxy.folder / "daemon.jsonl").write_text("")
    before = (oproxy.log.stat().st_ino, oproxy.log.read_bytes())
    done = await oproxy("prune", "--before", "7d")
    assert done.code == 0
    assert "nothing to remove" in done.err
    assert (oproxy.log.stat().st_ino, oproxy.log.read_bytes()) == before
    assert [path.name for path in oproxy.folder.glob("requests*")] == ["requests.jsonl"]


async def test_a_log_in_use_goes_on_in_a_new_file(oproxy: Shell) -> None:
    recorder = Recorder(
        oproxy.folder, max_size=10**7, max_age=1e9, max_files=9, max_total=10**8, buffer=99, bodies="all"
    )  # fmt: skip
    recorder.record(item(1, ago=9 * 86400))
    recorder.record(item(2))
    recorder.flush()
    await oproxy("prune", "--before", "7d")
    recorder.record(item(3))
    recorder.close()
    assert [entry.id[:8] for entry, _ in entries(oproxy.log)] == ["req_0003", "req_0002"]


async def test_the_path_is_printed(oproxy: Shell) -> None:
    assert (await oproxy("path")).out == f"{oproxy.log}\n"
    assert (await oproxy("path", "--daemon")).out == f"{oproxy.folder / 'daemon.jsonl'}\n"


def test_a_responses_items_are_told_one_by_one() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "name": "f", "arguments": '{"x":1}', "call_id": "c"},
        {"type": "custom_tool_call", "name": "g", "input": "y", "call_id": "d"},
        {"type": "web_search_call", "id": "ws_1"},
    ]
    told = list(answer_sections({"object": "response", "status": "incomplete", "output": output, "error": None}))
    assert [section.title for section in told] == [
        "assistant thinks", "assistant", "assistant calls f", "assistant calls g", "web_search_call", "ended",
    ]  # fmt: skip
    assert told[2].text == '{\n  "x": 1\n}'
    assert told[5].text == "incomplete"
