"""The config that `oproxy config init` writes: every setting as a comment, printed from the declaration. Pure text.

A line that begins with `#` and no blank after it is a setting with its default: without the `#` it is in force, and
nothing has changed. All other comments are prose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..declared import DEFAULT_BACKENDS, describe, toml_value

__all__ = ["commented_toml"]

# Tables of names, which have no default to show.
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "models.aliases": ("[models.aliases]", 'fast = "smollm2"', '"gpt-4*" = "ollama/qwen3:4b"'),
    "models.options": ('[models.options."qwen3*"]', "num_ctx = 16384", "temperature = 0.6"),
}
HEAD = """\
# The settings of oproxy. A running daemon reads them again whenever this file changes.
# A line that begins with # and no blank shows a default: remove the # and change it. More: man oproxy.toml.
"""
BACKENDS = """\
# Backends, one table each, by names of your choice; the order decides between two that have the same model.
# As soon as one is written here, only those written here are there.
"""


def commented_toml() -> str:
    """Return a config that says everything and sets nothing."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    yield HEAD
    yield "[server]"
    yield from table("server")
    yield from ["", BACKENDS.rstrip()]
    for name, given in DEFAULT_BACKENDS.items():
        yield from ["", f"#[backends.{name}]"]
        yield from table("backends.NAME", given)
    yield from ["", "[models]"]
    yield from table("models")
    for setting in describe():
        if setting.key in EXAMPLES:
            yield from ["", f"# {setting.help}"]
            yield from (f"#   {line}" for line in EXAMPLES[setting.key])
    yield "# All options:"
    for setting in describe():
        if setting.key.startswith('models.options."'):
            yield f"#   {setting.key.rpartition('.')[2]}: {setting.help}"


def table(prefix: str, given: Mapping[str, Any] = {}) -> Iterator[str]:
    """Yield the settings of one table; of a backend's, those that its type knows."""
    for setting in describe():
        above, _, name = setting.key.rpartition(".")
        foreign = given and setting.only and given["type"] not in setting.only
        if above != prefix or setting.key in EXAMPLES or foreign:
            continue
        restart = " Takes effect after a restart." if setting.restart else ""
        yield from ["", f"# {setting.help}{restart}", f"#{name} = {toml_value(given.get(name, setting.default))}"]
