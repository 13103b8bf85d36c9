"""The request body of /v1/edits, declared once. Nothing is interpreted here.

OpenAI has taken this endpoint down; its shape is the one of its last description.
https://github.com/openai/openai-openapi/blob/1.3.0/openapi.yaml
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .shapes import Model, Temperature, TopP

__all__ = ["EditRequest"]


class EditRequest(Struct):
    """The body of POST /v1/edits."""

    model: Model
    instruction: Annotated[str, Meta(description="What to do with the text.")]
    input: Annotated[str | None, Meta(description="The text; none: one is written.")] = None
    n: Annotated[int, Meta(ge=1, le=20, description="How many edits to give.")] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
