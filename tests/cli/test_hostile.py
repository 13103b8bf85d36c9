"""Hostile text from clients and backends, in every command that shows any: at a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import platformdirs
import pytest
from aiohttp import web

from ollama_proxy import daemon
from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.client import load_settings
from ollama_proxy.cli.logs_as import written
from ollama_proxy.cli.snippets import TOOLS, Facts
from ollama_proxy.recorder import Record, Recorder
from ollama_proxy.recorder.read import Found
from ollama_proxy.server.app import build_app
from ollama_proxy.store import Store
from tests.fakes.terminal import terminal as in_terminal
from tests.store.rows import entry, put

HOSTILE = (
    "\x1b]0;taken\x07", "\x1b]52;c;aGVsbG8=\x07", "\x1b[2J\x1b[H", "\x1b[8mhidden", "\x9b31m\x9d0;x\x9c",
    "nul\x00del\x7f", "exe\u202egpj.", "\u2066iso\u2069late", "line\nfeed\r\nand\rreturn", "tab\tand\x0bmore\x0c",
    "sep\u2028ara\u2029tor\x85", "[/nope] [bold]x[/]", "[link=http://x]y", ":skull:", "=cmd|' /C calc'!A0", "@SUM(1)",
    "$(touch x)`id`;x", "x" * 5000, "日本語", "\u200bzero\ufeff", "it's \"quoted\"\\", "", "-rf",
)  # fmt: skip
ALL = "".join(HOSTILE)
# Colours and movements are ours; nothing else that a terminal obeys may come.
OURS = re.compile(r"\x1b\[(?!8m)[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r(?=\x1b)")
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Out(io.TextIOWrapper):
    """stdout, in front of a person or of a program."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def seen(self) -> str:
        """What is left when our own colours are taken away; nothing in it commands a terminal."""
        seen = OURS.sub("", self.out + self.err)
        found = FORBIDDEN.search(seen)
        assert found is None, (found, seen[max(0, found.start() - 80) : found.end() + 80])
        assert "Traceback" not in seen
        return seen


def run(terminal: bool, *args: str) -> Ended:
    """Run `oproxy ARGS` in this process."""
    out, err = Out(terminal), Out(terminal)
    os.environ["COLUMNS"] = "100"
    os.environ["TERM"] = "xterm-256color"
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app(list(args), prog_name="oproxy")
        except SystemExit as exc:
            code = int(exc.code or 0)
        except Exception as exc:
            code = ended(exc)
        finally:
            # `doctor` turns it off for its process.
            logging.disable(logging.NOTSET)
    return Ended(code, out.text, err.text)


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def terminal(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# --- the ledger ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> None:
    now = time.time()
    store = Store.open("", folder=platformdirs.user_data_path("oproxy"), on_change=print)
    rows = [entry(now, asked=text, tag=text, served=text, client=text[:80], caller=text) for text in (*HOSTILE, ALL)]
    put(store, rows)
    store.close()


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("by", ["model", "tag", "client", "key", "served", "model,tag"])
def test_usage(by: str, terminal: bool) -> None:
    found = run(terminal, "usage", "--by", by)
    if found.code == 2:
        pytest.skip("there is no such column")
    assert len(found.seen.splitlines()) <= len(HOSTILE) + 5
    assert run(terminal, "usage").seen
    run(terminal, "usage", "--by", by, "--json").seen  # noqa: B018


@pytest.mark.usefixtures("ledger")
def test_usage_for_programs(terminal: bool) -> None:
    found = run(terminal, "usage", "--by", "model,tag", "--csv")
    assert "\r" not in found.seen
    rows = list(csv.reader(io.StringIO(found.out)))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows[1:] for cell in row[:2] if cell.startswith(("=", "+", "-", "@", "\t"))]
    names = {row["model"] for row in json.loads(run(terminal, "usage", "--by", "model", "--json").out)["rows"]}
    # Programs get the text itself.
    assert "exe\u202egpj." in names


# --- the log ------------------------------------------------------------------------------------------------------


