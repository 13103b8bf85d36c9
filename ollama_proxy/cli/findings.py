"""What `oproxy doctor` finds, and how the checks are run: side by side, each in its time, none of them changing
anything. The checks themselves are in `findings_…`, by what they look at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from .. import daemon
from ..settings import Loaded, Problem, Settings

__all__ = ["PATIENCE", "Check", "Finding", "Scene", "State", "examine"]

State = Literal["ok", "note", "warning", "broken"]

# How long one check may take (seconds); those that ask others give up before.
PATIENCE = 8.0


class Finding(msgspec.Struct, frozen=True, omit_defaults=False):
    """One finding. `what` says what is, `where` names the file, address or variable, `remedy` what to do about it."""

    check: str
    state: State
    what: str
    where: str = ""
    remedy: str = ""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks look at. `settings` are those in force, or the defaults where `problems` keep them from being
    read. `data`, `state` and `logs` are folders."""

    settings: Settings
    env: Mapping[str, str]
    data: Path
    state: Path
    logs: Path
    loaded: Loaded | None = None
    problems: tuple[Problem, ...] = ()
    running: daemon.State | None = None
    wall: Callable[[], float] = time.time


Check = Callable[[Scene], Awaitable[list[Finding]]]


async def examine(checks: Mapping[str, Check], scene: Scene, *, patience: float = PATIENCE) -> list[Finding]:
    """Run all checks at once and return what they find, in their order."""
    found = await asyncio.gather(*(one(name, check, scene, patience) for name, check in checks.items()))
    return [finding for each in found for finding in each]


async def one(name: str, check: Check, scene: Scene, patience: float) -> Iterable[Finding]:
    """Run one check. One that takes too long or fails is a finding too: the others must be told all the same."""
    try:
        async with asyncio.timeout(patience):
            return await check(scene)
    except TimeoutError:
        return [Finding(name, "warning", f"could not be found out in {patience:g} s")]
    except OSError as exc:
        return [Finding(name, "warning", f"could not be found out: {exc.strerror or exc}", str(exc.filename or ""))]
    except Exception as exc:
        # A program that looks for faults must not stop at one of its own.
        return [Finding(name, "warning", f"could not be found out ({type(exc).__name__}: {exc})")]
