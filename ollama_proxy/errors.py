"""Every refusal a client can meet, and the body it is told in.

One class per reaction, and each says whose fault it is: the client's (4xx), the backend's (`Upstream…`),
or ours (`Internal`). The wording is OpenAI's own where OpenAI has such an error. Never logs, never knows HTTP
libraries; `server/` turns these into responses, `translate/` into events of a running stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AnswerTooLarge",
    "BackendError",
    "BodyTimeout",
    "ClientGone",
    "Conflict",
    "ContextTooLong",
    "Forbidden",
    "InsufficientStorage",
    "Internal",
    "Invalid",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotFound",
    "OproxyError",
    "Overloaded",
    "QuotaExceeded",
    "RateLimited",
    "ServerShutdown",
    "TooLarge",
    "Unauthorized",
    "Unsupported",
    "UnsupportedEncoding",
    "UpstreamBusy",
    "UpstreamDown",
    "UpstreamFailed",
    "UpstreamSlow",
    "retry_headers",
]

CONTACT = (
    "If the error persists, `oproxy status` shows the daemon and its backends; "
    "please include the request ID {id} in a report."
)


class OproxyError(Exception):
    """A refusal with an OpenAI body.

    `status` is the HTTP status, `type`, `param` and `code` the fields beside `message` in
    `{"error": {…}}`, `headers` extra response headers (lower case). `details` are what Anthropic's API tells beside the
    words, for its SDKs to act on; OpenAI's form has no place for them.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        if code is not None:
            self.code = code
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the whole answer body, `{"error": {"message", "type", "param", "code"}}`."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class Invalid(OproxyError):
    """The client's request is wrong: 400 in OpenAI's wording, with the path of the culprit in `param`."""

    status = 400
    type = "invalid_request_error"


class Unsupported(Invalid):
    """The request is well formed, but the model or backend behind us cannot do it."""

    code = "unsupported_parameter"


class ContextTooLong(Invalid):
    """The prompt does not fit the model's context window. Both numbers are in tokens; None where unknown."""

    code = "context_length_exceeded"

    def __init__(self, *, limit: int | None, tokens: int | None, param: str = "messages") -> None:
        self.limit, self.tokens = limit, tokens
        what = "messages" if param == "messages" else param
        if limit is None:
            text = "This model's maximum context length was exceeded."
        else:
            text = f"This model's maximum context length is {limit} tokens."
        if tokens is not None:
            text += f" However, your {what} resulted in {tokens} tokens."
        super().__init__(f"{text} Please reduce the length of the {what}.", param=param)


class Forbidden(OproxyError):
    """The request came by a Host or Origin that is not allowed here."""

    status = 403
    type = "invalid_request_error"


class NotFound(OproxyError):
    """No such URL or object."""

    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    """The model is unknown. `hint` says what would make it known, e.g. a pull command."""

    code = "model_not_found"

    def __init__(self, model: str, *, hint: str = "") -> None:
        # A name may be a megabyte long; its beginning says which it was.
        shown = model if len(model) <= 200 else f"{model[:200]}…"
        text = f"The model `{shown}` does not exist or you do not have access to it."
        super().__init__(f"{text} {hint}".rstrip())
        self.model, self.shown, self.hint = model, shown, hint


class MethodNotAllowed(OproxyError):
    """The URL exists, the method does not."""

    status = 405
    type = "invalid_request_error"


class Unauthorized(OproxyError):
    """No key, or none that opens: 401. The message never holds a key that works."""

    status = 401
    type = "invalid_request_error"


class RateLimited(OproxyError):
    """Too much asked in too short a time: 429. `type` is what there was too much of, "requests" or "tokens"; `wait` is
    the time in seconds until the same request would be let in (None: never, it is larger than the whole limit). `rate`
    is the limit in words, "50 requests per minute", where it is one."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, type: str = "requests", wait: float | None, rate: str = "") -> None:
        # What is larger than its limit is refused again however often it is tried.
        headers = {"x-should-retry": "false"} if wait is None else retry_headers(wait)
        super().__init__(message, headers=headers)
        self.type = type
        self.wait = wait
        self.rate = rate


class QuotaExceeded(OproxyError):
    """A budget is spent: 429, and trying again does not help."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "You exceeded your current quota, please check your plan and billing details. For more information on "
            "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
            headers={"x-should-retry": "false"},
        )


