r"""Secrets are taken out of whatever is written down or shown: one function for each kind of text.

`redact_json`     JSON that is recorded: keys, and the values of `authorization` and `api_key`
`redact_error`    JSON of an error for a client: keys only, since our messages may say where a key belongs
`redact_text`     a name, a path, a tag, a message of ours: keys, and the secrets in URLs
`redact_foreign`  what libraries and other programs say: passwords and tokens too; hides too much rather than too little
`redact_url`      the URL of a setting: user, password, unknown parameters, steps that look like tokens
`mask_key`        a key as OpenAI's errors show it, for whoever sent it

Keys are known by their form (`FORMATS`). `[redacted]` stands for what was found by its form or name, `(hidden)` for
what a setting or a foreign text does not show. Works on the bytes of JSON as they are, since hardly any body holds a
key and none should be decoded to find that out. Takes time in proportion to the text. Pure; never shortens anything
else. The patterns of [logs] redact are in `recorder/patterns.py`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

__all__ = [
    "FORMATS",
    "HIDDEN",
    "MARK",
    "KeyFormat",
    "has_escapes",
    "mask_key",
    "may_hold_key",
    "redact_error",
    "redact_foreign",
    "redact_json",
    "redact_text",
    "redact_url",
    "unescaped",
    "url_secrets",
]

MARK = b"[redacted]"
HIDDEN = "(hidden)"


# --- what keys look like ------------------------------------------------------------------------------------------


class KeyFormat(NamedTuple):
    """A form of keys. `prefix` stays and has a fixed width; what matches `secret` after it is blanked. Neither is found
    in ordinary words, model names, hashes, UUIDs or ids of objects (`resp_…`, `call_…`, `file-…`)."""

    vendor: str
    prefix: bytes
    secret: bytes


# Lines of a PEM file, their ends written as they are or as `\n` in JSON, or `\\n` in JSON inside JSON.
END = rb"(?:\s|\\+[nr])"
PEM_BODY = (
    rb"(?:" + END + rb"++(?:Proc-Type|DEK-Info): ?[\w,-]++)*+"
    rb"(?:" + END + rb"++[A-Za-z0-9+/=]{16,}+)++(?:" + END + rb"++[A-Za-z0-9+/=]{1,15}+(?=" + END + rb"*+-----END))?+"
)

# Lengths are a little below those that the vendors give out now. Where they are from:
# https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml
# https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns
FORMATS = (
    # And servers that write theirs alike.
    KeyFormat("OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-), oproxy", rb"sk-", rb"[A-Za-z0-9_-]{8,}"),
    KeyFormat("Hugging Face", rb"hf_", rb"[A-Za-z0-9]{30,}"),
    KeyFormat("Groq", rb"gsk_", rb"[A-Za-z0-9]{40,}"),
    KeyFormat("Google", rb"AIza", rb"[A-Za-z0-9_-]{35,}"),
    KeyFormat("GitHub", rb"gh[pousr]_", rb"[A-Za-z0-9]{36,}"),
    KeyFormat("GitHub, fine-grained", rb"github_pat_", rb"[A-Za-z0-9_]{36,}"),
    KeyFormat("GitLab", rb"glpat-", rb"[A-Za-z0-9_-]{20,}"),
    KeyFormat("xAI", rb"xai-", rb"[A-Za-z0-9]{40,}"),
    KeyFormat("Perplexity", rb"pplx-", rb"[A-Za-z0-9]{40,}"),
    KeyFormat("Replicate", rb"r8_", rb"[A-Za-z0-9]{30,}"),
    # The id of a key, not its secret half, which has no form of its own.
    KeyFormat("AWS", rb"AKIA", rb"[A-Z0-9]{16,}"),
    KeyFormat("Slack", rb"xox[abeoprs]-", rb"[A-Za-z0-9-]{10,}"),
    # Header and payload begin with `{"`. A second `eyJ` in the header ends the try, so that no text is read twice.
    KeyFormat(
        "JSON Web Tokens",
        rb"eyJ",
        rb"(?:[A-Za-z0-9]|[_-](?!eyJ)){5,}+\.eyJ[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+)?",
    ),
)

# In JSON a key may follow an escape (`\n`, `\u5bc6`), whose last letter is none of the text's. These stand after the
# prefix: a pattern that begins with letters is searched for several times as fast.
BEGINS = rb"(?:(?<![A-Za-z0-9]%b)|(?<=\\[bfnrt]%b)|(?<=\\u[0-9A-Fa-f]{4}%b))"
TOKEN = (
    b"|".join(each.prefix + BEGINS.replace(b"%b", each.prefix) + b"(" + each.secret + b")" for each in FORMATS)
    + rb"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----("
    + PEM_BODY
    + rb")"
)
# One of these is in every text with such a key. They are found by their rarest letters, in one pass, and what is seldom
# so comes first: this is looked for in every body that is recorded.
RUN = "(?=[A-Za-z0-9_-]{8})"
SIGN = (
    rf"_{RUN}(?:(?<=hf_|r8_)|(?<=gsk_)|(?<=gh[pousr]_)|(?<=github_pat_))|-{RUN}(?:(?<=sk-)|(?<=glpat-)|(?<=xai-)|(?<=pplx-)|(?<=xox[abeoprs]-))"
    r"|z(?<=AIz)a|J(?<=eyJ)|K(?:(?<=AK)IA|(?<=PRIVATE K)EY)"
)
SIGNS, TEXT_SIGNS = re.compile(SIGN.encode()), re.compile(SIGN, re.ASCII)

# --- what stands after the name of a secret -----------------------------------------------------------------------

# A quote, as it is or in JSON inside JSON (tool arguments).
QUOTE = rb"\\*+[\"']"
# Between a name and its value: both in quotes or neither, since what is bare in JSON is no text.
IS = rb"(?:" + QUOTE + rb"\s*[:=]\s*" + QUOTE + rb"|\s*[:=]\s*)"
# A token has a digit somewhere, or is long; the words after "bearer" in a text about bonds have none.
BEARER = (
    rb"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))(?i:bearer)\s+"
    rb"(?=[^\s\"\\]*[0-9]|\S{24})([A-Za-z0-9._~+/=-]{12,})"
)
# A header, however it is written down, and fields named for what they hold.
FIELDS = (
    rb"(?i:authorization)" + IS + rb"(?:(?i:bearer|basic|token)\s+)?([^\s\"'\\,;}]+)"
    rb"|(?i:api[-_]?key)" + QUOTE + rb"\s*[:=]\s*" + QUOTE + rb"([^\"'\\]+)"
)
NAMED, TOKENS, BEARERS = re.compile(FIELDS + rb"|" + BEARER), re.compile(TOKEN), re.compile(BEARER)
# In what is in small letters.
API = re.compile(rb"api[-_]?key")

# In URLs: a password before the host, and parameters named for what they hold.
URL_SECRETS = re.compile(
    r"(://[^\s/?#@:\"'<>]*:)[^\s/?#@\"'<>]+(?=@)"
    r"|([?&;](?:api[-_]?key|key|access[-_]?token|auth[-_]?token|token|client[-_]?secret|secret|password|passwd|pwd"
    r"|sslpassword|signature|sig)=)[^&;\s#\"'<>]+",
    re.IGNORECASE,
)
# The shortest text with a secret in it: `?key=x`.
SHORTEST = 7

# An escape is a pair of characters, or six; a printable ASCII character may hide behind six.
ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9A-Fa-f])|.)", re.DOTALL)

# --- URLs of settings, and what other programs say ----------------------------------------------------------------

# Parameters of a URL whose values say where and how, never who: those of libpq and of Redis' clients
# (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
HARMLESS = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "db", "dbname", "gssencmode"),
        *("host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("load_balance_hosts", "port", "protocol", "sslmode", "sslnegotiation", "ssl_cert_reqs", "ssl_check_hostname"),
        *("socket_connect_timeout", "socket_timeout", "target_session_attrs", "tcp_user_timeout", "timeout"),
    }
)
# A step of a path that looks like a token: long, and neither words nor numbers alone.
STEP = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9._~%+=-]{24,}")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,60}://[^\s\"'<>|`]+")
# `password=…` as libpq writes it, `'password': '…'` as Python does; with quotes, or up to the next space. The name may
# begin and go on with other words. What is hidden already stays as it is.
KEYWORD = re.compile(
    r"(?i)(?P<name>(?:pass(?:word|wd|phrase|file)?|pwd|secret|token|api[-_]?key|sslkey|credentials?|authorization)"
    r"[\w.-]{0,100}[\"']?\s*+[=:]\s*)(?P<value>\(hidden\)|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\s,;)}\]&]+)"
)
# A host with an @ is the rest of a password with one that should have been escaped.
QUOTED = re.compile(r"(?<=[\"'])[^\"'\s]+@(?=[^\"'\s@]*[\"'])")
# In what is in small letters: where none of these and no key is, nothing has to be hidden.
SIGNS_OF_SECRETS = ("://", "pass", "pwd", "secret", "token", "key", "credential", "authorization", "bearer", "@")


# --- JSON ---------------------------------------------------------------------------------------------------------


def redact_json(data: bytes) -> bytes:
    """Return JSON (or other text) without keys; the same object when there are none."""
    if has_escapes(data):
        data = unescaped(data)
    if named(data.lower()):
        data = NAMED.sub(blank, data)
    return TOKENS.sub(blank, data) if SIGNS.search(data) is not None else data


def redact_error(data: bytes) -> bytes:
    """Return the JSON of an error without keys that it repeats; the same object when there are none. What stands after
    the name of a key stays: a message of ours may say "Authorization: Bearer YOUR_KEY"."""
    if b"earer" in data.lower():
        data = BEARERS.sub(blank, data)
    return TOKENS.sub(blank, data) if SIGNS.search(data) is not None else data


def may_hold_key(data: bytes) -> bool:
    """Return whether `redact_json` would have to look closely. If it would not, the same holds for each part."""
    return has_escapes(data) or SIGNS.search(data) is not None or named(data.lower())


def has_escapes(data: bytes) -> bool:
    """Return whether printable characters may be written as escapes."""
    # One byte is found thirty times as fast as two. And not by `in`: CPython's _Py_bytes_contains first takes what is
    # looked for to be a number, and has an error made and thrown away.
    return data.find(b"\\") >= 0 and (data.find(b"\\u00") >= 0 or data.find(b"\\/") >= 0)


def unescaped(data: bytes) -> bytes:
    r"""Return the same JSON with printable ASCII written as itself: `s` for `\u0073`, `/` for `\/`."""
    return ESCAPE.sub(unescape, data)


def unescape(found: re.Match[bytes]) -> bytes:
    if (digits := found[1]) is None:
        return b"/" if found[0] == b"\\/" else found[0]
    code = int(digits, 16)
    # A quote and a backslash must stay escaped, and DEL is not printable.
    return found[0] if code in (0x22, 0x5C, 0x7F) else bytes((code,))


def named(low: bytes) -> bool:
    """Return whether a word of `NAMED` is in a text in small letters. They are searched for one by one: all at once, by
    a regular expression, takes five times as long."""
    find = low.find
    return (
        find(b"earer") >= 0 or find(b"uthorization") >= 0 or (find(b"api") >= 0 and API.search(low) is not None)
    )  # fmt: skip


def blank(found: re.Match[bytes]) -> bytes:
    """Return what was found with a mark for its secret, which is the one group that took part."""
    start = found.start(found.lastindex or 0) - found.start()
    return found[0][:start] + MARK


# --- text ---------------------------------------------------------------------------------------------------------


def redact_text(text: str) -> str:
    """Return plain text without keys and without the secrets of URLs; the same object when there are none."""
    if len(text) < SHORTEST:
        return text
    low = text.lower()
    # Looked for without writing bytes, which the name of a model and a path seldom need.
    if "key" in low or "earer" in low or "uthorization" in low or TEXT_SIGNS.search(text) is not None:
        text = TOKENS.sub(blank, NAMED.sub(blank, as_bytes(text))).decode("utf-8", "surrogatepass")
    if "=" in text or "@" in text:
        text = URL_SECRETS.sub(lambda found: f"{found[1] or found[2]}{MARK.decode()}", text)
    return text


def redact_foreign(text: str, known: Iterable[str] = ()) -> str:
    """Return foreign text without the passwords and tokens in it, and without the `known` ones, whatever stands around
    them."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    low = text.lower()
    if not any(sign in low for sign in SIGNS_OF_SECRETS) and TEXT_SIGNS.search(text) is None:
        return text
    # Before single words of it are hidden, which would break its lines.
    text = blanked(text)
    text = URL.sub(lambda found: redact_url(found[0]), text)
    text = KEYWORD.sub(lambda found: found["name"] + HIDDEN, text)
    return blanked(QUOTED.sub(f"{HIDDEN}@", text))


