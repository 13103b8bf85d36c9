"""Making a conversation short: what the model is asked for it, and the compaction it becomes.

As OpenAI does, what the user said stays, and one item that only the server can read stands for the rest.
https://platform.openai.com/docs/api-reference/responses/compact
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UpstreamFailed
from ..events import Event, Text, Usage
from ..model import Ask, Message
from ..model import Text as TextPart
from .responses_items import parse_items
from .responses_parts import usage_of
from .sealed import seal
from .shapes_responses import CompactRequest

__all__ = ["compact_ask", "write_compaction"]

WISH = (
    "Summarize the conversation above, so that it can be continued from your summary alone. Keep every fact, decision, "
    "name, number, file path, open question and result of a tool that may matter later, and what the user wants. "
    "Write the summary only, in the language of the conversation."
)


def compact_ask(request: CompactRequest, items: Sequence[dict[str, Any]], *, history: int) -> Ask:
    """Return the question that asks for the summary. Raises errors.Invalid."""
    said = parse_items(items, first=history)
    front = (Message("system", (TextPart(request.instructions),)),) if request.instructions else ()
    wish = Message("user", (TextPart(WISH),))
    return Ask(model=request.model, messages=(*front, *said.messages, wish), ignored=tuple(said.ignored))


def write_compaction(
    events: Sequence[Event], items: Sequence[dict[str, Any]], *, id: str, item_id: str, created: int, backend: str
) -> dict[str, Any]:
    """Return the answer: what the user said, and the summary, sealed. Raises UpstreamFailed for an empty one."""
    text = "".join(event.text for event in events if isinstance(event, Text)).strip()
    if not text:
        raise UpstreamFailed("The model gave no summary of the conversation.", backend=backend)
    usage = next((event for event in events if isinstance(event, Usage)), Usage(0, 0))
    asked = [item for item in items if item.get("type") == "message" and item.get("role") == "user"]
    return {
        "id": id,
        "object": "response.compaction",
        "created_at": created,
        "output": [*asked, {"id": item_id, "type": "compaction", "encrypted_content": seal(text)}],
        "usage": usage_of(usage),
    }
