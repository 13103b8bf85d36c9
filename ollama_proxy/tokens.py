"""Counting tokens by OpenAI's own vocabularies, for what a backend does not count itself.

The vocabularies are package data, so nothing here ever asks the network, and an encoder is built on first use and
kept. A local model has a vocabulary of its own: for it every count here is an estimate, and callers say so.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from binascii import a2b_base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from itertools import accumulate, chain, islice
from typing import NamedTuple

import msgspec
from tiktoken import Encoding

from .errors import Invalid
from .model import Ask, Audio, File, Image, Message, Part, Refusal, Text, Thinking, Tool, ToolCall, ToolResult

__all__ = ["count", "count_ask", "decode", "encoding_name", "estimate", "estimate_text", "estimate_texts", "ready"]

CL100K = "cl100k_base"
O200K = "o200k_base"


class Vocabulary(NamedTuple):
    """What makes an encoding besides its ranks; `sha256` is of the unpacked file, the one tiktoken itself expects."""

    sha256: str
    pattern: str
    special: dict[str, int]


# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
VOCABULARIES = {
    CL100K: Vocabulary(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
        r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    O200K: Vocabulary(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}

# The names that still use the older vocabulary, from tiktoken/model.py; everything newer is o200k.
OLDER = re.compile(r"gpt-4(?![o.\d])|gpt-3|gpt-35|text-embedding-|davinci-00|babbage-00")
# Characters of a name that are looked at: more than the longest prefix that the patterns know.
PREFIX = 64
NEWER = re.compile(r"gpt-|chatgpt-|o\d|codex-|computer-use")

# A run without a break (or all of blanks) is one piece to the encoder, which older releases of tiktoken take in
# quadratic time (https://github.com/openai/tiktoken/issues/195) and whose splitter may run out of stack. Cut such a
# run here: each cut adds a token at most.
RUN = 4096
# Characters of a text whose count is remembered; 2048 of them take 4 MB at most.
SHORT = 2000
# An estimate counts at most so many characters, in so many windows: some 10 ms.
SAMPLED, WINDOWS = 65_536, 16
# What a text weighs in a sample besides its characters, and how many messages, parts or texts an estimate looks at.
PER_TEXT, MANY = 16, 10_000
LONG_RUN = re.compile(rf"(?<!\S)\S{{{RUN + 1},}}|(?<!\s)\s{{{RUN + 1},}}")

# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken: per message, for a name, to prime the answer.
PER_MESSAGE, PER_NAME, PRIMING = 3, 1, 3
# The same page: what a function's declaration costs besides its words, and the list of functions once.
PER_TOOL, PER_TOOLS = 7, 12
# An image of 1024 x 1024 in OpenAI's books (85 + 4 tiles of 170), and one of low detail.
IMAGE, IMAGE_LOW = 765, 85
# Base64 characters a token for what is no text: a file's bytes reach the model as text of about 4 bytes a token.
BASE64_PER_TOKEN = 5


def encoding_name(model: str, *, unknown: str = O200K) -> str:
    """Return the encoding of one of OpenAI's models, or `unknown` for any other."""
    # The beginning decides. Clients choose the name, and what they choose is remembered.
    return _encoding_name(model[:PREFIX], unknown)


@lru_cache(maxsize=512)
def _encoding_name(model: str, unknown: str) -> str:
    name = model.removeprefix("ft:").lower()
    if OLDER.match(name):
        return CL100K
    return O200K if NEWER.match(name) else unknown


def ready(*models: str) -> bool:
    """Return whether the vocabularies of these models are loaded. Counting loads them, which takes some tenths of a
    second: the first count belongs in a thread."""
    return all(encoding_name(model) in _loaded for model in models)


def count(text: str, model: str = "") -> int:
    """Return the number of tokens in `text`; what looks like a special token is counted as plain text."""
    if len(text) <= SHORT:
        return _count_short(text, encoding_name(model))
    return _count(text, encoding_name(model))


def _count(text: str, encoding: str) -> int:
    encoder = _encoder(encoding)
    return sum(len(encoder.encode_ordinary(piece)) for piece in _pieces(text))


# A conversation is sent again with every turn, and its beginning with every conversation.
_count_short = lru_cache(maxsize=2048)(_count)


def decode(ids: Sequence[int], model: str, *, param: str = "input") -> str:
    """Return the text of token ids. Raises Invalid (400) for an id that the vocabulary does not have.

    Who sends ids to a model unknown to tiktoken has taken cl100k (LangChain's OpenAIEmbeddings do), so that is the
    vocabulary for those. Bytes that are no UTF-8 become U+FFFD: a client may have cut a character in two.
    """
    encoder = _encoder(encoding_name(model, unknown=CL100K))
    try:
        return encoder.decode_bytes(list(ids)).decode("utf-8", "replace")
    except (KeyError, OverflowError) as exc:
        message = f"Invalid '{param}': it holds a number that is no token of {encoder.name}."
        raise Invalid(message, param=param, code="invalid_value") from exc


def estimate_text(text: str, model: str = "") -> int:
    """Return about how many tokens `text` makes, in a time that does not grow with it; see `estimate_texts`."""
    return count(text, model) if len(text) <= SAMPLED else estimate_texts((text,), model)


