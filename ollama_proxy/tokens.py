"""Counting tokens by OpenAI's own vocabularies, for what a backend does not count itself.

The vocabularies are package data, so nothing here ever asks the network, and an encoder is built on first use and
kept. A local model has a vocabulary of its own: for it every count here is an estimate, and callers say so.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from typing import NamedTuple

import msgspec
from tiktoken import Encoding

from .errors import Invalid
from .model import Ask, Audio, File, Image, Part, Refusal, Text, Thinking, Tool, ToolCall, ToolResult

__all__ = ["count", "decode", "encoding_name", "estimate"]

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
NEWER = re.compile(r"gpt-|chatgpt-|o\d|codex-|computer-use")

# A run without a break (or all of blanks) is one piece to the encoder, which older releases of tiktoken take in
# quadratic time (https://github.com/openai/tiktoken/issues/195) and whose splitter may run out of stack. Cut such a
# run here: each cut adds a token at most.
RUN = 4096
# Characters of a text whose count is remembered; 2048 of them take 4 MB at most.
SHORT = 2000
LONG_RUN = re.compile(rf"(?<!\S)\S{{{RUN + 1},}}|(?<!\s)\s{{{RUN + 1},}}")

# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken: per message, for a name, to prime the answer.
PER_MESSAGE, PER_NAME, PRIMING = 3, 1, 3
# The same page: what a function's declaration costs besides its words, and the list of functions once.
PER_TOOL, PER_TOOLS = 7, 12
# An image of 1024 x 1024 in OpenAI's books (85 + 4 tiles of 170), and one of low detail.
IMAGE, IMAGE_LOW = 765, 85
# Base64 characters a token for what is no text: a file's bytes reach the model as text of about 4 bytes a token.
BASE64_PER_TOKEN = 5


@lru_cache(maxsize=512)
def encoding_name(model: str, *, unknown: str = O200K) -> str:
    """Return the encoding of one of OpenAI's models, or `unknown` for any other."""
    name = model.removeprefix("ft:").lower()
    if OLDER.match(name):
        return CL100K
    return O200K if NEWER.match(name) else unknown


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


def estimate(ask: Ask) -> int:
    """Return about how many prompt tokens `ask` makes: OpenAI's rule for messages, plus the tools' declarations."""
    total = PRIMING
    for message in ask.messages:
        total += PER_MESSAGE + count(message.role, ask.model)
        if message.name is not None:
            total += PER_NAME + count(message.name, ask.model)
        total += sum(_part(part, ask.model) for part in message.parts)
    if ask.tools:
        total += PER_TOOLS + sum(PER_TOOL + count(_declaration(tool), ask.model) for tool in ask.tools)
    return total


def _part(part: Part, model: str) -> int:
    match part:
        case Text(text) | Thinking(text) | Refusal(text):
            return count(text, model)
        case ToolCall(_, name, arguments):
            return PER_NAME + count(name, model) + count(arguments, model)
        case ToolResult(_, parts):
            return sum(_part(inner, model) for inner in parts)
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
    return encoder
