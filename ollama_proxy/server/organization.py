"""The handlers of OpenAI's administration API: usage and costs from the ledger, keys and rate limits. Only for
administrators; who is one has been decided before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from ..account import Key
from ..errors import NotFound
from ..policy import credentials
from ..store import usage
from ..translate import organization, query, validate
from ..translate.shapes_admin import AdminKeyRequest
from ..translate.shapes_queries import AdminKeysQuery, ProjectKeysQuery, RateLimitsQuery
from .account_keys import ask, check_name, refresh
from .body import read_body
from .keys import ENGINE, KEYRING, NEW_ID, WALL
from .reply import json_bytes

if TYPE_CHECKING:
    from ..store import Store

__all__ = [
    "admin_key",
    "admin_keys",
    "costs",
    "create_admin_key",
    "delete_admin_key",
    "project_key",
    "project_keys",
    "rate_limits",
    "usage_of",
]

Handler = Callable[[web.Request], Any]


def usage_of(kind: str) -> Handler:
    """Return the handler of GET /v1/organization/usage/{kind}."""

    async def usage_page(request: web.Request) -> web.Response:
        return await page(request, organization.KINDS[kind])

    return usage_page


async def costs(request: web.Request) -> web.Response:
    """GET /v1/organization/costs: what it really cost, by the day."""
    return await page(request, organization.COSTS)


async def page(request: web.Request, kind: organization.Kind) -> web.Response:
    """Answer with a page of buckets."""
    asked = organization.parse_usage(kind, request.query.items(), request.app[WALL]())
    rows = await ask(request, lambda store: summed(store, asked))
    return json_bytes(msgspec.json.encode(organization.write_usage(asked, rows)))


def summed(store: Store, asked: organization.Ask) -> list[usage.Row]:
    if asked.only is None or asked.since >= asked.until:
        return []
    with store.reading() as reader:
        return usage.query(reader, asked.since, asked.until, asked.by, asked.only)


# --- the project --------------------------------------------------------------------------------------------------


def answer(body: dict[str, Any]) -> web.Response:
    return json_bytes(msgspec.json.encode(body))


async def keys_of(request: web.Request) -> list[Key]:
    """Return all keys, oldest first, as they are this moment."""
    await refresh(request)
    return sorted(request.app[KEYRING].all(), key=lambda key: (key.created, key.id))


async def project_keys(request: web.Request) -> web.Response:
    """GET /v1/organization/projects/{project_id}/api_keys"""
    organization.project(request.match_info["project_id"])
    asked, _ = query.parse(request.query.items(), ProjectKeysQuery)
    now = request.app[WALL]()
    rows = [organization.write_project_key(key, now) for key in await keys_of(request)]
    return answer(organization.write_listing(organization.narrowed_keys(rows, asked), asked))


async def project_key(request: web.Request) -> web.Response:
    """GET /v1/organization/projects/{project_id}/api_keys/{key_id}"""
    organization.project(request.match_info["project_id"])
    return answer(organization.write_project_key(await found(request), request.app[WALL]()))


async def found(request: web.Request, *, admin: bool = False) -> Key:
    """Return the key that the URL names by its id."""
    id = request.match_info["key_id"]
    for key in await keys_of(request):
        if key.id == id and (key.admin or not admin):
            return key
    raise NotFound(f"API key with ID '{id}' not found.")


async def rate_limits(request: web.Request) -> web.Response:
    """GET /v1/organization/projects/{project_id}/rate_limits: the default of a key (`*`), then those of models."""
    organization.project(request.match_info["project_id"])
    asked, _ = query.parse(request.query.items(), RateLimitsQuery)
    limits = request.app[ENGINE].snapshot.settings.limits
    named = [("*", limits), *limits.models.items()]
    rows = organization.limit_rows(
        (name, each.requests_per_minute, each.tokens_per_minute, each.requests_per_day) for name, each in named
    )
    return answer(organization.write_listing(rows, asked))


# --- administrators' keys -----------------------------------------------------------------------------------------


async def admin_keys(request: web.Request) -> web.Response:
    """GET /v1/organization/admin_api_keys"""
    asked, _ = query.parse(request.query.items(), AdminKeysQuery)
    rows = [organization.write_admin_key(key) for key in await keys_of(request) if key.admin]
    return answer(organization.write_listing(rows, asked))


async def admin_key(request: web.Request) -> web.Response:
    """GET /v1/organization/admin_api_keys/{key_id}"""
    return answer(organization.write_admin_key(await found(request, admin=True)))


async def create_admin_key(request: web.Request) -> web.Response:
    """POST /v1/organization/admin_api_keys: the answer holds the key, for this once."""
    wanted, _ = validate.decode(await read_body(request), AdminKeyRequest)
    check_name(wanted.name)
    app = request.app
    now, secret = app[WALL](), credentials.new_secret(os.urandom(25))
    key = Key(
        id=f"key_{app[NEW_ID]()[:16]}",
        name=wanted.name,
        digest=credentials.digest(secret),
        shown=credentials.shown(secret),
        created=now,
        expires=now + wanted.expires_in_seconds if wanted.expires_in_seconds is not None else None,
        admin=True,
    )
    await ask(request, lambda store: store.keys.add(key))
    return answer(organization.write_admin_key(key, value=secret))


async def delete_admin_key(request: web.Request) -> web.Response:
    """DELETE /v1/organization/admin_api_keys/{key_id}: it opens nothing from now on; its rows in the ledger stay."""
    key = await found(request, admin=True)
    await ask(request, lambda store: store.keys.remove(key.id))
    return answer({"object": "organization.admin_api_key.deleted", "id": key.id, "deleted": True})
