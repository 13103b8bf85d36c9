"""`oproxy doctor`: every fault is found and named with its remedy, and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import web

from ollama_proxy import __version__, certs, daemon
from ollama_proxy.backends import weights
from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.doctor import CHECKS, scene_of, show, summary
from ollama_proxy.cli.findings import Finding, Scene, examine
from ollama_proxy.cli.findings_backends import check_backends, check_embedded
from ollama_proxy.cli.findings_config import check_config, check_environment
from ollama_proxy.cli.findings_daemon import check_clock, check_daemon, check_ports, failing_parts
from ollama_proxy.cli.findings_files import check_certificate, check_logs, check_permissions, check_store, checked
from ollama_proxy.cli.status import accounts
from ollama_proxy.store import Store, schema
from tests.cli.test_serve import free_port
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

Look = Callable[..., Scene]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Return what gathers the scene of a config and some variables."""

    def scene(config: str = "", **env: str) -> Scene:
        file = tmp_path / "config.toml"
        file.write_text(config)
        file.chmod(0o600)
        return scene_of({"OPROXY_CONFIG": str(file), **env})

    return scene


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


def told(found: Sequence[Finding], *states: str) -> str:
    """Return the findings in these states (all but ok, if none are given) as text, one a line."""
    wanted = states or ("note", "warning", "broken")
    return "\n".join(f"{f.state} {f.check}: {f.what} [{f.where}] {f.remedy}" for f in found if f.state in wanted)


def config_of(fake: FakeOllama, more: str = "") -> str:
    return f'[backends.ollama]\ntype = "ollama"\nurl = "{fake.url}"\n{more}'


# --- config and environment ---------------------------------------------------------------------------------------


async def test_every_mistake_in_the_config_is_told_with_its_line(look: Look, tmp_path: Path) -> None:
    found = await check_config(look("[server]\nport = 0\nprot = 1\n"))
    assert [(f.state, f.where) for f in found] == [
        ("broken", f"{tmp_path}/config.toml:2"),
        ("broken", f"{tmp_path}/config.toml:3"),
    ]
    assert "no such setting; expected server.port" in found[1].what
    (syntax,) = await check_config(look("[server\n"))
    assert syntax.where.startswith(f"{tmp_path}/config.toml:1")
    assert syntax.remedy == "oproxy config edit"
    (variable,) = await check_config(look("", OPROXY_SERVER_PORT="x"))
    assert (variable.where, variable.remedy) == ("OPROXY_SERVER_PORT", "")


async def test_backends_are_not_judged_by_the_defaults_of_a_config_with_mistakes(look: Look) -> None:
    scene = look('[backends.lab]\ntype = "openai"\nurl = "localhost:1"\n')
    assert scene.problems
    assert told(await check_backends(scene)) == "note backends: they were not asked, since the config has mistakes [] "


async def test_a_config_that_reads_well_and_cannot_work_is_told(look: Look) -> None:
    assert told(await check_config(look("[server]\nport = 1234\n"))) == ""
    assert told(await check_config(look('[server]\nhost = "0.0.0.0"\n'))).startswith(
        "broken config: the daemon will not"
    )
    open_ = '[server]\nhost = "192.0.2.1"\n[auth]\nallow_anonymous = true\n'
    assert told(await check_config(look(open_))).startswith("warning config: anybody who reaches 192.0.2.1")
    assert told(await check_config(look('[server]\nhost = "0.0.0.0"\n[auth]\nmode = "on"\n'))) == ""
    lab = '[backends.lab]\ntype = "openai"\nurl = "http://x/v1"\napi_key_env = "LAB_KEY"\n'
    assert "LAB_KEY is not set" in told(await check_config(look(lab)))
    assert told(await check_config(look(lab, LAB_KEY="k"))) == ""
    assert "auth.env_file" in told(await check_config(look('[auth]\nenv_file = "/no/such"\n')))


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        ("[budget]\nmoney_per_day = 1.0\n", True),
        ("[budget]\nmoney_per_month = 1.0\n[prices]\nkwh = 0.3\n", True),
        ('[budget]\nmoney_per_day = 1.0\ncount = "list"\n', False),
        ("[budget]\nmoney_per_day = 1.0\n[prices]\nkwh = 0.3\nwatts = 300\n", False),
        ('[budget]\nmoney_per_day = 1.0\n[prices.models."qwen*"]\ninput = 1.0\n', False),
        ('[budget]\nmoney_per_day = 1.0\n[backends.x]\ntype = "openai"\nurl = "https://api.x.ai/v1"\n', False),
        ('[budget]\nmoney_per_day = 1.0\n[backends.x]\ntype = "openai"\nurl = "http://gpu:8000/v1"\n', True),
        ("[budget]\ntokens_per_day = 1\n", False),
    ],
)
async def test_a_budget_in_dollars_that_can_never_fill_is_reported(look: Look, config: str, warned: bool) -> None:
    said = told(await check_config(look(config)))
    assert ("the budget in dollars never fills" in said) is warned


