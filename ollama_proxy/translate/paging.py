"""The pages that OpenAI's lists are read in: `after`, `before`, `limit`, `order` of a query, and the page as it is
written.

Shared by all lists of what is kept for a client. Knows nothing of what is listed, and never finds anything itself.
https://platform.openai.com/docs/api-reference/conversations/list-items
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from ..errors import Invalid
from .validate import invalid_value

__all__ = ["Order", "Paging", "parse_paging", "unknown_cursor", "write_page"]

Order = Literal["asc", "desc"]
NAMES = ("after", "before", "limit", "order")


class Paging(Struct, frozen=True):
    """Which part of a list is asked for: what comes behind the object `after` and in front of `before`, in the list's
    own order. `rest` are the other parameters of the query, in the order they came."""

    limit: int
    ascending: bool
    after: str = ""
    before: str = ""
    rest: tuple[tuple[str, str], ...] = ()


def parse_paging(
    pairs: Iterable[tuple[str, str]], *, order: Order = "desc", usual: int = 20, most: int = 100
) -> Paging:
    """Read a query string. `order`, `usual` and `most` are the list's own: the order and the size of its pages where
    the query does not say. Raises errors.Invalid."""
    said: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in pairs:
        if name in NAMES:
            said[name] = value
        else:
            rest.append((name, value))
    # SDKs leave a parameter empty where there is nothing to say.
    direction = said.get("order") or order
    if direction not in ("asc", "desc"):
        raise invalid_value("order", direction, ("asc", "desc"))
    return Paging(
        limit=_limit(said.get("limit") or str(usual), most),
        ascending=direction == "asc",
        after=said.get("after", ""),
        before=said.get("before", ""),
        rest=tuple(rest),
    )


def _limit(text: str, most: int) -> int:
    # Numbers of thousands of digits are not converted.
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
        raise Invalid(
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            param="limit",
            code="invalid_type",
        )
    value = int(text)
    if value > most:
        raise Invalid(
            f"Invalid 'limit': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
            param="limit",
            code="integer_above_max_value",
        )
    if value < 1:
        raise Invalid(
            f"Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {value} instead.",
            param="limit",
            code="integer_below_min_value",
        )
    return value


def unknown_cursor(paging: Paging) -> Invalid:
    """Return the error for an object `after` or `before` that is not in the list."""
    name = "after" if paging.after else "before"
    # What stands there may be anything of any length.
    shown = getattr(paging, name)[:100]
    return Invalid(f"Invalid '{name}': there is no '{shown}' in this list.", param=name, code="invalid_value")


def write_page(data: Sequence[bytes], ids: Sequence[str], *, more: bool) -> bytes:
    """Return a page as JSON. `data` are its objects, encoded, `ids` theirs; `more`: it is not the last page. The ids of
    an empty page are "", because OpenAI's shapes know no null there."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [Raw(each) for each in data],
            "first_id": ids[0] if ids else "",
            "last_id": ids[-1] if ids else "",
            "has_more": more,
        }
    )
