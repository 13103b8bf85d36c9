"""The list of models as Anthropic's clients read it, in pages.

They are told from OpenAI's by their `anthropic-version` header. Knows no backend and no calendar.
https://platform.claude.com/docs/en/api/models/list
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ..errors import Invalid
from ..model import ModelInfo
from .models import Named, by_name
from .shapes_queries import AnthropicModelsQuery

__all__ = ["write_list", "write_model"]

When = Callable[[int], str]


def write_list(
    infos: Iterable[ModelInfo], aliases: Mapping[str, Named], query: AnthropicModelsQuery, *, when: When
) -> bytes:
    """Write the page that `query` asks for; `when` writes epoch seconds as RFC 3339. Raises errors.Invalid."""
    listed = [(id, info) for id, (info, _) in by_name(infos, aliases).items()]
    names = [id for id, _ in listed]
    start, end, limit = 0, len(listed), query.limit
    if after := query.after_id:
        start = _place(names, after, "after_id") + 1
    if before := query.before_id:
        end = _place(names, before, "before_id")
    if before and not after:
        # The page that ends there.
        start = max(start, end - limit)
        more = start > 0
    else:
        more = end - start > limit
    data = [_model(id, info, when) for id, info in listed[start:end][:limit]]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode({"data": data, "has_more": more, "first_id": ends[0], "last_id": ends[1]})


def write_model(id: str, info: ModelInfo, *, when: When) -> bytes:
    """Write one model under the name the client asked by."""
    return msgspec.json.encode(_model(id, info, when))


def _model(id: str, info: ModelInfo, when: When) -> dict[str, Any]:
    return {
        "type": "model",
        "id": id,
        "display_name": id,
        "created_at": when(info.created),
        "lifecycle": "active",
        "max_input_tokens": info.context,
    }


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise Invalid(f"{param}: there is no model '{name[:200]}' in the list.")
    return names.index(name)
