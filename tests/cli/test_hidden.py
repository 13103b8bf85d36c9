"""No secret of the settings is shown: by no command that shows settings or errors, in no answer, in no log."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import aiohttp
import pytest

from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.serve import quiet_libraries
from ollama_proxy.declared import Key, dotted, extra, kind_of, toml_value
from ollama_proxy.jobs import told
from ollama_proxy.recorder.daemonlog import JsonFormatter
from ollama_proxy.server.routes import ROUTES
from ollama_proxy.settings import ConfigError, changes, load, values_of
from tests.conftest import Start

CANARY = "c4n4rySECRET"
# Where a secret may stand in a URL; the port is one on which nobody answers.
FORMS = [
    "{scheme}://me:{canary}@127.0.0.1:1/x",
    "{scheme}://me@127.0.0.1:1/x?password={canary}",
    "{scheme}://me@127.0.0.1:1/x?PASSWORD={canary}",
    "{scheme}://127.0.0.1:1/x?p%61ssword={canary}",
    "{scheme}://127.0.0.1:1/x?sslpassword={canary}&passfile={canary}",
    "{scheme}://me:{canary}@{canary}@127.0.0.1:1/x",
    "{scheme}://me:a/{canary}@127.0.0.1:1/x",
    "me:{canary}@127.0.0.1:1/x",
]
BACKEND = '[backends.one]\ntype = "openai"\nurl = "http://127.0.0.1:1"\n'
FULL = (
    BACKEND + f'api_key = "{CANARY}"\n[backends.one.headers]\nx-gateway = "{CANARY}"\n'
    f'[budget]\nwebhook = "http://hooks.example/{CANARY}?token={CANARY}"\n'
)
COMMANDS = (
    ("config", "show"),
    ("config", "show", "--json"),
    ("config", "check"),
    ("config", "get", "store"),
    ("config", "get", "store", "--json"),
    ("config", "get", "store.url"),
    ("config", "get", "limits.url"),
    ("config", "get", "budget.webhook"),
    ("config", "get", "backends.one"),
    ("config", "get", "backends.one.url"),
    ("config", "get", "backends.one.api_key", "--json"),
)
# Those that try what the settings name.
SLOW = (
    ("doctor",),
    ("doctor", "--json"),
    ("usage",),
    ("usage", "--json"),
    ("usage", "prune", "--before", "400d", "--yes"),
    ("models", "list"),
    ("keys", "list"),
    ("status",),
)


TRIED = {FORMS[1].format(scheme=scheme, canary=CANARY) for scheme in ("postgresql", "redis")}


def run(*args: str) -> str:
    """Run a command in this process; return all it says."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            app(list(args), prog_name="oproxy")
        except SystemExit:
            pass
        except Exception as exc:
            ended(exc)
        finally:
            # `doctor` turns logging off, for the rest of its process.
            logging.disable(logging.NOTSET)
    return out.getvalue()


def urls() -> Iterator[tuple[str, str]]:
    """Yield a setting that holds a URL and a value for it with a secret."""
    schemes = {"store.url": "postgresql", "limits.url": "redis", "backends.one.url": "http"}
    for name, scheme in schemes.items():
        for form in FORMS:
            yield name, form.format(scheme=scheme, canary=CANARY)


def written(name: str, value: str) -> str:
    """Return a config that sets one URL, beside all other secrets."""
    section, _, key = name.rpartition(".")
    if section == "backends.one":
        return FULL.replace('url = "http://127.0.0.1:1"', f"url = {toml_value(value)}", 1)
    return FULL + f"[{section}]\n{key} = {toml_value(value)}\n"


def test_every_setting_that_may_hold_a_url_is_looked_at_here() -> None:
    found = {
        dotted(key)
        for key in values_of(load(env={}, flags={}, text=FULL).settings)
        if key[-1].endswith(("url", "webhook")) or secret_of(key)
    }
    looked_at = {name for name, _ in urls()} | {"budget.webhook", "backends.one.api_key"}
    assert {name for name in found if not name.startswith("backends.one.headers")} == looked_at


def secret_of(key: Key) -> bool:
    kind = kind_of(key)
    return kind is not None and bool(extra(kind, "secret") or extra(kind, "secret_part"))


