"""What a caller shows to be let in: the key in the headers, how it is told in messages, what our own keys look like.
Pure: randomness comes in as bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from ..account import Key
from ..errors import Forbidden, ModelNotFound, Unauthorized
from .redact import mask_key

__all__ = [
    "PREFIX",
    "allows",
    "check_endpoint",
    "check_model",
    "cut_short",
    "digest",
    "env_keys",
    "incorrect",
    "missing",
    "named_keys",
    "new_secret",
    "sent_key",
    "shown",
]

PREFIX = "sk-oproxy-"
# Letters and digits of a key after its prefix: 40 of 32 kinds are 200 bits.
LENGTH = 40
# https://developers.openai.com/api/docs/guides/realtime-websocket
BROWSERS = "openai-insecure-api-key."


def new_secret(random: bytes) -> str:
    """Return a new key made of 25 random bytes."""
    if len(random) * 8 < LENGTH * 5:
        raise ValueError("a key needs 25 random bytes")
    return PREFIX + base64.b32encode(random).decode().lower()[:LENGTH]


def digest(secret: str) -> str:
    """Return what is kept of a key. Its entropy is high, so a plain hash cannot be searched backwards; and keys are
    found by their hash, so no comparison stops early at a byte of the key itself."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def shown(secret: str) -> str:
    """Return what a list shows of one of our keys: `sk-oproxy-…abcd`."""
    return f"{PREFIX}…{secret[-4:]}" if secret.startswith(PREFIX) else mask_key(secret)


def sent_key(headers: Mapping[str, str]) -> str | None:
    """Return the key that a request carries: `Authorization: Bearer`, or the password of `Basic`, else `x-api-key`
    (Anthropic's) or `api-key` (Azure's), else a protocol of a browser's WebSocket; "" for an Authorization without one,
    None for no such header."""
    authorization = headers.get("authorization")
    if authorization is None:
        return headers.get("x-api-key") or headers.get("api-key") or browsers_key(headers)
    scheme, _, value = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return ""
            # curl -u sk-…: sends the key as the name.
            return password or user
        case _:
            return ""


def browsers_key(headers: Mapping[str, str]) -> str | None:
    """Return the key among the protocols of a WebSocket, where OpenAI has browsers put it: they can send no headers."""
    if (protocols := headers.get("sec-websocket-protocol")) is None:
        return None
    for offered in protocols.split(","):
        if offered.strip().startswith(BROWSERS):
            return offered.strip()[len(BROWSERS) :]
    return None


def missing() -> Unauthorized:
    """No key at all."""
    return Unauthorized(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY). `oproxy keys create NAME` makes a key on the machine of the daemon."
    )


def incorrect(secret: str, why: str = "") -> Unauthorized:
    """A key that opens nothing; `why` says more of one that did once: "has expired"."""
    if why:
        return Unauthorized(f"The API key provided, {mask_key(secret)}, {why}.", code="invalid_api_key")
    return Unauthorized(
        f"Incorrect API key provided: {mask_key(secret)}. "
        "`oproxy keys list` shows the keys on the machine of the daemon.",
        code="invalid_api_key",
    )


def check_endpoint(key: Key, path: str) -> None:
    """Refuse a path that the key is not for. Who may use an endpoint may use what is below it: whoever can make a
    response can also fetch it."""
    path = path.rstrip("/") or "/"
    patterns = [pattern.rstrip("/") or "/" for pattern in key.endpoints]
    below = [f"{pattern}/*" for pattern in patterns if pattern != "/"]
    if patterns and not allows((*patterns, *below), path):
        raise Forbidden(
            f"You have insufficient permissions for this operation: this API key is not allowed to use {path}.",
            code="insufficient_permissions",
        )


def check_model(key: Key, model: str) -> None:
    """Refuse a model that the key is not for, in the words for one that is not there."""
    if key.models and not allows(key.models, model):
        raise ModelNotFound(model)


def allows(patterns: Iterable[str], name: str) -> bool:
    """Return whether a name is one of these, or fits a glob among them."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def named_keys(text: str) -> dict[str, str]:
    """Read `name=sk-…,name=sk-…`; a key without a name is called by its place. Blank entries are left out."""
    out: dict[str, str] = {}
    for place, part in enumerate(text.replace("\n", ",").split(","), 1):
        name, is_named, secret = part.strip().partition("=")
        if not is_named:
            name, secret = f"key-{place}", name
        if secret.strip():
            out[name.strip()] = secret.strip()
    return out


def env_keys(text: str) -> str | None:
    """Return what a .env file says of OPROXY_API_KEYS, None if it says nothing of it: also where it breaks off before
    the first key."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        name, is_set, value = line.strip().removeprefix("export ").partition("=")
        keys = value.strip().strip("'\"")
        if is_set and name.strip() == "OPROXY_API_KEYS" and (keys or line.endswith(("\n", "\r"))):
            found.append(keys)
    return ",".join(found) if found else None


def cut_short(before: str, after: str) -> bool:
    """Return whether keys are the beginning of those before and end within one: what is left of it must not open."""
    rest = before[len(after) :]
    return after != "" and before.startswith(after) and rest != "" and rest[0] != "," and after[-1] != ","
