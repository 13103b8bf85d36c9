"""The tools and the tool choice of a Responses request, wire to hub.

Functions and custom tools are the client's to run and become the hub's tools; those in a namespace get one flat name,
which `Tools.names` leads back. What only OpenAI's own servers run (web search …) is left out and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .. import model as hub
from ..errors import Invalid
from ..strict import compatible
from .chat_tools import shallow
from .responses_items import flat
from .shapes_chat import GrammarFormat, JsonObject, TextFormat, ToolName
from .shapes_responses import Tools as JsonTools
from .validate import convert, invalid_value, missing, wrong_type

__all__ = ["HOSTED", "TOOLS", "Tools", "check_tool", "echo", "parse_choice", "parse_tools"]

# What OpenAI runs itself, or expects a model to know by its training.
HOSTED = (
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)


class FunctionTool(Struct):
    """A function the model may call."""

    name: ToolName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class FlatGrammar(Struct, tag="grammar"):
    """What a custom tool's input must look like."""

    definition: str
    syntax: Literal["lark", "regex"]


class CustomTool(Struct):
    """A tool that takes free text."""

    name: ToolName
    description: str | None = None
    format: TextFormat | FlatGrammar | None = None


class NestedCustomTool(Struct):
    """The same as chat completions have it: the grammar is one level deeper."""

    format: GrammarFormat
    name: ToolName
    description: str | None = None


class NamespaceTool(Struct):
    """Tools that belong together."""

    name: Annotated[str, Meta(min_length=1)]
    tools: JsonTools
    description: str | None = None


# The kinds of tools that are understood, with the shapes that each may have.
TOOLS: Mapping[str, tuple[type[Struct], ...]] = {
    "function": (FunctionTool,),
    "custom": (CustomTool, NestedCustomTool),
    "namespace": (NamespaceTool,),
}


class Allowed(Struct):
    """Only these tools may be called now."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[JsonObject], Meta(min_length=1)]


class Named(Struct):
    """A tool, by its name."""

    name: str
    namespace: str | None = None


class Tools(Struct, frozen=True):
    """`tools` for the hub; `names` of those in namespaces, flat name -> (namespace, name); `hosted`, the types of those
    left out."""

    tools: tuple[hub.Tool, ...]
    names: Mapping[str, tuple[str, str]]
    hosted: tuple[str, ...]


def parse_tools(tools: Sequence[JsonObject], more: Sequence[JsonObject] = ()) -> Tools:
    """Return the tools of a request, and `more` that came among its items. Raises errors.Invalid."""
    found: dict[str, hub.Tool] = {}
    names: dict[str, tuple[str, str]] = {}
    hosted: dict[str, None] = {}

    def take(tool: JsonObject, path: str, namespace: str | None, *, again: bool) -> None:
        match kind_of(tool, path):
            case "namespace" if namespace is None:
                group = convert(tool, NamespaceTool, path)
                for index, inner in enumerate(group.tools):
                    take(inner, f"{path}.tools[{index}]", group.name, again=again)
            case "function":
                put(_function(tool, path), path, namespace, again=again)
            case "custom":
                put(_custom(tool, path), path, namespace, again=again)
            case kind:
                hosted[kind] = None

    def put(tool: hub.Tool, path: str, namespace: str | None, *, again: bool) -> None:
        name = flat(namespace, tool.name)
        if name in found and not again:
            raise Invalid(
                f"Invalid value for '{path}.name': names must be unique, but '{tool.name}' appears more than once.",
                param=f"{path}.name",
                code="invalid_value",
            )
        if namespace is not None:
            names[name] = (namespace, tool.name)
        found[name] = tool if namespace is None else hub.Tool(
            name, tool.description, tool.parameters, tool.strict, tool.kind, tool.grammar
        )  # fmt: skip

    for index, tool in enumerate(tools):
        take(tool, f"tools[{index}]", None, again=False)
    for tool in more:
        take(tool, "input.tools", None, again=True)
    return Tools(tuple(found.values()), names, tuple(hosted))


def check_tool(tool: Any, path: str) -> None:
    """Check a tool by its type. Raises errors.Invalid."""
    kind = kind_of(tool, path)
    if kind == "custom":
        _custom(tool, path)
    elif kind in TOOLS:
        shape = convert(tool, TOOLS[kind][0], path)
        for index, inner in enumerate(shape.tools if isinstance(shape, NamespaceTool) else ()):
            check_tool(inner, f"{path}.tools[{index}]")


def kind_of(tool: Any, path: str) -> str:
    """Return a tool's type."""
    if not isinstance(tool, dict):
        raise wrong_type(path, "an object", tool)
    kind = tool.get("type")
    if kind is None:
        raise missing(f"{path}.type")
    if not isinstance(kind, str):
        raise wrong_type(f"{path}.type", "a string", kind)
    if kind not in HOSTED and kind not in TOOLS:
        raise invalid_value(f"{path}.type", kind, sorted((*TOOLS, *HOSTED)))
    return kind


