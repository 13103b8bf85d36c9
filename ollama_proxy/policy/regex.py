r"""Regular expressions of JSON Schema's `pattern`, written in the form that llama.cpp's grammars take. Pure.

llama.cpp turns `pattern` into a grammar of the JSON text (`_visit_pattern` in
https://github.com/ggml-org/llama.cpp/blob/master/common/json-schema-to-grammar.cpp). It wants `^…$` around the whole,
knows no `\d`, and copies classes as they are, so that `[^@]` lets a bare quotation mark into a string. What is written
here consists of classes in GBNF's own escapes, groups, `|` and quantifiers only, and each of its matches is the
inside of a sound JSON string.

Never matches a text, and never raises for a pattern that it does not understand: `write` then returns no pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Written", "plain", "write"]

Ranges = tuple[tuple[int, int], ...]

TOP = 0x10FFFF
DEPTH = 50
# llama.cpp refuses a grammar in which a repetition stands for more than 2000 copies.
COPIES = 1000
# Alternatives with anchors of their own are written out up to so many.
ALTERNATIVES = 64
LONGEST = 20_000
# A longer pattern is not read. Back references may multiply what there is to write: up to so many parts are copied.
PATTERN = 4000
COPIED = 5000

DIGITS: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE: Ranges = (
    *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
ANY: Ranges = ((0, TOP),)
CLASSES = {"d": DIGITS, "w": WORD, "s": SPACE}
CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "a": 0x07, "e": 0x1B}
HEX = {"x": 2, "u": 4, "U": 8}
# The characters that stand in a JSON string only after a backslash, and what is written after it.
ESCAPED = {0x22: r"\x22", 0x5C: r"\x5C", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}
LARGE = re.compile(r"\\U([0-9A-F]{8})")
BARE: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, TOP))


class Written(NamedTuple):
    """A pattern for llama.cpp, "" for the empty text alone, None where there is none to be had. `exact` is whether it
    takes no text that the original does not; `sized` whether it has the wished length."""

    pattern: str | None
    exact: bool = False
    sized: bool = False


def write(pattern: str, *, shortest: int = 0, longest: int | None = None) -> Written:
    """Return `pattern` for llama.cpp, for texts of `shortest` to `longest` characters if it can say so.

    What it cannot say (look-around, word boundaries, back references) is left out, so that it takes more than the
    original, never less of what a model would write.
    """
    if len(pattern) > PATTERN:
        return Written(None)
    parser = _Parser(pattern)
    try:
        node = parser.parse()
        frames = list(_framed(node, ALTERNATIVES))
    except _Unwritable:
        return Written(None)
    writer = _Writer()
    sized = shortest <= 0 and longest is None
    if not sized and len(frames) == 1 and (fitted := _fitted(frames[0], shortest, longest)) is not None:
        frames, sized = [fitted], True
    try:
        alternatives = [writer.frame(frame) for frame in frames]
    except _Unwritable:
        return Written(None)
    text = _joined(alternatives)
    if len(text) > LONGEST:
        return Written(None)
    if not text:
        return Written("", parser.exact and writer.exact, sized)
    return Written(f"^{text}$", parser.exact and writer.exact, sized)


def plain(pattern: str) -> str | None:
    r"""Return `pattern` in the syntax that all dialects have in common, None where it cannot be read.

    JavaScript without its `u` flag takes `[\w-.]`, `a{` and `[^]`, which others refuse. It never takes less than the
    original: what is left out (look-around, back references) is not checked then.
    """
    if len(pattern) > PATTERN:
        return None
    try:
        frames = list(_framed(_Parser(pattern).parse(), ALTERNATIVES))
        writer = _Writer(json=False)
        alternatives = [writer.frame(frame) for frame in frames]
    except _Unwritable:
        return None
    text = "" if "" in alternatives else "|".join(alternatives)
    return text if len(text) <= LONGEST else None


# --- the tree ---------------------------------------------------------------------------------------------------------


class _Unwritable(Exception):
    """The pattern cannot be read, or matches nothing."""


class _Chars(NamedTuple):
    ranges: Ranges


class _Edge(NamedTuple):
    end: bool


class _Sequence(NamedTuple):
    items: tuple[_Node, ...]


class _Choice(NamedTuple):
    items: tuple[_Node, ...]


class _Repeat(NamedTuple):
    item: _Node
    least: int
    most: int | None


_Node = _Chars | _Edge | _Sequence | _Choice | _Repeat
EMPTY = _Sequence(())


def _sequence(items: Iterable[_Node]) -> _Node:
    flat: list[_Node] = []
    for item in items:
        flat += item.items if isinstance(item, _Sequence) else (item,)
    return flat[0] if len(flat) == 1 else _Sequence(tuple(flat))


def _size(node: _Node) -> int:
    match node:
        case _Sequence(items=items) | _Choice(items=items):
            return 1 + sum(map(_size, items))
        case _Repeat(item=item):
            return 1 + _size(item)
    return 1


def _has_edge(node: _Node) -> bool:
    match node:
        case _Edge():
            return True
        case _Sequence(items=items) | _Choice(items=items):
            return any(map(_has_edge, items))
        case _Repeat(item=item):
            return _has_edge(item)
    return False


# --- reading ----------------------------------------------------------------------------------------------------------


class _Parser:
    """Reads ECMAScript's syntax, and what Python and Rust write differently. `exact`: nothing was left out."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._groups: list[_Node | None] = [None]
        self._names: dict[str, int] = {}
        self._flags: frozenset[str] = frozenset()
        self._copied = 0
        self.exact = True

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):
            raise _Unwritable
        return node

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._at += len(text)
        return True

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Unwritable
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str) -> str:
        stop = self._text.find(end, self._at)
        if stop < 0:
            raise _Unwritable
        found, self._at = self._text[self._at : stop], stop + len(end)
        return found

    def _choice(self) -> _Node:
        self._depth += 1
        if self._depth > DEPTH:
            raise _Unwritable
        items = [self._terms()]
        while self._take("|"):
            items.append(self._terms())
        self._depth -= 1
        return items[0] if len(items) == 1 else _Choice(tuple(items))

    def _terms(self) -> _Node:
        items: list[_Node] = []
        while self._at < len(self._text) and not self._peek("|") and not self._peek(")"):
            node = self._atom()
            items.append(self._quantified(node))
        return _sequence(items)

    def _atom(self) -> _Node:
        match char := self._next():
            case "^" | "$":
                if "m" in self._flags:
                    return self._left_out()
                return _Edge(char == "$")
            case ".":
                return _Chars(ANY if "s" in self._flags else _without(ANY, LINE_ENDS))
            case "(":
                return self._group()
            case "[":
                return _Chars(self._class())
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise _Unwritable
        return self._chars(((ord(char), ord(char)),))

    def _left_out(self) -> _Node:
        self.exact = False
        return EMPTY

    def _chars(self, ranges: Ranges) -> _Node:
        return _Chars(_folded(ranges) if "i" in self._flags else ranges)

    # --- quantifiers ----------------------------------------------------------------------------------------------

    def _quantified(self, node: _Node) -> _Node:
        while (bounds := self._bounds()) is not None:
            if not self._take("?") and self._take("+"):
                self.exact = False
            if node == EMPTY or isinstance(node, _Edge):
                continue
            node = _Repeat(node, *bounds)
        return node

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._peek("{"):
            return None
        stop = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : stop].partition(",")
        if stop < 0 or not _number(least) or (most and not _number(most)):
            # A brace that is none of a quantifier's means itself.
            return None
        self._at = stop + 1
        low = int(least)
        high = int(most) if most else None if comma else low
        if high is not None and high < low:
            raise _Unwritable
        return low, high

    # --- groups ---------------------------------------------------------------------------------------------------

    def _group(self) -> _Node:
        if not self._take("?"):
            return self._captured()
        if self._take(":"):
            return self._closed()
        if self._take(">"):
            self.exact = False
            return self._closed()
        if any(self._take(sign) for sign in ("=", "!", "<=", "<!")):
            self._closed()
            return self._left_out()
        if self._take("#"):
            self._until(")")
            return EMPTY
        if self._take("P=") or self._take("P>"):
            raise _Unwritable
        if self._take("P<") or self._take("<"):
            self._names[self._until(">")] = len(self._groups)
            return self._captured()
        return self._flagged()

    def _captured(self) -> _Node:
        number = len(self._groups)
        self._groups.append(None)
        node = self._closed()
        self._groups[number] = node
        return node

    def _closed(self) -> _Node:
        before = self._flags
        node = self._choice()
        if not self._take(")"):
            raise _Unwritable
        self._flags = before
        # A sequence of its own, so that a quantifier after it is for all of it.
        return node

    def _flagged(self) -> _Node:
        on, off, negative = set(self._flags), set[str](), False
        while (char := self._next()) not in ":)":
            if char == "-":
                negative = True
            elif char not in "imsu":
                raise _Unwritable
            else:
                (off if negative else on).add(char)
        flags = frozenset(on - off)
        if char == ")":
            # From here to the end of the group around it.
            self._flags = flags
            return EMPTY
        before, self._flags = self._flags, flags
        node = self._choice()
        if not self._take(")"):
            raise _Unwritable
        self._flags = before
        return node

    # --- escapes and classes --------------------------------------------------------------------------------------

    def _escape(self) -> _Node:
        char = self._next()
        if char in "bB":
            return self._left_out()
        if char in "AZz":
            return _Edge(char != "A")
        if char in "123456789":
            while self._at < len(self._text) and self._text[self._at] in "0123456789":
                char += self._next()
            return self._reference(int(char))
        if char == "k" and self._take("<"):
            return self._reference(self._names.get(self._until(">"), 0))
        return self._chars(self._escaped(char))

    def _reference(self, number: int) -> _Node:
        # The same words again cannot be asked for, but words of the same form can.
        self.exact = False
        node = self._groups[number] if number < len(self._groups) else None
        if node is None:
            raise _Unwritable
        self._copied += _size(node)
        if self._copied > COPIED:
            raise _Unwritable
        return node

    def _escaped(self, char: str) -> Ranges:
        """Return what the character after a backslash stands for, inside of a class and outside."""
        if (known := CLASSES.get(char.lower())) is not None:
            return known if char.islower() else _without(ANY, known)
        if char in "pP":
            return self._property(negative=char == "P")
        if char in CONTROLS:
            return ((CONTROLS[char],) * 2,)
        if char == "c":
            return ((ord(self._next()) % 32,) * 2,)
        if char == "0":
            return ((0, 0),)
        if char in HEX:
            return ((self._hex(HEX[char]),) * 2,)
        return ((ord(char),) * 2,)

    def _hex(self, digits: int) -> int:
        if self._take("{"):
            return _code(self._until("}"))
        text, self._at = self._text[self._at : self._at + digits], self._at + digits
        if len(text) < digits:
            raise _Unwritable
        code = _code(text)
        if 0xD800 <= code < 0xDC00 and self._take("\\u"):
            low = _code(self._text[self._at : self._at + 4])
            self._at += 4
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            if not 0x10000 <= code <= TOP:
                raise _Unwritable
        return code

    def _property(self, *, negative: bool) -> Ranges:
        """Return the ASCII characters of a property, and all others with them: there are too many to list."""
        name = self._until("}") if self._take("{") else self._next()
        if name.startswith("^"):
            negative, name = not negative, name[1:]
        self.exact = False
        short = {"Letter": "L", "Number": "N", "Punctuation": "P", "Symbol": "S", "Alphabetic": "L"}
        value = name.rpartition("=")[2]
        value = short.get(value, value)
        if value[:1] not in tuple("CLMNPSZ") or len(value) > 2:
            return ANY
        found = (code for code in range(0x80) if unicodedata.category(chr(code)).startswith(value) != negative)
        return _union([*((code, code) for code in found), (0x80, TOP)])

    def _class(self) -> Ranges:
        negative = self._take("^")
        found: list[tuple[int, int]] = []
        while not self._take("]"):
            low = self._member()
            if self._peek("-") and not self._peek("-]") and len(low) == 1 and low[0][0] == low[0][1]:
                self._at += 1
                high = self._member()
                if len(high) != 1 or high[0][0] != high[0][1]:
                    # A class of classes: `[a-\d]` means both and the dash.
                    found += [*low, (0x2D, 0x2D), *high]
                elif high[0][0] < low[0][0]:
                    raise _Unwritable
                else:
                    found.append((low[0][0], high[0][0]))
            else:
                found += low
        ranges = _union(found)
        if "i" in self._flags:
            ranges = _folded(ranges)
        return _without(ANY, ranges) if negative else ranges

    def _member(self) -> Ranges:
        char = self._next()
        if char != "\\":
            return ((ord(char),) * 2,)
        char = self._next()
        return ((0x08, 0x08),) if char == "b" else self._escaped(char)


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 8