def estimate_texts(texts: Sequence[str], model: str = "") -> int:
    """Return about how many tokens these texts make together: exact up to `SAMPLED` characters in all. Of more, evenly
    spaced windows are counted and the result is scaled to the whole, so that a large text does not hold up others.
    """
    if len(texts) <= MANY and sum(map(len, texts)) <= SAMPLED:
        return sum(count(text, model) for text in texts)
    # Each text weighs its length, and something for itself: a window must not be made of too many.
    ends = list(accumulate(len(text) + PER_TEXT for text in texts))
    total, size = ends[-1], SAMPLED // WINDOWS
    if total <= SAMPLED:
        return sum(count(text, model) for text in texts)
    found = seen = 0
    for number in range(WINDOWS):
        start = (total - size) * number // (WINDOWS - 1)
        for piece, weight in _window(texts, ends, start, size):
            found += count(piece, model)
            seen += weight
    return round(found * total / seen)


def _window(texts: Sequence[str], ends: Sequence[int], start: int, size: int) -> Iterator[tuple[str, int]]:
    """Yield what lies between two weights, text by text, each with the weight it stands for."""
    place = bisect_right(ends, start)
    stop = start + size
    while start < stop and place < len(texts):
        text = texts[place]
        offset = max(0, start - (ends[place] - len(text)))
        piece = text[offset : offset + stop - start]
        end = min(stop, ends[place])
        yield piece, end - start
        start, place = end, place + 1


def estimate(ask: Ask) -> int:
    """Return about how many prompt tokens `ask` makes: OpenAI's rule for messages, plus the tools' declarations.

    Of long texts only samples are counted (`estimate_texts`), and of more than `MANY` messages or parts only evenly
    spaced ones: the result is for limits, budgets and error messages. Where an API promises a count, use `count_ask`.
    """
    heads, step = _spread(ask.messages)
    total = PRIMING + sum(_head(message, ask.model) for message in heads) * step
    number = sum(len(message.parts) for message in ask.messages)
    step = max(1, -(-number // MANY))
    texts: list[str] = []
    parts = chain.from_iterable(message.parts for message in ask.messages)
    fixed = sum(_gather(part, texts) for part in islice(parts, 0, None, step))
    total += (fixed + estimate_texts(texts, ask.model)) * step
    if ask.tools:
        total += PER_TOOLS + PER_TOOL * len(ask.tools)
        total += estimate_texts([_declaration(tool) for tool in ask.tools], ask.model)
    return total


def count_ask(ask: Ask) -> int:
    """The same with every text counted to its end, which takes a second for some megabytes: call it in a thread."""
    total = PRIMING + sum(_head(message, ask.model) for message in ask.messages)
    texts: list[str] = []
    total += sum(_gather(part, texts) for message in ask.messages for part in message.parts)
    if ask.tools:
        total += PER_TOOLS + PER_TOOL * len(ask.tools)
        texts += map(_declaration, ask.tools)
    return total + sum(count(text, ask.model) for text in texts)


def _spread(messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
    """Return at most `MANY` evenly spaced messages, and for how many each of them stands."""
    step = max(1, -(-len(messages) // MANY))
    return messages[::step], step


def _head(message: Message, model: str) -> int:
    """Return what a message takes besides its parts."""
    named = PER_NAME + count(message.name, model) if message.name is not None else 0
    return PER_MESSAGE + count(message.role, model) + named


def _gather(part: Part, texts: list[str]) -> int:
    """Add the texts of a part, and return the tokens that it takes besides them."""
    match part:
        case Text(text) | Thinking(text) | Refusal(text):
            texts.append(text)
            return 0
        case ToolCall(_, name, arguments):
            texts += (name, arguments)
            return PER_NAME
        case ToolResult(_, parts):
            return sum(_gather(inner, texts) for inner in parts)
        case Image():
            return IMAGE_LOW if part.detail == "low" else IMAGE
        case Audio() | File():
            return len(part.data or "") // BASE64_PER_TOKEN


def _declaration(tool: Tool) -> str:
    parameters = msgspec.json.encode(tool.parameters).decode() if tool.parameters else ""
    grammar = tool.grammar[1] if tool.grammar else ""
    return " ".join(filter(None, (tool.name, tool.description, parameters, grammar)))


def _pieces(text: str) -> Iterator[str]:
    """Yield `text` in pieces that hold no run longer than RUN."""
    start = 0
    for run in LONG_RUN.finditer(text):
        for cut in range(run.start() + RUN, run.end(), RUN):
            yield text[start:cut]
            start = cut
    yield text[start:]


# The names of the encoders that are built.
_loaded: set[str] = set()


@cache
def _encoder(name: str) -> Encoding:
    """Build an encoder from package data, which takes about 0.2 s once."""
    vocabulary = VOCABULARIES[name]
    raw = gzip.decompress(files(__package__).joinpath("data", "tiktoken", f"{name}.tiktoken.gz").read_bytes())
    if hashlib.sha256(raw).hexdigest() != vocabulary.sha256:
        raise RuntimeError(f"the vocabulary {name} in the installed package is damaged; install oproxy again")
    # Line by line: all the words at once would take 30 MB that the process keeps.
    ranks = {a2b_base64(token): int(rank) for token, _, rank in (line.partition(b" ") for line in BytesIO(raw))}
    encoder = Encoding(
        name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens=vocabulary.special
    )  # fmt: skip
    # The tables that count are inside the core; these, 25 MB, only serve to send an encoder to another process.
    # https://github.com/openai/tiktoken/blob/main/tiktoken/core.py
    encoder._mergeable_ranks = {}
    _loaded.add(name)
    return encoder
