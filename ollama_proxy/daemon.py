"""The daemon as the rest of the machine sees it: one at a time, where it is, how it is started aside and ended.

A lock file says whether one runs: the operating system lets go of the lock when the process ends, however it ends, so
a crash leaves nothing to clean up. Beside it lies a small JSON file that says who and where. Never serves a request
(`server/run.py` does) and never talks HTTP.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
import platformdirs

from .private import make_folder, opener, replace_private

if sys.platform == "win32":
    import msvcrt

    DETACHED = subprocess.DETACHED_PROCESS
else:
    import fcntl

    DETACHED = 0

__all__ = [
    "Claim",
    "DaemonError",
    "State",
    "absence",
    "cause",
    "claim",
    "end",
    "launch",
    "log_path",
    "running",
    "state_dir",
]

# Whoever only looks holds the lock for microseconds; one who starts must not lose against a look.
TRIES = 5
PAUSE = 0.05


class DaemonError(Exception):
    """The daemon cannot be started or ended. `message` is for the person and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a running daemon tells about itself. `url` is without /v1; `started` epoch seconds; `grace` seconds; `token`
    lets this user's own commands in as administrators."""

    pid: int
    url: str
    started: float
    version: str
    grace: float
    config: str | None = None
    log: str | None = None
    token: str = ""


def state_dir() -> Path:
    """Return the folder of the lock and the state file. XDG_STATE_HOME moves it (Linux)."""
    return Path(platformdirs.user_state_path("oproxy"))


def log_path() -> Path:
    """Return the log file of a daemon that was started aside."""
    return Path(platformdirs.user_log_path("oproxy")) / "daemon.log"


def state_file() -> Path:
    return state_dir() / "daemon.json"


class Lock:
    """An exclusive lock on a file, held until closed or until the process ends. Not inherited by child programs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Take the lock if it is free; return whether it is ours now."""
        make_folder(self._path.parent)
        file = open(self._path, "ab", opener=opener)  # noqa: SIM115
        try:
            if sys.platform == "win32":
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def held() -> bool:
    """Return whether a daemon holds the lock (it may still be starting)."""
    lock = Lock(state_dir() / "daemon.lock")
    free = lock.take()
    lock.close()
    return not free


def running() -> State | None:
    """Return the running daemon's state; None if none runs or it does not listen yet."""
    try:
        data = state_file().read_bytes()
    except FileNotFoundError:
        return None
    if not held():
        return None
    try:
        return msgspec.json.decode(data, type=State)
    except msgspec.DecodeError:
        # A newer or an older version wrote it; it cannot be talked to, only replaced.
        return None


class Claim:
    """The right to be the daemon. `publish` tells the others where it listens."""

    def publish(self, state: State) -> None:
        """Write the state in one step, so that a reader sees all of it or nothing."""
        # The token is for this user alone.
        replace_private(state_file(), msgspec.json.encode(state))


@contextmanager
def claim() -> Iterator[Claim]:
    """Hold the lock for as long as the context lasts. Raises DaemonError when another daemon runs."""
    lock = Lock(state_dir() / "daemon.lock")
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        if lock.take():
            break
    else:
        raise DaemonError(refusal(running()))
    try:
        # What a crashed daemon left behind would point at nothing, or at somebody else's port.
        state_file().unlink(missing_ok=True)
        yield Claim()
    finally:
        state_file().unlink(missing_ok=True)
        lock.close()


def refusal(other: State | None) -> str:
    """Say who is in the way, and how to get past."""
    if other is None:
        return "Another oproxy daemon is just starting. `oproxy status` shows it; `oproxy stop` ends it."
    return (
        f"A daemon already runs: process {other.pid} on {other.url}. Use that one, or end it first with `oproxy stop`."
    )


def end(state: State, *, force: bool = False) -> Iterator[float]:
    """Ask the daemon to end (`force`: at once), and yield the seconds waited, ten times a second, until it has gone.

    Raises DaemonError when it is still there well after its grace time.
    """
    hard = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
    start = time.monotonic()
    try:
        os.kill(state.pid, hard if force else signal.SIGTERM)
    except ProcessLookupError:
        return
    # After its grace time the daemon cuts the remaining answers and closes its backends, which takes moments.
    patience = state.grace + 10
    while (current := running()) is not None and current.pid == state.pid:
        waited = time.monotonic() - start
        if waited > patience:
            raise DaemonError(
                f"Process {state.pid} has not ended after {waited:.0f} s. `oproxy stop --force` kills it."
            )
        yield waited
        time.sleep(0.1)


def launch(args: Sequence[str], *, patience: float = 30.0) -> State:
    """Start `oproxy ARGS` as a process of its own, wait until it listens, and return its state.

    Raises DaemonError with the last lines of its log when it ends instead.
    """
    if (other := running()) is not None:
        raise DaemonError(refusal(other))
    path = log_path()
    try:
        probe(state_dir())
        probe(path.parent)
    except OSError as exc:
        raise DaemonError(
            f"The daemon cannot be started in the background: {cause(exc)}. It has to write its state and its log "
            "there. `oproxy serve` serves without them."
        ) from exc
    command = [sys.executable, "-m", "ollama_proxy", *args, "--log-file", str(path)]
    with open(path, "ab", opener=opener) as log:
        begin = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            creationflags=DETACHED,
        )
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        state = running()
        if state is not None and state.pid == child.pid:
            # The child outlives us on purpose, so nobody is left to wait for it.
            child.returncode = 0
            return state
        if child.poll() is not None:
            raise DaemonError(f"The daemon ended at once. Its last words (from {path}):\n{last_lines(path, begin)}")
        time.sleep(0.02)
    child.terminate()
    raise DaemonError(f"The daemon did not listen within {patience:.0f} s. See {path}.")


def probe(folder: Path) -> None:
    """See whether a file in a folder can be written. Raises OSError."""
    make_folder(folder)
    path = folder / f".probe-{os.getpid()}"
    try:
        with open(path, "wb", opener=opener) as file:
            # A full disk still takes an empty file.
            file.write(b"\0" * 4096)
    finally:
        with suppress(OSError):
            path.unlink()


def cause(exc: OSError) -> str:
    """Return what is wrong with which file."""
    return f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else exc.strerror or str(exc)


def absence() -> str:
    """Say what is known where no daemon has told where it is."""
    if not held():
        return "No daemon is running. Start one with `oproxy serve`."
    return (
        f"A daemon runs, but {state_file()} does not tell where: it is just starting, or its disk is full. "
        "End it where it was started (Ctrl-C), or make room: it then writes the file by itself."
    )


def last_lines(path: Path, begin: int, count: int = 10) -> str:
    """Return the last lines that were written to the log after byte `begin`."""
    with path.open("rb") as log:
        # The log may have been rotated in between; then all of it is new.
        log.seek(begin if begin <= path.stat().st_size else 0)
        lines = deque(log.read().decode(errors="replace").splitlines(), maxlen=count)
    return "\n".join(f"  {line}" for line in lines) or "  (nothing)"
