"""The form of ids, checked as OpenAI checks it: what an id begins with, the signs it is made of, its length.

Only where `[server] strict_ids` asks for it, and only for ids of which OpenAI's words are known. Never looks whether
there is anything of that id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import Invalid
from .shapes_chat import JsonObject

__all__ = ["ITEMS", "PARAMS", "check_id", "check_items", "check_request"]

# What the id of a parameter begins with.
PARAMS: Mapping[str, str] = {
    "conversation_id": "conv",
    "response_id": "resp",
    "previous_response_id": "resp",
    "input_file_id": "file",
    "file_id": "file",
}
# What the id of an item begins with, by its type. Outputs of functions have been refused by the prefix of calls.
ITEMS: Mapping[str, str] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fc",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctc",
    "reasoning": "rs",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "computer_call": "cu",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
}
SIGNS = re.compile(r"[A-Za-z0-9_-]*")
LONGEST = 64
SHOWN = 100


def check_id(name: str, id: str, prefix: str = "") -> None:
    """Check one id; `name` is what the message calls it. Raises errors.Invalid."""
    prefix = prefix or PARAMS[name]
    head = f"Invalid '{name}': "
    if SIGNS.fullmatch(id) is None:
        raise Invalid(
            f"{head}'{id[:SHOWN]}'. Expected an ID that contains letters, numbers, underscores, or dashes, but this "
            "value contained additional characters.",
            param=name,
            code="invalid_value",
        )
    if not id.startswith(prefix):
        raise Invalid(
            f"{head}'{id[:SHOWN]}'. Expected an ID that begins with '{prefix}'.", param=name, code="invalid_value"
        )
    if len(id) > LONGEST:
        raise Invalid(
            f"{head}string too long. Expected a string with maximum length {LONGEST}, but got a string with length "
            f"{len(id)} instead.",
            param=name,
            code="string_above_max_length",
        )


def check_request(shape: Any) -> None:
    """Check the ids of a request of the Responses API. Raises errors.Invalid."""
    if (previous := getattr(shape, "previous_response_id", None)) is not None:
        check_id("previous_response_id", previous)
    conversation = getattr(shape, "conversation", None)
    if conversation is not None:
        check_id("conversation_id", conversation if isinstance(conversation, str) else conversation.id)
    if isinstance(shape.input, list):
        check_items(shape.input, "input")


def check_items(items: Iterable[JsonObject], path: str) -> None:
    """Check the ids of items, and of the files in their messages; what is wrong in another way is left to others.
    Raises errors.Invalid."""
    for place, item in enumerate(items):
        kind = item.get("type") or ("message" if "role" in item else "")
        id = item.get("id")
        if isinstance(id, str) and isinstance(kind, str) and kind in ITEMS:
            check_id(f"{path}[{place}].id", id, ITEMS[kind])
        for name in ("content", "output"):
            parts = item.get(name)
            for number, part in enumerate(parts if isinstance(parts, list) else ()):
                if isinstance(part, dict) and isinstance(file := part.get("file_id"), str):
                    check_id(f"{path}[{place}].{name}[{number}].file_id", file, PARAMS["file_id"])