def _function(tool: JsonObject, path: str) -> hub.Tool:
    shape = convert(tool, FunctionTool, path)
    shallow(shape.parameters, f"{path}.parameters")
    strict = compatible(shape.parameters) if shape.strict is None else shape.strict
    return hub.Tool(shape.name, shape.description, shape.parameters, strict=strict)


def echo(tool: JsonObject) -> JsonObject:
    """Return a tool as a response names it: what was left out has the value that was taken for it.

    The tool is one that `parse_tools` took.
    """
    match tool.get("type"):
        case "function":
            return {"description": None, "parameters": None, **tool, "strict": _strict(tool)}
        case "namespace":
            inner = [
                {**each, "strict": _strict(each)} if each.get("type") == "function" else each
                for each in tool.get("tools") or ()
            ]
            return {**tool, "tools": inner}
    return tool


def _strict(tool: JsonObject) -> bool:
    """Return whether a function is strict: where the client leaves it open, it is if its schema can be."""
    strict = tool.get("strict")
    return compatible(tool.get("parameters")) if strict is None else bool(strict)


def _custom(tool: JsonObject, path: str) -> hub.Tool:
    form = tool.get("format")
    if isinstance(form, dict) and isinstance(form.get("grammar"), dict):
        nested = convert(tool, NestedCustomTool, path)
        bound = nested.format.grammar
        return hub.Tool(nested.name, nested.description, kind="custom", grammar=(bound.syntax, bound.definition))
    shape = convert(tool, CustomTool, path)
    flat_one = shape.format
    grammar_of = (flat_one.syntax, flat_one.definition) if isinstance(flat_one, FlatGrammar) else None
    return hub.Tool(shape.name, shape.description, kind="custom", grammar=grammar_of)


def parse_choice(choice: str | JsonObject | None, given: Tools) -> hub.ToolChoice:
    """Return what `tool_choice` says. Raises errors.Invalid for a tool that is not there, or that nobody runs here."""
    match choice:
        case None:
            return hub.ToolChoice()
        case "none" | "auto" | "required" as mode:
            if mode == "required" and not given.tools:
                raise Invalid("Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice")
            return hub.ToolChoice(mode)
        case {"type": "allowed_tools"}:
            allowed = convert(choice, Allowed, "tool_choice")
            names = [
                _named(tool, f"tool_choice.tools[{index}]", given)
                for index, tool in enumerate(allowed.tools)
                if tool.get("type") not in HOSTED
            ]
            if not names and allowed.mode == "required":
                raise _not_there(str(allowed.tools[0]["type"]))
            return hub.ToolChoice(allowed.mode if names else "none", tuple(dict.fromkeys(names)) or None)
        case dict():
            return hub.ToolChoice("required", (_named(choice, "tool_choice", given),))
    raise AssertionError(choice)  # the shape lets nothing else through


def _named(choice: JsonObject, path: str, given: Tools) -> str:
    kind = choice.get("type")
    if kind in ("function", "custom"):
        named = convert(choice, Named, path)
        name = flat(named.namespace, named.name)
        matching = [tool.name for tool in given.tools if tool.name == name and tool.kind == kind]
        # Without its namespace a name may still be the only one.
        matching += [full for full, (_, short) in given.names.items() if short == named.name and not named.namespace]
        if matching:
            return matching[0]
        kind = named.name
    elif kind is None or not isinstance(kind, str):
        raise missing(f"{path}.type")
    raise _not_there(kind)


def _not_there(name: str) -> Invalid:
    return Invalid(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
