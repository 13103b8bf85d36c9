"""The one exception a command ends with when it cannot do what was asked. Imports nothing, prints nothing."""

from __future__ import annotations

__all__ = ["Failure"]


class Failure(Exception):
    """Told to the person as one message on stderr; the program then ends with `code`."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = code