def records() -> Iterator[Record]:
    for number, text in enumerate((*HOSTILE, ALL)):
        message = {"role": text, "name": text, "tool_call_id": text, "content": text, "reasoning": text}
        calls = [{"id": text, "type": "function", "function": {"name": text, "arguments": text}}]
        body = {
            "model": text,
            "messages": [message, {**message, "role": "assistant", "tool_calls": calls}],
            text or "e": text,
        }
        answers: list[Any] = [
            {"choices": [{"message": {**message, "tool_calls": calls}, "finish_reason": text}]},
            {"error": {"message": text}},
            {"object": "response", "status": text, "output": [
                {"type": "function_call", "name": text, "arguments": text},
                {"type": "function_call_output", "call_id": text, "output": text}, {"type": text},
                {"role": text, "content": [{"type": "output_text", "text": text}]},
            ]},
            {"type": "message", "stop_reason": text, "content": [{"type": "tool_use", "name": text, "input": text}]},
            text,
        ]  # fmt: skip
        made = entry(
            time.time(), asked=text, served=text, tag=text, caller=text, client=text,
            code=text, backend=text,
        )  # fmt: skip
        yield Record(
            entry=made,
            method="POST",
            path=f"/v1/chat/completions{text}",
            request=msgspec.json.encode(body),
            answer=msgspec.json.encode(answers[number % len(answers)]),
            ignored=(text,),
            headers={"user-agent": text, "x-oproxy-tag": text, "content-type": text},
        )


@pytest.fixture
def log() -> Path:
    folder = Path(platformdirs.user_log_path("oproxy"))
    recorder = Recorder(folder, max_size=10**8, max_age=1e9, max_files=9, max_total=10**9, buffer=99, bodies="all")
    for each in records():
        recorder.record(each)
    recorder.close()
    assert recorder.state.written == len(HOSTILE) + 1
    return folder / "requests.jsonl"


@pytest.mark.usefixtures("log")
def test_logs(terminal: bool) -> None:
    listed = run(terminal, "logs", "-n", "99")
    if not terminal:
        assert [len(line.split("\t")) for line in listed.seen.splitlines()] == [10] * (len(HOSTILE) + 2)
    lines = run(terminal, "logs", "-n", "99", "--json")
    assert len(lines.seen.splitlines()) == len(HOSTILE) + 1
    assert [json.loads(line)["entry"]["tag"] for line in lines.out.splitlines()] == [*HOSTILE, ALL]
    run(terminal, "logs", "--model", ALL).seen  # noqa: B018
    for number in range(1, len(HOSTILE) + 2):
        assert run(terminal, "logs", "show", str(number)).seen
    # The first is that with all of them in it.
    for form in (["--json"], ["--as", "curl"], ["--as", "python"], ["--as", "httpie"], ["--as", "json"]):
        assert run(terminal, "logs", "show", "1", *form).seen


def test_what_is_shown_to_be_pasted_into_a_shell_is_that_request_and_no_command(log: Path, tmp_path: Path) -> None:
    # A stand-in for curl writes down what it was given.
    stand_in = tmp_path / "curl"
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\0" "$@" > "$OUT"; case "$*" in *--data-binary*) cat > "$OUT.body";; esac\n'
    )
    stand_in.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path / "out")}
    for line in log.read_bytes().splitlines():
        found = msgspec.json.decode(line, type=Found)
        text = found.entry.tag
        done = subprocess.run(
            ["bash", "-c", written(found, "curl", "http://x")], env=env, cwd=tmp_path, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b""), text
        words = (tmp_path / "out").read_bytes().decode().split("\0")
        if text and "\0" not in text:
            assert f"x-oproxy-tag: {text}" in words
        assert {each.name for each in tmp_path.iterdir()} <= {"curl", "out", "out.body", "home"}
        body = (tmp_path / "out.body").read_text() if "--data-binary" in words else words[words.index("-d") + 1]
        assert json.loads(body)["model"] == text
        compile(written(found, "python", "http://x"), "request", "exec")


# --- the backend --------------------------------------------------------------------------------------------------


