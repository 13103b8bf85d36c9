"""The request bodies of what is kept: conversations with their items, stored chat completions. Declared once.

Items are the Responses API's and are checked there; here they are only counted. Nothing is interpreted.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from .shapes import Metadata

__all__ = ["CreateConversation", "CreateItems", "UpdateChatCompletion", "UpdateConversation"]

Items = Annotated[
    list[dict[str, Any]],
    Meta(
        max_length=20,
        description="Items as /v1/responses takes them: messages, tool calls, their outputs …",
        extra_json_schema={"x-items": "ResponseItem"},
    ),
]


class CreateConversation(Struct):
    """The body of POST /v1/conversations."""

    items: Items | None = None
    metadata: Metadata | None = None


class UpdateConversation(Struct):
    """The body of POST /v1/conversations/{conversation_id}."""

    metadata: Annotated[Metadata | None, Meta(description="Takes the place of what was there.")]


class CreateItems(Struct):
    """The body of POST /v1/conversations/{conversation_id}/items."""

    items: Items


class UpdateChatCompletion(Struct):
    """The body of POST /v1/chat/completions/{completion_id}."""

    metadata: Annotated[Metadata | None, Meta(description="Takes the place of what was there.")]
