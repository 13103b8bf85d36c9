"""POST /v1/completions: text continued without a chat template. Its request into the hub, the hub's events out of it.

One request may hold several prompts and ask for several choices of each; the choices are numbered prompt by prompt,
`index = prompt * n + k`, as OpenAI numbers them. Calls nothing and waits for nothing; `[DONE]` is the server's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import Invalid, Unsupported
from ..events import Event, Fail, Finish, Logprob, Note, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ..model import Completion, Sampling
from .shapes import CompletionRequest
from .texts import DecodeTokens, texts
from .validate import decode, ignored_keys

__all__ = ["ChunkWriter", "CompletionAsk", "choose", "parse", "parse_shape", "whole"]

# A new document begins with it: what OpenAI takes for no prompt, and what an empty one must become, because Ollama
# takes an empty prompt as "load the model" and answers nothing.
NO_PROMPT = "<|endoftext|>"
# OpenAI's default.
MAX_TOKENS = 16
# `n` goes to 128; more choices than that in one request are not a request but a load.
MOST_CHOICES = 128


class CompletionAsk(Struct, frozen=True, kw_only=True):
    """A parsed request. `prompts` hold all that a back needs; the rest is for the engine and the writers.

    For each prompt `best_of` (>= n) candidates are made and the `n` best returned (`choose`). Where that is more than
    `n`, the prompts ask for logprobs even if the client did not, because those decide; `logprobs` is what the client
    asked for. `max_tokens` 0 (`nothing_to_make`) needs no call: Ollama would read it as "without end".
    """

    model: str
    prompts: tuple[Completion, ...]
    n: int = 1
    best_of: int = 1
    echo: bool = False
    logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False
    ignored: tuple[str, ...] = ()
    extra: Mapping[str, Any] = {}

    @property
    def choices(self) -> int:
        """The number of choices in the answer."""
        return len(self.prompts) * self.n

    @property
    def echoes(self) -> tuple[str, ...] | None:
        """The prompts' texts for the writers, None where they are not to be echoed."""
        return tuple(ask.prompt for ask in self.prompts) if self.echo else None

    @property
    def nothing_to_make(self) -> bool:
        """Whether no token is asked for, so that each choice finishes with "length" at once."""
        return self.prompts[0].sampling.max_tokens == 0


def parse(body: bytes, *, decode_tokens: DecodeTokens) -> CompletionAsk:
    """Read a request body. Raises errors.Invalid."""
    wire, fields = decode(body, CompletionRequest)
    return parse_shape(wire, fields, decode_tokens=decode_tokens)


def parse_shape(
    wire: CompletionRequest, fields: Mapping[str, msgspec.Raw], *, decode_tokens: DecodeTokens
) -> CompletionAsk:
    """Read a request that `validate.decode` has decoded. Raises errors.Invalid.

    Not possible on the backends we translate for, and refused: `echo` with `logprobs`, since that means the prompt's
    own log probabilities, which neither Ollama nor llama.cpp returns.
    """
    n = wire.n or 1
    best_of = wire.best_of or n
    prompts = _prompts(wire, decode_tokens)
    _check(wire, n=n, best_of=best_of, prompts=len(prompts))
    shared = Completion(
        model=wire.model,
        prompt="",
        suffix=wire.suffix or None,
        sampling=_sampling(wire),
        logprobs=wire.logprobs if best_of == n else (wire.logprobs or 0),
        stream=bool(wire.stream),
        keep_alive=wire.keep_alive,
        options=_options(wire, fields),
    )
    return CompletionAsk(
        model=wire.model,
        prompts=tuple(replace(shared, prompt=prompt) for prompt in prompts),
        n=n,
        best_of=best_of,
        echo=bool(wire.echo),
        logprobs=wire.logprobs,
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        ignored=ignored_keys(fields, CompletionRequest),
        extra={} if wire.user is None else {"user": wire.user},
    )


def _prompts(wire: CompletionRequest, decode_tokens: DecodeTokens) -> tuple[str, ...]:
    if wire.prompt is None:
        return (NO_PROMPT,)
    found = texts(wire.prompt, param="prompt", model=wire.model, decode=decode_tokens)
    return tuple(text or ("" if wire.suffix else NO_PROMPT) for text in found)


