"""The lines of a batch: what is asked, checked as OpenAI checks it, and what is answered.

Decides nothing about when or by whom; a body is only looked into as far as OpenAI does before a batch begins, the rest
is refused when its line's turn comes. Words and codes: https://platform.openai.com/docs/guides/batch, and what its
answers say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from .. import framing
from ..errors import Invalid, NotFound
from .organization import ORGANIZATION
from .validate import missing, wrong_type

__all__ = [
    "CANCELLED",
    "EXPIRED",
    "MOST_LINES",
    "Checked",
    "Checker",
    "Problem",
    "Tokens",
    "ask_of",
    "compact",
    "empty",
    "no_batch",
    "no_input",
    "number_of",
    "too_large",
    "too_many",
    "unknown_model",
    "write_line",
    "write_unanswered",
]

MOST_LINES = 50_000
# Of embeddings: https://platform.openai.com/docs/api-reference/batch/create
MOST_INPUTS = 50_000
PREFIX = b'{"id":"batch_req_'
# Random hex digits of an id, and those that tell the line's number.
RANDOM, NUMBER = 24, 8

# What each endpoint cannot do without.
NEEDED = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
    "/v1/moderations": "input",
}
STREAMING = {
    "/v1/chat/completions": "Chat Completions",
    "/v1/completions": "Completions",
    "/v1/responses": "Responses",
}

EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
CANCELLED = ("batch_cancelled", "The batch was cancelled before this request was executed.")
FAILED = ("batch_failed", "The batch failed before this request was executed.")


class Problem(NamedTuple):
    """What is wrong with a line, in OpenAI's words."""

    code: str
    message: str
    param: str | None = None


class Checked(NamedTuple):
    """A line as far as it was checked: its model ("": it does not say), and what is wrong."""

    model: str
    problems: tuple[Problem, ...] = ()


class Ask(Struct):
    """A line whose form is known to be right."""

    custom_id: str
    body: Raw


class Tokens(NamedTuple):
    """What an answer says that it took."""

    prompt: int = 0
    cached: int = 0
    answer: int = 0
    reasoning: int = 0


# --- what is asked ------------------------------------------------------------------------------------------------

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ASK = msgspec.json.Decoder(Ask)
_TEXT = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()
_BROKEN = (msgspec.MsgspecError, RecursionError, ValueError)


