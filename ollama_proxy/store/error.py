"""What is told of a database that cannot do what was asked. Imports nothing: whoever only catches it pays nothing."""

from __future__ import annotations

__all__ = ["Missing", "StoreError"]


class StoreError(Exception):
    """The database cannot do it. `message` is for the person and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Missing(StoreError):
    """There is no such key."""
