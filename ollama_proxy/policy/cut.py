"""Reading JSON that arrives in pieces: the members of one object, and the text inside one string.

Both readers take any cut, in the middle of an escape too, and never look back further than they must. They trust a
grammar to have made the JSON: what is no JSON is told as such, not repaired.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from msgspec import Struct

__all__ = ["Member", "ObjectReader", "StringReader"]

SPACE = " \t\r\n"
# What a string holds up to its next quote or backslash, and what other values hold up to where something changes.
PLAIN_STRING = re.compile(r'[^"\\]+')
PLAIN_VALUE = re.compile(r'[^"{}\[\],\s]+')
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Member(Struct, frozen=True, gc=False):
    """A piece of the value of a member, as raw JSON text; `done` on the last one."""

    key: str
    raw: str
    done: bool


class ObjectReader:
    """Takes the text of one JSON object, gives the raw values of its members piece by piece.

    `state` ends as "done" (the closing brace was seen; what follows is dropped) or "broken" (this is no JSON object;
    `rest` is what could not be read, and everything fed later is added to it).
    """

    def __init__(self) -> None:
        self.state: Literal["start", "key", "inkey", "colon", "value", "invalue", "done", "broken"] = "start"
        self.rest = ""
        self._key = ""
        self._raw = ""
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> list[Member]:
        out: list[Member] = []
        place = 0
        while place < len(text):
            match self.state:
                case "done":
                    return out
                case "broken":
                    self.rest += text[place:]
                    return out
                case "inkey":
                    place = self._read_key(text, place)
                case "invalue":
                    place = self._read_value(text, place, out)
                case _:
                    place = self._between(text, place)
        return out

    def _between(self, text: str, place: int) -> int:
        """Read one sign of what stands around keys and values; return where to go on."""
        sign = text[place]
        if sign in SPACE:
            return place + 1
        match self.state, sign:
            case "start", "{":
                self.state = "key"
            case "key", '"':
                self.state, self._key, self._escaped = "inkey", "", False
            case "key", "}":
                self.state = "done"
            case "key", ",":
                pass
            case "colon", ":":
                self.state = "value"
            case "value", _ if sign not in "}],:":
                self.state, self._depth, self._quoted, self._escaped = "invalue", 0, False, False
                return place
            case _:
                self.state = "broken"
                return place
        return place + 1

    def _read_key(self, text: str, place: int) -> int:
        sign = text[place]
        if self._escaped or sign != '"':
            self._escaped = sign == "\\" and not self._escaped
            self._key += sign
            return place + 1
        try:
            self._key = json.loads(f'"{self._key}"', strict=False)
            self.state = "colon"
        except ValueError:
            self.state = "broken"
        return place + 1

    def _read_value(self, text: str, start: int, out: list[Member]) -> int:
        """Read on in a value; add one member to `out`, return where the value or the text ends."""
        place = start
        while place < len(text):
            if self._quoted:
                place, ended = self._in_string(text, place)
                if ended and self._depth == 0:
                    return self._close(text, start, place, out)
                continue
            if found := PLAIN_VALUE.match(text, place):
                place = found.end()
                continue
            sign = text[place]
            if self._depth == 0 and (sign in ",}" or sign in SPACE):
                return self._close(text, start, place, out)
            place += 1
            if sign == '"':
                self._quoted = True
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return self._close(text, start, place, out)
        out.append(Member(self._key, text[start:], False))
        return place

    def _in_string(self, text: str, place: int) -> tuple[int, bool]:
        """Read on in a string; return where to go on, and whether the string has ended."""
        if self._escaped:
            self._escaped = False
        elif found := PLAIN_STRING.match(text, place):
            return found.end(), False
        elif text[place] == "\\":
            self._escaped = True
        else:
            self._quoted = False
            return place + 1, True
        return place + 1, False

    def _close(self, text: str, start: int, place: int, out: list[Member]) -> int:
        out.append(Member(self._key, text[start:place], True))
        self.state = "key"
        return place


class StringReader:
    """Takes the raw JSON text of a string, gives what it says. Text that is no string comes back as it is."""

    def __init__(self) -> None:
        self._held = ""
        self._kind: Literal["", "string", "other", "done"] = ""

    def feed(self, raw: str) -> str:
        match self._kind:
            case "other":
                return raw
            case "done":
                return ""
        text = self._held + raw
        if not self._kind and text:
            self._kind = "string" if text[0] == '"' else "other"
            if self._kind == "other":
                return text
            text = text[1:]
        said, place = self._read(text)
        self._held = text[place:]
        return said

    def flush(self) -> str:
        """Return what a value that was cut off still held back: half an escape says nothing."""
        held, self._held = self._held, ""
        return "\ufffd" if len(held) >= 6 and held[1] == "u" else ""

    def _read(self, text: str) -> tuple[str, int]:
        """Return what `text` says, and where what must wait for more begins."""
        said: list[str] = []
        place = 0
        while place < len(text):
            if found := PLAIN_STRING.match(text, place):
                said.append(found.group())
                place = found.end()
            elif text[place] == '"':
                self._kind = "done"
                return "".join(said), len(text)
            else:
                length, sign = _escape(text, place)
                if not length:
                    break
                said.append(sign)
                place += length
        return "".join(said), place


def _escape(text: str, place: int) -> tuple[int, str]:
    """Read one escape, or two that make one character; return its length (0: more is needed) and what it says."""
    if place + 1 >= len(text):
        return 0, ""
    if text[place + 1] != "u":
        return 2, ESCAPES.get(text[place + 1], text[place + 1])
    first = _unit(text, place)
    if first is None:
        return (0, "") if len(text) < place + 6 else (6, "\ufffd")
    if not 0xD800 <= first < 0xE000:
        return 6, chr(first)
    after = text[place + 6 : place + 8]
    if first >= 0xDC00 or (after and not "\\u".startswith(after)):
        return 6, "\ufffd"  # half a pair is no character
    second = _unit(text, place + 6)
    if second is None:
        return (0, "") if len(text) < place + 12 else (6, "\ufffd")
    if 0xDC00 <= second < 0xE000:
        return 12, chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    return 6, "\ufffd"


def _unit(text: str, place: int) -> int | None:
    digits = text[place + 2 : place + 6]
    try:
        return int(digits, 16) if len(digits) == 4 else None
    except ValueError:
        return None
