"""The .env file that keys are read from too. What only disappeared from it changes nothing while we serve: a file that
is gone, emptied or cut off neither locks out the clients that have a key nor makes the beginning of a key one.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ..policy.credentials import cut_short, env_keys

__all__ = ["KeyFile"]

log = logging.getLogger(__name__)


class KeyFile:
    """The keys of one .env file as they are in force. `problem` says why they are not those of the file now."""

    def __init__(self) -> None:
        self.problem = ""
        self._path = ""
        self._keys = ""

    def read(self, path: str) -> str:
        """Return the keys in force, as OPROXY_API_KEYS has them; "" for no path."""
        if path != self._path:
            self._path, self._keys = path, ""
        why, found = self._look(path) if path else ("", "")
        if why or found is None:
            stay = "the keys of it that are in force stay" if self._keys else "there are no keys of it"
            self._tell(f"{path}: {why or 'OPROXY_API_KEYS is not set in it'}; {stay}.")
        elif cut_short(self._keys, found):
            self._tell(f"{path}: OPROXY_API_KEYS is cut off within a key; the keys of it that are in force stay.")
        else:
            self.problem, self._keys = "", found
        return self._keys

    def _look(self, path: str) -> tuple[str, str | None]:
        """Return (why the file cannot be read, the keys in it, None where it says nothing of keys)."""
        file = Path(path).expanduser()
        try:
            if file.exists() and not file.is_file():
                return "it is no file", None
            return "", env_keys(file.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            return "it is not UTF-8", None
        except (OSError, ValueError) as exc:
            return f"it cannot be read ({getattr(exc, 'strerror', None) or type(exc).__name__})", None

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem
