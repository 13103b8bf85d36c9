"""The pages that OpenAI's lists are read in, as they are written; what a query asks for is `shapes_queries.Paging`.

Shared by all lists of what is kept for a client. Knows nothing of what is listed, and never finds anything itself.
https://platform.openai.com/docs/api-reference/conversations/list-items
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from ..errors import Invalid
from .shapes_queries import Paging

__all__ = ["unknown_cursor", "write_page"]


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