def _check(wire: CompletionRequest, *, n: int, best_of: int, prompts: int) -> None:
    """Refuse what the parameters cannot mean together."""
    if best_of < n:
        raise Invalid(
            "You requested that the server return more choices than it will generate (HINT: you must set 'n' "
            f"(currently {n}) to be at most 'best_of' (currently {best_of}), or omit either parameter if you don't "
            "specifically want to use them.)",
            param="best_of",
        )
    if wire.stream and best_of > n:
        raise Invalid("Results cannot be streamed when 'best_of' is greater than 'n'.", param="best_of")
    if wire.stream_options is not None and not wire.stream:
        raise Invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if prompts * best_of > MOST_CHOICES:
        raise Invalid(
            f"Invalid request: {prompts} prompts with {best_of} choices each are {prompts * best_of} choices, "
            f"but at most {MOST_CHOICES} are possible in one request.",
            param="prompt" if best_of == 1 else "n",
            code="invalid_value",
        )
    if wire.echo and wire.logprobs is not None:
        raise Unsupported(
            "Unsupported parameter: 'logprobs' is not supported together with 'echo': local backends do not return "
            "the log probabilities of the prompt.",
            param="logprobs",
        )


def _sampling(wire: CompletionRequest) -> Sampling:
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    return Sampling(
        max_tokens=MAX_TOKENS if wire.max_tokens is None else wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        min_p=wire.min_p,
        frequency_penalty=wire.frequency_penalty,
        presence_penalty=wire.presence_penalty,
        seed=wire.seed,
        stop=stop,
        logit_bias=wire.logit_bias or None,
    )