HERE = "http://127.0.0.1:11435/v1"
REAL = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "any"}, ""),
        ({"OPENAI_BASE_URL": "http://localhost:11435/v1/", "OPENAI_API_KEY": "any"}, ""),
        ({}, "note environment: OPENAI_BASE_URL is not set"),
        ({"OPENAI_BASE_URL": "https://api.openai.com/v1"}, "OPENAI_BASE_URL sends clients elsewhere"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "OPENAI_BASE_URL sends clients elsewhere"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:x/v1"}, "OPENAI_BASE_URL sends clients elsewhere"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:11435", "OPENAI_API_KEY": "any"}, "must end in /v1"),
        ({"OPENAI_BASE_URL": HERE.replace("http", "https"), "OPENAI_API_KEY": "any"}, "and http is what is spoken"),
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "any", "OPENAI_API_BASE": "http://x/v1"}, "OPENAI_API_BASE sends"),
        ({"OPENAI_API_BASE": HERE}, "only OPENAI_API_BASE is set"),
        ({"OPENAI_BASE_URL": HERE}, "OPENAI_API_KEY is not set"),
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": REAL}, "looks like a real key of OpenAI's (sk-proj…wxyz)"),
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "sk-oproxy-" + "a" * 48}, ""),
        (
            {"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "any", "OPENAI_ORGANIZATION": "org"},
            "OPENAI_ORGANIZATION is set",
        ),
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "any", "OPENAI_API_TYPE": "azure"}, "speak Azure's API"),
        ({"OPENAI_BASE_URL": HERE, "OPENAI_API_KEY": "any", "SSL_CERT_FILE": "/no/such"}, "SSL_CERT_FILE names a file"),
    ],
)
async def test_variables_that_mislead_clients_are_told(look: Look, env: dict[str, str], want: str) -> None:
    text = told(await check_environment(look("", **env)))
    assert want in text
    assert bool(want) is bool(text)
    assert REAL not in text


@pytest.mark.parametrize(
    ("env", "spared"),
    [
        ({"http_proxy": "http://user:secret@proxy:3128"}, False),
        ({"ALL_PROXY": "socks5://proxy"}, False),
        ({"https_proxy": "http://proxy:3128"}, True),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "intern,.local"}, False),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost, 127.0.0.1"}, True),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "*"}, True),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "127.0.0.1:11435"}, True),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "127.0.0.0/8"}, True),
    ],
)
async def test_a_proxy_in_the_way_is_told_without_its_password(look: Look, env: dict[str, str], spared: bool) -> None:
    text = told(await check_environment(look("", **env)), "warning")
    assert ("to that proxy" in text) is not spared
    assert "secret" not in text
    if env.get("no_proxy") == "intern,.local":
        assert "export no_proxy=intern,.local,localhost,127.0.0.1,::1" in text


# --- daemon, ports, clock -----------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def claimed() -> Iterator[Callable[..., None]]:
    """Return what makes this process the daemon, as far as others can tell."""
    with daemon.claim() as claim:

        def publish(url: str, **more: Any) -> None:
            values = {"pid": os.getpid(), "started": time.time(), "version": __version__, "grace": 1.0, **more}
            claim.publish(daemon.State(url=url, **values))

        yield publish


async def test_a_port_is_free_or_somebody_elses(look: Look, taken: int) -> None:
    free = free_port()
    (finding,) = await check_ports(look(f"[server]\nport = {free}\n"))
    assert (finding.state, finding.what) == ("ok", f"port {free} is free")
    (finding,) = await check_ports(look(f"[server]\nport = {taken}\n"))
    assert finding.state == "broken"
    assert f"port {taken} is taken by" in finding.what
    assert "server.port" in finding.remedy


