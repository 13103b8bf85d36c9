"""URLs of servers as people write them: what is wrong with one, and what was probably meant. Pure: asks no server."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

__all__ = ["NO_HOST", "likely_bases", "misplaced_path", "mistake"]

# Paths of OpenAI's API that are no base: what a client asks stands below the base.
ENDPOINTS = re.compile(r"/(chat/completions|completions|embeddings|responses|messages|models)$")
# A host: letters of any script, digits, and what a URL's host may have; or an IPv6 address in brackets.
HOST = re.compile(r"[\w.~-]+|[0-9A-Fa-f:.]+(?:%[\w.~-]+)?")
NO_HOST, NO_PORT = "one without a host that can be", "one with a port that is no number from 1 to 65535"
# https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
LONGEST_LABEL = 63


def mistake(url: str, schemes: Collection[str], *, credentials: bool = False) -> str:
    """Say what is wrong with a URL ("one with white space in it"), "" if nothing can be said without asking the
    network. Never repeats it: it may hold a secret. `credentials`: a user and a password may stand in it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return f"one without {next(iter(schemes))}:// in front"
    if scheme not in schemes:
        return "one of another scheme"
    if any(c.isspace() or not c.isprintable() for c in url):
        return "one with white space or a control character in it"
    if "\\" in url:
        return "one with a backslash in it"
    try:
        parts = urlsplit(f"http://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return NO_HOST if "[" in rest.partition("/")[0] and "]" not in rest else NO_PORT
    if port == 0:
        return NO_PORT
    if "@" in parts.netloc and not credentials:
        return "one with a user name or password in it (a key belongs in api_key, all else in headers)"
    if not host or not HOST.fullmatch(host) or not all(0 < len(label) <= LONGEST_LABEL for label in labels(host)):
        return NO_HOST
    return ""


def labels(host: str) -> list[str]:
    return [host.replace(":", "")[:LONGEST_LABEL]] if ":" in host else host.removesuffix(".").split(".")


def misplaced_path(url: str, kind: str) -> str:
    """Return the URL without the part of its path that cannot belong to a backend's base, "" if it is a base."""
    base = url.rstrip("/")
    if kind == "ollama":
        meant = re.sub(r"/(?:v1|api)(?:/[a-z/-]*)?$", "", base)
    else:
        meant = ENDPOINTS.sub("", base)
    return meant if meant != base else ""


def likely_bases(url: str) -> Iterator[str]:
    """Yield the bases that may have been meant where there is no list of models below a URL, the likeliest first. All
    are on the same server: a key goes nowhere else."""
    base = url.rstrip("/")
    meant = ENDPOINTS.sub("", base)
    parts = urlsplit(base)
    root = f"{parts.scheme}://{parts.netloc}"
    seen = {base}
    below = meant if meant.endswith("/v1") else f"{meant}/v1"
    for each in (meant, below, re.sub(r"(/v1)+$", "/v1", meant), f"{root}/v1", f"{root}/api/v1"):
        if each not in seen:
            seen.add(each)
            yield each