def _options(wire: CompletionRequest, fields: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """Return Ollama's options as they came, also those the shape does not know; `num_ctx` beside them wins."""
    options: dict[str, Any] = {}
    if wire.options is not None:
        options.update(msgspec.json.decode(fields["options"]))
    if wire.num_ctx is not None:
        options["num_ctx"] = wire.num_ctx
    return {name: value for name, value in options.items() if value is not None}


# --- the best of several ------------------------------------------------------------------------------------------


def choose(candidates: Sequence[Sequence[Event]], n: int, *, first: int = 0) -> list[Event]:
    """Return the events of the `n` best candidates of one prompt, best first, numbered from `first`.

    The best has the highest mean log probability a token; without logprobs the order stands. A failed candidate fails
    them all.
    """
    for events in candidates:
        if fails := [event for event in events if isinstance(event, Fail)]:
            return list(fails)
    best = sorted(candidates, key=_mean_logprob, reverse=True)[:n]
    return [_numbered(event, first + place) for place, events in enumerate(best) for event in events]


def _mean_logprob(events: Sequence[Event]) -> float:
    values = [
        token.logprob for event in events if isinstance(event, Text) and event.logprobs for token in event.logprobs
    ]
    return sum(values) / len(values) if values else float("-inf")


def _numbered(event: Event, index: int) -> Event:
    match event:
        case Usage() | Note() | Fail():
            return event
        case _:
            return replace(event, index=index)


# --- answers ------------------------------------------------------------------------------------------------------


class _Choice:
    """One choice as it grows. `offset` is the number of characters so far, what `text_offset` counts from."""

    __slots__ = ("offset", "pieces", "probs", "reason")

    def __init__(self) -> None:
        self.offset = 0
        self.pieces: list[str] = []
        self.probs: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        self.reason = "stop"


def _add_logprobs(out: dict[str, list[Any]], tokens: Iterable[Logprob], offset: int, most: int) -> None:
    """Write `tokens` at `offset`; beside the `most` likeliest there is always the token itself, as OpenAI has it."""
    for token in tokens:
        out["tokens"].append(token.token)
        out["token_logprobs"].append(token.logprob)
        top = {other.token: other.logprob for other in token.top[:most]}
        top.setdefault(token.token, token.logprob)
        out["top_logprobs"].append(top)
        out["text_offset"].append(offset)
        offset += len(token.token)


def _reason(event: Finish) -> str:
    # There are no tools here; a back that names them means the end of the text.
    return "stop" if event.reason == "tool_calls" else event.reason


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class ChunkWriter:
    """Writes one streamed answer, each chunk a JSON document; framing it is the server's.

    `echoes` are the prompts (see `CompletionAsk.echoes`), `n` the choices of each. The Usage events are summed and
    written by `flush` in a chunk of their own, if `include_usage`. After a Fail nothing more is written.
    """

    def __init__(
        self,
        *,
        id: str,
        created: int,
        model: str,
        include_usage: bool = False,
        echoes: Sequence[str] | None = None,
        n: int = 1,
        logprobs: int | None = None,
    ) -> None:
        head = {"id": id, "object": "text_completion", "created": created, "model": model}
        # Encoded once: a chunk is born for each token.
        self._head = msgspec.json.encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if include_usage else b"]}"
        self._include_usage = include_usage
        self._echoes, self._n, self._logprobs = echoes, n, logprobs
        self._offsets: dict[int, int] = {}
        self._usage: Usage | None = None
        self._failed = False

    def feed(self, events: Iterable[Event]) -> list[bytes]:
        """Return the chunks that `events` make."""
        out: list[bytes] = []
        for event in events:
            if self._failed:
                break
            match event:
                case Text(index, text, logprobs):
                    self._echo(index, out)
                    if text or logprobs:
                        out.append(self._chunk(index, text, self._probs(index, logprobs)))
                        self._offsets[index] += len(text)
                case Finish(index):
                    self._echo(index, out)
                    out.append(self._chunk(index, "", b"null", msgspec.json.encode(_reason(event))))
                case Refusal(index, text):
                    self._echo(index, out)
                    out.append(self._chunk(index, text, b"null"))
                    self._offsets[index] += len(text)
                case Usage():
                    self._usage = event if self._usage is None else self._usage + event
                case Fail(error):
                    self._failed = True
                    out.append(msgspec.json.encode(error.body()))
                case Thinking() | ToolStart() | ToolDelta() | Note():
                    pass  # this wire has no place for them, and an untemplated prompt makes none
        return out

    def flush(self) -> list[bytes]:
        """Return the usage chunk, if it was asked for and the answer did not fail."""
        if not self._include_usage or self._failed:
            return []
        usage = msgspec.json.encode(_usage(self._usage or Usage(0, 0)))
        return [self._head + b'],"usage":' + usage + b"}"]

    def _echo(self, index: int, out: list[bytes]) -> None:
        if index not in self._offsets:
            echo = self._echoes[index // self._n] if self._echoes is not None else ""
            self._offsets[index] = len(echo)
            if echo:
                out.append(self._chunk(index, echo, b"null"))

    def _probs(self, index: int, tokens: tuple[Logprob, ...] | None) -> bytes:
        if self._logprobs is None or not tokens:
            return b"null"
        probs = _Choice().probs
        _add_logprobs(probs, tokens, self._offsets[index], self._logprobs)
        return msgspec.json.encode(probs)

    def _chunk(self, index: int, text: str, probs: bytes, reason: bytes = b"null") -> bytes:
        encoded = msgspec.json.encode(text)
        return b'%b{"text":%b,"index":%d,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            encoded,
            index,
            probs,
            reason,
            self._tail,
        )


def whole(
    events: Iterable[Event],
    *,
    id: str,
    created: int,
    model: str,
    echoes: Sequence[str] | None = None,
    n: int = 1,
    logprobs: int | None = None,
) -> bytes:
    """Gather a whole answer into one JSON body. Raises the error of a Fail."""
    choices: dict[int, _Choice] = {}
    usage = Usage(0, 0)
    for event in events:
        match event:
            case Fail(error):
                raise error
            case Usage():
                usage += event
            case Text(index, text) | Refusal(index, text):
                choice = _grown(choices, index, echoes, n)
                if isinstance(event, Text) and logprobs is not None:
                    _add_logprobs(choice.probs, event.logprobs or (), choice.offset, logprobs)
                choice.pieces.append(text)
                choice.offset += len(text)
            case Finish(index):
                _grown(choices, index, echoes, n).reason = _reason(event)
            case _:
                pass  # as in ChunkWriter.feed
    written = [
        {
            "text": "".join(choice.pieces),
            "index": index,
            "logprobs": None if logprobs is None else choice.probs,
            "finish_reason": choice.reason,
        }
        for index, choice in sorted(choices.items())
    ]
    head = {"id": id, "object": "text_completion", "created": created, "model": model}
    return msgspec.json.encode({**head, "choices": written, "usage": _usage(usage)})


def _grown(choices: dict[int, _Choice], index: int, echoes: Sequence[str] | None, n: int) -> _Choice:
    choice = choices.get(index)
    if choice is None:
        choice = choices[index] = _Choice()
        if echoes is not None:
            choice.pieces.append(echoes[index // n])
            choice.offset = len(echoes[index // n])
    return choice
