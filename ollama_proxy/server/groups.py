"""Which group of OpenAI's routes a path belongs to: what `[backends.X] serves` names. Only the table."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BASE", "GROUP_OF", "group_of"]

BASE = "/v1/"

# The group of a path, by its first step below /v1. What is not here is ours alone.
GROUP_OF: Mapping[str, str] = {
    "agents": "agents",
    "assistants": "assistants",
    "audio": "audio",
    "chatkit": "chatkit",
    "containers": "containers",
    "content_provenance_checks": "safety",
    "decisions": "decisions",
    "evals": "evals",
    "fine_tuning": "fine_tuning",
    "images": "images",
    "live": "live",
    "realtime": "realtime",
    "safety": "safety",
    "skills": "skills",
    "threads": "assistants",
    "vaults": "agents",
    "vector_stores": "vector_stores",
    "videos": "videos",
    "webhook_endpoints": "webhooks",
    "webhook_event_types": "webhooks",
}


def group_of(path: str) -> str:
    """Return the group that a path belongs to, "" for those that are ours alone."""
    return GROUP_OF.get(path.removeprefix(BASE).partition("/")[0], "")