class Checker:
    """Checks the lines of one file, one after the other. Remembers the custom ids as digests: they may be long."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._needed = NEEDED[endpoint]
        self._seen: set[bytes] = set()
        self._inputs = 0

    def check(self, line: bytes) -> Checked:
        """Return a line's model and what is wrong with it."""
        try:
            line.decode()
            fields = _OBJECT.decode(line)
            # Raw values are only skimmed over; an answer's custom id must be text.
            for raw in (fields.get("custom_id"), fields.get("method"), fields.get("url")):
                if raw is not None:
                    _ANY.decode(raw)
            body = _OBJECT.decode(fields["body"]) if bytes(fields.get("body", b""))[:1] == b"{" else None
        except _BROKEN:
            return Checked("", (not_json(line),))
        problems = list(self._envelope(fields))
        if body is None:
            return Checked("", tuple(problems))
        problems += self._body(body)
        model = text(body.get("model"))
        return Checked(model or "", tuple(problems))

    def _envelope(self, fields: dict[str, Raw]) -> Iterator[Problem]:
        for name in ("custom_id", "method", "url", "body"):
            raw = bytes(fields.get(name, b"null"))
            if raw == b"null" or (name == "custom_id" and raw == b'""'):
                yield told(missing(name))
            elif name != "body" and raw[:1] != b'"':
                yield told(wrong_type(name, "a string", _ANY.decode(raw)))
            elif name == "body" and raw[:1] != b"{":
                yield told(wrong_type(name, "an object", _ANY.decode(raw)))
        if (id := text(fields.get("custom_id"))) and self._known(id):
            yield Problem(
                "duplicate_custom_id",
                f"The custom_id '{id[:100]}' for this request is a duplicate of another request. The custom_id "
                "parameter must be unique for each request in a batch.",
                "custom_id",
            )
        if (method := text(fields.get("method"))) is not None and method != "POST":
            yield Problem("invalid_method", f"Invalid value: '{method[:100]}'. Supported values are: 'POST'.", "method")
        if (url := text(fields.get("url"))) is not None and url != self._endpoint:
            yield Problem("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")

    def _known(self, id: str) -> bool:
        digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False

    def _body(self, body: dict[str, Raw]) -> Iterator[Problem]:
        model = body.get("model", Raw(b"null"))
        if bytes(model) in (b"null", b'""'):
            if self._endpoint != "/v1/moderations":
                yield Problem("invalid_request", "Model parameter is required.", "body.model")
        elif text(model) is None:
            yield told(wrong_type("body.model", "a string", _ANY.decode(model)))
        if bytes(body.get(self._needed, b"null")) == b"null" and not self._excused(body):
            what = self._needed
            yield Problem("invalid_request", f"{what.capitalize()} parameter is required.", f"body.{what}")
        if (name := STREAMING.get(self._endpoint)) and bytes(body.get("stream", b"null")) not in (b"null", b"false"):
            yield Problem(
                "streaming_unsupported", f"{name}: Streaming is not supported in the Batch API.", "body.stream"
            )
        if self._endpoint == "/v1/embeddings" and "input" in body:
            before = self._inputs
            self._inputs += inputs(body["input"])
            if before <= MOST_INPUTS < self._inputs:
                yield Problem(
                    "too_many_inputs",
                    f"The requests of a batch may have at most {MOST_INPUTS} embedding inputs together.",
                    "body.input",
                )

    def _excused(self, body: dict[str, Raw]) -> bool:
        """A response may go on with what is kept already."""
        return self._endpoint == "/v1/responses" and any(
            bytes(body.get(name, b"null")) != b"null" for name in ("previous_response_id", "conversation", "prompt")
        )


def text(raw: Raw | None) -> str | None:
    """Return a JSON string's text; None for anything else."""
    if raw is None or bytes(raw)[:1] != b'"':
        return None
    return _TEXT.decode(raw)


def inputs(raw: Raw) -> int:
    """Return how many texts an embedding's input has: a text, a list of texts, a list of tokens, or a list of those."""
    value: Any = _ANY.decode(raw)
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def told(error: Invalid) -> Problem:
    return Problem(error.code or "invalid_request", error.message, error.param)


def not_json(line: bytes) -> Problem:
    try:
        line.decode()
        value = _ANY.decode(line)
    except _BROKEN:
        return Problem("invalid_json_line", "This line is not parseable as valid JSON.")
    if isinstance(value, dict):
        return Problem("invalid_json_line", "This line is not parseable as valid JSON.")
    return Problem("invalid_request", "Each line must be a JSON object.")


def unknown_model(model: str) -> Problem:
    return Problem(
        "model_not_found", f"The provided model '{model[:200]}' is not supported by the Batch API.", "body.model"
    )


def too_large(most: int) -> Problem:
    return Problem("request_too_large", f"A request may have at most {most} bytes (max_body under [server]).")


def empty() -> Problem:
    return Problem("empty_file", "The input file has no requests.", "input_file_id")


def too_many() -> Problem:
    return Problem(
        "too_many_tasks", f"A batch may have at most {MOST_LINES} requests. Please split the file.", "input_file_id"
    )


def no_input(id: str) -> Problem:
    """Return what OpenAI says of an input file that is not there, or not this client's."""
    return Problem(
        "invalid_request",
        f"Cannot find file {id[:100]}, or organization {ORGANIZATION} does not have access to it.",
        "file_id",
    )


