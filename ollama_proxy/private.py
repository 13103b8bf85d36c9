"""Files that are this user's alone: how logs, the state file, locks, the database and everything else is opened to be
written.

A folder may be in a place where others may write too (`/tmp`, a shared disk). There, somebody could put a link, a pipe
or a file of their own under the name that we are about to write, so that prompts end up in the link's target, or in
their hands. So no link is followed, what is opened must be a plain file of this user's, and a folder that others may
change is refused. All errors are OSError with words for the person. On Windows, where a user's folders are closed to
others by default and the modes mean nothing, only the plain opening is left.

Stands on its own: any layer above the pure ones may use it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import sys
import tempfile
from pathlib import Path

__all__ = ["check_folder", "check_link", "make_folder", "open_private", "opener", "replace_private"]

# Of a file: no link, not inherited by children, and a pipe without a reader does not block us for ever.
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
BINARY = getattr(os, "O_BINARY", 0)


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open (or create, with O_CREAT) a file for its owner alone; return its descriptor. Raises OSError."""
    # What is not ours must not be emptied either.
    truncate, flags = flags & os.O_TRUNC, flags & ~os.O_TRUNC
    try:
        number = os.open(path, flags | SAFELY | BINARY, 0o600)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EMLINK) and os.path.islink(path):
            raise refusal(path, "is a link, and no link is followed here", "Remove it or name another place") from exc
        if exc.errno == errno.ENXIO:
            raise refusal(path, "is no plain file", "Remove it or name another place") from exc
        raise
    try:
        check_file(path, os.fstat(number), number)
        if truncate:
            os.ftruncate(number, 0)
    except BaseException:
        os.close(number)
        raise
    return number


def opener(path: str, flags: int) -> int:
    """Open a file for the built-in `open(…, opener=opener)`."""
    return open_private(path, flags)


def check_file(path: str | os.PathLike[str], status: os.stat_result, number: int) -> None:
    """Refuse what is no plain file of this user's, and close the file to others. Raises OSError."""
    if sys.platform == "win32":
        return
    if not stat.S_ISREG(status.st_mode):
        raise refusal(path, "is no plain file", "Remove it or name another place")
    if status.st_uid != os.geteuid():
        raise refusal(path, f"belongs to another user ({status.st_uid})", "Remove it or name another place")
    if status.st_nlink > 1 and shared(os.stat(Path(path).parent)):
        raise refusal(path, "has a second name, which others may have given it", "Remove it or name another place")
    if status.st_mode & 0o077:
        os.fchmod(number, 0o600)


def make_folder(folder: Path) -> None:
    """Make a folder (and those above it) for its owner alone, and check it as `check_folder` does."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files others may replace: one of another user's, or one that everybody may write to
    without the sticky bit that keeps everybody to their own files. Raises OSError."""
    if sys.platform == "win32":
        return
    mine = os.geteuid()
    for status in (os.stat(folder), os.lstat(folder)):
        # root keeps its files in other users' folders where a container's volume is one; their files are checked.
        if mine != 0 and status.st_uid not in (0, mine):
            raise refusal(folder, f"belongs to another user ({status.st_uid})", "Name a folder of your own")
    if shared(os.stat(folder)) and not os.stat(folder).st_mode & stat.S_ISVTX:
        raise refusal(folder, "can be written by everybody", f"Close it: chmod o-w {shlex.quote(str(folder))}")


def check_link(path: Path) -> None:
    """Refuse a link that somebody else has made, for what has to be opened by its name. Raises OSError."""
    if sys.platform != "win32" and path.is_symlink() and os.lstat(path).st_uid not in (0, os.geteuid()):
        raise refusal(path, "is a link of another user's", "Remove it or name another place")


def shared(status: os.stat_result) -> bool:
    """Return whether everybody may write to a folder."""
    return bool(status.st_mode & stat.S_IWOTH)


def replace_private(path: Path, data: bytes) -> None:
    """Write a file as a whole: whoever reads it finds the old content or the new. Raises OSError."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException as exc:
        os.unlink(name)
        if isinstance(exc, OSError) and exc.filename is None:
            # What fails while writing, a full disk above all, does not say where.
            exc.filename = str(path)
        raise


def refusal(path: str | os.PathLike[str], why: str, remedy: str) -> OSError:
    return OSError(errno.EPERM, f"it {why}. {remedy}", os.fspath(path))