def _code(text: str) -> int:
    try:
        code = int(text, 16)
    except ValueError:
        raise _Unwritable from None
    if not 0 <= code <= TOP:
        raise _Unwritable
    return code


# --- sets of characters -----------------------------------------------------------------------------------------------


def _union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def _without(ranges: Ranges, taken: Ranges) -> Ranges:
    out: list[tuple[int, int]] = []
    for low, high in ranges:
        for first, last in _union(taken):
            if last < low or first > high:
                continue
            if first > low:
                out.append((low, first - 1))
            low = last + 1
        if low <= high:
            out.append((low, high))
    return tuple(out)


def _within(ranges: Ranges, allowed: Ranges) -> Ranges:
    return tuple(
        (max(low, first), min(high, last))
        for low, high in ranges
        for first, last in allowed
        if max(low, first) <= min(high, last)
    )


def _folded(ranges: Ranges) -> Ranges:
    """Return the letters of ASCII in both cases."""
    upper = [(low + 32, high + 32) for low, high in _within(ranges, ((0x41, 0x5A),))]
    lower = [(low - 32, high - 32) for low, high in _within(ranges, ((0x61, 0x7A),))]
    return _union([*ranges, *upper, *lower])


# --- anchors ----------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    """An alternative of the whole pattern, and whether it begins and ends with the text."""

    start: bool
    items: tuple[_Node, ...]
    end: bool


