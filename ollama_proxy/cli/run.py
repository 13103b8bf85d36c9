"""`oproxy run`: a command with an account of its own, which ends with it.

The command stays in our process group and has our terminal, so that Ctrl-C, Ctrl-Z and reading from the keyboard work
as if we were not there. Between making the key and removing it no signal ends us; what a terminal does not tell the
command itself is passed on to it. Never reads or changes what the command says.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import quote

import typer

from .. import daemon
from ..account import NANO
from .client import ApiError, connect, load_settings
from .failure import Failure
from .plain import tell
from .trust import ca_variables

__all__ = ["app"]

app = typer.Typer(add_completion=False)

# The key of a run whose end we did not live to see (kill -9, power cut) expires by itself after so many seconds; long
# enough for any command that is left running over a week-end.
LIFE = 7 * 86400
# How long the daemon may take to say what a run used, and to forget its key (seconds).
PATIENCE = 10.0
# Exit statuses as shells and `env`, `timeout` … have them: our own failure, cannot be executed, not found.
OURS, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
# What would end us and is meant for the command. SIGINT and SIGQUIT come from the keyboard, mostly.
NAMES = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
PASSED = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
KEYBOARD = ("SIGINT", "SIGQUIT", "SIGBREAK")


UNPRICED = "the models asked for have no list price, so --budget did not limit anything. --tokens limits any model."


class Deaf(NamedTuple):
    """A program that does not read OPENAI_BASE_URL: its name in `oproxy env --for`, and the file that it reads
    instead, below the folder in `home` (an environment variable) or `~`."""

    tool: str
    home: str
    folder: str
    file: str


# https://developers.openai.com/codex/config-reference, https://opencode.ai/docs/config/,
# https://docs.continue.dev/reference, https://docs.cline.bot/provider-config/openai-compatible
DEAF: Mapping[str, Deaf] = {
    "codex": Deaf("codex", "CODEX_HOME", ".codex", "config.toml"),
    "opencode": Deaf("opencode", "OPENCODE_CONFIG_DIR", ".config/opencode", "opencode.json"),
    "cn": Deaf("continue", "CONTINUE_GLOBAL_DIR", ".continue", "config.yaml"),
    "cline": Deaf("cline", "CLINE_DIR", ".cline/data", "globalState.json"),
}


class Account(NamedTuple):
    """The key of this run."""

    id: str
    key: str


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="The command and its arguments.")],
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            min=0,
            help="Dollars the command may spend, by the list prices of the models it asks for; then requests fail.",
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Tokens the command may use; then requests fail.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Let this model answer, whatever name is asked for.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TEXT", help="Mark the requests with this in the books.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell at the end what was used.")] = False,
) -> None:
    """Run a command that talks to us: `oproxy run -- python app.py`.

    Starts the daemon if none runs, makes a key for this run alone, sets OPENAI_BASE_URL, OPENAI_API_BASE and
    OPENAI_API_KEY, for Anthropic's programs ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN, for Ollama's OLLAMA_HOST and
    OLLAMA_API_KEY (and, where only HTTPS is served, what makes programs trust it), and says at the end what was used.
    The key ends with the command.

    The exit status is the command's, 128 + N if signal N ended it, 127 if there is no such command, 126 if it cannot
    be executed, and 125 if the run could not be prepared.
    """
    findable(command[0])
    state = started(quiet)
    if not quiet and (hint := program_hint(command[0], state.url, os.environ)):
        tell(f"oproxy: {hint}")
    signals = Signals()
    with signals:
        account = opened(wanted(command, budget=budget, tokens=tokens, model=model, tag=tag))
        status = OURS
        try:
            status = signals.status if signals.early else execute(command, environment(state, account), signals)
        finally:
            closed(account, quiet=quiet, budget=budget)
    raise typer.Exit(status)


def findable(name: str) -> None:
    """Refuse at once what no shell could run either, before anything is started for it."""
    if shutil.which(name) is not None:
        return
    # With a slash the file is meant that is there; without, only PATH counts.
    if os.path.dirname(name) and Path(name).exists():
        raise Failure(f"{name} cannot be executed.", code=NOT_EXECUTABLE)
    raise Failure(f"There is no command {name}.", code=NOT_FOUND)


def program_hint(command: str, url: str, env: Mapping[str, str]) -> str:
    """Return a warning where a program takes its server from a file of its own that does not name ours; "" else."""
    program = DEAF.get(os.path.basename(command).removesuffix(".exe").removesuffix(".cmd"))
    if program is None:
        return ""
    given = env.get(program.home)
    path = (Path(given) if given else Path.home() / program.folder) / program.file
    port = url.rpartition(":")[2]
    for place in (path, path.with_suffix(".jsonc"), Path(program.file)):
        try:
            if f":{port}" in place.read_text(encoding="utf-8", errors="replace"):
                return ""
        except OSError:
            continue
    return (
        f"{os.path.basename(command)} does not read OPENAI_BASE_URL, and {path} does not name this daemon, so its "
        f"requests may go elsewhere. `oproxy env --for {program.tool}` prints what belongs there."
    )


def started(quiet: bool) -> daemon.State:
    """Return the running daemon, started now if there was none."""
    if (state := daemon.running()) is not None:
        return state
    try:
        state = daemon.launch(["serve"])
    except daemon.DaemonError as exc:
        # Another run may have been faster by a moment.
        deadline = time.monotonic() + PATIENCE
        while daemon.held() and time.monotonic() < deadline:
            if (state := daemon.running()) is not None:
                return state
            time.sleep(0.05)
        raise Failure(exc.message, code=OURS) from exc
    if not quiet:
        tell(f"oproxy: started the daemon (process {state.pid}, {state.url}/v1); `oproxy stop` ends it.")
    return state


# --- the key ------------------------------------------------------------------------------------------------------


def wanted(
    command: Sequence[str], *, budget: float | None, tokens: int | None, model: str | None, tag: str | None
) -> dict[str, Any]:
    """Return the body that asks for the key."""
    limits: dict[str, Any] = {"money_per_month": budget, "tokens_per_month": tokens}
    if budget is not None:
        # Local models cost nothing: a budget of real cost would never fill.
        limits["count"] = "list"
    return {
        # Names are unique, and the same command may run several times at once.
        "name": f"run {os.path.basename(command[0])} {secrets.token_hex(3)}",
        "tags": [tag] if tag else [],
        "expires": int(time.time()) + LIFE,
        "budget": {name: value for name, value in limits.items() if value is not None},
        "model": model,
        "ephemeral": True,
    }


def opened(body: Mapping[str, Any]) -> Account:
    """Have the daemon make the key. Raises Failure."""

    async def ask() -> Account:
        async with connect(None) as api:
            if api.inside:
                raise ApiError("The daemon has just ended.")
            if body["model"] is not None:
                # A wrong name is better told now than by every request of the command.
                await api.get(f"/v1/models/{quote(body['model'], safe='')}")
            made, _ = await api.post("/oproxy/keys", body)
            return Account(made["id"], made["key"])

    try:
        return asyncio.run(ask())
    except ApiError as exc:
        raise Failure(f"No key could be made for this run: {exc.message}", code=OURS) from exc


def closed(account: Account, *, quiet: bool, budget: float | None) -> None:
    """Say what was used and remove the key. What goes wrong here is reported and does not change the exit status."""

    async def ask() -> None:
        async with asyncio.timeout(PATIENCE), connect(None) as api:
            if api.inside:
                raise ApiError("The daemon has ended in the meantime.")
            try:
                if not quiet:
                    usage = await api.get(f"/oproxy/keys/{account.id}/usage")
                    tell(f"oproxy: {told(usage)}")
                    if budget is not None and usage.get("requests") and not usage.get("listed"):
                        tell(f"oproxy: {UNPRICED}")
            finally:
                await api.delete(f"/oproxy/keys/{account.id}")

    try:
        asyncio.run(ask())
    except ApiError as exc:
        tell(f"oproxy: {exc.message} The key of this run expires by itself.")
    except TimeoutError:
        tell("oproxy: The daemon did not answer in time. The key of this run expires by itself.")
    except BrokenPipeError:
        # Nobody reads what we tell any more; the key was removed all the same.
        pass


def told(usage: Mapping[str, Any]) -> str:
    """Say what a run used, in one line."""
    requests, errors = usage.get("requests") or 0, usage.get("errors") or 0
    if not requests:
        return "no requests"
    prompt, completion, cached = (usage.get(name) or 0 for name in ("prompt", "completion", "cached"))
    parts = [f"{requests:,} {'request' if requests == 1 else 'requests'}"]
    parts.append(f"{prompt:,} + {completion:,} tokens" + (f" ({cached:,} cached)" if cached else ""))
    if usage.get("cost"):
        parts.append(f"cost {money(usage['cost'])}")
    parts.append("no list price" if usage.get("listed") is None else f"list price {money(usage['listed'])}")
    parts.append(f"{errors:,} {'error' if errors == 1 else 'errors'}" if errors else "no errors")
    if usage.get("slowest") is not None:
        slowest = usage["slowest"]
        parts.append(f"slowest {slowest:.1f} s" if slowest >= 1 else f"slowest {slowest * 1000:.0f} ms")
    return ", ".join(parts)


def money(nano: int) -> str:
    """Write nano-dollars: cents where there are dollars, else as many digits as say something."""
    dollars = nano / NANO
    return f"${dollars:,.2f}" if dollars >= 1 or not nano else f"${dollars:.6f}".rstrip("0").ljust(5, "0")


# --- the command --------------------------------------------------------------------------------------------------


class Signals:
    """As long as the context lasts, signals do not end us but reach the command.

    What a signal does to the command is not inherited: handlers end with `exec`, and what was ignored when we were
    started (nohup) stays ignored for both.
    """

    def __init__(self) -> None:
        self.early = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """The exit status where a signal came before the command was there."""
        return 128 + self.early

    def __enter__(self) -> Self:
        for number in PASSED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def follow(self, child: subprocess.Popen[bytes]) -> None:
        """From now on signals are for this child; one that came while it was being started is passed on at once."""
        self._child = child
        if self.early:
            child.send_signal(self.early)

    def _came(self, number: int, _: FrameType | None) -> None:
        if self._child is None:
            self.early = number
        elif not (signal.Signals(number).name in KEYBOARD and in_front()):
            # Windows knows no signal for another process but the one that ends it, which is what is left to pass on.
            self._child.send_signal(number)


def in_front() -> bool:
    """Return whether the terminal sends its Ctrl-C to our process group, so that the command gets it by itself."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def execute(command: Sequence[str], env: Mapping[str, str], signals: Signals) -> int:
    """Run the command to its end and return its exit status as a shell tells it."""
    try:
        child = subprocess.Popen(command, env=env)
    except FileNotFoundError:
        tell(f"oproxy: There is no command {command[0]}, or not what it is to be read by.")
        return NOT_FOUND
    except OSError as exc:
        tell(f"oproxy: {command[0]} cannot be executed: {exc.strerror}.")
        return NOT_EXECUTABLE
    signals.follow(child)
    code = child.wait()
    return 128 - code if code < 0 else code


