"""Text from outside, made harmless for the place it is written to. One function for each kind of place.

Model names, tags, paths, error messages and answers come from clients and backends and may hold anything. They are
data: on a terminal they move no cursor and set no title, a row of a table stays one row, a cell of a spreadsheet is no
formula, a word of a shell is one word, a line of a log is one line, and a header is one header.

What is taken out: control characters (C0, DEL, C1), with them every escape sequence; the marks that turn the direction
of text around (https://trojansource.codes); line and paragraph separators; invisible characters, unless letters
and emoji are joined by them; halves of surrogate pairs, which no encoding can write. Pure.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

__all__ = [
    "MOST",
    "block_text",
    "csv_cell",
    "header_text",
    "json_text",
    "line_text",
    "log_text",
    "padded",
    "shell_word",
    "utf8_text",
    "width",
]

# Characters of one name, tag or path that are shown.
MOST = 200

# Ends of lines and tabs: in one line, a space stands for them.
SPACES = re.compile("[\t-\r\x85\u2028\u2029]+")
# Ends of lines that are none on every system, in text of several lines.
BREAKS = re.compile("[\x0b\x0c\x85\u2028\u2029]")
# Not for any screen or file, in text of several lines; newline and tab are, and what joins letters and emoji.
INVISIBLE = "\x7f-\x9f\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff"
UNFIT = re.compile(f"[\x00-\x08\x0b-\x1f{INVISIBLE}]")
# What JSON's writers leave as it is: DEL, C1, and everything else that is not to reach a terminal.
JSON_UNFIT = re.compile(
    "[\x7f-\x9f\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
# What makes a cell a formula in Excel, LibreOffice or Google Sheets, the last four being the wide forms of the first:
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def line_text(text: str, most: int | None = MOST) -> str:
    """Return text as one line of printable characters, cut to `most` of them. Spaces stand for line ends, `?` for what
    cannot be shown."""
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in SPACES.sub(" ", text))


def block_text(text: str) -> str:
    """Return text of several lines for a terminal: newlines and tabs stay, what a terminal would obey
    is taken out."""
    if text.isprintable() or (text.isascii() and UNFIT.search(text) is None):
        return text
    return UNFIT.sub("", BREAKS.sub("\n", text))


def json_text(text: str) -> str:
    """Return JSON, the same for whoever reads it as JSON, without characters that command a terminal."""
    return text if text.isascii() and "\x7f" not in text else JSON_UNFIT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\\ufffd"
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def csv_cell(value: object) -> object:
    """Return a value for `csv.writer`: text as one line, and never a formula; numbers as they are."""
    if not isinstance(value, str):
        return value
    guard = "'" if value.lstrip(" ").startswith(FORMULA) else ""
    return guard + line_text(value, None)


def shell_word(text: str) -> str:
    """Return text as one word of a POSIX shell. Control characters are written as escapes ($'…', which bash, zsh and
    ksh read), so that the command can be shown."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _dollar(c) for c in text) + "'"


def _dollar(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    # By bytes, for a shell in another locale takes \u for another letter.
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "replace"
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", errors))


def log_text(text: str) -> str:
    r"""Return a message as one line of a log: line ends are written as `\n`, what cannot be shown as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def header_text(text: str, most: int = 500) -> str:
    """Return text for a header: printable ASCII, cut to `most` characters."""
    text = text[:most]
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def utf8_text(text: str) -> str:
    """Return text that can be written as UTF-8. Bytes that were no UTF-8 (in a header, an argument, a file name) come
    as surrogates; those that are UTF-8 after all are read as such, the others become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return data.decode("utf-8", "replace")
        return data.decode("utf-8", "replace")
    return text


def width(text: str) -> int:
    """Return how many columns text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return text filled with spaces to so many columns; `right`: flush right."""
    space = " " * (columns - width(text))
    return space + text if right else text + space
