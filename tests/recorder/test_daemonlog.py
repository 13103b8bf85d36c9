"""The daemon's log as JSON lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.recorder.daemonlog import JsonHandler, request_id
from tests.conftest import Clock


@pytest.fixture
def handler(tmp_path: Path, clock: Clock) -> Iterator[JsonHandler]:
    made = JsonHandler(tmp_path / "logs", max_size=10**6, max_age=1e9, max_files=3, max_total=10**8, clock=clock)
    yield made
    made.close()


@pytest.fixture
def log(handler: JsonHandler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.daemonlog")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


def said(handler: JsonHandler, folder: Path) -> list[dict[str, Any]]:
    handler.flush()
    return [json.loads(line) for line in (folder / "logs" / "daemon.jsonl").read_text().splitlines()]


def test_a_line_says_when_who_what_and_during_which_request(
    log: logging.Logger, handler: JsonHandler, tmp_path: Path
) -> None:
    token = request_id.set("req_7")
    log.info("model %s\nis ready", "m")
    request_id.reset(token)
    log.warning("other", extra={"request_id": "req_8"})
    first, second = said(handler, tmp_path)
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "info", "logger": "tests.daemonlog", "message": "model m\nis ready", "request": "req_7",
    }  # fmt: skip
    assert (second["level"], second["request"]) == ("warning", "req_8")


def test_an_exception_is_told_with_where_it_came_from(
    log: logging.Logger, handler: JsonHandler, tmp_path: Path
) -> None:
    try:
        raise ValueError("sk-abcdefgh1234")
    except ValueError:
        log.exception("it failed")
    (line,) = said(handler, tmp_path)
    assert "ValueError: sk-[redacted]" in line["exception"]
    assert "Traceback" in line["exception"]


def test_an_exception_with_bytes_that_are_no_utf8_is_without_its_passwords(
    log: logging.Logger, handler: JsonHandler, tmp_path: Path
) -> None:
    try:
        raise ValueError("\udcff postgresql://me:c4n4ry@db/x")
    except ValueError:
        log.exception("it failed")
    (line,) = said(handler, tmp_path)
    assert "ValueError: \ufffd postgresql://(hidden)@db/x" in line["exception"]


def test_lines_wait_while_they_cannot_be_written_and_come_when_they_can(
    log: logging.Logger, handler: JsonHandler, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("in the way")
    log.info("early")
    handler.flush()
    state = handler.state
    assert (state.dropped, state.waiting) == (0, 1)
    assert "daemon.jsonl" in state.error
    (tmp_path / "logs").unlink()
    handler.close()
    assert (handler.state.dropped, handler.state.waiting) == (0, 0)
    assert "early" in (tmp_path / "logs" / "daemon.jsonl").read_text()


def test_a_file_moved_away_is_begun_anew(log: logging.Logger, handler: JsonHandler, tmp_path: Path) -> None:
    log.info("one")
    said(handler, tmp_path)
    (tmp_path / "logs" / "daemon.jsonl").rename(tmp_path / "logs" / "daemon.jsonl.1")
    handler.reopen()
    log.info("two")
    assert [line["message"] for line in said(handler, tmp_path)] == ["two"]
