"""GET and DELETE /v1/models in OpenAI's shape. Knows no backend and resolves no name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from ..model import ModelInfo

__all__ = ["Named", "by_name", "write_deleted", "write_list", "write_model"]

# Who owns an alias: it is of the user's own config.
OURS = "oproxy"
# Marks of a glob, which names no model of its own.
GLOB = frozenset("*?[")


class Named(Protocol):
    """What an alias leads to: anything that holds a model's description."""

    @property
    def info(self) -> ModelInfo: ...


def write_list(infos: Iterable[ModelInfo], aliases: Mapping[str, Named] | None = None) -> bytes:
    """Write all models, and after them the aliases that are no globs."""
    listed = by_name(infos, aliases)
    data = [_model(id, info.created, owner) for id, (info, owner) in listed.items()]
    return msgspec.json.encode({"object": "list", "data": data})


def by_name(infos: Iterable[ModelInfo], aliases: Mapping[str, Named] | None = None) -> dict[str, tuple[ModelInfo, str]]:
    """Return the models with their owners by the ids they are listed under.

    Ids are unique: an alias hides a model of its name, as it does when a request names it, and a model that an earlier
    backend has too is listed as `backend/model`, which is how to choose it.
    """
    names = {name: target for name, target in (aliases or {}).items() if not GLOB.intersection(name)}
    listed: dict[str, tuple[ModelInfo, str]] = {}
    for info in infos:
        id = f"{info.backend}/{info.id}" if info.id in listed else info.id
        if id not in names:
            listed[id] = (info, info.owned_by)
    for name, target in names.items():
        listed[name] = (target.info, OURS)
    return listed


def write_model(id: str, info: ModelInfo) -> bytes:
    """Write one model under the name the client asked by."""
    return msgspec.json.encode(_model(id, info.created, info.owned_by))


def write_deleted(id: str) -> bytes:
    """Write that a model is gone."""
    return msgspec.json.encode({"id": id, "object": "model", "deleted": True})


def _model(id: str, created: int, owned_by: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by, "shutdown_date": None}
