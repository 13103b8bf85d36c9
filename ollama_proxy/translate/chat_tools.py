"""The tools, tool choice and answer format of a chat request, wire to hub.

The deprecated `functions` and `function_call` become tools here; `extra["legacy_functions"]` remembers it. Checks
what OpenAI checks between these fields, in its words. Never decides how a backend is made to obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import model as hub
from ..errors import Invalid
from . import shapes_chat as wire
from .shapes import ChatRequest
from .validate import invalid_value, missing

__all__ = ["parse_choice", "parse_format", "parse_tools", "shallow"]

# Far more than any real schema has, far less than what makes a recursive reader stumble.
DEPTH = 100


def parse_tools(request: ChatRequest) -> tuple[hub.Tool, ...]:
    """Return the tools of `tools` or of the deprecated `functions`."""
    if request.tools and request.functions:
        raise Invalid("Invalid value for 'functions': 'functions' is not allowed with 'tools'.", param="functions")
    tools = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ()))
    functions = tuple(_function(tool, f"functions[{index}]") for index, tool in enumerate(request.functions or ()))
    names = set()
    for index, tool in enumerate(tools or functions):
        if tool.name in names:
            path = f"tools[{index}].{tool.kind}.name" if tools else f"functions[{index}].name"
            raise Invalid(
                f"Invalid value for '{path}': names must be unique, but '{tool.name}' appears more than once.",
                param=path,
                code="invalid_value",
            )
        names.add(tool.name)
    return tools or functions


def _tool(tool: wire.Tool, path: str) -> hub.Tool:
    if isinstance(tool, wire.FunctionTool):
        return _function(tool.function, f"{path}.function")
    custom = tool.custom
    grammar = None
    if isinstance(custom.format, wire.GrammarFormat):
        grammar = (custom.format.grammar.syntax, custom.format.grammar.definition)
    return hub.Tool(custom.name, custom.description, kind="custom", grammar=grammar)


def _function(function: wire.FunctionDef, path: str) -> hub.Tool:
    shallow(function.parameters, f"{path}.parameters")
    return hub.Tool(function.name, function.description, function.parameters, strict=bool(function.strict))


# --- tool_choice ----------------------------------------------------------------------------------------------------


def parse_choice(request: ChatRequest, tools: Sequence[hub.Tool]) -> hub.ToolChoice:
    """Return what `tool_choice` or the deprecated `function_call` says."""
    if request.function_call is not None:
        if not request.functions:
            raise _only_with("function_call", "functions")
        return _function_choice(request.function_call, tools)
    if request.parallel_tool_calls is not None and request.tools is None:
        raise _only_with("parallel_tool_calls", "tools")
    if request.tool_choice is None:
        return hub.ToolChoice()
    # Clients that send `tools: []` send a harmless choice beside it.
    if request.tools is None or (not request.tools and request.tool_choice not in ("none", "auto")):
        raise _only_with("tool_choice", "tools")
    return _choice(request.tool_choice, tools)


def _choice(choice: wire.ToolChoice, tools: Sequence[hub.Tool]) -> hub.ToolChoice:
    match choice:
        case wire.ChooseFunction() | wire.ChooseCustom():
            return hub.ToolChoice("required", (_named(choice, tools),))
        case wire.ChooseAllowed(allowed_tools=allowed):
            # A tool named twice is allowed once.
            names = dict.fromkeys(_named(tool, tools) for tool in allowed.tools)
            return hub.ToolChoice(allowed.mode, tuple(names))
        case "none" | "auto" | "required":
            return hub.ToolChoice(choice)
    raise AssertionError(choice)  # the shape lets nothing else through


def _named(choice: wire.ChooseFunction | wire.ChooseCustom, tools: Sequence[hub.Tool]) -> str:
    if isinstance(choice, wire.ChooseFunction):
        kind, word, name = "function", "function", choice.function.name
    else:
        kind, word, name = "custom", "custom tool", choice.custom.name
    if not any(tool.name == name and tool.kind == kind for tool in tools):
        raise Invalid(
            f"Invalid value for 'tool_choice': no {word} named '{name}' was specified in the 'tools' parameter.",
            param="tool_choice",
        )
    return name


def _function_choice(choice: wire.FunctionChoice, tools: Sequence[hub.Tool]) -> hub.ToolChoice:
    if isinstance(choice, str):
        return hub.ToolChoice(choice)
    if not any(tool.name == choice.name for tool in tools):
        raise Invalid(
            f"Invalid value for 'function_call': no function named '{choice.name}' was specified in the 'functions' "
            "parameter.",
            param="function_call",
        )
    return hub.ToolChoice("required", (choice.name,))


def _only_with(name: str, other: str) -> Invalid:
    return Invalid(f"Invalid value for '{name}': '{name}' is only allowed when '{other}' are specified.", param=name)


# --- response_format --------------------------------------------------------------------------------------------------


def parse_format(request: ChatRequest) -> hub.Format:
    """Return what `response_format` says, or Ollama's `format` where it says nothing."""
    match request.response_format:
        case wire.FormatJsonSchema(json_schema=named):
            path = "response_format.json_schema.schema"
            if named.schema is None:
                raise missing(path)
            shallow(named.schema, path)
            return hub.Format("schema", named.name, named.schema, bool(named.strict), named.description)
        case wire.FormatObject():
            return hub.Format("json")
        case wire.FormatText():
            return hub.Format()
    match request.format:
        case dict() as schema:
            shallow(schema, "format")
            return hub.Format("schema", schema=schema, strict=True)
        case "json":
            return hub.Format("json")
        case None | "":
            return hub.Format()
        case str() as word:
            raise invalid_value("format", word, ["json"])
    raise AssertionError(request.format)  # the shape lets nothing else through


def shallow(value: Any, path: str) -> None:
    """Refuse a client's JSON that is nested so deep that recursive code would stumble over it later."""
    level, depth = [value], 0
    while level:
        if depth > DEPTH:
            raise Invalid(
                f"Invalid '{path}': nested too deeply. Expected at most {DEPTH} levels.",
                param=path,
                code="invalid_value",
            )
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        level, depth = below, depth + 1
