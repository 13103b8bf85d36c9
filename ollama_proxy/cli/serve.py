"""`oproxy serve`: the daemon in the foreground, or started aside with --detach.

What a person reads at start is printed here: where it listens, what to export, how the backends are. What is served
is `server/`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, Literal

import msgspec
import typer

from .. import __version__, certs, daemon, tokens
from ..backends.base import Backend, remaining_hint
from ..backends.embedded import CHAT_MODEL
from ..errors import OproxyError
from ..policy.address import is_loopback
from ..policy.backoff import Backoff, Presence
from ..policy.printable import block_text, line_text, log_text
from ..policy.redact import redact_foreign
from ..private import make_folder, opener
from ..protection import exposure
from ..recorder.daemonlog import STATE, JsonHandler
from ..recorder.place import folder_of
from ..recorder.record import DETACHED_SHARE
from ..server.accounting import announcer
from ..server.app import build_app
from ..server.health import survey
from ..server.keys import CLERK, ENGINE, HTTPS, RECORDER, RELOADER, STARTED, TASKS
from ..server.run import Ending, calm, run, serve_app
from ..server.tls import keep_fresh, open_https, sites_of
from ..settings import ConfigError, Loaded, Problem, Settings, load
from .failure import Failure
from .plain import Painted, echo, interactive, paint, painted, size, write

__all__ = ["serve"]

# Two files of this size at most are kept of a daemon's log (bytes): weeks of request lines.
LOG_SIZE = 5_000_000
# And of the size that [logs] max_total allows, one file may take one in so many.
LOG_SHARE = 2 * DETACHED_SHARE
# How many model names of a backend the banner shows.
NAMES = 6
# Characters of such a name.
WIDEST = 60

COLOURS = {"up": "green", "idle": "cyan", "down": "red"}


def serve(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Listen on this port.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Use this config file.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=URL]", help="Use only these backends; with a URL, one at that address."),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="How much to tell beside the requests.")
    ] = None,
    https: Annotated[
        bool, typer.Option("--https", help="Serve HTTPS too, with the certificate of `oproxy cert`.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch the built-in model (98 MB) if no other backend answers.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it in the background and return.")] = False,
    log_file: Annotated[Path | None, typer.Option(hidden=True, metavar="FILE")] = None,
) -> None:
    """Start the daemon: OpenAI's API on this machine.

    Prints what to export, then one line a request: time, method and path, model → backend, status, tokens, time to
    the first token and in all. SIGTERM or Ctrl-C ends it with grace, a second one at once. The config file is read
    again whenever it changes, or on SIGHUP.
    """
    if config is not None:
        os.environ["OPROXY_CONFIG"] = str(config.absolute())
    read = partial(settings_of, host=host, port=port, log_level=log_level, backends=backend or [], https=https)
    loaded = closed(read())
    if detach:
        flags = {"--host": host, "--port": port, "--log-level": log_level}
        args = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        args += [word for each in backend or [] for word in ("--backend", each)]
        detached(loaded, ["serve", *args, *["--https"] * https, *["--fetch"] * fetch])
        return
    # Whatever a daemon writes (keys' digests, prompts, logs) is this user's alone.
    os.umask(0o077)
    say = speaker(log_file, loaded.settings)
    with daemon.claim() as claim, structured_log(loaded):
        Foreground(loaded, read, say, claim, log_file, fetch=fetch).run()


def closed(loaded: Loaded) -> Loaded:
    """Return the settings, if they do not let other machines in without a key, unless that was written down. Raises
    Failure."""
    if why := exposure(loaded.settings):
        raise Failure(why)
    return loaded


def settings_of(
    *,
    host: str | None,
    port: int | None,
    log_level: str | None,
    backends: Sequence[str],
    https: bool = False,
    env: Mapping[str, str] = os.environ,
) -> Loaded:
    """Read the settings with the flags in force; raises ConfigError, also when the file is read again later."""
    flags: dict[str, Any] = {"server.host": host, "server.port": port, "server.log_level": log_level}
    if https and load(env=env, flags=flags).settings.tls.mode == "off":
        flags["tls.mode"] = "mkcert"
    if not backends:
        return load(env=env, flags=flags)
    known = load(env=env, flags=flags).settings.backends
    names = []
    for each in backends:
        name, _, url = each.partition("=")
        names.append(name)
        if url:
            flags[f"backends.{name}.url"] = url
            flags[f"backends.{name}.type"] = known[name].type if name in known else kind_of(name, url)
        elif name not in known:
            expected = f"one of {', '.join(known)}, or NAME=URL"
            raise ConfigError([Problem("--backend", "", expected, name)])
    loaded = load(env=env, flags=flags)
    chosen = {name: loaded.settings.backends[name] for name in names}
    return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(loaded.settings, backends=chosen))


def kind_of(name: str, url: str) -> str:
    """Tell what a backend given by URL alone speaks: Ollama by its name or its usual port, else OpenAI's API."""
    return "ollama" if name.startswith("ollama") or ":11434" in url else "openai"


