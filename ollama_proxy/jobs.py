"""What runs without a request: taking over a changed config, without ever cutting a stream or falling over.

The folder of the file is watched, not the file: editors save by renaming, and a file may go and come again. The
settings that are in force change all at once, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import watchfiles

from .settings import ConfigError, Loaded, Settings, field_of, restarts, secret

__all__ = ["Reloader", "changes"]

log = logging.getLogger(__name__)

# A folder that is not there yet, or was taken away, is looked for again after so many seconds.
AGAIN = 1.0
# Changes within so many milliseconds are one: ten saves in a second are a few reloads, the last of which counts.
TOGETHER = 100


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
    ) -> None:
        self.loaded = loaded
        self._load = load
        self._apply = apply
        self._say = say
        self._missing = not loaded.path.exists()
        self._refused = ""

    def reload_now(self) -> bool:
        """Read the file and take it over; return whether anything changed. Says what changed, or why nothing did."""
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
            if exc.message != self._refused:
                self._refused = exc.message
                self._say(f"The changed config is refused, the settings in force stay:\n{exc.message}")
            return False
        again, self._refused = self._refused, ""
        said, settings = self._compare(new.settings)
        if not said:
            if again:
                self._say(f"{path} is right again.")
            return False
        try:
            self._apply(settings)
        except Exception as exc:
            # Whatever the new settings break, the daemon goes on with the old ones.
            log.exception("taking over %s failed", path)
            self._say(f"The changed config could not be taken over ({exc}); the settings in force stay.")
            return False
        self.loaded = msgspec.structs.replace(new, settings=settings)
        self._say("\n".join([f"{path} was read again:", *said]))
        return True

    def _compare(self, wanted: Settings) -> tuple[list[str], Settings]:
        """Return what to say of the change, and the wanted settings with what needs a restart left as it is."""
        current = self.loaded.settings
        said: list[str] = []
        server: dict[str, Any] = {}
        for key, old, new in changes(current, wanted):
            late = restarts(key)
            if late:
                server[key[1]] = getattr(current.server, key[1])
            shown = ("(hidden)", "(changed)") if secret(key) else (text(old), text(new))
            after = " (takes effect after a restart)" if late else ""
            said.append(f"  {'.'.join(key)}: {shown[0]} → {shown[1]}{after}")
        if server:
            wanted = msgspec.structs.replace(wanted, server=msgspec.structs.replace(wanted.server, **server))
        return said, wanted

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            folder = self.loaded.path.resolve().parent
            if not folder.is_dir():
                await asyncio.sleep(AGAIN)
                if folder.is_dir():
                    self.reload_now()
                continue
            try:
                async for seen in watchfiles.awatch(
                    folder, recursive=False, step=20, debounce=TOGETHER, stop_event=asyncio.Event()
                ):
                    if self._ours(seen):
                        self.reload_now()
            except (OSError, RuntimeError) as exc:
                log.warning("watching %s failed: %s", folder, exc)
                await asyncio.sleep(AGAIN)

    def _ours(self, seen: set[tuple[watchfiles.Change, str]]) -> bool:
        path = self.loaded.path
        names = {path.name, path.resolve().name}
        return any(Path(changed).name in names for _, changed in seen)


def changes(old: Settings, new: Settings) -> list[tuple[tuple[str, ...], Any, Any]]:
    """Return the settings that differ: (key, old value, new value), None for one that is not there."""
    before, after = flat(msgspec.to_builtins(old)), flat(msgspec.to_builtins(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def flat(value: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict) and (value or field_of(above) is None):
        out: dict[tuple[str, ...], Any] = {}
        for name, below in value.items():
            out.update(flat(below, (*above, name)))
        return out
    return {above: value}


def text(value: Any) -> str:
    if value is None:
        return "not set"
    return msgspec.json.encode(value).decode()
