"""The handlers around models: OpenAI's list, and our own doors for `oproxy models` (below /oproxy)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from .. import framing
from ..backends.base import Backend
from ..engine import Engine
from ..errors import Invalid, ModelNotFound, OproxyError
from ..model import ModelInfo
from ..policy import credentials
from ..translate import messages_models, models, query, validate
from ..translate.shapes_admin import ModelCommand
from ..translate.shapes_queries import AnthropicModelsQuery
from .body import read_body
from .dialects import VERSION
from .keys import BOOKS, ENGINE
from .middleware import head
from .reply import json_bytes

__all__ = [
    "delete_model",
    "list_models",
    "load",
    "model_in_full",
    "models_in_full",
    "pull",
    "retrieve_model",
    "running",
    "unload",
]


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models: what the backends list, and the aliases."""
    engine = request.app[ENGINE]
    listed = await engine.fleet.listed()
    aliases = engine.snapshot.names.aliases(listed)
    if (key := request[BOOKS].caller.key) is not None and key.models:
        listed = tuple(info for info in listed if credentials.allows(key.models, info.id))
        aliases = {name: info for name, info in aliases.items() if credentials.allows(key.models, name)}
    if VERSION in request.headers:
        asked, request[BOOKS].ignored = query.parse(request.query.items(), AnthropicModelsQuery)
        return json_bytes(messages_models.write_list(listed, aliases, asked, when=when))
    return json_bytes(models.write_list(listed, aliases))


async def retrieve_model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}, by any name that would be answered."""
    engine = request.app[ENGINE]
    asked = request.match_info["model"]
    target = await engine.route(asked, None, request[BOOKS])
    if VERSION in request.headers:
        return json_bytes(messages_models.write_model(asked, await engine.describe(target), when=when))
    return json_bytes(models.write_model(asked, target.info))


def when(seconds: int) -> str:
    """Write a time as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def delete_model(request: web.Request) -> web.Response:
    """DELETE /v1/models/{id}: only a model by its own name. An alias is not a model, so it deletes nothing."""
    engine = request.app[ENGINE]
    asked = request.match_info["model"]
    target = await engine.route(asked, None, request[BOOKS], fetch=False)
    if target.via != "listed":
        raise Invalid(
            f"`{asked}` is another name of `{target.info.id}`, not a model of its own. Delete `{target.info.id}` "
            "if you mean it, or remove the alias with `oproxy models alias rm`.",
            param="model",
        )
    await engine.fleet[target.info.backend].delete(target.info.id)
    await engine.fleet.listed(fresh=True)
    return json_bytes(models.write_deleted(asked))


# --- our own doors ------------------------------------------------------------------------------------------------


async def models_in_full(request: web.Request) -> web.Response:
    """GET /oproxy/models: everything known of every model, with aliases and what could not be asked."""
    engine = request.app[ENGINE]
    listed = await engine.fleet.listed(fresh=True)
    loaded = {(run.backend, run.id) for run in await all_running(engine)}
    aliases = engine.snapshot.names.aliases(listed)
    body = {
        "models": [row_of(engine, info, loaded) for info in listed],
        "aliases": {alias: target.info.id for alias, target in aliases.items()},
        "unreachable": {error.backend: error.message for error in engine.fleet.down()},
    }
    return json_bytes(msgspec.json.encode(body))


async def model_in_full(request: web.Request) -> web.Response:
    """GET /oproxy/models/{id}: the same of one model, with its aliases."""
    engine = request.app[ENGINE]
    target = await engine.route(request.match_info["model"], None, request[BOOKS])
    info = await engine.describe(target)
    loaded = {(run.backend, run.id) for run in await all_running(engine)}
    aliases = engine.snapshot.names.aliases(await engine.fleet.listed())
    row = row_of(engine, info, loaded)
    row["aliases"] = [alias for alias, other in aliases.items() if other.info.id == info.id]
    return json_bytes(msgspec.json.encode(row))


def row_of(engine: Engine, info: ModelInfo, loaded: set[tuple[str, str]]) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(info)
    row["capabilities"] = sorted(info.capabilities) if info.capabilities is not None else None
    row["loaded"] = (info.backend, info.id) in loaded
    row["type"] = engine.fleet[info.backend].kind
    return row


async def running(request: web.Request) -> web.Response:
    """GET /oproxy/running: the models in memory."""
    body = {"running": await all_running(request.app[ENGINE])}
    return json_bytes(msgspec.json.encode(body))


async def all_running(engine: Engine) -> list[Any]:
    return [run for member in list(engine.fleet.members.values()) for run in await member.runs()]


async def named(request: web.Request) -> ModelCommand:
    shape, fields = validate.decode(await read_body(request), ModelCommand)
    request[BOOKS].ignored = validate.ignored_keys(fields, ModelCommand)
    return shape


async def load(request: web.Request) -> web.Response:
    """POST /oproxy/load {"model"}: bring it into memory."""
    engine = request.app[ENGINE]
    wanted = await named(request)
    target = await engine.route(wanted.model, None, request[BOOKS])
    await engine.load(target, keep_alive=wanted.keep_alive)
    return json_bytes(msgspec.json.encode({"model": target.info.id, "backend": target.info.backend, "loaded": True}))


async def unload(request: web.Request) -> web.Response:
    """POST /oproxy/unload {"model"}: take it out of memory."""
    engine = request.app[ENGINE]
    wanted = await named(request)
    target = await engine.route(wanted.model, None, request[BOOKS], fetch=False)
    await engine.fleet[target.info.backend].unload(target.info.id)
    return json_bytes(msgspec.json.encode({"model": target.info.id, "backend": target.info.backend, "loaded": False}))


async def pull(request: web.Request) -> web.StreamResponse:
    """POST /oproxy/pull {"model", "backend"?}: NDJSON of progress; an error is the last line."""
    engine = request.app[ENGINE]
    wanted = await named(request)
    backend, model = chosen(engine, wanted)
    request[BOOKS].asked, request[BOOKS].backend, request[BOOKS].served = wanted.model, backend.name, model
    response = web.StreamResponse(headers=head(request))
    response.content_type = "application/x-ndjson"
    async for progress in first_raises(backend, model):
        if not response.prepared:
            await response.prepare(request)
        await response.write(framing.line(msgspec.json.encode(progress)))
    await response.write_eof()
    await engine.fleet.listed(fresh=True)
    return response


async def first_raises(backend: Backend, model: str) -> Any:
    """Yield the steps of a pull; an error before the first is raised, a later one becomes the last line."""
    begun = False
    try:
        async for progress in backend.pull(model):
            begun = True
            yield progress
    except OproxyError as exc:
        if not begun:
            raise
        yield exc.body()


def chosen(engine: Engine, wanted: ModelCommand) -> tuple[Backend, str]:
    """Return the backend that is to fetch a model: the named one (`backend/model` too), else the first that can."""
    members = engine.fleet.members
    if wanted.backend is not None:
        if wanted.backend not in members:
            raise Invalid(f"There is no backend '{wanted.backend}'. Configured: {', '.join(members)}.", param="backend")
        return members[wanted.backend].backend, wanted.model
    prefix, _, rest = wanted.model.partition("/")
    if rest and prefix in members:
        return members[prefix].backend, rest
    for member in members.values():
        if member.backend.pulls(wanted.model):
            return member.backend, wanted.model
    raise ModelNotFound(wanted.model, hint="No configured backend can fetch it.")