def blanked(text: str) -> str:
    return redact_json(as_bytes(text)).decode("utf-8", "surrogatepass")


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- URLs ---------------------------------------------------------------------------------------------------------


def redact_url(url: str) -> str:
    """Return a URL without user and password, values of unknown parameters, and steps of its path that look like
    tokens."""
    rest, sign, fragment = url.partition("#")
    if "@" in fragment:
        # A password with a # that should have been escaped.
        rest, sign, fragment = url, "", ""
    # Without a scheme it is no URL, but may have been meant as one.
    start, end = userinfo(rest) if "://" in rest else (0, rest.rfind("@"))
    if start <= end:
        rest = f"{rest[:start]}{HIDDEN}{rest[end:]}"
    place, mark, query = rest.partition("?")
    scheme, slashes, path = place.partition("://")
    steps = [HIDDEN if STEP.fullmatch(step) else step for step in path.split("/")] if slashes else [path]
    shown = scheme + slashes + "/".join(steps)
    if mark:
        shown += "?" + "&".join(map(parameter, query.split("&")))
    if sign:
        shown += f"#{HIDDEN}"
    return blanked(shown)


def userinfo(url: str) -> tuple[int, int]:
    """Return where user and password begin and end: after the first `//`, at the last @; an end before the start if
    there are none."""
    slashes = url.find("//")
    return (slashes + 2, url.rfind("@")) if slashes >= 0 else (0, -1)