def detached(loaded: Loaded, args: Sequence[str]) -> None:
    """Start the daemon as a process of its own and say where it is."""
    state = daemon.launch(args)
    echo(f"oproxy listens on {state.url}/v1 (process {state.pid}).")
    echo()
    for line in export_lines(state.url, keys=loaded.settings.auth.mode == "on"):
        echo(line)
    echo()
    echo(f"Log: {state.log}")
    echo("End it with `oproxy stop`.")


@contextmanager
def structured_log(loaded: Loaded) -> Iterator[None]:
    """Keep the daemon's log as JSON lines beside what is told to the person, for as long as the context lasts."""
    logs = loaded.settings.logs
    handler = JsonHandler(
        folder_of(logs.folder),
        max_size=logs.max_size,
        max_age=logs.max_age * 86400,
        max_files=logs.max_files,
        max_total=logs.max_total,
    )
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def speaker(log_file: Path | None, settings: Settings) -> Callable[[str], None]:
    """Set up logging; return what prints a line to the person, or to the log file of a daemon in the background."""
    level = settings.server.log_level
    if log_file is None:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(LogFormat("%(levelname)s %(name)s: %(message)s"))
        # Said as a line already.
        terminal.addFilter(lambda record: record.name != STATE)
        logging.basicConfig(level=level.upper(), handlers=[terminal])
        quiet_libraries()
        return Voice()
    make_folder(log_file.parent)
    size = min(LOG_SIZE, max(1, settings.logs.max_total // LOG_SHARE))
    handler = LogFile(log_file, maxBytes=size, backupCount=1, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LogFormat("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    quiet_libraries()
    # Said as a line below, which goes to both logs.
    logging.getLogger(STATE).disabled = True
    lines = logging.getLogger(LogFormat.LINES)
    lines.setLevel(logging.INFO)
    return partial(lines.info, "%s")


class LogFile(logging.handlers.RotatingFileHandler):
    """The log of a daemon in the background, for this user alone."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=opener)


class LogFormat(logging.Formatter):
    """The lines a person would see in the foreground stay as they are; the rest says when and who. What stands in a
    message is one line, whoever chose its words."""

    LINES = "oproxy.lines"

    def format(self, record: logging.LogRecord) -> str:
        return line_text(record.getMessage(), None) if record.name == self.LINES else super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = log_text(redact_foreign(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        # Indented, so that no line of it can be taken for one of the log.
        return indent(block_text(redact_foreign(super().formatException(ei))), "    ")

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return indent(block_text(redact_foreign(super().formatStack(stack_info))), "    ")


def quiet_libraries() -> None:
    """A client that hangs up or sends nonsense is no error of ours, so the server library need not report it. Nor is
    a log line that cannot be written reported where it could not be written."""
    logging.raiseExceptions = False
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A server that goes away breaks every connection in the pool, each with a traceback; the ledger says it in a line.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


# The disk is full, the reader has gone, the stream is closed, or there is none.
UNWRITABLE = (OSError, ValueError, AttributeError)
# Lines of requests that end within so many seconds are written to the terminal in one go.
TOGETHER = 0.02


class Voice:
    """Prints lines to stdout, until nobody is there to read them: then the daemon goes on in silence.

    While the daemon serves, the lines of a moment are written together: a write for each would cost a busy daemon
    more than reading its requests.
    """

    def __init__(self) -> None:
        self._silent = False
        self._waiting = False

    def __call__(self, text: str) -> None:
        if self._silent:
            return
        try:
            write(painted(text, "\n"), flush=False)
        except UNWRITABLE:
            self._silent = True
            return
        if self._waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            self._waiting = True
            loop.call_later(TOGETHER, self._flush)

    def _flush(self) -> None:
        self._waiting = False
        try:
            write("")
        except UNWRITABLE:
            self._silent = True


class Foreground:
    """A daemon in this process, from its settings to its end."""

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        say: Callable[[str], None],
        claim: daemon.Claim,
        log_file: Path | None,
        *,
        fetch: bool,
    ) -> None:
        self._loaded, self._say, self._claim, self._log_file, self._fetch = loaded, say, claim, log_file, fetch
        self._token = secrets.token_urlsafe(32)
        self._app = build_app(loaded, say=say, reload=read, control=self._token)
        self._https = open_https(
            loaded.settings, say=announcer(say), tls=lambda: self._app[ENGINE].snapshot.settings.tls
        )
        if self._https is not None:
            self._app[HTTPS] = self._https
        self._ending = Ending()
        self._state_file = Presence(Backoff(1.0, 10.0))
        self._terminal = interactive()

    def run(self) -> None:
        """Serve until told to end. Raises DaemonError when an address cannot be had."""
        run(self._serve)

    async def _serve(self) -> None:
        server = self._loaded.settings.server
        if self._https is not None:
            self._app[TASKS].start(keep_fresh(self._https), name="https")
        if self._app[CLERK].gate.counts_tokens:
            # Building the vocabulary's tables stops all threads for some tenths of a second: no request waits for it.
            tokens.count("")
        calm()
        await serve_app(
            self._app,
            sites=sites_of(self._loaded.settings, self._https),
            keepalive=server.keepalive,
            grace=lambda: self._app[ENGINE].snapshot.settings.server.grace,
            ready=self._ready,
            leaving=self._leaving,
            reload=self._hangup,
            ending=self._ending,
        )

    def _hangup(self) -> None:
        """SIGHUP: read the config anew; but if it comes because our terminal was closed, end."""
        if self._terminal and not interactive():
            self._ending.ask()
        else:
            self._app[RELOADER].reload_now()
            if (recorder := self._app.get(RECORDER)) is not None:
                recorder.reopen()
            for handler in logging.getLogger().handlers:
                if isinstance(handler, JsonHandler):
                    handler.reopen()

    def _leaving(self, busy: int) -> None:
        grace = self._app[ENGINE].snapshot.settings.server.grace
        answers = "answer is" if busy == 1 else "answers are"
        self._say(f"Ending: {busy} {answers} still running and may take {grace:g} s. Once more ends at once.")

    async def _ready(self, urls: Sequence[str]) -> None:
        """Tell the other commands, and the person, that we listen; then how the backends are, as soon as they say."""
        state = daemon.State(
            pid=os.getpid(),
            url=urls[0],
            started=self._app[STARTED]["at"],
            version=__version__,
            grace=self._loaded.settings.server.grace,
            config=str(self._loaded.path) if self._loaded.path.exists() else None,
            log=str(self._log_file) if self._log_file else None,
            token=self._token,
        )
        if not self._publish(state):
            self._app[TASKS].start(self._publish_later(state), name="state-file")
        places = [part for url in urls for part in (" and ", self._paint(f"{url}/v1", bold=True))]
        self._say(painted(f"oproxy {__version__} listens on ", *places[1:]))
        settings = self._loaded.settings
        if settings.auth.mode == "off" and not is_loopback(settings.server.host):
            self._say(self._paint("Other machines can reach this address, and no key is asked of them.", fg="yellow"))
        ca = certs.ca_file() if self._https is not None and self._https.mode == "mkcert" else None
        keys = settings.auth.mode == "on"
        for line in ("", *export_lines(urls[0], keys=keys), *(ca_lines(ca) if ca else ()), ""):
            self._say(line)
        health = await survey(self._app)
        if self._fetch and not any(b["state"] == "up" and b["type"] != "embedded" for b in health["backends"]):
            await self._fetch_builtin()
            health = await survey(self._app)
        self._backends(health["backends"])

    def _publish(self, state: daemon.State) -> bool:
        """Tell the other commands where we are; return whether that could be written. Says what cannot, once."""
        try:
            self._claim.publish(state)
        except OSError as exc:
            if self._state_file.lost(str(exc), time.time()):
                self._say(
                    f"The state file cannot be written ({daemon.cause(exc)}). The daemon serves all the same, but "
                    "`oproxy status` and `oproxy stop` do not find it until it can."
                )
            return False
        if self._state_file.back():
            self._say("The state file is written; `oproxy status` and `oproxy stop` find the daemon.")
        return True

    async def _publish_later(self, state: daemon.State) -> None:
        """Try until it can be written."""
        while True:
            await asyncio.sleep(self._state_file.pause(time.time()))
            if self._publish(state):
                return

    async def _fetch_builtin(self) -> None:
        """Get the built-in model, so that a machine with no model server at all can answer."""
        fleet = self._app[ENGINE].fleet
        for member in fleet.members.values():
            if not member.backend.pulls(CHAT_MODEL) or member.backend.kind != "embedded":
                continue
            if any(info.id == CHAT_MODEL for info in member.models):
                return
            self._say("No model server answers; fetching the built-in model …")
            try:
                await self._pull(member.backend)
            except OproxyError as exc:
                self._say(f"It could not be fetched: {exc.message}")
            await fleet.listed(fresh=True)

    async def _pull(self, backend: Backend) -> None:
        told = 0.0
        async for step in backend.pull(CHAT_MODEL):
            if step.total and step.completed is not None and time.monotonic() - told > 1:
                told = time.monotonic()
                self._say(f"  {size(step.completed)} of {size(step.total)}")

    def _backends(self, rows: Sequence[dict[str, Any]]) -> None:
        members = self._app[ENGINE].fleet.members
        self._say("Backends:")
        for row in rows:
            state = self._paint(f"{row['state']:<5}", fg=COLOURS.get(row["state"]))
            names = [line_text(info.id.removesuffix(":latest"), WIDEST) for info in members[row["name"]].models]
            shown = ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
            words = " ".join(filter(None, (row["version"], row["detail"])))
            about = line_text("; ".join(filter(None, (words, shown))), None)
            self._say(painted(f"  {row['name']:<10} ", state, f" {about}"))
        if not any(row["state"] == "up" or row["models"] for row in rows):
            self._say("")
            self._say("No backend answers yet. Requests will fail until one does; nothing needs to be started again.")
            for row in rows:
                if hint := remaining_hint(row["detail"], members[row["name"]].backend.hint):
                    self._say(f"  {row['name']}: {hint}")
        self._say("")

    def _paint(self, text: str, **style: Any) -> Painted:
        """Colour text for a person's terminal, never for the log file."""
        return paint(text, **style) if self._log_file is None else painted(text)


def export_lines(url: str, *, keys: bool = False) -> tuple[str, str]:
    """Return what a shell must be told for any OpenAI client to come here; `keys`: whether one is asked for."""
    key = "KEY" if keys else "any"
    note = "  # one of `oproxy keys create NAME`" if keys else ""
    if os.name == "nt":
        return f'    $env:OPENAI_BASE_URL = "{url}/v1"', f'    $env:OPENAI_API_KEY = "{key}"{note}'
    return f"    export OPENAI_BASE_URL={url}/v1", f"    export OPENAI_API_KEY={key}{note}"


def ca_lines(ca: Path) -> tuple[str, str]:
    """Return what a shell must be told for clients that do not ask the system whom to trust."""
    node, python = "Node, over HTTPS", "Python, over HTTPS; it then trusts no other"
    if os.name == "nt":
        return f'    $env:NODE_EXTRA_CA_CERTS = "{ca}"  # {node}', f'    $env:SSL_CERT_FILE = "{ca}"  # {python}'
    path = shlex.quote(str(ca))
    return f"    export NODE_EXTRA_CA_CERTS={path}  # {node}", f"    export SSL_CERT_FILE={path}  # {python}"
