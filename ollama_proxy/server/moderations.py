"""The handler of POST /v1/moderations. What it answers is `judging`'s."""

from __future__ import annotations

from aiohttp import web

from ..translate.openapi import Route
from ..translate.shapes_moderations import ModerationRequest
from .generate import body_of
from .judging import moderation_answer
from .keys import BOOKS
from .reply import json_bytes
from .row import Row

__all__ = ["ROWS", "create_moderation"]


async def create_moderation(request: web.Request) -> web.Response:
    """POST /v1/moderations."""
    return json_bytes(await moderation_answer(request.app, await body_of(request), request[BOOKS]))


ROWS: tuple[Row, ...] = (
    Row(
        Route("POST", "/v1/moderations", "Judge texts and images", ModerationRequest, "Moderations"),
        create_moderation,
    ),
)