def _framed(node: _Node, left: int) -> Iterable[_Frame]:
    """Yield the alternatives of a pattern; one with anchors in a group at its edge is written out."""
    if left <= 0:
        raise _Unwritable
    if isinstance(node, _Choice):
        anchored = [each for each in node.items if _has_edge(each)]
        if free := tuple(each for each in node.items if not _has_edge(each)):
            yield _Frame(False, (_Choice(free),), False)
        for each in anchored:
            yield from _framed(each, left // len(anchored))
        return
    items = list(node.items if isinstance(node, _Sequence) else (node,))
    for place in (0, -1):
        edge = items[place] if items else None
        if isinstance(edge, _Choice) and _has_edge(edge):
            for each in edge.items:
                rest = [each, *items[1:]] if place == 0 else [*items[:-1], each]
                yield from _framed(_sequence(rest), left // len(edge.items))
            return
    start = end = False
    while items and items[0] == _Edge(False):
        start = True
        items.pop(0)
    while items and items[-1] == _Edge(True):
        end = True
        items.pop()
    yield _Frame(start, tuple(items), end)


def _fitted(frame: _Frame, shortest: int, longest: int | None) -> _Frame | None:
    """Return a frame of texts of that length, None where it cannot be said: one class, repeated, can."""
    if not (frame.start and frame.end and len(frame.items) == 1):
        return None
    item = frame.items[0]
    if isinstance(item, _Chars):
        return frame if shortest <= 1 and (longest is None or longest >= 1) else None
    if not isinstance(item, _Repeat) or not isinstance(item.item, _Chars):
        return None
    least = max(item.least, shortest)
    bounds = [each for each in (item.most, longest) if each is not None]
    most = min(bounds) if bounds else None
    if (most is not None and most < least) or max(least, most or 0) > COPIES:
        return None
    return _Frame(True, (_Repeat(item.item, least, most),), True)


# --- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes nodes, for the text within JSON's quotation marks or, without `json`, for the text itself. `exact` is
    whether no bound was loosened and no anchor left out."""

    def __init__(self, *, json: bool = True) -> None:
        self._chars = _chars if json else _plain_chars
        self._json = json
        self.exact = True

    def frame(self, frame: _Frame) -> str:
        if not self._json:
            inside = "".join(self._item(item)[0] for item in frame.items)
            return ("^" if frame.start else "") + inside + ("$" if frame.end else "")
        anything = f"{_chars(ANY)}*"
        inside = "".join(self._item(item)[0] for item in frame.items)
        if not inside and not (frame.start and frame.end):
            return anything
        return ("" if frame.start else anything) + inside + ("" if frame.end else anything)

    def _item(self, node: _Node) -> tuple[str, int]:
        """Return a node's text and how many characters' rules it stands for."""
        match node:
            case _Chars(ranges=ranges):
                return self._chars(ranges), 1
            case _Edge():
                self.exact = False
                return "", 0
            case _Sequence(items=items):
                written = [self._item(item) for item in items]
                return "".join(text for text, _ in written), sum(size for _, size in written)
            case _Choice(items=items):
                return self._choice(items)
            case _Repeat():
                return self._repeat(node)

    def _choice(self, items: Sequence[_Node]) -> tuple[str, int]:
        written = []
        for item in items:
            try:
                written.append(self._item(item))
            except _Unwritable:
                continue
        if not written:
            raise _Unwritable
        return _joined([text for text, _ in written]), sum(size for _, size in written)

    def _repeat(self, node: _Repeat) -> tuple[str, int]:
        text, size = self._item(node.item)
        least, most = node.least, node.most
        if not text or most == 0:
            return "", 0
        if max(least, most or 0) * max(size, 1) > COPIES:
            self.exact = False
            least, most = (least if least * size <= COPIES else 1), None
        if not _closed(text):
            text = f"({text})"
        match least, most:
            case (0, None):
                return f"{text}*", size
            case (1, None):
                return f"{text}+", size
            case (0, 1):
                return f"{text}?", size
            case (1, 1):
                return text, size
        bounds = f"{least}" if least == most else f"{least},{'' if most is None else most}"
        return f"{text}{{{bounds}}}", size * max(least, most or 0)


def _closed(text: str) -> bool:
    """Return whether a written text is one class or one group, which a quantifier can follow."""
    if text.startswith("["):
        return text.find("]") == len(text) - 1
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return place == len(text) - 1
    return False


def _joined(alternatives: Sequence[str]) -> str:
    """Return a group of alternatives, of which an empty one is told by `?`."""
    written = [each for each in dict.fromkeys(alternatives) if each]
    if not written:
        return ""
    text = f"({'|'.join(written)})"
    return f"{text}?" if len(written) < len(set(alternatives)) else text


def _chars(ranges: Ranges) -> str:
    """Return how the characters look inside of a JSON string: those that JSON escapes are two."""
    bare = _within(ranges, BARE)
    escaped = "".join(sign for code, sign in ESCAPED.items() if _within(ranges, ((code, code),)))
    choices = []
    if bare:
        choices.append(f"[{''.join(map(_range, bare))}]")
    if escaped:
        choices.append(rf"[\x5C][{escaped}]")
    if not choices:
        raise _Unwritable
    return choices[0] if len(choices) == 1 and bare else f"({'|'.join(choices)})"


def _plain_chars(ranges: Ranges) -> str:
    if not ranges:
        raise _Unwritable
    # Beyond 16 bits a code stands in braces; eight digits are GBNF's alone.
    written = "".join(map(_range, ranges))
    return f"[{re.sub(LARGE, _braced, written)}]"


def _braced(found: re.Match[str]) -> str:
    return f"\\u{{{int(found[1], 16):X}}}"


def _range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return _char(low) if low == high else f"{_char(low)}-{_char(high)}"


def _char(code: int) -> str:
    """Return one character of a class: GBNF reads these escapes, and nothing else needs one."""
    if code < 0x80 and chr(code).isalnum():
        return chr(code)
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
