"""The lock, the state file, starting aside and ending, with real processes and real locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_proxy import daemon

# A process that is the daemon as far as locks and state go, and ends on SIGTERM.
STAND_IN = """
import os, signal, sys, time
from ollama_proxy import daemon
ends = []
signal.signal(signal.SIGTERM, (lambda *_: ends.append(1)) if "stubborn" not in sys.argv else signal.SIG_IGN)
with daemon.claim() as claim:
    claim.publish(daemon.State(pid=os.getpid(), url="http://127.0.0.1:1", started=5.0, version="0", grace=0.0))
    print("ready", flush=True)
    while not ends:
        time.sleep(0.01)
"""


@contextmanager
def stand_in(*args: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", STAND_IN, *args], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def state(**changes: object) -> daemon.State:
    fields = {"pid": os.getpid(), "url": "http://127.0.0.1:9", "started": 1.0, "version": "0", "grace": 0.0}
    return daemon.State(**(fields | changes))  # type: ignore[arg-type]


def test_without_a_daemon_nothing_runs() -> None:
    assert daemon.running() is None


def test_a_claimed_and_published_daemon_is_seen_until_its_context_ends() -> None:
    with daemon.claim() as claim:
        assert daemon.running() is None
        claim.publish(state(url="http://127.0.0.1:7"))

        assert daemon.running() == state(url="http://127.0.0.1:7")
    assert daemon.running() is None


def test_a_second_daemon_is_refused_with_who_where_and_how_to_stop() -> None:
    with daemon.claim() as claim:
        claim.publish(state(pid=4711, url="http://127.0.0.1:7"))
        with pytest.raises(daemon.DaemonError) as refused, daemon.claim():
            pass
    for word in ("4711", "http://127.0.0.1:7", "oproxy stop"):
        assert word in refused.value.message


def test_a_second_daemon_is_refused_while_the_first_is_still_starting() -> None:
    with daemon.claim(), pytest.raises(daemon.DaemonError, match="just starting"), daemon.claim():
        pass


def test_a_killed_daemon_leaves_nothing_that_is_in_the_way() -> None:
    with stand_in() as child:
        seen = daemon.running()
        assert seen is not None
        assert seen.pid == child.pid
        child.send_signal(signal.SIGKILL)
        child.wait()

        assert daemon.running() is None
        with daemon.claim() as claim:
            assert daemon.running() is None
            claim.publish(state())
            assert daemon.running() is not None


def test_a_child_program_of_a_killed_daemon_does_not_keep_the_lock() -> None:
    with daemon.claim():
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with daemon.claim() as claim:
            claim.publish(state())
            assert daemon.running() is not None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_state_file_of_another_version_counts_as_no_state() -> None:
    with daemon.claim():
        (daemon.state_dir() / "daemon.json").write_text('{"pid": "soon"}')
        assert daemon.running() is None


def test_end_waits_until_the_daemon_has_gone() -> None:
    with stand_in() as child:
        found = daemon.running()
        assert found is not None
        for _ in daemon.end(found):
            pass

        assert daemon.running() is None
        assert child.wait(10) == 0


def test_force_ends_a_daemon_that_does_not_listen() -> None:
    with stand_in("stubborn") as child:
        found = daemon.running()
        assert found is not None
        steps = daemon.end(found)
        next(steps)
        assert child.poll() is None
        steps.close()  # type: ignore[attr-defined]
        for _ in daemon.end(found, force=True):
            pass

        assert child.wait(10) == -signal.SIGKILL


def test_ending_a_daemon_that_is_gone_already_is_no_error() -> None:
    with stand_in() as child:
        found = daemon.running()
        assert found is not None
        child.kill()
        child.wait()

        assert list(daemon.end(found)) == []


def test_a_daemon_that_dies_at_start_is_told_with_its_last_words() -> None:
    with pytest.raises(daemon.DaemonError) as failed:
        daemon.launch(["serve", "--no-such-flag"])

    assert "--no-such-flag" in failed.value.message
    assert str(daemon.log_path()) in failed.value.message


def test_only_what_this_start_wrote_counts_as_its_last_words() -> None:
    daemon.log_path().parent.mkdir(parents=True, exist_ok=True)
    daemon.log_path().write_text("yesterday's trouble\n")
    with pytest.raises(daemon.DaemonError) as failed:
        daemon.launch(["serve", "--no-such-flag"])

    assert "yesterday" not in failed.value.message


def test_a_detached_start_is_refused_while_a_daemon_runs() -> None:
    with daemon.claim() as claim:
        claim.publish(state(pid=4711))
        with pytest.raises(daemon.DaemonError, match="4711"):
            daemon.launch(["serve"])


def test_a_look_does_not_make_a_starting_daemon_give_up() -> None:
    # A looker holds the lock for a moment; a starter tries again for longer than that.
    lock = daemon.Lock(daemon.state_dir() / "daemon.lock")
    assert lock.take()
    starter = subprocess.Popen([sys.executable, "-c", STAND_IN], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(daemon.PAUSE)
        lock.close()
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    finally:
        starter.kill()
        starter.wait()
        assert starter.stdout is not None
        starter.stdout.close()


def test_the_state_folder_is_the_users_own(tmp_path: Path) -> None:
    with daemon.claim():
        pass
    assert daemon.state_dir().is_relative_to(tmp_path)
    assert daemon.state_dir().stat().st_mode & 0o077 == 0
