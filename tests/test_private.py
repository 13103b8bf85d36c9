"""Files for their owner alone: what somebody else may have put under a name is not written to."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_proxy import daemon
from ollama_proxy.account import Entry
from ollama_proxy.cli import logs_table, repl, resume
from ollama_proxy.configfile import write_atomically
from ollama_proxy.private import check_folder, check_link, make_folder, open_private, opener, replace_private
from ollama_proxy.recorder import Record, Recorder
from ollama_proxy.recorder.rotating import Caps, Rotating
from ollama_proxy.store.file import begin
from ollama_proxy.store.lock import locked
from tests.recorder.test_record import OPTIONS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, owners and modes as POSIX has them")

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    with open(tmp_path / "new", "wb", opener=opener) as file:
        file.write(b"x")
    assert mode(tmp_path / "new") == 0o600


def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o644)
    os.close(open_private(path, FLAGS))
    assert (mode(path), path.read_bytes()) == (0o600, b"")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_not_followed(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if there:
        target.write_bytes(b"precious")
    (tmp_path / "name").symlink_to(target)
    with pytest.raises(OSError, match="is a link") as caught:
        open_private(tmp_path / "name", FLAGS)
    assert caught.value.filename == str(tmp_path / "name")
    assert target.exists() == there
    assert not there or target.read_bytes() == b"precious"


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The path of a socket may be too long.
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("pipe", "folder", "socket"):
            for flags in (FLAGS, os.O_RDWR | os.O_CREAT):
                with pytest.raises(OSError, match=r"plain file|directory|device"):
                    open_private(tmp_path / name, flags)


def test_a_second_name_counts_where_others_may_give_it(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"x")
    os.link(path, tmp_path / "two")
    os.close(open_private(path, os.O_WRONLY))
    tmp_path.chmod(0o1777)
    with pytest.raises(OSError, match="second name"):
        open_private(path, FLAGS)
    assert path.read_bytes() == b"x"


def test_a_file_of_another_user_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(b"x")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(OSError, match="another user"):
        open_private(path, FLAGS)
    assert path.read_bytes() == b"x"


def test_a_folder_that_everybody_may_change_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    make_folder(folder)
    assert mode(folder) == 0o700
    folder.chmod(0o1777)
    check_folder(folder)
    folder.chmod(0o777)
    with pytest.raises(OSError, match=r"can be written by everybody\. Close it: chmod o-w '.*a b'"):
        make_folder(folder)


def test_a_folder_or_a_link_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    check_link(link)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if os.getuid() != 0:
        with pytest.raises(OSError, match="another user"):
            check_folder(tmp_path)
        with pytest.raises(OSError, match="another user"):
            check_link(link)
    # root's folders (/tmp, /var/log) are nobody's trap.
    check_folder(Path("/"))


def test_a_file_is_replaced_as_a_whole_and_a_link_in_its_place_too(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "name").symlink_to(target)
    replace_private(tmp_path / "name", b"new")
    assert (target.read_bytes(), (tmp_path / "name").read_bytes()) == (b"precious", b"new")
    assert mode(tmp_path / "name") == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_private(tmp_path / "folder", b"")
    assert not list(tmp_path.glob(".*"))


@contextmanager
def full_disk() -> Iterator[None]:
    """No byte can be written to any file."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [lambda path: replace_private(path, b"x"), lambda path: write_atomically(path, "x")])
