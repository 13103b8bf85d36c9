"""What every request passes, in and out: its id, the Host and Origin checks, CORS, errors to bodies, one line.

There is one middleware, because each costs every request; the steps are functions of their own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import socket
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from ..errors import (
    ClientGone,
    Forbidden,
    Internal,
    Invalid,
    MethodNotAllowed,
    OproxyError,
    Overloaded,
    ServerShutdown,
    TooLarge,
)
from ..policy import limit
from ..policy.address import host_allowed, origin_allowed
from ..policy.books import Books
from ..policy.printable import header_text, line_text, utf8_text
from ..policy.redact import redact_error, redact_text
from ..recorder.daemonlog import request_id
from ..settings import Settings
from .body import is_here
from .cutting import is_cut
from .dialects import dialect_of
from .door import enter, needs_accounts
from .groups import group_of
from .keys import ACCOUNTS, BOOKS, CLERK, CLOCK, ENGINE, LOOP_WATCH, MEMORY, NEW_ID, RECORDER, SAY, WALL
from .line import request_line
from .loop_watch import INTERVAL
from .recording import record
from .urls import ANY, invalid_url, methods_of

__all__ = ["edge", "error_response", "head", "tell"]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What a browser's script may read of an answer. OpenAI exposes X-Request-ID; ours come beside it.
EXPOSED = (
    "x-request-id, openai-processing-ms, openai-version, x-oproxy-backend, x-oproxy-model, x-oproxy-ignored, "
    "x-oproxy-schema-miss, x-oproxy-moderation, x-oproxy-queue-ms, retry-after, retry-after-ms, x-should-retry, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, request-id"
)
ALLOWED_HEADERS = (
    "authorization, content-type, openai-beta, openai-organization, openai-project, x-api-key, api-key, x-oproxy-tag"
)

# An answer of more bytes is sent before its memory is given back; less fits into the socket's own buffers.
LARGE = 256 * 1024
# Where there may be too many requests: the administrator's own are always let in.
CROWDED = ("/v1/", "/api/")
# Forms with files have limits of their own: they go to the disk as they come.
STREAMED = re.compile(r"/v1/files/?|/v1/uploads/[^/]+/parts/?|/api/blobs/[^/]+/?")


def own_names() -> frozenset[str]:
    """Return the names this machine calls itself by."""
    name = socket.gethostname().lower()
    return frozenset({name, name.partition(".")[0], f"{name.partition('.')[0]}.local"})


OWN = own_names()


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wrap every handler. Nothing but a response, an aiohttp.web error or a cancellation gets past it."""
    app = request.app
    clock = app[CLOCK]
    books = Books(clock(), id=f"req_{app[NEW_ID]()[:32]}", at=app[WALL](), memory=app[MEMORY])
    request[BOOKS] = books
    request_id.set(books.id)
    clerk = app[CLERK]
    watch = app[LOOP_WATCH]
    watch.running[books.id] = request
    response: web.StreamResponse | None = None
    try:
        response = await guarded(request, handler, app[ENGINE].snapshot.settings)
    except OproxyError as exc:
        books.code = exc.code
        response = error_response(exc, request)
    except (asyncio.CancelledError, ConnectionResetError) as exc:
        if (cut := cut_answer(request, exc)) is None:
            raise
        response = cut
    except MemoryError:
        # What was read so far is let go with the exception; the others go on.
        books.code = Overloaded.code
        response = error_response(Overloaded("The server has no memory left for this request.", wait=1.0), request)
        response.force_close()
    except Exception:
        log.exception("request %s failed", books.id)
        books.code = "internal"
        response = error_response(Internal(books.id), request)
    finally:
        books.ended = clock()
        del watch.running[books.id]
        if books.ended - books.started > INTERVAL:
            watch.ended.append(request)
        if response is None:
            clerk.close_now(books)
            tell(request, books, b"")
            books.hold.release()
    try:
        return await finished(request, response, books)
    finally:
        books.hold.release()