def parameter(text: str) -> str:
    """Return one parameter of a URL, its value hidden unless it is known to be harmless."""
    name, mark, value = text.partition("=")
    if not value:
        # A bare word may be a token.
        return text if mark or not name else HIDDEN
    return text if unquote(name).lower() in HARMLESS else f"{name}={HIDDEN}"


def url_secrets(url: str) -> frozenset[str]:
    """Return what in a URL is secret, as it stands there and unescaped: for errors that repeat parts of it."""
    found: set[str] = set()
    rest, _, fragment = url.partition("#")
    whole = rest if "@" in rest else url
    start, end = userinfo(whole)
    if start <= end:
        user, mark, password = whole[start:end].partition(":")
        found.add(password if mark else user)
    for each in rest.partition("?")[2].split("&"):
        name, mark, value = each.partition("=")
        if not mark:
            found.add(name)
        elif unquote(name).lower() not in HARMLESS:
            found.add(value)
    found.add(fragment)
    # Shorter ones would blank parts of words.
    return frozenset(word for each in found for word in (each, unquote(each)) if len(word) >= 3)


# --- a key, for whoever sent it -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def mask_key(secret: str) -> str:
    """Return a key as OpenAI tells it in an error: its beginning and end with stars between, never half of it."""
    secret = "".join(c if c.isprintable() else "?" for c in secret[:200])
    if len(secret) < 12:
        # Too short to show both ends.
        return secret[: len(secret) // 4] + "*" * (len(secret) - len(secret) // 4)
    head = 8 if len(secret) >= 24 else 3
    tail = 4 if len(secret) >= 24 else 2
    return f"{secret[:head]}{'*' * (len(secret) - head - tail)}{secret[-tail:]}"
