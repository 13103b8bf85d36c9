"""Where the logs are."""

from __future__ import annotations

from pathlib import Path

import platformdirs

__all__ = ["folder_of"]


def folder_of(configured: str) -> Path:
    """Return the folder of both logs: the one that [logs] folder names, or the user's own."""
    return Path(configured).expanduser() if configured else Path(platformdirs.user_log_path("oproxy"))