def cut_answer(request: web.Request, exc: BaseException) -> web.Response | None:
    """Return what is answered to a request that was cancelled; None where there is nobody to tell. Notes in the books
    whether we cut it at the end of the grace time, or the client left."""
    books = request[BOOKS]
    if not (isinstance(exc, asyncio.CancelledError) and is_cut(request.app)):
        # Perhaps while we wrote to it.
        books.status, books.code = ClientGone.status, ClientGone.code
        return None
    error = ServerShutdown()
    books.status, books.code = error.status, error.code
    if request.writer.output_size > 0:
        return None
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    return error_response(error, request)


async def finished(request: web.Request, response: web.StreamResponse, books: Books) -> web.StreamResponse:
    """Close the books of an answer, and send a large one, whose memory is held until the client has taken it."""
    clerk = request.app[CLERK]
    books.status = response.status
    if response.prepared:
        clerk.close_now(books)
        tell(request, books, None)
        return response
    response.headers.update(head(request))
    await clerk.close(books)
    body = response.body if isinstance(response, web.Response) else b""
    tell(request, books, body)
    if isinstance(body, bytes) and len(body) > LARGE:
        await response.prepare(request)
        await response.write_eof()
    return response


def tell(request: web.Request, books: Books, answer: object) -> None:
    """Record a request, and print its line. Neither has any bearing on the answer."""
    app = request.app
    try:
        if books.endpoint and (recorder := app.get(RECORDER)) is not None:
            record(recorder, request, answer)
        origin = request.headers.get("origin") if books.status == 403 else None
        app[SAY](request_line(request.method, request.path, books, app[WALL](), origin))
    except Exception:
        log.exception("request %s was answered, but not recorded or printed", books.id)


async def guarded(request: web.Request, handler: Handler, settings: Settings) -> web.StreamResponse:
    """Check where the request comes from, then let the handler answer; aiohttp's own refusals become ours."""
    server = settings.server
    if not known_host(request.headers.get("host", ""), server.allowed_hosts, settings.tls.names):
        raise Forbidden(
            f"The host name {printable(request.headers.get('host', ''))} is not served here. "
            "Use localhost or 127.0.0.1, or add the name to allowed_hosts under [server]."
        )
    origin = request.headers.get("origin")
    if origin is not None and not origin_known(request, origin, server.cors_origins):
        raise Forbidden(
            f"The browser origin {printable(origin)} is not allowed. "
            "Add it to cors_origins under [server] to let it in."
        )
    if request.method == "OPTIONS":
        return await preflight(request)
    if len(request.app[LOOP_WATCH].running) > server.max_requests and request.path.startswith(CROWDED):
        refuse_crowd(request, server.max_requests)
    if not request.app[ACCOUNTS].ready and needs_accounts(request.path, settings):
        await request.app[ACCOUNTS].settled()
    if (request.content_length or 0) > server.max_body and not (
        STREAMED.fullmatch(request.path) or (group_of(request.path) and request.content_type.startswith("multipart/"))
    ):
        # Not one byte of it is waited for.
        raise too_large(server.max_body)
    enter(request, settings)
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge as exc:
        raise too_large(server.max_body) from exc
    except web.HTTPNotFound as exc:
        raise invalid_url(request) from exc
    except web.HTTPMethodNotAllowed as exc:
        allowed = ", ".join(sorted(exc.allowed_methods))
        error = MethodNotAllowed(
            f"Not allowed to {request.method} on {request.path} (allowed: {allowed}). "
            "(HINT: Perhaps you meant to use a different HTTP method?)"
        )
        error.headers["allow"] = allowed
        raise error from exc
    except web.RequestPayloadError as exc:
        # Cut off, or not what its encoding promised.
        text = "The request body could not be read: it is cut off, or not encoded as its headers say."
        # aiohttp hangs up after this; a client that knows will not use the connection again.
        raise Invalid(text, headers={"connection": "close"}) from exc
    except web.HTTPException as exc:
        if exc.status < 400:
            return exc
        raise Invalid(exc.reason) from exc