@pytest.mark.parametrize(("name", "value"), list(urls()))
def test_no_command_shows_a_secret(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(written(name, value))
    os.environ["OPROXY_CONFIG"] = str(path)
    # Importing and printing takes its time: what is the same for all forms is looked at for two of them.
    for command in (*COMMANDS, *SLOW) if value in TRIED else (("config", "show"), ("config", "get", name)):
        said = run(*command)
        assert CANARY.lower() not in said.lower(), (command, said)
    plain = tmp_path / "plain.toml"
    plain.write_text(BACKEND)
    os.environ["OPROXY_CONFIG"] = str(plain)
    said = run("config", "set", name, value)
    assert CANARY.lower() not in said.lower(), said


@pytest.mark.parametrize(("name", "value"), list(urls()))
def test_no_change_of_the_config_shows_a_secret(name: str, value: str) -> None:
    before = load(env={}, flags={}, text=BACKEND).settings
    try:
        after = load(env={}, flags={}, text=written(name, value)).settings
    except ConfigError as exc:
        lines = [exc.message]
    else:
        lines = [told(key, old, new, before) for key, old, new in changes(before, after)]
    assert lines
    assert CANARY not in "\n".join(lines)


@pytest.mark.parametrize("form", FORMS[:5])
async def test_no_answer_and_no_log_shows_a_secret_of_what_is_away(
    form: str, start_proxy: Start, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    config = FULL + (
        f'[auth]\nmode = "on"\n[store]\nurl = "{form.format(scheme="postgresql", canary=CANARY)}"\n'
        f'[limits]\nurl = "{form.format(scheme="redis", canary=CANARY)}"\nrequests_per_minute = 1000\n'
        "[logs]\nrequests = false\n"
    ).replace("http://127.0.0.1:1", f"http://me:{CANARY}@127.0.0.1:1", 1)
    proxy = await start_proxy(config, books=True, control="word", env={"OPROXY_API_KEYS": "ci=sk-given-123456789"})
    async with aiohttp.ClientSession(proxy.url) as http:
        for key in ("", "sk-strange-123456789", "sk-given-123456789", "word"):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            for row in ROUTES:
                path = row.route.path.replace("{", "").replace("}", "").replace(":.+", "")
                body = {
                    "model": "one/x",
                    "messages": [{"role": "user", "content": "hi"}],
                    "input": "hi",
                    "prompt": "hi",
                }
                async with http.request(row.route.method, path, json=body, headers=headers) as response:
                    text = await response.text()
                assert CANARY not in text, (key, row.route.path, text)
                if key != "word":
                    for word in ("127.0.0.1:1/", 'user "me"', "postgres"):
                        assert word not in text or row.route.path in ("/docs", "/openapi.json"), (row.route.path, text)
        for headers in ({}, {"authorization": "Bearer word"}):
            async with http.get("/v1/health", headers=headers) as response:
                assert CANARY not in await response.text()
    await asyncio.sleep(0.1)
    assert CANARY not in "\n".join(proxy.said)
    formatter = JsonFormatter()
    # A debug line of a library is masked where it is written.
    assert CANARY not in "\n".join(map(formatter.format, caplog.records))
    assert CANARY not in "".join(capsys.readouterr())


Write = Callable[[str], None]


@pytest.mark.parametrize(
    "text",
    [
        f"connect postgresql://me:{CANARY}@db/x failed",
        f"connect host=db password={CANARY} failed",
        f"redis://:{CANARY}@cache/0",
        f"{{'Authorization': 'Bearer {CANARY}1234567'}}",
    ],
)
def test_a_logged_line_and_its_traceback_are_masked(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as exc:
        record = logging.LogRecord(
            "x", logging.ERROR, "x.py", 1, "it failed: %s", (exc,), (ValueError, exc, exc.__traceback__)
        )
    assert CANARY not in JsonFormatter().format(record)


def test_a_database_server_that_goes_away_leaves_no_tracebacks_of_the_pool_in_the_log() -> None:
    pool = logging.getLogger("sqlalchemy.pool")
    before = pool.level
    try:
        # Commands that ran in this process have quieted it too.
        pool.setLevel(logging.NOTSET)
        assert logging.getLogger("sqlalchemy.pool.impl.QueuePool").isEnabledFor(logging.ERROR)
        quiet_libraries()
        assert not logging.getLogger("sqlalchemy.pool.impl.QueuePool").isEnabledFor(logging.ERROR)
    finally:
        pool.setLevel(before)
