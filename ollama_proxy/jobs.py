"""What runs without a request: taking over a changed config, without ever cutting a stream or falling over.

Folders are watched, not the file: editors save by renaming, a file may go and come again, a link may be pointed
elsewhere. Once a second it is looked anyway, so that nothing is missed where the system tells nothing (network
drives, a folder that was taken away). The settings in force change all at once, or not at all.

A file that is gone, empty or cut off changes nothing. What protects the daemon (`protection`) is weakened only by what
somebody wrote down, never because it disappeared from the file.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import tempfile
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec
import watchfiles

from .declared import SECTIONS, Key, dotted, restarts, shown
from .protection import Held, cut_off, hold, unfit
from .settings import ConfigError, Loaded, Settings, changes

__all__ = ["Reloader"]

log = logging.getLogger(__name__)

# Without any news the file is looked at after so long (seconds).
AGAIN = 0.7
# A change is taken once the file has been still for so long (seconds): many editors empty it first and write it then.
STILL = 0.06
# … but not later than after so many times as long, for a file that is written without end.
PATIENCE = 8
# What watchfiles gathers into one piece of news (milliseconds): until nothing has come for STEP, at most TOGETHER.
STEP = 50
TOGETHER = 200

# What tells one state of the file from another; None where there is no file.
Mark = tuple[str, int, int, int, int] | None


class Reloader:
    """Keeps the settings in force in step with the file. `load` reads it, `apply` takes the settings over, `say` tells
    the person. `loaded` is what is in force now, `held` what of it the file no longer sets, and `problem` says why the
    file as it is now is not in force ("": it is)."""

    def __init__(
        self,
        *,
        loaded: Loaded,
        load: Callable[[], Loaded],
        apply: Callable[[Settings], None],
        say: Callable[[str], None],
        still: float = STILL,
    ) -> None:
        self.loaded = loaded
        self.held: list[Held] = []
        self.problem = ""
        self._load = load
        self._apply = apply
        self._say = say
        self._still = still
        # What the file last asked for; a setting that needs a restart is asked for but not in force.
        self._wanted = loaded.settings
        # Started without a file: that it is still not there is no news.
        self._expected = not absence(loaded.path)

    def reload_now(self) -> bool:
        """Read the file and take it over; return whether anything is in force that was not. Says what changed, or why
        it is refused. Never raises."""
        path = self.loaded.path
        if why := absence(path):
            if self._expected:
                self._stay(f"{path} {why}; the settings in force stay.")
            return False
        self._expected = True
        try:
            new = self._load()
            if new.blank and not self.loaded.blank:
                self._stay(f"{path} sets nothing; the settings in force stay. For the defaults, restart the daemon.")
                return False
            if cut_off(self.loaded.text, new.text):
                line = new.text.count("\n") + 1
                self._refuse(f"{path}:{line}: the file is cut off within this line. If that is its end, end the line.")
                return False
            return self._take(new)
        except ConfigError as exc:
            self._refuse(exc.message)
        except Exception as exc:
            # Whatever a changed file makes the reader say, the daemon goes on with what it has.
            self._refuse(str(exc))
        return False

    def _stay(self, why: str) -> None:
        if why != self.problem:
            self.problem = why
            self._say(why)

    def _refuse(self, why: str) -> None:
        self._stay(f"The changed config is refused, the settings in force stay:\n{why}")

    def _take(self, new: Loaded) -> bool:
        before, path = self.loaded, self.loaded.path
        wanted, held = hold(before.settings, new.settings, new.written)
        settings = in_force(before.settings, wanted)
        if wrong := list(unfit(settings, wanted)):
            self._refuse("\n".join(wrong))
            return False
        if settings != before.settings:
            try:
                self._apply(settings)
            except Exception as exc:
                log.exception("taking over %s failed", path)
                self._refuse(f"{type(exc).__name__}: {exc}")
                return False
        lines = [told(key, old, value, before.settings) for key, old, value in changes(self._wanted, wanted)]
        lines += [str(each) for each in held if each not in self.held]
        back = {each.key for each in self.held} - {each.key for each in held}
        lines += [f"{dotted(key)}: the file sets it again" for key in sorted(back) if key in new.written]
        self._wanted, self.held = wanted, held
        self.loaded = msgspec.structs.replace(new, settings=settings)
        again, self.problem = self.problem, ""
        if lines:
            self._say("\n".join([f"{path} was read again:", *(f"  {line}" for line in lines)]))
        elif again:
            self._say(f"{path} is right again.")
        return settings != before.settings

    async def run(self) -> None:
        """Watch until cancelled."""
        path = self.loaded.path
        seen: Mark | str = "never looked"
        await asyncio.to_thread(warm_up, self.loaded.settings)
        while True:
            folders = folders_of(path)
            try:
                # What changed while nobody watched is seen at once: the first news is made up.
                seen = await self._look(path, seen)
                news = watchfiles.awatch(
                    *folders,
                    recursive=False,
                    watch_filter=None,
                    step=STEP,
                    debounce=TOGETHER,
                    rust_timeout=int(AGAIN * 1000),
                    yield_on_timeout=True,
                )
                async with aclosing(news):
                    async for _ in news:
                        seen = await self._look(path, seen)
                        if folders_of(path) != folders:
                            break
            except (OSError, RuntimeError) as exc:
                # No folder yet, or no watches left to be had (inotify's limit): looking goes on without.
                log.debug("%s cannot be watched: %s", path, exc)
                await asyncio.sleep(AGAIN)

    async def _look(self, path: Path, seen: Mark | str) -> Mark | str:
        """Read the file anew if it is not as it was `seen`; return how it is now."""
        mark = mark_of(path)
        if mark == seen:
            return seen
        for _ in range(PATIENCE):
            await asyncio.sleep(self._still)
            mark, before = mark_of(path), mark
            if mark == before:
                break
        self.reload_now()
        return mark


def warm_up(settings: Settings) -> None:
    """Have what the first comparison of settings and the first watch need: the types of all settings, and the modules
    that watchfiles imports when it is first used. Takes some tenths of a second: call it in a thread."""
    in_force(settings, hold(settings, Settings(), ())[0])
    with suppress(OSError, RuntimeError), tempfile.TemporaryDirectory() as folder:
        asyncio.run(watch_once(folder))


async def watch_once(folder: str) -> None:
    async for _ in watchfiles.awatch(folder, rust_timeout=1, yield_on_timeout=True):
        return


def folders_of(path: Path) -> dict[str, int]:
    """Return the folders in which a change may change the file, each with its inode: the file's own, and that of each
    link on the way to it."""
    folders: dict[str, int] = {}
    for _ in range(40):
        # The file's folder may be a link itself: its own folder counts then.
        for folder in (path.parent, *(up.parent for up in path.parents if up.is_symlink())):
            try:
                folders[str(folder)] = folder.stat().st_ino
            except OSError:
                continue
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return folders


def absence(path: Path) -> str:
    """Say why there is no file to be read: "is gone"; "" if there is one. What is no plain file (a folder, a pipe that
    would have to be waited for) is not read again."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return ""
        return "is no file"
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    except (OSError, ValueError) as exc:
        return f"cannot be read ({getattr(exc, 'strerror', None) or exc})"


def mark_of(path: Path) -> Mark:
    try:
        found = path.stat()
        return str(path.resolve()), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
    except (OSError, RuntimeError):
        return None


def in_force(current: Settings, wanted: Settings) -> Settings:
    """Return the wanted settings, with what needs a restart left as it is."""
    sections = {}
    for section in SECTIONS:
        old, new = getattr(current, section), getattr(wanted, section)
        late = {name: getattr(old, name) for name in old.__struct_fields__ if restarts((section, name))}
        sections[section] = msgspec.structs.replace(new, **late) if late else new
    return msgspec.structs.replace(wanted, **sections)


def told(key: Key, old: object, new: object, current: Settings) -> str:
    """Say one change in a line."""
    name, was, now = dotted(key), shown(key, old), shown(key, new)
    match key:
        case ("backends", _):
            return f"{name}: added ({new})" if old is None else f"{name}: removed"
        case _ if was == now:
            return f"{name}: changed"
        case (section, field) if restarts(key):
            same = msgspec.to_builtins(getattr(getattr(current, section), field)) == new
            late = "as it is in force" if same else "takes effect after a restart"
            return f"{name}: {was} → {now} ({late})"
        case _:
            return f"{name}: {was} → {now}"
