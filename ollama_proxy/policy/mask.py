"""Taking secrets out of what is shown to people: URLs of settings, and foreign programs' words, which repeat them.

Rather too much is hidden than too little. Pure. What clients' bodies hold is `redact`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from .redact import secrets

__all__ = ["HIDDEN", "mask_secrets", "mask_url", "secrets_of"]

HIDDEN = "(hidden)"

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
TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9._~%+=-]{24,}")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>|`]+")
USERINFO = re.compile(r"(?<=//).*@", re.DOTALL)

# `password=…` as libpq writes it, `'password': '…'` as Python does; with quotes, or up to the next space.
NAMES = r"[\w.-]*(?:pass(?:word|wd|phrase|file)?|pwd|secret|token|api[-_]?key|sslkey|credentials?|authorization)[\w.-]*"
KEYWORD = re.compile(
    rf"(?i)(?P<name>\b{NAMES}[\"']?\s*[=:]\s*)(?P<value>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\s,;)}}\]&]+)"
)
# A host with an @ is the rest of a password with one that should have been escaped.
QUOTED = re.compile(r"(?<=[\"'])[^\"'\s]+@(?=[^\"'\s]*[\"'])")
# In what is in small letters: where none of these is, nothing has to be hidden.
SIGNS = ("://", "pass", "pwd", "secret", "token", "key", "credential", "authorization", "bearer", "sk-", "@")


def mask_url(url: str) -> str:
    """Return a URL without user and password, values of unknown parameters, and steps of its path that look like
    tokens."""
    rest, sign, fragment = url.partition("#")
    if "@" in fragment:
        # A password with a # that should have been escaped.
        rest, sign, fragment = url, "", ""
    # Without a scheme it is no URL, but may have been meant as one.
    rest = USERINFO.sub(f"{HIDDEN}@", rest) if "://" in rest else re.sub(r"(?s)^.*@", f"{HIDDEN}@", rest)
    place, mark, query = rest.partition("?")
    scheme, slashes, path = place.partition("://")
    steps = [HIDDEN if TOKEN.fullmatch(step) else step for step in path.split("/")] if slashes else [path]
    shown = scheme + slashes + "/".join(steps)
    if mark:
        shown += "?" + "&".join(map(parameter, query.split("&")))
    if sign:
        shown += f"#{HIDDEN}"
    return without_keys(shown)


def parameter(text: str) -> str:
    """Return one parameter of a URL, its value hidden unless it is known to be harmless."""
    name, mark, value = text.partition("=")
    if not value:
        # A bare word may be a token.
        return text if mark or not name else HIDDEN
    return text if unquote(name).lower() in HARMLESS else f"{name}={HIDDEN}"


def mask_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Return foreign text without the passwords and tokens in it, and without the `known` ones, whatever stands around
    them."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    low = text.lower()
    if not any(sign in low for sign in SIGNS):
        return text
    text = URL.sub(lambda found: mask_url(found[0]), text)
    text = KEYWORD.sub(lambda found: found["name"] + HIDDEN, text)
    return without_keys(QUOTED.sub(f"{HIDDEN}@", text))


def without_keys(text: str) -> str:
    return secrets(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def secrets_of(url: str) -> frozenset[str]:
    """Return what in a URL is secret, as it stands there and unescaped: for errors that repeat parts of it."""
    found: set[str] = set()
    rest, _, fragment = url.partition("#")
    if userinfo := USERINFO.search(rest if "@" in rest else url):
        user, mark, password = userinfo[0][:-1].partition(":")
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
