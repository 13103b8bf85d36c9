"""The config that `oproxy config init` writes: every setting as a comment, printed from the declaration. Pure text.

A line that begins with `#` and no blank after it is a setting with its default: without the `#` it is in force, and
nothing has changed. All other comments are prose.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ..declared import DEFAULT_BACKENDS, Setting, describe, toml_value

__all__ = ["commented_toml"]

# Tables of names, which have no default to show.
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "models.aliases": ("[models.aliases]", 'fast = "smollm2"', '"gpt-4*" = "ollama/qwen3:4b"'),
    "models.options": ('[models.options."qwen3*"]', "num_ctx = 16384", "temperature = 0.6"),
    "limits.models": ('[limits.models."qwen3*"]', "concurrent = 2"),
    "limits.key_models": ('[limits.key_models."*"]', "requests_per_minute = 60"),
    "limits.tiers": ("[limits.tiers.guest]", "requests_per_day = 100"),
    "queue.models": ('[queue.models."qwen3*"]', "max_concurrent = 1"),
    "prices.models": ('[prices.models."qwen3*"]', "input = 0.05", "output = 0.2"),
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
    sections = list(dict.fromkeys(setting.key.partition(".")[0] for setting in describe()))
    for place, section in enumerate(sections):
        if place:
            yield ""
        if section == "backends":
            yield BACKENDS.rstrip()
            for name, given in DEFAULT_BACKENDS.items():
                yield from ["", f"#[backends.{name}]"]
                yield from table("backends.NAME", given)
            yield from ["", '# Only for type = "openai":']
            for each in describe():
                if each.only == ("openai",):
                    told = f"{name_of(each)}: {each.help}"
                    yield from textwrap.wrap(told, 120, initial_indent="#   ", subsequent_indent="#     ")
        else:
            yield f"[{section}]"
            yield from table(section)
            yield from tables_of_names(section)


def table(prefix: str, given: Mapping[str, Any] = {}) -> Iterator[str]:
    """Yield the settings of one table; of a backend's, those that its type knows."""
    for setting in describe():
        above = setting.key.rpartition(".")[0]
        foreign = given and setting.only and given["type"] not in setting.only
        if above != prefix or setting.key in EXAMPLES or foreign:
            continue
        restart = " Takes effect after a restart." if setting.restart else ""
        name = name_of(setting)
        value = given.get(name, setting.default)
        yield from ["", *textwrap.wrap(f"{setting.help}{restart}", 120, initial_indent="# ", subsequent_indent="# ")]
        yield f"#   {name}: not set." if value is None else f"#{name} = {toml_value(value)}"


def name_of(setting: Setting) -> str:
    return setting.key.rpartition(".")[2]


def tables_of_names(section: str) -> Iterator[str]:
    """Yield what stands in the tables below a section, as prose: there is no default to show."""
    for setting in describe():
        if setting.key in EXAMPLES and setting.key.startswith(f"{section}."):
            yield from ["", f"# {setting.help}"]
            yield from (f"#   {line}" for line in EXAMPLES[setting.key])
    below: dict[str, list[str]] = {}
    for setting in describe():
        above, _, name = setting.key.rpartition(".")
        if above.startswith(f"{section}.") and above != section and setting.key not in EXAMPLES:
            below.setdefault(above, []).append(f"#   {name}: {setting.help}")
    for above, told in below.items():
        yield from [f"# All of [{above}]:", *told]
