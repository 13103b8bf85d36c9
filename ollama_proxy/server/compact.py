"""POST /v1/responses/compact: a model sums up what was said."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import web

from ..errors import Invalid
from ..policy.books import Books
from ..translate import validate
from ..translate.responses_compact import compact_ask, write_compaction
from ..translate.responses_items import canonical, items_of
from ..translate.shapes_responses import CompactRequest
from .decoding import decode_body
from .keys import ENGINE, WALL, WORKERS
from .responses_ask import check_ids, history_of, referred, with_files
from .shelf import new_id, owner_of

__all__ = ["compact_response"]

NO_EFFECT = ("service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")


async def compact_response(app: web.Application, body: bytes, books: Books) -> bytes:
    """Return the compaction as JSON."""
    shape, fields = await decode_body(app, body, CompactRequest, books)
    validate.check_needs(shape)
    check_ids(app, shape)
    if not shape.input and shape.previous_response_id is None:
        raise Invalid("Invalid 'input': there is nothing in it to be compacted.", param="input", code="invalid_value")
    engine, owner = app[ENGINE], owner_of(books.caller)
    before = await history_of(app, books, shape.previous_response_id, None, owner)
    brought = await referred(app, items_of(shape.input), before, owner)
    items = await with_files(app, [*before, *brought], books, owner)
    ask = await app[WORKERS].run(books.size, partial(compact_ask, shape, items, history=len(before)))
    ignored = (*ask.ignored, *validate.ignored_keys(fields, CompactRequest))
    ask = msgspec.structs.replace(ask, ignored=(*ignored, *(name for name in NO_EFFECT if getattr(shape, name))))
    target = await engine.route(shape.model, "chat", books)
    events = await engine.chat_whole(ask, target, books)
    listed = partial(canonical, [*before, *brought], lambda prefix: new_id(app, prefix))
    items = await app[WORKERS].run(books.size, listed)
    write = partial(
        write_compaction,
        events,
        items,
        id=new_id(app, "resp_"),
        item_id=new_id(app, "cmp_"),
        created=int(app[WALL]()),
        backend=books.backend,
    )
    work, large = app[WORKERS].run, max(books.size, books.answer)
    return await work(large, msgspec.json.encode, await work(large, write))
