"""How a setting is declared: its type and default are a Struct's field, the rest stands beside it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from msgspec import Meta

__all__ = [
    "FEWER",
    "HIGHER",
    "LOWER",
    "LOWER_OR_0",
    "MORE",
    "PLAIN",
    "STAYS",
    "Protects",
    "help",
    "weak_at",
]


class Protects(NamedTuple):
    """Which values of a setting protect more. `weakest` is the value that does not protect at all."""

    order: Literal["none", "lower", "higher", "fewer", "more", "stays", "weak"]
    weakest: Any = None


# The setting protects nothing: if it disappears from the config of a running daemon, its default takes effect.
PLAIN = Protects("none")
# The lower number protects more. Without a value there is no limit.
LOWER = Protects("lower")
# The same, where 0 means that there is no limit.
LOWER_OR_0 = Protects("lower", 0)
# The higher number protects more (a price makes a budget last shorter).
HIGHER = Protects("higher")
# A list that lets in: the fewer entries, the better.
FEWER = Protects("fewer")
# A list that keeps out: the more entries, the better.
MORE = Protects("more")
# No value is better than another, but one that only disappeared must not be replaced: data would be deleted, clients
# locked out, or a secret sent elsewhere.
STAYS = Protects("stays")


def weak_at(value: Any) -> Protects:
    """Declare a setting with one value that does not protect."""
    return Protects("weak", value)


def help(
    text: str, protects: Protects, *, restart: bool = False, secret: bool = False, size: bool = False, **limits: Any
) -> Meta:
    """Declare a setting. `protects`: which values protect the daemon (`protection` says what follows from it);
    `restart`: takes effect after a restart; `secret`: never shown; `secret_part`: a URL whose password is not shown;
    `size`: "64MiB" is a number too; `expect`: what is expected, for a limit that cannot be read from the type; `only`:
    the types of backend that know it (all)."""
    said: dict[str, Any] = {"protects": protects, "restart": restart, "secret": secret, "size": size}
    said |= {name: limits.pop(name) for name in ("expect", "only", "secret_part") if name in limits}
    return Meta(description=text, extra=said, **limits)
