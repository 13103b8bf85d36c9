"""What commands print where a terminal or pipe cannot take all of Unicode: every command ends well, what the encoding
has is written as it is, and what it lacks is replaced."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy import daemon
from ollama_proxy.cli import stdio
from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.client import load_settings
from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import RECORDER
from tests.fakes.ollama import FakeOllama

SAID = "Grüße → 日本 …"
# How that is written.
WRITTEN = {"cp1252": "Grüße -> ?? …", "ascii": "Gr??e -> ?? ...", "utf-8": SAID}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[str]:
    """Serve the application as the daemon that the commands find, and ask it something."""
    async with FakeOllama() as ollama:
        path = tmp_path / "größe.toml"
        path.write_text(
            f'[models.aliases]\n"grüße" = "smollm2"\n[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n',
            encoding="utf-8",
        )
        os.environ["OPROXY_CONFIG"] = str(path)
        for _ in range(9):
            record = {"model": "smollm2", "message": {"role": "assistant", "content": SAID}, "done": False}
            end = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3}
            ollama.play("/api/chat", [record, {**record, "message": {"role": "assistant", "content": ""}, **end}])
        made = build_app(load_settings(path), control="word")
        runner = web.AppRunner(made, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}"
        with daemon.claim() as claim:
            claim.publish(daemon.State(pid=os.getpid(), url=url, version="1", started=1.0, grace=1.0, token="word"))
            async with aiohttp.ClientSession(url) as http:
                body = {"model": "grüße", "stream": True, "messages": [{"role": "user", "content": SAID}]}
                async with http.post("/v1/chat/completions", json=body, headers={"x-oproxy-tag": SAID}) as response:
                    assert response.status == 200, await response.text()
                    await response.read()
            recorder = made[RECORDER]
            assert recorder is not None
            await asyncio.to_thread(recorder.flush)
            yield url
        await runner.cleanup()


def printed(encoding: str, *args: str) -> tuple[int, str, str]:
    """Run `oproxy ARGS` in this process with streams of this encoding, which must be able to take what is printed."""
    names = ("stdin", "stdout", "stderr", "excepthook")
    before = {name: getattr(sys, name) for name in names}
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, "strict", write_through=True) for _ in range(2))
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO()), out, err
    try:
        stdio.set_up({"PYTHONIOENCODING": encoding})
        try:
            app(list(args), prog_name="oproxy")
            code = 0
        except SystemExit as exc:
            code = int(exc.code or 0)
        except Exception as exc:
            code = ended(exc)
    finally:
        # `doctor` turns it off for its process.
        logging.disable(logging.NOTSET)
        for name, value in before.items():
            setattr(sys, name, value)
    texts = []
    for stream in (out, err):
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode(encoding))
    return code, *texts  # type: ignore[return-value]


@pytest.mark.parametrize("encoding", WRITTEN)
async def test_commands_print_what_an_encoding_can_take(
    encoding: str, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said, greeting = WRITTEN[encoding], WRITTEN[encoding].partition(" ")[0]
    commands = {
        ("logs", "show", "last"): said, ("logs", "-n", "9"): greeting.lower(), ("usage", "--by", "tag"): said,
        ("usage", "--by", "model"): greeting.lower(), ("chat", "-m", "smollm2", SAID): said,
        ("models", "list"): greeting.lower(), ("models", "alias", "list"): greeting.lower(), ("status",): served,
        ("config", "show"): greeting.lower(), ("doctor",): "ollama",
        ("config", "get", "models.aliases.grüße"): "smollm2",
        ("models", "show", "größe"): "",
        ("keys", "create", "Grüße"): "sk-oproxy-", ("keys", "list"): greeting,
    }  # fmt: skip
    for args, awaited in commands.items():
        code, out, err = await asyncio.to_thread(printed, encoding, *args)
        assert "Traceback" not in err, (args, err)
        assert awaited in out + err, (args, out, err)
        assert code == 0 or args[0] in ("doctor", "models"), (args, err)


@pytest.mark.skipif(sys.platform == "win32", reason="locales are those of POSIX")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
async def test_a_question_in_a_locale_without_its_letters_arrives_as_it_was_typed(encoding: str, served: str) -> None:
    # Neither PEP 538 nor 540 helps: arguments are read as ASCII.
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}

    def run(*args: str) -> bytes:
        words = [word.encode() for word in (sys.executable, "-m", "ollama_proxy", *args)]
        done = subprocess.run(words, env=env, capture_output=True, stdin=subprocess.DEVNULL)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
        return done.stdout

    assert WRITTEN[encoding] in (await asyncio.to_thread(run, "chat", "-m", "smollm2", SAID)).decode(encoding)
    assert served
    code, shown, _ = await asyncio.to_thread(printed, "utf-8", "logs", "show", "last", "--json")
    assert (code, json.loads(shown)["request"]["input"][-1]["content"]) == (0, SAID)