class Overloaded(OproxyError):
    """We ourselves have too much to do (a full queue) or cannot keep our promises (no database): 503. `wait` is the
    time in seconds after which to try again."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"

    def __init__(self, message: str, *, wait: float, code: str | None = None) -> None:
        super().__init__(message, code=code, headers=retry_headers(wait))
        self.wait = wait


class ServerShutdown(Overloaded):
    """The daemon ends, and the answer did not finish within the grace time: 503."""

    code = "server_shutdown"

    def __init__(self) -> None:
        super().__init__(
            "The server is shutting down and could not finish this answer. Please try again.", wait=5.0, code=self.code
        )


def retry_headers(wait: float) -> dict[str, str]:
    """Return the headers by which clients know when to try again: whole seconds for everybody, milliseconds and the
    plain word for OpenAI's own SDKs. Both are rounded up: a moment too early would be refused again."""
    return {
        "retry-after": str(max(1, math.ceil(wait))),
        "retry-after-ms": str(max(1, math.ceil(wait * 1000))),
        "x-should-retry": "true",
    }


class Conflict(OproxyError):
    """The object is not in the state that this needs: 409."""

    status = 409
    type = "invalid_request_error"


class TooLarge(OproxyError):
    """The request is larger than `[server] max_body`, or needs more memory than `[server] memory` gives to one: 413."""

    status = 413
    type = "invalid_request_error"


class UnsupportedEncoding(OproxyError):
    """The body of the request is packed in a way that is not known here: 415, with the ways that are."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_encoding"

    def __init__(self, message: str, *, supported: Sequence[str]) -> None:
        # https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
        headers = {"accept-encoding": ", ".join(supported), "connection": "close"}
        super().__init__(message, headers=headers, details={"error_code": "request_body_encoding_unsupported"})


class BodyTimeout(OproxyError):
    """The client did not send the body of its request, or sent it too slowly: 408. OpenAI's SDKs try again by
    themselves."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class InsufficientStorage(OproxyError):
    """No room on the disk, or none left of what the settings allow: 507. Trying again does not help."""

    status = 507
    type = "server_error"
    code = "insufficient_storage"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"x-should-retry": "false"})


class ClientGone(OproxyError):
    """The client hung up. Nobody reads the body; 499 is for our own books."""

    status = 499
    type = "invalid_request_error"
    code = "client_closed_request"

    def __init__(self, message: str = "The client closed the connection.") -> None:
        super().__init__(message)


class BackendError(OproxyError):
    """The backend's fault. `backend` is its name in the config."""

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, headers=headers)
        self.backend = backend


class UpstreamDown(BackendError):
    """The backend cannot be reached."""

    status = 502
    code = "backend_unreachable"


class UpstreamSlow(BackendError):
    """The backend did not answer within its time."""

    status = 504
    code = "backend_timeout"


class UpstreamBusy(BackendError):
    """The backend has too much to do; carries `retry-after` (seconds)."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"

    def __init__(self, message: str, *, backend: str = "", retry_after: int = 2) -> None:
        super().__init__(message, backend=backend, headers={"retry-after": str(retry_after)})


class UpstreamFailed(BackendError):
    """The backend answered with an error of its own, which is kept: `status`, `type` and text are its words."""

    status = 502
    code = "backend_error"

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        status: int = 502,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, backend=backend, param=param, code=code, headers=headers)
        self.status = status
        if type is not None:
            self.type = type


class AnswerTooLarge(BackendError):
    """The backend's answer does not fit into the memory that a request may take: 502. Trying again does not help."""

    status = 502
    code = "answer_too_large"

    def __init__(self, message: str, *, backend: str = "") -> None:
        super().__init__(message, backend=backend, headers={"x-should-retry": "false"})


class Internal(OproxyError):
    """Our own fault. The cause goes to the daemon's log under the request id, never to the client."""

    status = 500

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "The server had an error while processing your request. Sorry about that! " + CONTACT.format(id=request_id)
        )
