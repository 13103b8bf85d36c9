"""The .env file of keys while we serve: whatever becomes of it, nobody is let in by it or locked out by accident."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ollama_proxy.policy.credentials import cut_short, env_keys, named_keys
from ollama_proxy.server.key_file import KeyFile

TEXT = "# keys\nOTHER=x\nexport OPROXY_API_KEYS='alice=sk-alice-12345,bob=sk-bob-67890'\n"
KEYS = {"alice": "sk-alice-12345", "bob": "sk-bob-67890"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text(TEXT)
    return tmp_path / ".env"


def keys(file: KeyFile, path: Path | str) -> dict[str, str]:
    return named_keys(file.read(str(path)))


def test_a_file_cut_at_any_byte_makes_no_new_key_and_takes_none_by_accident(path: Path) -> None:
    for end in range(len(TEXT) + 1):
        path.write_text(TEXT)
        file = KeyFile()
        assert keys(file, path) == KEYS
        path.write_text(TEXT[:end])
        found = keys(file, path)
        assert found.items() <= KEYS.items(), TEXT[:end]
        # Where it ends after a whole key, that may be all that somebody wanted.
        assert found == KEYS or TEXT[:end].rstrip(",").endswith("sk-alice-12345"), TEXT[:end]


def test_what_cannot_be_read_leaves_the_keys_and_says_so_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    file = KeyFile()
    assert keys(file, path) == KEYS
    path.unlink()
    assert [keys(file, path), keys(file, path)] == [KEYS, KEYS]
    assert caplog.messages == [
        f"{path}: it cannot be read (No such file or directory); the keys of it that are in force stay."
    ]
    assert file.problem == caplog.messages[0]
    path.mkdir()
    assert keys(file, path) == KEYS
    path.rmdir()
    path.write_bytes(b"OPROXY_API_KEYS=a=\xff\n")
    assert keys(file, path) == KEYS
    path.write_text("")
    assert keys(file, path) == KEYS
    assert "sk-" not in caplog.text
    path.write_text("OPROXY_API_KEYS=carol=sk-carol\n")
    assert (keys(file, path), file.problem) == ({"carol": "sk-carol"}, "")


def test_what_is_written_is_done(path: Path) -> None:
    file = KeyFile()
    keys(file, path)
    path.write_text("OPROXY_API_KEYS=bob=sk-bob-67890\n")
    assert keys(file, path) == {"bob": "sk-bob-67890"}
    path.write_text("OPROXY_API_KEYS=\n")
    assert (keys(file, path), file.problem) == ({}, "")


def test_another_file_and_none_are_decisions_too(path: Path, tmp_path: Path) -> None:
    file = KeyFile()
    assert keys(file, path) == KEYS
    assert keys(file, tmp_path / "none") == {}
    assert file.problem.endswith("there are no keys of it.")
    assert (keys(file, ""), file.problem) == ({}, "")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", None),
        ("OPROXY_API_KEY=x", None),
        ("OPROXY_API_KEYS", None),
        ("OPROXY_API_KEYS=", None),
        ("OPROXY_API_KEYS='", None),
        ("OPROXY_API_KEYS=\n", ""),
        ('  export OPROXY_API_KEYS = "a=1"  \r\n', "a=1"),
        ("OPROXY_API_KEYS=a=1\nOPROXY_API_KEYS=b=2\n", "a=1,b=2"),
    ],
)
def test_what_a_file_says_of_keys(text: str, want: str | None) -> None:
    assert env_keys(text) == want


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [("a=12", "a=1", True), ("a=12,b=3", "a=12,b", True), ("a=12,b=3", "a=12", False), ("a=12,b=3", "a=12,", False),
     ("a=12", "", False), ("a=12", "a=12", False), ("a=12", "b", False), ("", "a", False)],
)  # fmt: skip
def test_keys_are_cut_short_within_one(before: str, after: str, want: bool) -> None:
    assert cut_short(before, after) is want