async def test_another_oproxy_on_the_port_is_recognised(look: Look, start_proxy: Start) -> None:
    proxy = await start_proxy("")
    (finding,) = await check_ports(look(f"[server]\nport = {proxy.url.rpartition(':')[2]}\n"))
    assert (finding.state, f"another oproxy (process {os.getpid()})" in finding.what) == ("broken", True)


async def test_the_daemons_own_port_is_fine(look: Look, claimed: Callable[..., None], taken: int) -> None:
    claimed(f"http://127.0.0.1:{taken}")
    (finding,) = await check_ports(look(f"[server]\nport = {taken}\n"))
    assert (finding.state, finding.what) == ("ok", f"port {taken} is the daemon's")
    (finding,) = await check_ports(look(f"[server]\nport = {free_port()}\n"))
    assert (finding.state, "other settings" in finding.what) == ("note", True)


async def test_https_has_a_port_of_its_own(look: Look) -> None:
    port = free_port()
    found = await check_ports(look(f'[server]\nport = {port}\n[tls]\nmode = "mkcert"\nport = {port}\n'))
    assert "cannot have the same port" in told(found, "broken")
    found = await check_ports(look(f'[tls]\nmode = "mkcert"\nport = {port}\nonly = true\n'))
    assert [f.what for f in found] == [f"port {port} is free"]


async def test_a_daemon_is_missing_or_answers_or_does_not(look: Look, claimed: Callable[..., None], taken: int) -> None:
    (finding,) = await check_daemon(look())
    assert (finding.state, finding.what) == ("note", "none runs")
    claimed(f"http://127.0.0.1:{free_port()}")
    (finding,) = await check_daemon(look())
    assert (finding.state, "does not answer" in finding.what) == ("broken", True)


