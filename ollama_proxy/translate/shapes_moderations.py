"""The request body of /v1/moderations, declared once. Nothing is interpreted here."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .shapes_chat import ImagePart, TextPart

__all__ = ["ModerationRequest"]


class ModerationRequest(Struct):
    """The body of POST /v1/moderations."""

    input: Annotated[
        str | Annotated[list[str | TextPart | ImagePart], Meta(min_length=1, max_length=2048)],
        Meta(description="A text; texts, each with a result of its own; or parts, which have one result together."),
    ]
    model: Annotated[
        str | None,
        Meta(description="OpenAI's name, for the model that the settings choose, or the name of a model here."),
    ] = None
