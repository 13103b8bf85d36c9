"""What a URL that is not served was meant to be: nearly right base URLs, and Azure's form. Pure: knows no routes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Meant", "hint", "meant"]

# Steps that stand in front of a path because a base URL has them too often, or has another server's.
PREFIXES = frozenset({"v1", "api", "openai", "v1beta"})
# The clients of these paths want a base URL without /v1.
BARE = ("/api/", "/v1/messages")
# https://learn.microsoft.com/azure/ai-foundry/openai/reference
AZURE = re.compile(r"/openai/deployments/([^/]+)(/.+)")
LONGEST = 200


class Meant(NamedTuple):
    """The `path` that was meant, the `base` URL's own path that leads there, and Azure's name for the `model`."""

    path: str
    base: str
    model: str = ""


def meant(path: str, exists: Callable[[str], bool]) -> Meant | None:
    """Return what a path was meant to be, None where nothing is near it. `exists` tells which paths are served."""
    clean = "/" + "/".join(step for step in path.split("/") if step)
    if len(clean) > LONGEST:
        return None
    if (azure := AZURE.fullmatch(clean)) and exists(found := f"/v1{azure[2]}"):
        return Meant(found, "/v1", azure[1])
    steps = clean[1:].split("/")
    for dropped in range(len(steps)):
        front, rest = steps[:dropped], "/".join(steps[dropped:])
        whole = not PREFIXES.issuperset(front) and f"/{'/'.join(front)}"
        if whole and not exists(whole):
            continue
        for found in (f"/{rest}", f"/v1/{rest}", f"/api/{rest}"):
            if whole and whole.startswith(BARE) != found.startswith(BARE):
                continue  # /v1/messages/batches: a route of another API, which is not served here.
            if found != path and found.startswith(("/v1/", "/api/")) and exists(found):
                return Meant(found, "" if found.startswith(BARE) else "/v1")
    return None


def hint(found: Meant, origin: str) -> str:
    """Return what to say of it; `origin` is the scheme and the host that were asked."""
    base = f"{origin}{found.base}"
    if found.model:
        return (
            f"(HINT: This is a URL of Azure OpenAI. Set the base URL {base} in a client for OpenAI, "
            f"and the model '{found.model}'.)"
        )
    return f"(HINT: Set the base URL to {base}; this request then goes to {found.path}.)"