def environment(state: daemon.State, account: Account) -> dict[str, str]:
    """Return the command's environment: ours, and how to reach us."""
    url = f"{state.url}/v1"
    env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url, "OPENAI_API_KEY": account.key}
    env |= {"ANTHROPIC_BASE_URL": state.url, "ANTHROPIC_AUTH_TOKEN": account.key}
    # Ollama's Python and JavaScript packages send the key; the `ollama` command itself has none to send.
    env |= {"OLLAMA_HOST": state.url, "OLLAMA_API_KEY": account.key}
    if "ANTHROPIC_API_KEY" in env:
        # A real one must not be sent here; where none is set, Claude Code would ask whether ours may be used.
        env["ANTHROPIC_API_KEY"] = account.key
    if state.url.startswith("https:"):
        env |= ca_variables(load_settings(None).settings.tls, needed=True)
    return env | unproxied(env, state.url)


def unproxied(env: Mapping[str, str], url: str) -> dict[str, str]:
    """Where a proxy is set, return what keeps requests to us from going there; else nothing."""
    if not any(env.get(name) for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())):
        return {}
    host = url.partition("://")[2].rpartition(":")[0].strip("[]")
    names = [name.strip() for name in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",") if name.strip()]
    value = ",".join([*names, *(name for name in dict.fromkeys((host, "localhost", "127.0.0.1")) if name not in names)])
    return {"no_proxy": value, "NO_PROXY": value}
