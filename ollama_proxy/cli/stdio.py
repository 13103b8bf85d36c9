"""stdin, stdout and stderr of every command: set up once, and finished once, in `app.main`.

Whatever the locale, the console or the pipe: a character that cannot be written is replaced, a file or a pipe gets
UTF-8, and a stream that is closed or missing (`pythonw`, `>&-`) takes everything and keeps nothing. So printing raises
nothing but OSError, where the disk is full or the reader has gone.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from ..policy.printable import block_text
from ..policy.redact import redact_text

__all__ = ["finish", "set_up"]

# Characters we print ourselves, in ASCII. Anything else becomes a question mark.
ASCII = {"→": "->", "←": "<-", "…": "...", "─": "-", "━": "-", "│": "|", "•": "*", "█": "#"}
BLOCKS = dict.fromkeys("▁▂▃▄▅▆▇", "#")
# The name of the error handler of codecs (https://docs.python.org/3/library/codecs.html#error-handlers).
HANDLER = "oproxy-replace"


def set_up(env: Mapping[str, str] = os.environ) -> None:
    """Make the three streams safe to use, and tracebacks safe to print."""
    codecs.register_error(HANDLER, _replaced)
    _hold_standard_files()
    sys.stdin = sys.stdin if _usable(sys.stdin) else open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout if _usable(sys.stdout) else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr if _usable(sys.stderr) else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        _reconfigure(stream, HANDLER, env)
    _reconfigure(sys.stdin, "replace", env)
    sys.excepthook = print_traceback


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or BLOCKS.get(c, "?") for c in part), error.end


def _usable(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed


def _hold_standard_files() -> None:
    """Keep 0, 1 and 2 from being given to a socket or a database, which would then get what is printed."""
    if sys.platform == "win32":
        return
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
        os.set_inheritable(number, True)


def _reconfigure(stream: Any, errors: str, env: Mapping[str, str]) -> None:
    """UTF-8 for files and pipes, unless PYTHONIOENCODING says otherwise; a terminal keeps its own encoding."""
    if not hasattr(stream, "reconfigure"):
        return
    with suppress(OSError, ValueError):
        if env.get("PYTHONIOENCODING", "").partition(":")[0] or stream.isatty():
            stream.reconfigure(errors=errors)
        else:
            stream.reconfigure(encoding="utf-8", errors=errors)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does; text from outside in it moves no cursor, and keys are left out."""
    with suppress(OSError, ValueError):
        print(block_text(redact_text("".join(traceback.format_exception(kind, error, trace)))), file=sys.stderr)


def finish(code: int) -> int:
    """Write what is still in stdout's buffer; return the exit status: `code`, or 1 if it cannot be written.

    Python would do that after us, and complain in its own words.
    """
    told = code != 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as exc:
            code = code or 1
            if stream is sys.stdout and not told and getattr(exc, "errno", None) not in (errno.EPIPE, errno.EINVAL):
                with suppress(OSError, ValueError):
                    print(f"oproxy: The output could not be written: {getattr(exc, 'strerror', exc)}", file=sys.stderr)
            drop(stream)
    return code


def drop(stream: TextIO) -> None:
    """Let the interpreter's last flush of a stream go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
