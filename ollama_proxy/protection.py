"""What protects a daemon, and what a changed config may not take away by accident. Pure.

Each setting declares which of its values protect more (`sections_help.Protects`). A person may weaken any of them by
writing it down. A setting that only disappeared (the file was cut, emptied or half written) decides nothing: the value
in force stays. `oproxy serve` at its start, its reload and `oproxy config check` judge settings by the same functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from .check import check_together
from .declared import Key, dotted, extra, field_of, kind_of, restarts, shown
from .policy.address import is_loopback
from .sections import Settings
from .sections_help import PLAIN, Protects
from .settings import values_of

__all__ = ["Held", "cut_off", "exposure", "hold", "protects", "unfit", "weaker", "weakest"]


class Held(NamedTuple):
    """A setting that is in force although the file no longer has it. Two are equal if a person would be told the same
    of them."""

    key: Key
    value: Any

    def __str__(self) -> str:
        *above, name = self.key
        return (
            f"{dotted(self.key)}: stays {shown(self.key, self.value)}, although the file no longer sets it. "
            f"To change it, write {name} = {weakest(self.key)} under [{dotted(tuple(above))}], or restart the daemon."
        )


def protects(key: Key) -> Protects:
    """Return which values of a setting protect more."""
    kind = kind_of(key)
    found: Protects | None = extra(kind, "protects") if kind is not None else None
    return found or PLAIN


def weakest(key: Key) -> str:
    """Write the value that a person writes down to give a protection up: the default."""
    field = field_of(key) or named_field(key)
    default = field.default if field is not None else None
    return '"none"' if default is None or default is msgspec.NODEFAULT else shown(key, default)


def named_field(key: Key) -> msgspec.structs.FieldInfo | None:
    """Return the declaration of a setting in a table that the user named."""
    above = kind_of(key[:-1])
    struct = getattr(above, "cls", None)
    fields = msgspec.structs.fields(struct) if struct is not None else ()
    return next((field for field in fields if field.name == key[-1]), None)


def weaker(before: Settings, after: Settings) -> list[Key]:
    """Return the settings that protect less `after` than `before`."""
    old, new = values_of(before), values_of(after)
    return [
        key
        for key, value in old.items()
        # A backend that is taken out of the config needs no protection.
        if (key[0] != "backends" or key[1] in after.backends) and loses(protects(key), value, new.get(key))
    ]


def loses(rule: Protects, old: Any, new: Any) -> bool:
    """Return whether `new` protects less than `old`; None: there is no value."""
    match rule.order:
        case "lower":
            ends = (None, rule.weakest)
            return old not in ends and (new in ends or new > old)
        case "higher":
            return (new or 0) < (old or 0)
        case "fewer":
            return not set(new or ()) <= set(old or ())
        case "more":
            return not set(old or ()) <= set(new or ())
        case "stays":
            return bool(old != new)
        case "weak":
            return old != rule.weakest and new in (None, rule.weakest)
        case _:
            return False


def hold(current: Settings, wanted: Settings, written: Collection[Key]) -> tuple[Settings, list[Held]]:
    """Return the wanted settings, where what protects and only disappeared keeps the value that it has in the current
    ones, and what was held so. `written` are the keys that somebody wrote down (file, environment, flag). What needs a
    restart is left out: it stays in force anyway."""
    old, new = msgspec.to_builtins(current), msgspec.to_builtins(wanted)
    values, held = values_of(current), []
    for key in weaker(current, wanted):
        if key not in written and not restarts(key):
            restore(old, new, key)
            held.append(Held(key, values[key]))
    return (msgspec.convert(new, Settings) if held else wanted), held


def restore(old: dict[str, Any], new: dict[str, Any], key: Key) -> None:
    """Copy a value from one tree into another; of a table that the other lacks, all of it."""
    for part in key:
        if part not in new or not isinstance(new[part], dict):
            new[part] = old[part]
            return
        old, new = old[part], new[part]


def exposure(settings: Settings) -> str:
    """Say why these settings would let other machines in without a key; "" if they do not, or if that was written
    down."""
    host, auth = settings.server.host, settings.auth
    if is_loopback(host) or auth.mode == "on" or auth.allow_anonymous:
        return ""
    return (
        f"{host} can be reached by other machines, and no key is asked of them. "
        "Ask for keys: `oproxy config set auth.mode on`, then `oproxy keys create NAME`. "
        "Or, if everybody is really to be let in: `oproxy config set auth.allow_anonymous true`."
    )


def unfit(mixed: Settings, wanted: Settings) -> Iterator[str]:
    """Say what is wrong with the settings that would be in force after a reload. `wanted` are those that a restart
    would take, which must be right as well."""
    for key, expected, _, _ in check_together(msgspec.to_builtins(mixed)):
        yield f"{dotted(key)}: expected {expected}, with what stays in force until a restart."
    if why := exposure(wanted):
        yield why
    elif why := exposure(mixed):
        late = "server.host" if wanted.server.host != mixed.server.host else "auth.allow_anonymous"
        yield f"{why} ({late} changes at a restart only.)"


def cut_off(before: str, after: str) -> bool:
    """Return whether a text is the beginning of what it was and ends within a line, where no editor ends a file."""
    rest = before[len(after) :]
    return bool(after) and before.startswith(after) and rest != "" and after[-1] != "\n" and rest[0] not in "\r\n"
