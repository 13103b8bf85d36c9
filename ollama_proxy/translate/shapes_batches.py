"""The request body of POST /v1/batches, declared once as in `shapes`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .shapes import Metadata

__all__ = ["BatchRequest", "Endpoint", "OutputExpiry"]

Endpoint = Literal["/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/moderations"]


class OutputExpiry(Struct):
    """When the files of the results are forgotten."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2592000, description="Seconds after the file was made.")]


class BatchRequest(Struct):
    """The body of POST /v1/batches."""

    input_file_id: Annotated[str, Meta(min_length=1, description="An uploaded file with the purpose `batch`.")]
    endpoint: Annotated[Endpoint, Meta(description="What every line of the file asks for.")]
    completion_window: Annotated[Literal["24h"], Meta(description="Lines without an answer by then expire.")]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
