"""The door: who asks, by which key, and whether this door is open to them. Fills the first lines of the books.

Which key opens what is decided by `policy.credentials`; the keys in force are the keyring's.
"""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from ..account import Caller
from ..errors import Forbidden, OproxyError, Overloaded, RateLimited, Unauthorized
from ..policy import credentials
from ..policy.address import is_loopback
from ..policy.books import Books
from ..policy.limit import duration
from ..policy.printable import utf8_text
from ..policy.redact import mask_key
from ..recorder.chunks import Chunks
from ..settings import Settings
from ..translate.openapi import Access
from .accounts import unavailable
from .keys import BOOKS, CHUNKS, CLERK, CLOCK, GUESSES, KEYRING, RECORDER

__all__ = ["access_of", "enter", "needs_accounts", "note_tag", "restricted"]

# Nobody is asked for a key here: what a load balancer or a browser that knows nothing yet may see.
OPEN = frozenset({"/", "/health", "/v1/health", "/openapi.json"})
# What only an administrator may do once keys are asked for, or from another machine.
ADMIN = (
    *("/oproxy/", "/v1/organization/"),
    # What changes an Ollama's models or its account.
    *("/api/blobs/", "/api/copy", "/api/create", "/api/delete", "/api/me", "/api/pull", "/api/push", "/api/signout"),
)
# What models answer at Ollama's own door.
OLLAMA = ("/api/chat", "/api/embed", "/api/generate")
# Whoever can make keys could come in at any time later: never without an administrator's key, or the daemon's token.
ALWAYS = ("/oproxy/keys", "/v1/organization/admin_api_keys", "/v1/organization/projects/")


def enter(request: web.Request, settings: Settings) -> None:
    """Find out who asks, and refuse who may not. Raises Unauthorized, Forbidden or RateLimited."""
    books = request[BOOKS]
    path = request.path
    headers = request.headers
    books.address = address = request.remote or ""
    books.agent = utf8_text(headers.get("user-agent", "")[:200])
    if path.startswith(("/v1/", *OLLAMA)) and not path.startswith(("/v1/health", "/v1/organization/")):
        books.endpoint = endpoint_of(request)
        if request.app.get(RECORDER) is not None:
            request[CHUNKS] = Chunks(books.hold)
    secret = credentials.sent_key(headers)
    strict = settings.auth.mode == "on"
    admins = restricted(path) or (request.method == "DELETE" and path.startswith("/v1/models/"))
    caller, error = recognize(request, settings, secret, address, decides=strict or admins)
    if caller is None:
        caller = Caller(name=mask_key(secret) if secret else "", address=address)
    books.caller = caller
    if error is not None and strict and not is_open(path):
        raise error
    books.tag = utf8_text(headers.get("x-oproxy-tag", "")[:200])
    if caller.key is not None:
        credentials.check_endpoint(caller.key, path)
    if admins and not caller.admin:
        refuse_stranger(path, caller, error, settings)
    if books.endpoint:
        request.app[CLERK].ready()


def is_open(path: str) -> bool:
    """Return whether nobody is asked for a key there."""
    return path.rstrip("/") in OPEN or path in OPEN or path.startswith("/docs")


def needs_accounts(path: str, settings: Settings) -> bool:
    """Return whether a request has to wait until it is known whether the database can be used: where a key or a budget
    decides, or nothing may be answered that cannot be booked."""
    if path.startswith(ALWAYS) or path.startswith("/v1/organization/"):
        return True
    if settings.store.on_error == "refuse" and settings.store.ledger and not is_open(path):
        return True
    budget = settings.budget
    bounded = (budget.money_per_day, budget.money_per_month, budget.tokens_per_day, budget.tokens_per_month)
    return (settings.auth.mode == "on" or any(limit is not None for limit in bounded)) and not is_open(path)


def access_of(path: str) -> Access:
    """Return who may use a path."""
    if is_open(path):
        return "open"
    return "admin" if restricted(path) else "caller"


def restricted(path: str) -> bool:
    """Return whether a path is for administrators."""
    return path.startswith(ADMIN)


def recognize(
    request: web.Request, settings: Settings, secret: str | None, address: str, *, decides: bool
) -> tuple[Caller | None, OproxyError | None]:
    """Return whose key was sent, None for none of ours, and what is to be told to who has none. `decides`: the key
    opens something here, so that an address may try only so many."""
    keyring = request.app[KEYRING]
    error: OproxyError | None = None
    try:
        caller = keyring.caller(secret, address)
        if caller is None and decides:
            error = stranger(secret, incomplete=keyring.incomplete)
    except Unauthorized as exc:
        caller, error = None, exc
    limit = settings.auth.failures
    # Nobody guesses the daemon's own token, and its commands must work while somebody else guesses keys.
    if not decides or not secret or not limit or (caller is not None and caller.key is None):
        return caller, error
    guesses, now = request.app[GUESSES], request.app[CLOCK]()
    if caller is not None and caller.key is not None:
        wait = guesses.right(address, caller.key.digest, limit=limit, now=now)
    else:
        wait = guesses.wrong(address, credentials.digest(secret), limit=limit, now=now)
    if not wait:
        return caller, error
    return None, RateLimited(
        "Too many invalid API keys were tried from your address. Until it may try again, only keys that have worked "
        f"from there before are accepted. Please try again in {duration(wait)}.",
        wait=wait,
    )


def refuse_stranger(path: str, caller: Caller, error: OproxyError | None, settings: Settings) -> None:
    """Refuse what is an administrator's, unless nobody is asked for a key and this machine itself asks. `error` is
    what is told to who has no key."""
    if settings.auth.mode == "off" and not path.startswith(ALWAYS) and is_loopback(caller.address):
        return
    if error is not None:
        raise error
    raise Forbidden(
        "You have insufficient permissions for this operation: it needs an API key with admin right "
        "(`oproxy keys create NAME --admin`).",
        code="insufficient_permissions",
    )


def stranger(secret: str | None, *, incomplete: bool) -> Unauthorized | Overloaded:
    """Return what is told to who sends no key of ours. Nobody can say that of a key as long as those of the database
    could not be read."""
    if not secret:
        return credentials.missing()
    return unavailable() if incomplete else credentials.incorrect(secret)


def endpoint_of(request: web.Request) -> str:
    """Return the path as it is booked: names in it do not count."""
    resource = request.match_info.route.resource
    if resource is None:
        return ""
    path: str = resource.canonical
    return path.rstrip("/")


def note_tag(books: Books, shape: Struct) -> None:
    """Take the tag that stands in a request's body, where no header said one: its metadata's, or its user."""
    if not books.tag:
        metadata = getattr(shape, "metadata", None)
        said = metadata.get("tag") if isinstance(metadata, dict) else None
        books.tag = (said or getattr(shape, "user", None) or "")[:200]
