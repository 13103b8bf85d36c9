"""How a setting is declared: its type and default are a Struct's field, the rest stands beside it."""

from __future__ import annotations

from typing import Any

from msgspec import Meta

__all__ = ["help"]


def help(text: str, *, restart: bool = False, secret: bool = False, size: bool = False, **limits: Any) -> Meta:
    """Declare a setting. `restart`: takes effect after a restart; `secret`: never shown; `secret_part`: a URL whose
    password is not shown; `size`: "64MiB" is a number too; `expect`: what is expected, for a limit that cannot be
    read from the type; `only`: the types of backend that know it (all)."""
    said: dict[str, Any] = {"restart": restart, "secret": secret, "size": size}
    said |= {name: limits.pop(name) for name in ("expect", "only", "secret_part") if name in limits}
    return Meta(description=text, extra=said, **limits)