async def test_a_daemon_of_another_version_is_told(look: Look, claimed: Callable[..., None]) -> None:
    async def health(request: web.Request) -> web.Response:
        return web.json_response({"version": "9.9.9", "backends": []})

    app = web.Application()
    app.router.add_get("/v1/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        claimed(f"http://127.0.0.1:{runner.addresses[0][1]}")
        text = told(await check_daemon(look()))
    finally:
        await runner.cleanup()
    assert text.startswith("warning daemon: it is oproxy 9.9.9, and this command is")


async def test_a_clock_that_is_off_is_told(look: Look, ollama: FakeOllama, claimed: Callable[..., None]) -> None:
    scene = look(config_of(ollama))
    assert told(await check_clock(scene)) == ""

    def at(when: float) -> Scene:
        return msgspec.structs.replace(scene, wall=lambda: when)

    ahead = told(await check_clock(at(time.time() + 3600)))
    assert "ahead of that of the backend ollama" in ahead
    assert "behind the time of a file" in told(await check_clock(at(time.time() - 3600)))
    assert told(await check_clock(at(1000.0))).startswith("broken clock: it is years behind")
    claimed("http://127.0.0.1:9", started=time.time() + 7200)
    assert "since the daemon was started" in told(await check_clock(look()))


# --- backends -----------------------------------------------------------------------------------------------------


async def test_a_backend_that_answers_is_told_with_what_its_models_can(look: Look, ollama: FakeOllama) -> None:
    found = await check_backends(look(config_of(ollama, '[models]\ndefault = "smollm2-tools"\n')))
    text = told(found, "ok")
    assert "ok backend ollama: 0.34.4, " in text
    assert "smollm2-tools answers gpt-4o; tools yes, images no" in text
    assert "all-minilm answers text-embedding-3-small" in text
    assert "smollm2-tools is given 8192 tokens" in text
    assert told(found, "warning", "broken") == ""
    assert ollama.asked("/api/chat") == ollama.asked("/api/generate") == []


async def test_a_backend_that_is_away_is_a_warning_and_none_at_all_is_broken(look: Look, ollama: FakeOllama) -> None:
    dead = '[backends.lab]\ntype = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
    found = await check_backends(look(config_of(ollama, dead)))
    assert told(found, "warning").startswith("warning backend lab: The backend 'lab' is not reachable")
    assert told(found, "broken") == ""
    text = told(await check_backends(look(dead)), "broken")
    assert text.startswith("broken backends: none of them can answer")


async def test_a_backend_that_is_ourselves_is_told(look: Look) -> None:
    port = free_port()
    text = told(await check_backends(look(f"[server]\nport = {port}\n", OLLAMA_HOST=f"localhost:{port}")), "broken")
    assert "it is ourselves" in text
    assert "unset OLLAMA_HOST" in text


async def test_names_that_lead_nowhere_are_told(look: Look, ollama: FakeOllama) -> None:
    more = '[models]\ndefault = "gone"\n[models.aliases]\nmine = "nosuch"\nyours = "smollm2"\n'
    found = await check_backends(look(config_of(ollama, more)))
    assert "no backend has gone" in told(found, "broken")
    assert told(found, "warning").startswith("warning models: mine stands for nosuch, which no backend has")


async def test_windows_that_fight_are_told(look: Look, ollama: FakeOllama) -> None:
    small = config_of(ollama, '[models]\ndefault = "smollm2"\nnum_ctx = 1024\n')
    assert "1024 tokens are soon used up" in told(await check_backends(look(small)), "note")
    other = config_of(ollama, '[models]\ndefault = "smollm2"\nnum_ctx = 4096\n')
    found = told(await check_backends(look(other, OLLAMA_CONTEXT_LENGTH="2048")), "warning")
    assert "OLLAMA_CONTEXT_LENGTH is 2048" in found
    assert "config set models.num_ctx 2048" in found
    none = config_of(ollama, '[models]\ndefault = "smollm2"\nnum_ctx = 0\n')
    assert "Ollama's own window" in told(await check_backends(look(none)), "warning")
    much = config_of(ollama, '[models]\ndefault = "smollm2"\nnum_ctx = 999999\n')
    assert "which is what it gets" in told(await check_backends(look(much)), "note")


async def test_the_embedded_model_is_there_or_said_to_be_missing(look: Look) -> None:
    scene = look()
    text = told(await check_embedded(scene))
    assert "oproxy models pull smollm2-135m" in text or "pip install" in text
    file = scene.data / weights.MODELS_FOLDER / weights.SOURCES["smollm2-135m"].file
    file.parent.mkdir(parents=True)
    file.touch()
    assert "its model is not there" not in told(await check_embedded(scene))
    own = look('[backends.embedded]\ntype = "embedded"\nmodel_path = "/no/such.gguf"\n')
    assert "broken embedded: there is no /no/such.gguf" in told(await check_embedded(own))
    assert await check_embedded(look('[backends.ollama]\ntype = "ollama"\n')) == []


# --- files --------------------------------------------------------------------------------------------------------


def database(scene: Scene) -> Path:
    scene.data.mkdir(parents=True, exist_ok=True)
    Store.open("", folder=scene.data, on_change=lambda line: None).close()
    return scene.data / "oproxy.db"


def changes(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that could be changed below a folder."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


async def test_a_store_is_missing_or_whole_and_nothing_is_written_to_it(look: Look) -> None:
    scene = look()
    (finding,) = await check_store(scene)
    assert (finding.state, "not there yet" in finding.what) == ("ok", True)
    assert not scene.data.exists() or not list(scene.data.iterdir())
    file = database(scene)
    before = changes(scene.data)
    found = await check_store(scene)
    assert "it is whole" in told(found, "ok")
    assert told(found, "warning", "broken") == ""
    assert changes(scene.data) == before
    assert file.exists()


async def test_a_store_in_use_is_read_beside_its_writer(look: Look) -> None:
    scene = look()
    with closing(sqlite3.connect(database(scene))) as writer:
        writer.execute("CREATE TABLE more (x)")
        writer.commit()
        assert "it is whole" in told(await check_store(scene), "ok")


async def test_a_store_that_is_not_ours_or_newer_or_damaged_is_broken(look: Look) -> None:
    scene = look()
    file = database(scene)
    whole = file.read_bytes()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
        connection.commit()
    assert "a newer oproxy wrote it (schema 9999" in told(await check_store(scene), "broken")

    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert "damaged" in told(await check_store(scene), "broken")
    file.write_bytes(b"no database " * 100)
    assert "no database at all" in told(await check_store(scene), "broken")
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    assert "another program's database" in told(await check_store(scene), "broken")


async def test_what_was_put_aside_is_told(look: Look) -> None:
    scene = look()
    file = database(scene)
    file.with_name(f"{file.name}.corrupt-20260101-000000").write_bytes(b"x" * 1000)
    assert "a damaged one was put aside, 1.0 kB" in told(await check_store(scene), "note")


async def test_a_database_server_that_is_away_is_broken_and_its_password_not_told(look: Look) -> None:
    pytest.importorskip("psycopg")
    text = told(await check_store(look('[store]\nurl = "postgresql://me:secret@127.0.0.1:9/books"\n')), "broken")
    assert "it cannot be reached" in text
    assert "secret" not in text
    wrong = told(await check_config(look('[store]\nurl = "mysql://me:secret@x/y"\n')), "broken")
    assert "store.url: expected postgresql://USER@HOST/NAME, or nothing for SQLite" in wrong
    assert "secret" not in wrong


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
async def test_what_others_may_read_is_told(look: Look, tmp_path: Path) -> None:
    scene = look('[backends.ollama]\ntype = "ollama"\napi_key = "k"\n')
    file = database(scene)
    assert told(await check_permissions(scene)) == ""
    (tmp_path / "config.toml").chmod(0o644)
    file.chmod(0o640)
    scene.logs.mkdir(parents=True)
    scene.logs.chmod(0o777)
    text = told(await check_permissions(scene), "warning")
    assert f"chmod 600 {tmp_path}/config.toml" in text
    assert f"chmod 600 {file}" in text
    assert f"chmod 700 {scene.logs}" in text
    plain = look("[server]\nport = 1234\n")
    (tmp_path / "config.toml").chmod(0o644)
    assert "config.toml" not in told(await check_permissions(plain))


async def test_logs_above_their_caps_are_told(look: Look) -> None:
    scene = look("[logs]\nmax_size = 2000\nmax_total = 5000\n")
    (finding,) = await check_logs(scene)
    assert finding.state == "ok"
    scene.logs.mkdir(parents=True)
    (scene.logs / "daemon.log").write_bytes(b"x" * 4500)
    assert "should have been rotated" in told(await check_logs(scene), "warning")
    (scene.logs / "requests.jsonl").write_bytes(b"x" * 4500)
    assert told(await check_logs(scene), "warning").endswith("oproxy logs prune")


async def test_a_certificate_is_missing_or_wrong(look: Look, tmp_path: Path) -> None:
    (finding,) = await check_certificate(look())
    assert (finding.state, finding.what) == ("ok", "HTTPS is off")
    (finding,) = await check_certificate(look('[tls]\nmode = "mkcert"\n'))
    assert (finding.state, finding.remedy) == ("broken", "oproxy cert install")
    assert not certs.folder().exists()
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    (finding,) = await check_certificate(look(f'[tls]\nmode = "files"\ncert = "{bad}"\nkey = "{bad}"\n'))
    assert (finding.state, finding.where) == ("broken", str(bad))


async def test_a_certificate_says_how_long_it_is_good_and_whether_it_is_trusted(look: Look, tmp_path: Path) -> None:
    try:
        program = certs.find_mkcert()
    except certs.CertError as exc:
        pytest.skip(exc.message)
    os.environ["CAROOT"] = str(tmp_path / "ca")
    pair = (tmp_path / "c.pem", tmp_path / "k.pem")
    command = [program, "-cert-file", str(pair[0]), "-key-file", str(pair[1]), "localhost"]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    scene = look(f'[tls]\nmode = "files"\ncert = "{pair[0]}"\nkey = "{pair[1]}"\n')
    found = await check_certificate(scene)
    assert "days: localhost" in told(found, "ok")
    assert "does not trust it" in told(found, "warning")
    for days, want in ((810, "warning certificate: it expires in"), (1000, "broken certificate: it expired")):
        later = msgspec.structs.replace(scene, wall=partial(float, time.time() + days * 86400))
        assert want in told(await check_certificate(later))


# --- all of it ----------------------------------------------------------------------------------------------------


async def test_no_password_in_a_url_is_told(look: Look) -> None:
    env = {"OPENAI_BASE_URL": "http://me:secret@far.example/v1", "OPENAI_API_BASE": "http://me:secret@127.0.0.1:11435"}
    scene = look('[backends.lab]\ntype = "openai"\nurl = "http://me:secret@127.0.0.1:9/v1"\n', **env)
    found = await examine(CHECKS, scene)
    assert "far.example" in told(found)
    assert "secret" not in told(found, "ok", "note", "warning", "broken")


@pytest.mark.parametrize("ok", [True, False])
def test_a_certificate_that_broke_while_it_is_served_is_told(ok: bool) -> None:
    error = "" if ok else "the changed certificate is refused: key.pem cannot be read"
    health = {"https": {"ok": ok, "expires": 1, "error": error, "since": None if ok else time.time() - 60}}
    found = [each.what for each in failing_parts(health, "http://x")]
    told = [text for name, text in accounts(health) if name == "HTTPS"]
    assert [error in text and "for 1 min" in text for text in (*found, *told)] == ([] if ok else [True, True])


async def test_a_check_that_hangs_or_fails_does_not_keep_the_others_from_being_told(look: Look) -> None:
    async def hangs(scene: Scene) -> list[Finding]:
        await asyncio.sleep(60)
        return []

    async def fails(scene: Scene) -> list[Finding]:
        raise KeyError("x")

    async def denied(scene: Scene) -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/secret")

    checks = {"hangs": hangs, "fails": fails, "denied": denied, "config": check_config}
    found = await examine(checks, look(), patience=0.05)
    assert [(f.check, f.state) for f in found] == [
        ("hangs", "warning"),
        ("fails", "warning"),
        ("denied", "warning"),
        ("config", "ok"),
    ]
    assert "KeyError" in found[1].what
    assert found[2].where == "/secret"


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *args: str) -> Done:
    """Run `oproxy doctor …` in this process."""
    try:
        app(["doctor", *args], prog_name="oproxy")
    except SystemExit as exc:
        code = int(exc.code or 0)
    except Exception as exc:
        code = ended(exc)
    finally:
        logging.disable(logging.NOTSET)
    return Done(code, *capsys.readouterr())


def test_the_command_changes_nothing_and_says_by_its_status_that_something_is_broken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\nport = {free_port()}\n[backends.lab]\ntype = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
    )
    os.environ["OPROXY_CONFIG"] = str(config)
    before = changes(tmp_path)
    done = run(capsys)
    assert done.code == 1
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert lines[0] == ["STATE", "CHECK", "WHAT", "WHERE", "REMEDY"]
    assert {len(line) for line in lines} == {5}
    assert ["broken", "backends"] in [line[:2] for line in lines]
    assert done.err.startswith("1 broken")
    found = json.loads(run(capsys, "--json").out)
    assert found["counts"]["broken"] == 1
    assert {"check", "state", "what", "where", "remedy"} == set(found["findings"][0])
    assert changes(tmp_path) == before


