"""The daemon's log as JSON lines: `daemon.jsonl`, rotated and capped like the requests' log, written by its own thread.

A line is `{"at": …, "level": …, "logger": …, "message": …, "request": …, "exception": …}`; `request` is the id of the
request during which it was said. Keys are taken out, whoever said them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import msgspec
from msgspec import structs

from ..policy.printable import json_text, utf8_text
from ..policy.redact import redact_foreign, redact_json
from .pump import Pump
from .record import DAEMON_SHARE, DETACHED_SHARE, State, iso
from .rotating import Caps, Rotating
from .waiting import Waiting

__all__ = ["DAEMON_FILE", "STATE", "JsonFormatter", "JsonHandler", "Said", "request_id"]

log = logging.getLogger(__name__)

DAEMON_FILE = "daemon.jsonl"
# The logger of lines that the person at the terminal is told anyway: that a part of the daemon is away, or back.
STATE = "oproxy.state"

# The request that is being answered; set it where a request begins.
request_id: ContextVar[str] = ContextVar("oproxy_request_id", default="")


class Said(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of the daemon's log."""

    at: str
    level: str
    logger: str
    message: str
    request: str = ""
    exception: str = ""


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON. `extra={"request_id": …}` wins over the context's id."""

    def format(self, record: logging.LogRecord) -> str:
        exception = ""
        if record.exc_info:
            exception = self.formatException(record.exc_info)
        if record.stack_info:
            exception = "\n".join(filter(None, (exception, record.stack_info)))
        said = Said(
            at=iso(record.created),
            level=record.levelname.lower(),
            logger=record.name,
            message=redact_foreign(record.getMessage()),
            request=str(getattr(record, "request_id", "") or request_id.get()),
            exception=redact_foreign(exception),
        )
        try:
            line = msgspec.json.encode(said)
        except UnicodeEncodeError:
            # Bytes from outside that are no UTF-8.
            line = msgspec.json.encode(
                structs.replace(said, message=utf8_text(said.message), exception=utf8_text(said.exception))
            )
        return json_text(redact_json(line).decode())


class JsonHandler(logging.Handler):
    """Never waits for the disk; what does not fit is dropped and counted. Options as the Recorder's."""

    def __init__(
        self,
        folder: Path,
        *,
        max_size: int,
        max_age: float,
        max_files: int,
        max_total: int,
        buffer: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._moved = False
        caps = Caps(max_size=max_size, max_age=max_age, max_files=max_files, max_total=max_total)
        self._file = Rotating(Path(folder) / DAEMON_FILE, caps, clock)
        self._waiting = Waiting(self._file, buffer=buffer, say=log.warning, clock=clock)
        self._pump: Pump[str] = Pump(
            self._write, buffer=buffer, name="daemon log", chores=self._file.chores, pause=self._waiting.pause
        )
        self.configure(max_size=max_size, max_age=max_age, max_files=max_files, max_total=max_total, buffer=buffer)

    def configure(self, *, max_size: int, max_age: float, max_files: int, max_total: int, buffer: int = 1000) -> None:
        """Go by new settings from the next line on."""
        share = max(1, max_total // DAEMON_SHARE - max_total // DETACHED_SHARE)
        self._file.caps = Caps(
            max_size=min(max_size, share), max_age=max_age, max_files=max_files, max_total=share
        )  # fmt: skip
        self._pump.buffer = self._waiting.buffer = buffer

    @property
    def state(self) -> State:
        waiting = self._waiting
        dropped = self._pump.dropped + waiting.lost
        return State(waiting.written, dropped, self._pump.waiting + waiting.count, self._file.error)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._pump.put(line, len(line))

    def reopen(self) -> None:
        """Write to the path anew: somebody has moved the file away."""
        self._moved = True

    def flush(self) -> None:
        self._pump.flush()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._pump.close()
        self._waiting.write((), last=True)
        self._file.close()
        super().close()

    def _write(self, batch: Iterator[str]) -> None:
        if self._moved:
            self._moved = False
            self._file.reopen()
        self._waiting.write(f"{line}\n".encode("utf-8", "replace") for line in batch)
