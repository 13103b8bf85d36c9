"""What a backend cannot do by itself is planned here: what to ask it instead, and how to turn its answer back.

`plan` rewrites a question for one model of one backend, or refuses it; the plan's filters undo the rewriting on the
way back. Pure; never calls anything, never makes ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ..errors import Invalid, OproxyError, Unsupported
from ..model import Abilities, Ask, Format, Image, Message, ModelInfo, Part, Tool, ToolChoice, ToolResult
from .content import settle_content
from .echo import WithoutEcho, last_said
from .filter import Filter
from .forced import OneCall, SomeCall, constrain
from .grammar import write as write_grammar
from .images import map_images, settle_data_uris
from .keywords import kept
from .pairs import pair_results
from .schema import Checker, SchemaCheck, ToolCheck, check_format, check_tools
from .think import settle_reasoning
from .tools import CustomCalls, FirstCall, as_functions, custom_history, in_words, introduce, narrow, with_hint

__all__ = ["Filter", "Plan", "map_images", "plan", "settle_data_uris"]

Step = Callable[[], Filter]
# So many rules that no grammar says are said to the model.
TOLD = 100


class Plan(Struct, frozen=True, kw_only=True):
    """How one question is put. `ask` is for the backend; `copies` calls of it make the choices that were asked for."""

    ask: Ask
    steps: tuple[Step, ...] = ()
    copies: int = 1
    ignored: tuple[str, ...] = ()
    # What the answer's form is made of where the client asked for none: its name in words, and its place.
    made_of: tuple[str, str] | None = None

    def filters(self) -> tuple[Filter, ...]:
        """Return fresh filters for one call, in the order in which its events go through them."""
        return tuple(step() for step in self.steps)

    def blame(self, error: OproxyError) -> OproxyError:
        """Return a backend's refusal with the name of what the client sent: a schema that was made of tools is no
        `response_format`."""
        if error.code != "invalid_json_schema" or self.made_of is None:
            return error
        what, param = self.made_of
        message = error.message.replace("response_format", what, 1)
        return Invalid(message, param=param, code="invalid_function_parameters")

    def copy(self, number: int) -> Ask:
        """Return the question of the `number`-th call (from 0): with a seed, each has its own, so that they differ."""
        seed = self.ask.sampling.seed
        if not number or seed is None:
            return self.ask
        return replace(self.ask, sampling=replace(self.ask.sampling, seed=seed + number))


def plan(ask: Ask, info: ModelInfo, abilities: Abilities) -> Plan:
    """Return how to ask `info`'s backend. Raises errors.Invalid for what it cannot do, or what is unsound."""
    if ask.sampling.logit_bias and not abilities.logit_bias:
        raise Unsupported("Unsupported parameter: 'logit_bias' is not supported with this model.", param="logit_bias")
    form = check_format(ask.format)
    arguments = check_tools(ask.tools, legacy=bool(ask.extra.get("legacy_functions")))
    if (paired := pair_results(ask.messages)) is not ask.messages:
        ask = replace(ask, messages=tuple(paired))
    ask = settle_content(ask, info)
    reasoning, ignored = settle_reasoning(ask.reasoning, info)
    put, steps, more = _tools(replace(ask, reasoning=reasoning), info, abilities, arguments)
    if abilities.grammars:
        put = _bound(put, ask.format, tools=not abilities.drops_keywords)
    if abilities.echoes_last and not put.stream and (said := last_said(put.messages)):
        steps = (lambda: WithoutEcho(said), *steps)
    if form is not None:
        steps = (*steps, lambda: SchemaCheck(form))
    if put.tools and put.stream and put.top_logprobs is not None and info.template != "rendered":
        put = replace(put, stream=put.stream and abilities.logprobs_with_streamed_tools)
    copies = ask.n if ask.n > abilities.choices else 1
    return Plan(
        ask=replace(put, model=info.id, n=1 if copies > 1 else ask.n),
        steps=steps,
        copies=copies,
        ignored=tuple(dict.fromkeys((*ask.ignored, *unheard(ask.messages, abilities), *ignored, *more))),
        made_of=_origin(ask) if put.format.kind != "text" and ask.format.kind == "text" else None,
    )


def _origin(ask: Ask) -> tuple[str, str]:
    """Return what a form is called that was made of tools, and where they stand in the request."""
    legacy = bool(ask.extra.get("legacy_functions"))
    allowed = narrow(ask.tools, ask.tool_choice)
    if len(allowed) > 1:
        return "tools", "functions" if legacy else "tools"
    place = next(place for place, tool in enumerate(ask.tools) if tool.name == allowed[0].name)
    param = f"functions[{place}].parameters" if legacy else f"tools[{place}].function.parameters"
    return f"function '{allowed[0].name}'", param