def ask_of(line: bytes) -> tuple[str, bytes]:
    """Return the custom id and the body of a line that was checked. Raises Invalid for one that never was right."""
    try:
        ask = _ASK.decode(line)
    except _BROKEN as exc:
        raise Invalid("The input file changed while the batch was running.", code="invalid_json_line") from exc
    return ask.custom_id, bytes(ask.body)


def no_batch(id: str) -> NotFound:
    return NotFound(f"No batch found with id '{id[:100]}'.", param="batch_id")


# --- what is answered ---------------------------------------------------------------------------------------------


class Response(Struct):
    status_code: int
    request_id: str
    body: Raw


class Error(Struct):
    code: str
    message: str


class Line(Struct):
    id: str
    custom_id: str
    response: Response | None
    error: Error | None = None


_ENCODER = msgspec.json.Encoder()


def write_line(number: int, random: str, custom_id: str, *, status: int, request_id: str, body: bytes) -> bytes:
    """Return a line's answer, with its line feed. The id tells the line's number, so that whoever reads it knows
    what has been answered."""
    response = Response(status, request_id, Raw(body))
    return framing.line(_ENCODER.encode(Line(line_id(number, random), custom_id, response)))


def write_unanswered(number: int, random: str, custom_id: str, why: tuple[str, str]) -> bytes:
    """Return the line of a request that was never answered."""
    return framing.line(_ENCODER.encode(Line(line_id(number, random), custom_id, None, Error(*why))))


def line_id(number: int, random: str) -> str:
    return f"batch_req_{random[:RANDOM]:0<{RANDOM}}{number:0{NUMBER}x}"


def number_of(line: bytes) -> int | None:
    """Return the number of an answered line; None for what is no whole line of ours."""
    start = len(PREFIX) + RANDOM
    digits = line[start : start + NUMBER]
    if not line.startswith(PREFIX) or len(digits) != NUMBER or not line.endswith(b"}\n"):
        return None
    try:
        return int(digits, 16)
    except ValueError:
        return None


class CachedDetails(Struct):
    cached_tokens: int | None = None


class ReasoningDetails(Struct):
    reasoning_tokens: int | None = None


class AnyUsage(Struct):
    """The usage of any endpoint: the older ones and Responses have other names for the same."""

    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: CachedDetails | None = None
    input_tokens_details: CachedDetails | None = None
    completion_tokens_details: ReasoningDetails | None = None
    output_tokens_details: ReasoningDetails | None = None


class Used(Struct):
    usage: AnyUsage | None = None


class UsedLine(Struct):
    """As much of an answered line as tells what it took."""

    response: UsedResponse | None = None


class UsedResponse(Struct):
    body: Used | None = None


_USED = msgspec.json.Decoder(Used)
_USED_LINE = msgspec.json.Decoder(UsedLine)


def tokens_of(used: Used | None) -> Tokens:
    usage = used.usage if used is not None else None
    if usage is None:
        return Tokens()
    cached = usage.prompt_tokens_details or usage.input_tokens_details
    thought = usage.completion_tokens_details or usage.output_tokens_details
    return Tokens(
        usage.prompt_tokens or usage.input_tokens or 0,
        (cached.cached_tokens if cached is not None else 0) or 0,
        usage.completion_tokens or usage.output_tokens or 0,
        (thought.reasoning_tokens if thought is not None else 0) or 0,
    )


def tokens_in(line: bytes) -> Tokens:
    """Return what an answered line took."""
    try:
        found = _USED_LINE.decode(line)
    except _BROKEN:
        return Tokens()
    return tokens_of(found.response.body if found.response is not None else None)


def compact(body: bytes) -> tuple[bytes, Tokens] | None:
    """Return an answer's body as it stands in a line, and what it took; None for what is no JSON."""
    try:
        body.decode()
        if b"\n" in body or b"\r" in body:
            # Between values only: within a string they are escaped.
            body = msgspec.json.format(body, indent=-1)
        return body, tokens_of(_USED.decode(body))
    except msgspec.ValidationError:
        return body, Tokens()
    except _BROKEN:
        return None
