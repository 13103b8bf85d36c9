"""Going on with an earlier conversation: which it was, and what was said in it, read back from the server."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct

from ..policy.printable import line_text
from ..private import make_folder, replace_private
from .client import Api, ApiError
from .failure import Failure
from .output import tell
from .session import Session

__all__ = ["remember", "remembered", "resume"]

# Responses of a chain that are read back at most.
LONGEST = 1000
# Characters of a turn that are shown.
SHOWN = 200
PAGE = 100


class Last(Struct):
    """The last answer of the last chat."""

    id: str
    model: str
    at: float


def place() -> Path:
    return Path(platformdirs.user_state_path("oproxy")) / "chat_last.json"


def remember(id: str, model: str) -> None:
    """Keep in mind where the conversation is. What cannot be written is not worth an error."""
    if not id:
        return
    path = place()
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        replace_private(path, msgspec.json.encode(Last(id, model, time.time())))


def remembered() -> str:
    """Return the id of the last answer. Raises Failure if there is none."""
    try:
        return msgspec.json.decode(place().read_bytes(), type=Last).id
    except (OSError, msgspec.DecodeError) as exc:
        raise Failure("There is no earlier conversation to go on with.") from exc


async def resume(api: Api, session: Session, id: str) -> None:
    """Fill the session with the conversation that ends in the response `id`. Raises Failure."""
    found: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    at: str | None = id
    while at and len(found) < LONGEST:
        try:
            response = await api.get(f"/v1/responses/{at}")
            found.append((response, [*await inputs(api, at), *response["output"]]))
        except ApiError as exc:
            raise Failure(f"The conversation cannot be gone on with: {exc.message}") from exc
        at = response["previous_response_id"]
    for response, items in reversed(found):
        session.turns += [turn for item in items if (turn := turn_of(item)) is not None]
        session.marks.append((len(session.turns), response["id"]))
    session.system = session.system or found[0][0]["instructions"] or ""
    show(session)


async def inputs(api: Api, id: str) -> list[dict[str, Any]]:
    """Return all items that a response was asked, in order."""
    items: list[dict[str, Any]] = []
    after, more = "", True
    while more:
        page = await api.get(f"/v1/responses/{id}/input_items?order=asc&limit={PAGE}{after}")
        items += page["data"]
        more, after = page["has_more"], f"&after={page['last_id']}"
    return items


def turn_of(item: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message as a session keeps it; None for what is no message."""
    if item.get("type") != "message":
        return None
    parts = [part_of(part) for part in item["content"]]
    if all(part["type"] == "text" for part in parts):
        return {"role": item["role"], "content": "".join(part["text"] for part in parts)}
    return {"role": item["role"], "content": parts}


def part_of(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url") or ""}}
    return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}


def show(session: Session) -> None:
    """Tell shortly what was said last."""
    tell(f"Going on with a conversation of {len(session.turns)} messages.")
    for turn in session.turns[-2:]:
        content = turn["content"]
        text = content if isinstance(content, str) else " ".join(part.get("text", "[image]") for part in content)
        tell(f"{'>>>' if turn['role'] == 'user' else '   '} {line_text(text, SHOWN)}")
