"""A step on the way of the events from back to front: what makes an emulation undo itself.

Filters are pushed, like decoders; the engine runs the plan's filters in order over each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..events import Event

__all__ = ["Filter"]


class Filter(Protocol):
    """Takes a batch of events, gives a batch of events. Sees one choice only (index 0)."""

    def feed(self, events: Sequence[Event]) -> list[Event]: ...

    def flush(self) -> list[Event]:
        """Called once after the last batch, whatever ended it."""
        ...
