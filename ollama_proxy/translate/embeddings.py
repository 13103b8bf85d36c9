"""POST /v1/embeddings: its request into the hub, the backend's vectors out of it.

The order of the inputs is kept. Vectors are cut to `dimensions` here where the model gave longer ones. Counts nothing
by itself and calls nothing.
"""

from __future__ import annotations

import math
import sys
from array import array
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from ..errors import Invalid
from ..model import Embedding
from .shapes import EmbeddingRequest
from .texts import DecodeTokens, texts
from .validate import decode, ignored_keys
from .wire import Vectors

__all__ = ["EmbeddingAsk", "Encoding", "parse", "parse_shape", "write"]

Encoding = Literal["float", "base64"]


class EmbeddingAsk(Struct, frozen=True, kw_only=True):
    """A parsed request: what a back needs in `embedding`, the rest for the writer and the record."""

    embedding: Embedding
    encoding_format: Encoding = "float"
    ignored: tuple[str, ...] = ()
    extra: Mapping[str, Any] = {}

    @property
    def model(self) -> str:
        """The name the client asked for."""
        return self.embedding.model


def parse(body: bytes, *, decode_tokens: DecodeTokens) -> EmbeddingAsk:
    """Read a request body. Raises errors.Invalid."""
    wire, fields = decode(body, EmbeddingRequest)
    return parse_shape(wire, fields, decode_tokens=decode_tokens)


def parse_shape(
    wire: EmbeddingRequest, fields: Mapping[str, msgspec.Raw], *, decode_tokens: DecodeTokens
) -> EmbeddingAsk:
    """Read a request that `validate.decode` has decoded. Raises errors.Invalid."""
    inputs = texts(wire.input, param="input", model=wire.model, decode=decode_tokens)
    for index, text in enumerate(inputs):
        if not text:
            where = "input" if isinstance(wire.input, str) else f"input[{index}]"
            message = f"Invalid '{where}': input cannot be an empty string."
            raise Invalid(message, param=where, code="empty_string")
    options = {} if wire.options is None else msgspec.json.decode(fields["options"])
    return EmbeddingAsk(
        embedding=Embedding(
            model=wire.model,
            inputs=inputs,
            dimensions=wire.dimensions,
            keep_alive=wire.keep_alive,
            options={name: value for name, value in options.items() if value is not None},
        ),
        encoding_format=wire.encoding_format or "float",
        ignored=ignored_keys(fields, EmbeddingRequest),
        extra={} if wire.user is None else {"user": wire.user},
    )


def write(vectors: Vectors, *, model: str, encoding_format: Encoding = "float", dimensions: int | None = None) -> bytes:
    """Write the answer's body; a count of tokens that nobody knows is 0.

    Raises errors.Invalid if the model has fewer dimensions than asked for.
    """
    rows = vectors.rows if dimensions is None else [_cut(row, dimensions) for row in vectors.rows]
    encode = _base64 if encoding_format == "base64" else list
    tokens = vectors.tokens or 0
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                # One by one, for the same reason as they are read so.
                {"object": "embedding", "index": index, "embedding": Raw(msgspec.json.encode(encode(row)))}
                for index, row in enumerate(rows)
            ],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _cut(row: Sequence[float], dimensions: int) -> Sequence[float]:
    """Return the first `dimensions` numbers, of length 1 again, as OpenAI shortens its vectors.

    https://platform.openai.com/docs/guides/embeddings#reducing-embedding-dimensions
    """
    if dimensions > len(row):
        raise Invalid(
            f"Invalid value for 'dimensions' = {dimensions}. Must be less than or equal to {len(row)}.",
            param="dimensions",
            code="invalid_value",
        )
    if dimensions == len(row):
        return row
    short = row[:dimensions]
    norm = math.hypot(*short)
    return [number / norm for number in short] if norm else short


def _base64(row: Sequence[float]) -> str:
    """Return the numbers as base64 of little-endian float32, which is what both SDKs decode."""
    numbers = array("f", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b2a_base64(numbers, newline=False).decode("ascii")
