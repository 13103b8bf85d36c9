"""The handlers behind `oproxy keys` and `oproxy run`: make, list, change and remove keys, and tell what one used.

Only for administrators and this machine's own commands.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from ..account import Key
from ..errors import Invalid, NotFound
from ..policy import credentials
from ..store import Missing, StoreError
from ..store.spent import used_by
from ..translate import validate
from ..translate.shapes_admin import KeyRequest
from .accounts import unavailable
from .body import read_body
from .keys import ACCOUNTS, ENGINE, KEYRING, NEW_ID, WALL
from .reply import json_bytes

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["change_key", "create_key", "key_usage", "list_keys", "remove_key", "rotate_key", "told"]

log = logging.getLogger(__name__)

T = TypeVar("T")

PRESETS_ARE = "free, tier1 to tier5, or one of [limits.tiers] in the config"


async def create_key(request: web.Request) -> web.Response:
    """POST /oproxy/keys: make a key. The answer holds it, for this once."""
    fields = fields_of(request, await wanted(request))
    app = request.app
    secret = credentials.new_secret(os.urandom(25))
    fields.setdefault("name", "unnamed")
    taken = {key.name for key in app[KEYRING].all() if key.revoked is None}
    if fields["name"] in taken:
        raise Invalid(f"There is a key named {fields['name']!r} already.", param="name", code="name_taken")
    key = Key(
        id=f"key_{app[NEW_ID]()[:16]}",
        digest=credentials.digest(secret),
        shown=credentials.shown(secret),
        created=app[WALL](),
        **fields,
    )
    await ask(request, lambda store: store.keys.add(key))
    return json_bytes(msgspec.json.encode({**told(key), "key": secret}))


async def list_keys(request: web.Request) -> web.Response:
    """GET /oproxy/keys: every key, without its secret."""
    await refresh(request)
    return json_bytes(msgspec.json.encode({"keys": [told(key) for key in request.app[KEYRING].all()]}))


async def change_key(request: web.Request) -> web.Response:
    """POST /oproxy/keys/{key}: change what it may."""
    key = find(request)
    fields = fields_of(request, await wanted(request))
    changed = await ask(request, lambda store: store.keys.change(key.id, **fields))
    return json_bytes(msgspec.json.encode(told(changed)))


async def rotate_key(request: web.Request) -> web.Response:
    """POST /oproxy/keys/{key}/rotate: a new secret for the same key; the old one opens nothing from now on."""
    key = find(request)
    secret = credentials.new_secret(os.urandom(25))
    fields = {"digest": credentials.digest(secret), "shown": credentials.shown(secret)}
    changed = await ask(request, lambda store: store.keys.change(key.id, **fields))
    return json_bytes(msgspec.json.encode({**told(changed), "key": secret}))


async def remove_key(request: web.Request) -> web.Response:
    """DELETE /oproxy/keys/{key}: forget it; its rows in the ledger stay."""
    key = find(request)
    await ask(request, lambda store: store.keys.remove(key.id))
    return json_bytes(msgspec.json.encode({"id": key.id, "deleted": True}))


async def key_usage(request: web.Request) -> web.Response:
    """GET /oproxy/keys/{key}/usage: what it used since it was made."""
    key = find(request)
    used = await ask(request, lambda store: used_by(store, key.id, key.created))
    return json_bytes(msgspec.json.encode({"id": key.id, "name": key.name, **used}))


async def wanted(request: web.Request) -> KeyRequest:
    return validate.decode(await read_body(request), KeyRequest)[0]


def fields_of(request: web.Request, body: KeyRequest) -> dict[str, Any]:
    """Return what was sent as fields of a key."""
    fields = {
        name: value
        for name in body.__struct_fields__
        if name not in ("ephemeral", "revoked") and (value := getattr(body, name)) is not msgspec.UNSET
    }
    if body.revoked is not msgspec.UNSET:
        fields["revoked"] = request.app[WALL]() if body.revoked else None
    if "model" in fields:
        fields["model"] = fields["model"] or ""
    if "name" in fields:
        check_name(fields["name"])
    for name in ("tags", "models", "endpoints"):
        for each in fields.get(name) or ():
            check_text(each, name)
    check_text(fields.get("model") or "", "model")
    if fields.get("tier") and request.app[ENGINE].gate.tier(fields["tier"]) is None:
        raise Invalid(f"There is no tier {fields['tier']!r}. Known: {PRESETS_ARE}.", param="tier")
    return fields


def check_name(name: str) -> None:
    """Refuse what cannot be a key's name. Raises Invalid."""
    if not (name and name.isprintable() and len(name) <= 100):
        raise Invalid("A key's name has 1 to 100 printable characters.", param="name")


def check_text(text: str, param: str) -> None:
    """Refuse text that no name has and that not every database holds: NUL, halves of surrogate pairs. Raises
    Invalid."""
    if not text.isprintable():
        raise Invalid(f"{param} has characters that cannot be printed.", param=param)


def find(request: web.Request) -> Key:
    """Return the key that the URL names by id, name or the end of what is shown."""
    name = request.match_info["key"]
    if request.app[KEYRING].incomplete:
        raise unavailable()
    keys = request.app[KEYRING].all()
    found = [key for key in keys if name in (key.id, key.name)] or [
        key for key in keys if len(name) >= 4 and key.shown.endswith(name)
    ]
    if not found:
        raise NotFound(f"There is no key {name!r}. `oproxy keys list` shows them.")
    if len(found) > 1:
        # A name may come again once its key was revoked.
        live = [key for key in found if key.revoked is None]
        if len(live) != 1:
            raise Invalid(f"{name!r} may be any of {', '.join(key.id for key in found)}.")
        found = live
    if found[0].id.startswith("key_env_"):
        raise Invalid(f"The key {name!r} comes from the environment (OPROXY_API_KEYS) and is changed there.")
    return found[0]


async def refresh(request: web.Request) -> None:
    """Have the keys as they are this moment. Raises Overloaded where they cannot be read."""
    accounts = request.app[ACCOUNTS]
    if accounts.store is not None or not accounts.ready:
        await ask(request, lambda store: None)


async def ask(request: web.Request, work: Callable[[Store], T]) -> T:
    """Do something with the database in a thread, and read the keys anew, so that it holds for the next request."""
    store, keyring = request.app[ACCOUNTS].store, request.app[KEYRING]
    if store is None and not request.app[ACCOUNTS].ready:
        raise unavailable()
    if store is None:
        raise Invalid(
            "There is no database to keep keys in: [store] ledger is false and [auth] mode is off. "
            "Set one of them first, e.g. `oproxy config set auth.mode on`, and restart the daemon."
        )
    try:
        result = await asyncio.to_thread(work, store)
        await asyncio.to_thread(keyring.read)
    except Missing as exc:
        raise NotFound(exc.message) from exc
    except StoreError as exc:
        log.warning("the database failed at %s: %s", request.path, exc.message)
        raise unavailable() from exc
    return result


def told(key: Key) -> dict[str, Any]:
    """Return a key for its administrator: all but the digest."""
    fields: dict[str, Any] = msgspec.to_builtins(key)
    del fields["digest"]
    return fields
