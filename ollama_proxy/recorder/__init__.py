"""The flight recorder: rotating logs of requests and of the daemon, and reading them back."""

from .record import Record, Recorder, State

__all__ = ["Record", "Recorder", "State"]