@pytest.fixture
async def backend() -> AsyncIterator[str]:
    """Serve an Ollama all of whose texts are hostile."""
    details = {"family": ALL, "parameter_size": ALL, "quantization_level": ALL, "format": "gguf"}
    listed = [
        {"name": text or "empty", "model": text or "empty", "digest": text, "size": 1, "details": details}
        for text in (*HOSTILE, "smollm2:latest", "broken:latest", "halfway:latest")
    ]
    shown = {
        "details": details,
        "capabilities": ["completion", ALL],
        "model_info": {"general.architecture": ALL},
        "template": ALL,
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/api/version":
                return web.json_response({"version": ALL[:300]})
            case "/api/tags":
                return web.json_response({"models": listed})
            case "/api/ps":
                return web.json_response({"models": [{**each, "expires_at": ALL, "size_vram": 1} for each in listed]})
            case "/api/show":
                return web.json_response(shown)
            case "/api/pull":
                steps = [{"status": ALL}, {"status": ALL, "digest": ALL, "total": 9, "completed": 3}, {"error": ALL}]
                return web.Response(body=b"".join(msgspec.json.encode(each) + b"\n" for each in steps))
            case "/api/chat":
                asked = (await request.json())["model"]
                if asked.startswith("broken"):
                    return web.json_response({"error": ALL}, status=500)
                parts: list[Any] = [
                    {"message": {"role": "assistant", "content": text, "thinking": text}, "done": False}
                    for text in HOSTILE
                ]
                if asked.startswith("halfway"):
                    parts.append({"error": ALL})
                parts.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
                return web.Response(body=b"".join(msgspec.json.encode(each) + b"\n" for each in parts))
        return web.json_response({"error": ALL}, status=500)

    served = web.Application()
    served.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(served)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@pytest.fixture
def configured(backend: str, tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    aliases = "".join(
        f"{json.dumps(text or 'e', ensure_ascii=True)} = {json.dumps(text)}\n" for text in ("\x1b]0;x\x07", "[/nope]")
    )
    path.write_text(
        f"[store]\nledger = false\n[logs]\nrequests = false\n[models.aliases]\n{aliases}"
        f'[backends.ollama]\ntype = "ollama"\nurl = "{backend}"\n',
        encoding="utf-8",
    )
    os.environ["OPROXY_CONFIG"] = str(path)
    return path


COMMANDS = [
    ("models", "list"), ("models", "list", "--names"), ("models", "list", "--json"), ("models", "ps"),
    ("models", "show", "smollm2"), ("models", "show", "smollm2", "--json"), ("models", "show", ALL),
    ("models", "pull", ALL), ("models", "pull", "smollm2"), ("models", "load", ALL), ("models", "load", "smollm2"),
    ("models", "unload", "smollm2"), ("models", "rm", "--yes", "smollm2"), ("models", "alias", "list"),
    ("chat", "-m", "smollm2", "hi"), ("chat", "-m", "smollm2", "--no-stream", "--stats", "hi"),
    ("chat", "-m", "broken", "hi"), ("chat", "-m", "halfway", "hi"),
    ("chat", "-m", "smollm2", "--json", "hi"), ("chat", "-m", ALL, "hi"), ("chat", "--resume-id", ALL, "hi"),
    ("config", "show"), ("config", "show", "--json"), ("config", "get", "models"), ("config", "get", ALL),
    ("config", "set", "models.default", ALL), ("config", "set", ALL, "x"), ("doctor",), ("doctor", "--json"),
    ("keys", "show", ALL), ("keys", "list"), ("files", "show", ALL), ("batch", "show", ALL), ("logs", "show", ALL),
    ("status",), ("env",), ("logs", "--model", ALL), ("usage", "--tag", ALL),
]  # fmt: skip


@pytest.mark.usefixtures("configured")
async def test_every_command_over_a_hostile_backend(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for args in COMMANDS:
        found = await asyncio.to_thread(run, terminal, *args)
        assert found.seen is not None, args
        if args == ("models", "list") and not terminal:
            assert {len(line.split("\t")) for line in found.out.splitlines()} == {8}
        if args == ("models", "list", "--names"):
            assert all(line.isprintable() for line in found.out.splitlines())


def test_what_a_tool_is_told_is_data(tmp_path: Path) -> None:
    for text in HOSTILE[:-2]:
        facts = Facts(url="http://127.0.0.1:1/v1", key="k", model=text, embedding=text, window=4096, ca="/a b/ca.pem")
        for name, make in TOOLS.items():
            snippet = make(facts)
            shown = snippet.text + "\n".join(snippet.notes)
            assert not FORBIDDEN.search(shown), name
            if name in ("claude-code", "opencode", "vscode"):
                assert text in json.dumps(json.loads(snippet.text), ensure_ascii=False) or json.loads(snippet.text)
            if name == "curl" and "\0" not in text:
                code = f'curl() {{ printf "%s\\0" "$@"; }}\n{snippet.text}'
                done = subprocess.run(["bash", "-c", code], capture_output=True, cwd=tmp_path, check=True)
                words = done.stdout.decode().split("\0")
                assert json.loads(words[words.index("-d") + 1])["model"] == text
                assert words[words.index("--cacert") + 1] == "/a b/ca.pem"


# --- what the API stores ------------------------------------------------------------------------------------------

# What a header can carry.
TAGS = [
    text for text in (*HOSTILE, "\x9b31mC1", "\u202eturned") if text and not re.search("[\x00-\x08\x0a-\x1f\x7f]", text)
]


class Stored(NamedTuple):
    """Ids of what was stored, by kind, and the content of the file."""

    keys: list[str]
    files: list[str]
    batches: list[str]
    responses: list[str]
    content: bytes


async def store_everything(http: aiohttp.ClientSession) -> Stored:
    """Store hostile texts wherever the API takes any."""

    async def send(path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        async with http.post(path, json=body, headers=headers) as response:
            found = await response.json(content_type=None) if "stream" not in body else await response.read()
            return found if response.status == 200 else {}

    async def upload(name: str, content: bytes, purpose: str) -> str:
        # By hand: aiohttp's own form refuses to send such names.
        shown = re.sub('["\r\n]', lambda found: f"%{ord(found[0]):02X}", name) or "x"
        body = (
            f'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--cut\r\ncontent-disposition: form-data; name="file"; filename="{shown}"\r\n\r\n'
        )
        headers = {"content-type": "multipart/form-data; boundary=cut"}
        async with http.post(
            "/v1/files", data=body.encode() + content + b"\r\n--cut--\r\n", headers=headers
        ) as response:
            return str((await response.json()).get("id", ""))

    stored = Stored([], [], [], [], ALL.encode())
    for number, text in enumerate((*HOSTILE, ALL)):
        key = {"name": text[:60], "tags": [text], "models": [text]}
        for body in (
            key,
            {"name": f"{number} {text}"[:60]},
            {"name": f"t{number}", "tags": [text]},
            {"name": f"m{number}", "models": [text]},
        ):
            stored.keys.append((await send("/oproxy/keys", body)).get("id", ""))
        stored.files.append(await upload(text, stored.content, "user_data"))
        await send(
            "/v1/chat/completions", {"model": text, "user": text, "messages": [{"role": "user", "content": text}]}
        )
        said = {
            "model": "smollm2",
            "input": text,
            "instructions": text,
            "user": text[:60],
            "metadata": {text[:60]: text[:500]},
        }
        stored.responses.append((await send("/v1/responses", said)).get("id", ""))
        await send(
            "/v1/conversations", {"metadata": {text[:60]: text[:500]}, "items": [{"role": "user", "content": text}]}
        )
    for tag in TAGS:
        chat = {"model": "smollm2", "stream": True, "messages": [{"role": "user", "content": tag}]}
        await send("/v1/chat/completions", chat, {"x-oproxy-tag": tag, "user-agent": tag})
    lines: list[dict[str, Any]] = [
        {"custom_id": text or "e", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": model, "messages": [{"role": "user", "content": text}]}}
        for text in (*HOSTILE, ALL) for model in ("smollm2", "broken")
    ]  # fmt: skip
    for number, line in enumerate(lines):
        line["custom_id"] = f"{number}{line['custom_id']}"
    wrong: list[Any] = [
        *({**line, "url": ALL, "method": ALL} for line in lines[:5]),
        ALL,
        {ALL: ALL},
        {"custom_id": ALL, "body": ALL},
    ]
    for texts in (lines, wrong):
        file = await upload("lines.jsonl", b"".join(msgspec.json.encode(each) + b"\n" for each in texts), "batch")
        asked = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {ALL[:60]: ALL[:500]},
        }
        stored.batches.append((await send("/v1/batches", asked)).get("id", ""))
    keys, files, batches, responses = ([each for each in ids if each] for ids in stored[:4])
    return Stored(keys, files, batches, responses, stored.content)


@pytest.fixture
async def daemon_url(backend: str, tmp_path: Path) -> AsyncIterator[str]:
    """Serve the application as the daemon that every command of this test finds."""
    path = tmp_path / "config.toml"
    path.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{backend}"\n', encoding="utf-8")
    os.environ["OPROXY_CONFIG"] = str(path)
    made = build_app(load_settings(path), control="word")
    runner = web.AppRunner(made, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=os.getpid(), url=url, version="1", started=1.0, grace=1.0, token="word"))
        yield url
    await runner.cleanup()


async def test_whatever_the_api_has_stored_is_shown_as_data(
    daemon_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    async with aiohttp.ClientSession(daemon_url, headers={"authorization": "Bearer word"}) as http:
        stored = await store_everything(http)
    assert all(len(ids) > 1 for ids in stored[:3]), stored
    assert len(stored.responses) > 10
    whole, partly = stored.batches
    commands = [
        ("keys", "list"), ("keys", "list", "--json"), ("files", "list"), ("files", "list", "--json"),
        ("batch", "watch", whole), ("batch", "watch", partly), ("batch", "list"), ("batch", "show", whole),
        ("batch", "show", partly), ("batch", "show", whole, "--json"), ("batch", "cancel", whole),
        ("batch", "results", partly), ("usage", "--by", "tag"), ("usage", "--by", "key"), ("usage", "--by", "model"),
        ("usage", "--by", "client"), ("logs", "-n", "99"), ("logs", "--errors"), ("logs", "show", "1"), ("status",),
        ("status", "--json"), ("doctor",), ("models", "list"), ("models", "ps"), ("models", "pull", "smollm2"),
        *(("keys", "show", id) for id in stored.keys[-8:]), ("keys", "rotate", stored.keys[-1]),
        ("keys", "revoke", stored.keys[-1], "--yes"), *(("files", "show", id) for id in stored.files[::5]),
        ("chat", "-m", "broken", "hi"), ("chat", "-m", "halfway", "hi"), ("chat", "-m", "smollm2", "hi"),
        ("chat", "-m", "smollm2", "--resume", "hi"),
        ("chat", "-m", "smollm2", "--resume-id", stored.responses[-1], "hi"),
    ]  # fmt: skip
    (tmp_path / "got").mkdir()
    for terminal in (True, False):
        for args in commands:
            found = await asyncio.to_thread(run, terminal, *args)
            assert found.seen, args
        listed = {("keys", "list"): 10, ("files", "list"): 6, ("batch", "list"): 7}
        for args, columns in listed.items() if not terminal else ():
            rows = (await asyncio.to_thread(run, False, *args)).out.splitlines()
            assert {len(row.split("\t")) for row in rows} == {columns}, args
        # Raw content: for a person without what a terminal obeys, for a program as it is.
        for args in (
            ("batch", "results", whole),
            ("batch", "results", whole, "--errors"),
            ("files", "download", stored.files[0], "-o", "-"),
        ):
            found = await asyncio.to_thread(run, terminal, *args)
            assert found.code == 0
            assert found.seen if terminal else found.out
            if args[0] == "files" and not terminal:
                assert found.out.encode() == stored.content
        for id in stored.files:
            assert (
                await asyncio.to_thread(run, terminal, "files", "download", id, "-f", "-o", str(tmp_path / "got"))
            ).seen
    assert all(each.name.isprintable() and each.parent == tmp_path / "got" for each in (tmp_path / "got").rglob("*"))


# --- a real terminal ----------------------------------------------------------------------------------------------

# What prompt_toolkit, rich and we write: colours, movements, modes; no title, no clipboard, nothing hidden or erased.
MOVES = re.compile(r"\x1b\[(?!8m)[0-9;?]*[A-IK-Z]|\x1b\[(?!8m)[0-9;?]*[a-z]|\x1b\[0?J|[\b]")


def obeys_nothing_else(painted: str) -> None:
    left = MOVES.sub("", painted).replace("\r", "")
    found = FORBIDDEN.search(left)
    assert found is None, (found, left[max(0, found.start() - 80) : found.end() + 80])
    assert "Traceback" not in left


async def test_a_conversation_at_a_terminal_with_a_hostile_model(daemon_url: str) -> None:
    async with in_terminal(
        sys.executable, "-m", "ollama_proxy", "chat", "-m", "smollm2", "--stats", env=os.environ
    ) as screen:
        await screen.until("Talking to smollm2")
        await screen.until(">>>")
        for typed, awaited in (
            ("hi", "smollm2:latest]"), ("/model", "halfway"), ("/model \t\x15hi again", "smollm2:latest]"),
            ("/model broken", "broken"), ("hi", "oproxy:"), ("/model halfway", "halfway"), ("hi", "oproxy:"),
            ("/usage", "tokens"),
        ):  # fmt: skip
            screen.types(f"{typed}\r")
            await screen.until(awaited)
            await screen.until(">>>")
        screen.types("\x04")
        assert await screen.ended() == 0
        obeys_nothing_else(screen.painted)
    assert daemon_url


async def test_a_followed_log_at_a_terminal(daemon_url: str) -> None:
    async with (
        aiohttp.ClientSession(daemon_url) as http,
        in_terminal(
            sys.executable, "-m", "ollama_proxy", "logs", "-f", "-n", "9", env=os.environ, columns=200
        ) as screen,
    ):
        await screen.until("recorded")
        for text in (*HOSTILE, ALL, "the end"):
            body = {"model": text, "user": text, "messages": [{"role": "user", "content": text}]}
            async with http.post("/v1/chat/completions", json=body) as response:
                await response.read()
        await screen.until("the end")
        screen.types("\x03")
        await screen.ended()
        obeys_nothing_else(screen.painted)
