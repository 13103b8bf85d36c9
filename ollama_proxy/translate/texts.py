"""The four forms in which a client may give texts: a text, texts, token ids, lists of token ids.

`prompt` of /v1/completions and `input` of /v1/embeddings take the same. The decoder of token ids is handed in; no
vocabulary is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import Invalid
from .validate import wrong_type

__all__ = ["DecodeTokens", "Texts", "texts"]

# decode(ids, model) -> text; raises errors.Invalid for an id the vocabulary does not have.
DecodeTokens = Callable[[Sequence[int], str], str]
Texts = str | list[str | int | list[int]]

T = TypeVar("T")
NOUNS: dict[type, str] = {str: "a string", int: "an integer", list: "an array of integers"}


def texts(value: Texts, *, param: str, model: str, decode: DecodeTokens) -> tuple[str, ...]:
    """Return the texts in order; token ids are decoded. `value` has the right JSON types, but may mix them.

    Raises errors.Invalid with the path of the culprit.
    """
    match value:
        case str():
            return (value,)
        case [int(), *_]:
            return (_decoded(_same(value, int, param), param, model, decode),)
        case [str(), *_]:
            return tuple(_same(value, str, param))
        case _:
            lists = _same(value, list, param)
            return tuple(_decoded(ids, f"{param}[{index}]", model, decode) for index, ids in enumerate(lists))


def _same(values: Sequence[object], kind: type[T], param: str) -> list[T]:
    """Return `values`, all of one kind: the first one's."""
    out: list[T] = []
    for index, value in enumerate(values):
        if not isinstance(value, kind):
            raise wrong_type(f"{param}[{index}]", NOUNS[kind], value)
        out.append(value)
    return out


def _decoded(ids: Sequence[int], param: str, model: str, decode: DecodeTokens) -> str:
    if not ids:
        message = (
            f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise Invalid(message, param=param, code="empty_array")
    try:
        return decode(ids, model)
    except Invalid as exc:
        # The tokenizer does not know what the client called it.
        message = exc.message.replace(f"'{exc.param}'", f"'{param}'", 1)
        raise Invalid(message, param=param, code=exc.code) from exc
