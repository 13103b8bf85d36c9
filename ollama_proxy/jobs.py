"""What runs without a request: taking over a changed config, without ever cutting a stream or falling over.

Folders are watched, not the file: editors save by renaming, a file may go and come again, a link may be pointed
elsewhere. Once a second it is looked anyway, so that nothing is missed where the system tells nothing (network
drives, a folder that was taken away). The settings in force change all at once, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
import watchfiles

from .declared import SECTIONS, Key, dotted, restarts, shown
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
    the person. `loaded` is what is in force now."""

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
        self._load = load
        self._apply = apply
        self._say = say
        self._still = still
        # What the file last asked for; a setting that needs a restart is asked for but not in force.
        self._wanted = loaded.settings
        self._missing = not loaded.path.exists()
        self._refused = ""

    def reload_now(self) -> bool:
        """Read the file and take it over; return whether anything is in force that was not. Says what changed, or why
        it is refused. Never raises."""
        path = self.loaded.path
        if not path.exists():
            if not self._missing:
                self._missing = True
                self._say(f"{path} is gone; the settings in force stay.")
            return False
        self._missing = False
        try:
            new = self._load()
        except ConfigError as exc:
            self._refuse(exc.message)
            return False
        except Exception as exc:
            # Whatever a changed file makes the reader say, the daemon goes on with what it has.
            self._refuse(str(exc))
            return False
        again, self._refused = self._refused, ""
        found = list(changes(self._wanted, new.settings))
        if not found:
            if again:
                self._say(f"{path} is right again.")
            return False
        return self._take(new, found)

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._refused = why
            self._say(f"The changed config is refused, the settings in force stay:\n{why}")

    def _take(self, new: Loaded, found: list[tuple[Key, object, object]]) -> bool:
        before = self.loaded
        settings = in_force(before.settings, new.settings)
        if settings != before.settings:
            try:
                self._apply(settings)
            except Exception as exc:
                log.exception("taking over %s failed", before.path)
                self._refuse(f"{type(exc).__name__}: {exc}")
                return False
        self._wanted = new.settings
        self.loaded = msgspec.structs.replace(new, settings=settings)
        lines = [f"  {told(key, old, value, before.settings)}" for key, old, value in found]
        self._say("\n".join([f"{before.path} was read again:", *lines]))
        return settings != before.settings

    async def run(self) -> None:
        """Watch until cancelled."""
        path = self.loaded.path
        seen: Mark | str = "never looked"
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


def mark_of(path: Path) -> Mark:
    try:
        stat = path.stat()
        return str(path.resolve()), stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
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