class Screen(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def test_a_person_gets_a_table_with_the_remedy_below_its_fault() -> None:
    found = [
        Finding("port", "ok", "port 1 is free", "127.0.0.1:1", "not shown"),
        Finding("store", "broken", "it is [damaged]", "/a/b.db", "mend it"),
        Finding("store", "note", "beside it"),
    ]
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100"}
    with contextlib.redirect_stdout(Screen()) as screen:
        show(found)
    text = screen.getvalue()
    assert "\x1b[1;31mbroken" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "it is [damaged]  /a/b.db" in plain
    assert re.search(r"damaged.*\n +→ mend it", plain)
    assert "not shown" not in plain
    assert plain.count("store") == 1


async def test_what_is_large_is_checked_as_far_as_there_is_time(look: Look) -> None:
    with closing(sqlite3.connect(database(look()))) as connection:
        connection.execute("CREATE TABLE many (x)")
        connection.executemany("INSERT INTO many VALUES (?)", ((number,) for number in range(20_000)))
        assert checked(connection) == ("", True)
        assert checked(connection, patience=-1) == ("", False)


def test_the_last_line_counts() -> None:
    assert summary({"ok": 3, "note": 1, "warning": 0, "broken": 0}) == "Nothing is wrong."
    assert summary({"ok": 3, "note": 1, "warning": 1, "broken": 2}) == "2 broken, 1 warning."
    assert len(CHECKS) == 11
