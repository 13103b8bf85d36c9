"""The bodies of oproxy's own routes and of OpenAI's administration API, declared once. Nothing is interpreted here."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from ..account import Budget, Rates
from .shapes import KeepAlive

__all__ = ["AdminKeyRequest", "KeyRequest", "ModelCommand"]

# A key's name, as `oproxy keys list` shows it.
KeyName = Annotated[str, Meta(min_length=1, max_length=100)]


class ModelCommand(Struct):
    """The body of POST /oproxy/pull, /oproxy/load and /oproxy/unload."""

    model: Annotated[str, Meta(min_length=1, description="A model's name; `backend/model` chooses a backend.")]
    backend: Annotated[str | None, Meta(description="Of a pull: the backend that fetches it.")] = None
    keep_alive: Annotated[KeepAlive | None, Meta(description='How long it stays loaded: seconds, or "5m".')] = None


class KeyRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /oproxy/keys; of a change, what is not sent stays."""

    name: KeyName | UnsetType = UNSET
    expires: Annotated[float, Meta(description="Seconds since 1970; null: never.")] | UnsetType | None = UNSET
    models: Annotated[tuple[str, ...], Meta(description="Globs; empty: all models.")] | UnsetType = UNSET
    endpoints: Annotated[tuple[str, ...], Meta(description="Globs over paths; empty: all.")] | UnsetType = UNSET
    tier: str | UnsetType = UNSET
    rates: Rates | UnsetType = UNSET
    budget: Budget | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    model: Annotated[str, Meta(description="Answers whatever name is asked for.")] | UnsetType | None = UNSET
    admin: bool | UnsetType = UNSET
    revoked: Annotated[bool, Meta(description="Only of a change.")] | UnsetType = UNSET
    ephemeral: Annotated[bool, Meta(description="Of `oproxy run`: the key is removed with its run.")] = False


class AdminKeyRequest(Struct, forbid_unknown_fields=True):
    """The body of POST /v1/organization/admin_api_keys."""

    name: KeyName
    expires_in_seconds: Annotated[int, Meta(ge=1, le=2**33)] | None = None
