"""The tools and the tool choice of a messages request, wire to hub.

Tools that Anthropic defines but the client runs (bash, the text editor, memory) become functions with the arguments
that Anthropic's models give them; tools that only Anthropic's servers can run are left out and named. Never decides
how a backend is made to obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .. import model as hub
from ..errors import Invalid, Unsupported
from . import shapes_messages as wire
from .chat_tools import shallow
from .validate import missing

__all__ = ["parse_choice", "parse_tools"]

Json = dict[str, Any]


def _object(properties: Json, *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


_TEXT: Json = {"type": "string"}
_LINES: Json = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}


def _commands(*names: str) -> Json:
    return {"type": "string", "enum": list(names)}


# By how the type begins; the date after it is left open. What each does and takes:
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/bash-tool, …/text-editor-tool, …/memory-tool
CLIENT_TOOLS: Mapping[str, tuple[str, Json]] = {
    "bash_": (
        "Run a command in a bash shell that stays open between calls. Set `restart` to get a fresh shell.",
        _object({"command": _TEXT, "restart": {"type": "boolean"}}),
    ),
    "text_editor_": (
        (
            "View, create and edit text files. `view` shows a file (`view_range`: first and last line) or lists a "
            "folder; `create` writes `file_text`; `str_replace` replaces `old_str`, which must occur once, by "
            "`new_str`; `insert` puts `insert_text` after line `insert_line`."
        ),
        _object(
            {
                "command": _commands("view", "create", "str_replace", "insert"),
                "path": _TEXT,
                "file_text": _TEXT,
                "old_str": _TEXT,
                "new_str": _TEXT,
                "insert_line": {"type": "integer"},
                "insert_text": _TEXT,
                "view_range": _LINES,
            },
            "command",
            "path",
        ),
    ),
    "memory_": (
        (
            "Keep notes in files below /memories. `view`, `create`, `str_replace`, `insert`, `delete` and `rename` "
            "work on `path`; `rename` takes `old_path` and `new_path`."
        ),
        _object(
            {
                "command": _commands("view", "create", "str_replace", "insert", "delete", "rename"),
                "path": _TEXT,
                "file_text": _TEXT,
                "old_str": _TEXT,
                "new_str": _TEXT,
                "insert_line": {"type": "integer"},
                "insert_text": _TEXT,
                "view_range": _LINES,
                "old_path": _TEXT,
                "new_path": _TEXT,
            },
            "command",
        ),
    ),
}


def parse_tools(tools: Sequence[wire.ToolDef]) -> tuple[tuple[hub.Tool, ...], tuple[str, ...]]:
    """Return the tools a model can be given, and the names of those left out. Raises errors.Invalid."""
    found: dict[str, hub.Tool] = {}
    left: list[str] = []
    for index, tool in enumerate(tools):
        made = _tool(tool, f"tools[{index}]")
        if made is None:
            left.append(tool.name or tool.type or "")
            continue
        if made.name in found:
            raise Invalid("Tool names must be unique.", param="tools", code="invalid_value")
        found[made.name] = made
    return tuple(found.values()), tuple(dict.fromkeys(left))


def _tool(tool: wire.ToolDef, path: str) -> hub.Tool | None:
    if tool.type in (None, "custom"):
        if tool.name is None:
            raise missing(f"{path}.name")
        if tool.input_schema is None:
            raise missing(f"{path}.input_schema")
        shallow(tool.input_schema, f"{path}.input_schema")
        shallow(tool.input_examples, f"{path}.input_examples")
        return hub.Tool(tool.name, _described(tool), tool.input_schema)
    for prefix, (description, schema) in CLIENT_TOOLS.items():
        if tool.name is not None and (tool.type or "").startswith(prefix):
            return hub.Tool(tool.name, description, schema)
    return None


def _described(tool: wire.ToolDef) -> str | None:
    """Return the description, with the examples of its input below it."""
    return "\n".join(_description(tool)) or None


def _description(tool: wire.ToolDef) -> Iterator[str]:
    if tool.description:
        yield tool.description
    for example in tool.input_examples or ():
        yield f"Example input: {msgspec.json.encode(example).decode()}"


def parse_choice(
    request: wire.CountTokensRequest, tools: Sequence[hub.Tool], left: Sequence[str]
) -> tuple[hub.ToolChoice, bool]:
    """Return what `tool_choice` says, and whether several calls at once are welcome. Raises errors.Invalid."""
    choice = request.tool_choice
    if isinstance(choice, wire.ChoiceAny | wire.ChoiceTool) and not tools:
        if left:
            raise _not_here(left[0])
        raise Invalid("tool_choice may only be specified while providing tools.", param="tool_choice")
    match choice:
        case wire.ChoiceAuto(disable_parallel_tool_use=single):
            return hub.ToolChoice(), not single
        case wire.ChoiceAny(disable_parallel_tool_use=single):
            return hub.ToolChoice("required"), not single
        case wire.ChoiceTool(name=name, disable_parallel_tool_use=single):
            if not any(tool.name == name for tool in tools):
                if name in left:
                    raise _not_here(name)
                raise Invalid(f"Tool '{name[:200]}' not found in provided tools.", param="tool_choice")
            return hub.ToolChoice("required", (name,)), not single
        case wire.ChoiceNone():
            return hub.ToolChoice("none"), True
    return hub.ToolChoice(), True


def _not_here(name: str) -> Unsupported:
    return Unsupported(f"The tool '{name[:200]}' runs on Anthropic's servers, not here.", param="tool_choice")
