"""Taking keys out of what is written down: `sk-…`, `Bearer …`, `Authorization: …`, `"api_key": "…"`.

Works on the bytes of JSON as they are, since nearly no body holds a key and none should be decoded to find that out.
`without_secrets` does the same for plain text: names, paths, messages, lines of a log; there, secrets in
URLs count too. Pure. Never shortens anything else; the configured patterns are `recorder/patterns.py`'s business.
"""

from __future__ import annotations

import re

__all__ = ["MARK", "escaped", "plain", "secrets", "suspicious", "without_keys", "without_secrets"]

MARK = b"[redacted]"

# In JSON a key may follow an escape (`\n`, `\u5bc6`), whose last letter is none of the text's.
BEGIN = rb"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
# A quote, as it is or in JSON inside JSON (tool arguments).
QUOTE = rb"\\*[\"']"
# Between a name and its value: both in quotes or neither, since what is bare in JSON is no text.
IS = rb"(?:" + QUOTE + rb"\s*[:=]\s*" + QUOTE + rb"|\s*[:=]\s*)"

# OpenAI's keys, ours, and those of servers that write theirs alike.
SK = BEGIN + rb"sk-[A-Za-z0-9_-]{8,}"
# A token has a digit somewhere, or is long; the words after "bearer" in a text about bonds have none.
BEARER = rb"(" + BEGIN + rb"(?i:bearer)\s+)(?=[^\s\"\\]*[0-9]|\S{24})[A-Za-z0-9._~+/=-]{12,}"

KEYS = re.compile(
    SK
    +
    # A header, however it is written down, and fields named for what they hold.
    rb"|((?i:authorization)"
    + IS
    + rb"(?:(?i:bearer|basic|token)\s+)?)[^\s\"'\\,;}]+"
    rb"|((?i:api[-_]?key)" + QUOTE + rb"\s*[:=]\s*" + QUOTE + rb")[^\"'\\]+"
    rb"|" + BEARER
)
# Keys as such, not what stands after the name of one: a message of ours may say "Authorization: Bearer YOUR_KEY".
TOKENS = re.compile(SK + rb"|" + BEARER)

# In URLs: a password before the host, and parameters named for what they hold.
URL_SECRETS = re.compile(
    r"(://[^\s/?#@:\"'<>]*:)[^\s/?#@\"'<>]+(?=@)"
    r"|([?&;](?:api[-_]?key|key|access[-_]?token|auth[-_]?token|token|client[-_]?secret|secret|password|passwd|pwd"
    r"|sslpassword|signature|sig)=)[^&;\s#\"'<>]+",
    re.IGNORECASE,
)

# The shortest text with a secret in it: `?key=x`.
SHORTEST = 7

# In what is in small letters.
API = re.compile(rb"api[-_]?key")

# An escape is a pair of characters, or six; a printable ASCII character may hide behind six.
ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9A-Fa-f])|.)", re.DOTALL)


def secrets(data: bytes) -> bytes:
    """Return JSON (or other text) without keys; the same object when there are none."""
    if escaped(data):
        data = plain(data)
    return KEYS.sub(blank, data) if named(data.lower()) else data


def without_secrets(text: str) -> str:
    """Return plain text without keys and without the secrets of URLs; the same object when there are none."""
    if len(text) < SHORTEST:
        return text
    low = text.lower()
    # The words of `named`, looked for without writing bytes, which the name of a model and a path seldom need.
    if "sk-" in low or "earer" in low or "uthorization" in low or "key" in low:
        text = KEYS.sub(blank, text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    if "=" in text or "@" in text:
        text = URL_SECRETS.sub(lambda found: f"{found[1] or found[2]}[redacted]", text)
    return text


def without_keys(data: bytes) -> bytes:
    """Return the JSON of an error without keys that it repeats; the same object when there are none."""
    return TOKENS.sub(blank, data) if named(data.lower()) else data


def suspicious(data: bytes) -> bool:
    """Return whether `secrets` would have to look closely: of what it would not, the same holds for each part."""
    return escaped(data) or named(data.lower())


def escaped(data: bytes) -> bool:
    """Return whether printable characters may be written as escapes."""
    # One byte is found thirty times as fast as two. And not by `in`: CPython's _Py_bytes_contains first takes what is
    # looked for to be a number, and has an error made and thrown away.
    return data.find(b"\\") >= 0 and (data.find(b"\\u00") >= 0 or data.find(b"\\/") >= 0)


def named(low: bytes) -> bool:
    """Return whether one of the words is there that stand in every text with a key. Searched for one by one: all at
    once, by a regular expression, takes five times as long."""
    find = low.find
    return (
        find(b"sk-") >= 0
        or find(b"earer") >= 0
        or find(b"uthorization") >= 0
        or (find(b"api") >= 0 and API.search(low) is not None)
    )


def blank(found: re.Match[bytes]) -> bytes:
    for kept in found.groups():
        if kept is not None:
            return kept + MARK
    return b"sk-" + MARK


def plain(data: bytes) -> bytes:
    r"""Return the same JSON with printable ASCII written as itself: `s` for `\u0073`, `/` for `\/`."""
    return ESCAPE.sub(unescape, data)


def unescape(found: re.Match[bytes]) -> bytes:
    if (digits := found[1]) is None:
        return b"/" if found[0] == b"\\/" else found[0]
    code = int(digits, 16)
    # A quote and a backslash must stay escaped, and DEL is not printable.
    return found[0] if code in (0x22, 0x5C, 0x7F) else bytes((code,))