def test_what_cannot_be_written_is_named_and_leaves_nothing_behind(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(OSError, match="File too large") as caught, full_disk():
        write(path)
    assert caught.value.filename == str(path)
    assert not list(tmp_path.glob("*config*"))


# --- the program's own files --------------------------------------------------------------------------------------

ENTRY = Entry(id="req_1", at=1000.0, endpoint="/v1/chat/completions", status=200)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


def test_a_link_in_the_logs_folder_is_not_written_through(tmp_path: Path, precious: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "requests.jsonl").symlink_to(precious)
    (folder / ".last.json").symlink_to(precious)
    recorder = Recorder(folder, **OPTIONS)
    recorder.record(Record(entry=ENTRY, method="POST", path="/", request=b"{}"))
    recorder.flush()
    assert "is a link" in recorder.state.error
    assert (recorder.state.waiting, recorder.state.dropped) == (1, 0)
    # Once the link is gone, all goes on, and nothing is lost.
    (folder / "requests.jsonl").unlink()
    recorder.record(Record(entry=ENTRY, method="POST", path="/", request=b"{}"))
    recorder.close()
    assert len((folder / "requests.jsonl").read_bytes().splitlines()) == 2
    logs_table.remember(folder / "requests.jsonl", [ENTRY])
    assert precious.read_bytes() == b"precious"


def test_a_link_that_comes_while_the_log_is_open_is_seen(tmp_path: Path, precious: Path) -> None:
    path = tmp_path / "logs" / "requests.jsonl"
    log = Rotating(path, Caps(max_size=10**6, max_age=1e9, max_files=5, max_total=10**7))
    assert log.write(b"{}\n")
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))
    assert not log.write(b"{}\n")
    assert "is a link" in log.error
    log.close()


def test_a_rotated_log_is_compressed_into_a_file_of_our_own(tmp_path: Path, precious: Path) -> None:
    path = tmp_path / "logs" / "requests.jsonl"
    log = Rotating(path, Caps(max_size=10, max_age=1e9, max_files=5, max_total=10**7), clock=lambda: 1000.0)
    log.write(b"{}\n" * 3)
    log.write(b"{}\n" * 3)
    (rotated,) = path.parent.glob("requests-*.jsonl")
    (path.parent / f"{rotated.name}.gz.part").symlink_to(precious)
    for _ in log.chores():
        pass
    log.close()
    assert precious.read_bytes() == b"precious"


def test_a_folder_for_logs_that_everybody_may_change_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "of-somebody-else").touch()
    folder.chmod(0o777)
    recorder = Recorder(folder, **OPTIONS)
    recorder.record(Record(entry=ENTRY, method="POST", path="/", request=b"{}"))
    recorder.close()
    assert "can be written by everybody" in recorder.state.error
    assert not (folder / "requests.jsonl").exists()


def test_a_second_name_in_a_folder_that_was_open_is_not_written(tmp_path: Path, precious: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    folder.chmod(0o1777)
    os.link(precious, folder / "requests.jsonl")
    for _ in range(2):
        # The second start must not trust what the first one has seen.
        recorder = Recorder(folder, **OPTIONS)
        recorder.record(Record(entry=ENTRY, method="POST", path="/", request=b"{}"))
        recorder.close()
        assert "has a second name" in recorder.state.error
        assert precious.read_bytes() == b"precious"
    (folder / "requests.jsonl").unlink()
    recorder = Recorder(folder, **OPTIONS)
    recorder.record(Record(entry=ENTRY, method="POST", path="/", request=b"{}"))
    recorder.close()
    assert (recorder.state.error, mode(folder)) == ("", 0o700)


def test_the_daemons_own_files_are_no_links(precious: Path) -> None:
    folder = daemon.state_dir()
    folder.mkdir(parents=True)
    for name in ("daemon.lock", "chat_history"):
        (folder / name).symlink_to(precious)
    with pytest.raises(OSError, match="is a link"), daemon.claim():
        pass
    with pytest.raises(OSError, match="is a link"):
        repl.history_file()
    (folder / "daemon.lock").unlink()
    for name in ("daemon.json", "chat_last.json"):
        (folder / name).symlink_to(precious)
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=1, url="", started=0.0, version="", grace=0.0, token="secret"))
        assert mode(folder / "daemon.json") == 0o600
    resume.remember("resp_1", "m")
    assert resume.remembered() == "resp_1"
    assert precious.read_bytes() == b"precious"


def test_the_database_and_its_lock_are_no_links(tmp_path: Path, precious: Path) -> None:
    for name in ("db", "db.lock"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        begin(tmp_path / "db")
    with pytest.raises(OSError, match="is a link"), locked(tmp_path / "db.lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
