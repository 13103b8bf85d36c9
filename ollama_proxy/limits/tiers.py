"""OpenAI's usage tiers as presets, read from `tiers.toml` when one is first named. Never the network."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

from ..policy.rates import Tier
from ..sections import TIERS

__all__ = ["NAMES", "Table", "load", "table"]

# By them a name can be checked without reading the table.
NAMES = TIERS


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: where its numbers come from, as of when (year and month), what to know of them, and the tiers."""

    sources: tuple[str, ...]
    date: str
    note: str
    tiers: Mapping[str, Tier]


@cache
def table() -> Table:
    text = files(__package__).joinpath("tiers.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Table)


def load() -> Mapping[str, Tier]:
    """Return the tiers by name."""
    return table().tiers