def refuse_crowd(request: web.Request, most: int) -> None:
    """Refuse a request that is one too many; how we are can still be asked. Raises Overloaded."""
    if request.path.startswith("/v1/health"):
        return
    error = Overloaded(f"The server is handling {most} requests (max_requests under [server]).", wait=1.0)
    if not is_here(request):
        error.headers["connection"] = "close"
    raise error


def too_large(most: int) -> TooLarge:
    return TooLarge(
        f"The request body is larger than {most} bytes (max_body under [server]).", headers={"connection": "close"}
    )


@functools.lru_cache(maxsize=256)
def known_host(host: str, allowed: tuple[str, ...], certified: tuple[str, ...]) -> bool:
    """Return whether we may be called by this name. Remembered: a client says the same one each time."""
    return host_allowed(host, own_names=OWN, allowed_hosts=(*allowed, *certified))


def printable(text: str) -> str:
    """Quote a header's value for a message: short and without control characters."""
    return f"'{line_text(utf8_text(text), 100)}'"


def origin_known(request: web.Request, origin: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a browser page may talk to us: our own pages, and the origins in the settings."""
    host = request.headers.get("host", "")
    if origin in (f"http://{host}", f"https://{host}"):
        return True
    return origin_allowed(origin, allowed)


async def preflight(request: web.Request) -> web.Response:
    """Answer OPTIONS with the methods of the path: no key is needed, and nothing is done. Raises NotFound."""
    methods = ANY if request.path == "*" else await methods_of(request)
    asked = request.headers.get("access-control-request-method", "")
    if not methods:
        # A browser would hide the refusal from its page if it were told here.
        if not (asked.isascii() and asked.isalpha() and len(asked) < 20):
            raise invalid_url(request)
        methods = frozenset({asked})
    allowed = ", ".join(sorted({*methods, "OPTIONS"}))
    return web.Response(
        status=204,
        headers={"allow": allowed, "access-control-allow-methods": allowed, "access-control-max-age": "600"},
    )


def head(request: web.Request) -> dict[str, str]:
    """Return the headers every answer carries."""
    books = request[BOOKS]
    elapsed = request.app[CLOCK]() - books.started
    headers = {
        "x-request-id": books.id,
        "openai-processing-ms": str(round(elapsed * 1000)),
        "openai-version": "2020-10-01",
        # In place of aiohttp's, which tells versions.
        "server": "oproxy",
    }
    if books.backend:
        headers["x-oproxy-backend"] = books.backend
    if books.served:
        headers["x-oproxy-model"] = header_text(books.served)
    if books.queued is not None:
        headers["x-oproxy-queue-ms"] = str(round(books.queued * 1000))
    limits = books.limits if books.limits is not None else request.app[CLERK].gate.look(books)
    if limits is not None:
        headers |= limit.headers(limits)
    if books.ignored:
        headers["x-oproxy-ignored"] = header_text(redact_text(", ".join(books.ignored)))
    if miss := books.notes.get("schema_miss") or books.notes.get("tool_miss"):
        headers["x-oproxy-schema-miss"] = header_text(str(miss))
    if judge := books.notes.get("moderation"):
        headers["x-oproxy-moderation"] = header_text(str(judge))
    if (own := dialect_of(request.path, request.headers).headers) is not None:
        headers |= own(headers)
    if origin := request.headers.get("origin"):
        settings = request.app[ENGINE].snapshot.settings
        if origin_known(request, origin, settings.server.cors_origins):
            headers["access-control-allow-origin"] = origin
            headers["access-control-allow-credentials"] = "true"
            headers["access-control-expose-headers"] = EXPOSED
            headers["access-control-allow-headers"] = (
                header_text(request.headers.get("access-control-request-headers", "")) or ALLOWED_HEADERS
            )
            headers["vary"] = "Origin"
    return headers


def error_response(error: OproxyError, request: web.Request) -> web.Response:
    """Write a refusal in the form of the API that was asked."""
    dialect = dialect_of(request.path, request.headers)
    response = web.Response(
        status=dialect.status(error),
        body=redact_error(msgspec.json.encode(dialect.body(error, request[BOOKS].id))),
        content_type="application/json",
        headers=error.headers,
    )
    if error.headers.get("connection") == "close":
        response.force_close()
    return response
