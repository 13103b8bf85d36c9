"""What every test gets: an environment of its own, a clock that stands still, ids that count."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

from ollama_proxy.server.app import build_app
from ollama_proxy.server.malformed import Runner
from ollama_proxy.settings import load

# Whatever of this the developer has set must not change what a test sees, nor a test what the developer has.
FOREIGN = ("OPROXY_", "OLLAMA_", "OPENAI_", "ANTHROPIC_", "XDG_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")
LOOKS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TERM")
FOLDERS = ("CONFIG", "DATA", "STATE", "CACHE", "RUNTIME")


def pytest_configure(config: pytest.Config) -> None:
    """Hear Ctrl-C and the end of the terminal: a shell that starts a suite in the background (or nohup) has them
    ignored, and what is ignored is inherited by every program that a test starts, which could then not be interrupted.
    """
    for number in (signal.SIGINT, *(getattr(signal, name) for name in ("SIGQUIT", "SIGHUP") if hasattr(signal, name))):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Send reports between the processes of a run also where what a test logged is no UTF-8."""
    return writable((yield))


def writable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {writable(name): writable(each) for name, each in value.items()}
        case list() | tuple():
            return type(value)(map(writable, value))
    return value


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Say in one line, after all else, what was left out and why."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(each.longrepr[2]).removeprefix("Skipped: ") for each in skipped)
    if reasons:
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"Left out {len(skipped)} tests: {listed}")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path) -> Iterator[None]:
    """Give the test a home folder of its own and take the developer's settings out of its environment."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(FOREIGN) or name.lower() in PROXIES or name in LOOKS:
            del os.environ[name]
    home = tmp_path / "home"
    home.mkdir()
    os.environ |= {"HOME": str(home), "USERPROFILE": str(home), "TERM": "dumb"}
    for folder in FOLDERS:
        path = home / folder.lower()
        path.mkdir()
        os.environ[f"XDG_{folder}_{'DIR' if folder == 'RUNTIME' else 'HOME'}"] = str(path)
    yield
    os.environ.clear()
    os.environ.update(before)


# For commands as processes that have nothing to do with the ledger and the logs: a database takes its time to be made.
BOOKLESS = {"OPROXY_STORE_LEDGER": "false", "OPROXY_LOGS_REQUESTS": "false"}


# A busy machine must not fail a property: nothing is judged by how long it took.
settings.register_profile("oproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("oproxy")


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Ids:
    """Ids of 32 hex digits that count from 1."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"{self.given:032x}"


@pytest.fixture
def ids() -> Ids:
    return Ids()


class Proxy(NamedTuple):
    """A running application: its base URL (without /v1), itself, and the lines it has said."""

    url: str
    app: web.Application
    said: list[str]
    runner: Runner | None = None


class Start(Protocol):
    """Serves an application with a config (TOML). `books`: with ledger and logs, as by default."""

    def __call__(
        self, config: str, *, books: bool = False, control: str = "", env: Mapping[str, str] = {}
    ) -> Awaitable[Proxy]: ...


@pytest.fixture
async def start_proxy() -> AsyncIterator[Start]:
    """Return what serves an application with the given config (TOML) on a free port, until the test ends."""
    runners: list[web.AppRunner] = []

    async def start(config: str, *, books: bool = False, control: str = "", env: Mapping[str, str] = {}) -> Proxy:
        said: list[str] = []
        # Most tests have nothing to do with the ledger and the logs, and a database takes its time to be made.
        flags = {} if books else {"store.ledger": False, "logs.requests": False}
        app = build_app(load(env={}, flags=flags, text=config), say=said.append, env=env, control=control)
        runner = Runner(app, shutdown_timeout=0.1, lingering_time=0.5)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return Proxy(f"http://{host}:{port}", app, said, runner)

    yield start
    for runner in runners:
        await runner.cleanup()