def _bound(ask: Ask, wished: Format, *, tools: bool) -> Ask:
    """Return a question whose schemas (those of tools with `tools`) llama.cpp's grammars take; what they leave out of
    the answer's form that the client wished for is said to the model, and checked afterwards."""
    if tools and ask.tools:
        ask = replace(ask, tools=tuple(map(_bound_tool, ask.tools)))
    if ask.format.kind != "schema" or ask.format.schema is None:
        return ask
    form, untold = write_grammar(ask.format.schema)
    if wished.kind != "schema":
        # What its tools leave out stands in their own descriptions.
        untold = ()
    elif wished.schema is not ask.format.schema:
        untold = write_grammar(wished.schema or {}).untold
    if untold:
        lines = [f"- {path.lstrip('.') or 'the whole'}: {words}" for path, words in untold[:TOLD]]
        ask = replace(ask, messages=with_hint(ask.messages, "\n".join(("Your JSON must also fit:", *lines))))
    return replace(ask, format=replace(ask.format, schema=form))


def _bound_tool(tool: Tool) -> Tool:
    if not tool.parameters:
        return tool
    return replace(tool, parameters=write_grammar(tool.parameters, inline=True).schema)


def unheard(messages: Sequence[Message], abilities: Abilities) -> tuple[str, ...]:
    """Return which fields of the messages themselves the backend has no place for."""
    found: tuple[str, ...] = ()
    if not abilities.names and any(message.name for message in messages):
        found = ("messages.name",)
    if not abilities.details and any(detailed(part) for message in messages for part in message.parts):
        found = (*found, "messages.content.image_url.detail")
    return found


def detailed(part: Part) -> bool:
    """Return whether an image, also one in a tool's result, is wished for in a resolution other than the usual."""
    match part:
        case Image(detail=detail):
            return detail not in (None, "auto")
        case ToolResult(parts=parts):
            return any(detailed(each) for each in parts)
    return False


def _tools(
    ask: Ask, info: ModelInfo, abilities: Abilities, arguments: Mapping[str, Checker]
) -> tuple[Ask, tuple[Step, ...], tuple[str, ...]]:
    """Return the question with its tools put as the backend can take them, filters, and what had no effect."""
    native = abilities.tools and info.can("tools")
    tools = narrow(ask.tools, ask.tool_choice)
    customs = frozenset(tool.name for tool in tools if tool.kind == "custom")
    ignored: tuple[str, ...] = ()
    if not (native and abilities.custom_tools):
        if any(tool.grammar is not None and tool.grammar[0] != "regex" for tool in tools):
            ignored = ("tools.custom.format",)
        tools = as_functions(tools)
        ask = replace(ask, messages=custom_history(ask.messages))
    else:
        customs = frozenset()
    if not native:
        ask = replace(ask, messages=in_words(ask.messages))
    steps: tuple[Step, ...] = ()
    if not tools:
        return replace(ask, tools=(), tool_choice=ToolChoice()), steps, ignored
    required = ask.tool_choice.mode == "required"
    wants_form = ask.format.kind != "text"
    if native and (abilities.tool_choice or not (required or wants_form)):
        if not abilities.tool_choice:
            ask = replace(ask, tools=tools, tool_choice=ToolChoice())
        elif not abilities.custom_tools:
            ask = replace(ask, tools=as_functions(ask.tools))
        one = not ask.parallel_tools and not abilities.parallel_tools
    else:
        ask, steps, dropped = _forced(ask, tools, required=required, native=native)
        ignored += dropped
        one = False
    if abilities.drops_keywords:
        ask = replace(ask, tools=tuple(map(kept, ask.tools)))
    if one or (ask.tools and ask.extra.get("legacy_functions")):
        steps = (*steps, FirstCall)
    if arguments:
        steps = (*steps, lambda: ToolCheck(arguments))
    if customs:
        steps = (*steps, lambda: CustomCalls(customs))
    return ask, steps, ignored


def _forced(
    ask: Ask, tools: Sequence[Tool], *, required: bool, native: bool
) -> tuple[Ask, tuple[Step, ...], tuple[str, ...]]:
    """Return the question with its answer bound to a call, or to a call or a message where none is required."""
    single = required and len(tools) == 1
    raw = not required and ask.format.kind != "text"
    message = None if required else _message(ask.format)
    hint = introduce(tools, required=required, single=single, described=native, raw=raw)
    sampling = ask.sampling
    ignored: tuple[str, ...] = ()
    if required and sampling.stop:
        # A stop sequence is meant for words: it would only cut the JSON of a call short.
        sampling, ignored = replace(sampling, stop=()), ("stop",)
    ask = replace(
        ask,
        messages=with_hint(ask.messages, hint),
        tools=tuple(tools) if native else (),
        tool_choice=ToolChoice(),
        format=constrain(tools, message, single=single),
        sampling=sampling,
    )
    if single:
        name = tools[0].name
        return ask, (lambda: OneCall(name),), ignored
    return ask, (lambda: SomeCall(raw=raw),), ignored


def _message(format: Format) -> Mapping[str, object]:
    """Return the schema of an answer that is no call."""
    match format.kind:
        case "text":
            return {"type": "string"}
        case "json":
            return {"type": "object"}
    return format.schema or {}
