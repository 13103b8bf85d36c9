"""The items of the Responses API, wire to hub, and the form in which they are kept.

`parse_items` makes messages of a conversation's items: what the assistant did in a row (thoughts, text, calls) is one
message. `canonical` gives items the form OpenAI lists them in: content in parts, every item with an id. Never fetches
anything: references and uploaded files were put in their places before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from .. import model as hub
from ..errors import Invalid, Unsupported
from . import shapes_responses as wire
from .parts import base64_of, file, image
from .sealed import unseal
from .shapes_chat import JsonObject
from .validate import convert, invalid_value, missing, wrong_type

__all__ = ["PREFIXES", "SUMMARY", "Items", "canonical", "check_item", "flat", "items_of", "parse_items"]

# How the id of an item begins.
PREFIXES: Mapping[str, str] = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "reasoning": "rs_",
    "compaction": "cmp_",
    "additional_tools": "at_",
    "web_search_call": "ws_",
    "file_search_call": "fs_",
    "computer_call": "cu_",
    "code_interpreter_call": "ci_",
    "image_generation_call": "ig_",
    "mcp_call": "mcp_",
    "mcp_list_tools": "mcpl_",
    "local_shell_call": "lsh_",
    "shell_call": "sh_",
    "apply_patch_call": "apc_",
    "tool_search_call": "tsc_",
}
# Kinds that have a status of their own in lists.
WITH_STATUS = frozenset(
    {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
# What comes before the text of a compaction in the prompt.
SUMMARY = "Summary of the conversation so far:\n\n"

Result = hub.Text | hub.Image | hub.File


class Items:
    """What items say: `messages`; `tools` that stand among them; `ignored`, what was left out of the prompt."""

    def __init__(self) -> None:
        self.messages: list[hub.Message] = []
        self.tools: list[JsonObject] = []
        self.ignored: list[str] = []


def items_of(value: str | Sequence[JsonObject] | None) -> list[JsonObject]:
    """Return `input` as items: a text is one message of the user."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return list(value)


def parse_items(items: Sequence[JsonObject], *, first: int = 0) -> Items:
    """Translate items. Those before `first` are history that was checked when it came; errors name the others
    `input[0]` and so on. Raises errors.Invalid."""
    return _Conversation(first).parse(items)


def flat(namespace: str | None, name: str) -> str:
    """Return the one name under which a tool of a namespace is known to a model."""
    return f"{namespace}__{name}" if namespace else name


class _Conversation:
    def __init__(self, first: int) -> None:
        self._first = first
        self._out = Items()
        # What the assistant is doing.
        self._turn: list[hub.Part] = []
        # id of a call -> its tool, and those that have no answer yet, by their paths.
        self._calls: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._ids: set[str] = set()

    def parse(self, items: Sequence[JsonObject]) -> Items:
        for place, item in enumerate(items):
            number = place - self._first
            self._item(item, f"input[{number}]" if number >= 0 else "input")
            self._once(item.get("id"), new=number >= 0)
        self._end_turn()
        for id in self._open:
            raise Invalid(f"No tool output found for function call {id}.", param="input")
        return self._out

    def _item(self, item: JsonObject, path: str) -> None:
        match check_item(item, path):
            case wire.OtherItem():
                self._ignore(f"input.{item['type']}")
            case wire.MessageItem() as message:
                self._message(message, path)
            case wire.FunctionCallItem(call_id, name, arguments, _, namespace):
                self._call(hub.ToolCall(call_id, flat(namespace, name), arguments), path)
            case wire.CustomCallItem(call_id, name, text, _, namespace):
                self._call(hub.ToolCall(call_id, flat(namespace, name), text, "custom"), path)
            case wire.CallOutputItem() as output:
                self._output(output, item["type"], path)
            case wire.ReasoningItem() as thought:
                self._thought(thought)
            case wire.CompactionItem(sealed):
                self._compaction(sealed, path)
            case wire.AdditionalToolsItem(tools):
                self._out.tools += tools
            case wire.ReferenceItem(id):
                raise Invalid(f"Item with id '{id}' not found.", param="input")

    def _once(self, id: str | None, *, new: bool) -> None:
        if id and new and id in self._ids:
            raise Invalid(
                f"Duplicate item found with id {id}. Remove duplicate items from your input and try again.",
                param="input",
            )
        self._ids.add(id or "")

    def _ignore(self, name: str) -> None:
        if name not in self._out.ignored:
            self._out.ignored.append(name)

    def _end_turn(self) -> None:
        if self._turn:
            self._out.messages.append(hub.Message("assistant", tuple(self._turn)))
            self._turn = []

    def _message(self, message: wire.MessageItem, path: str) -> None:
        parts = tuple(_parts(message.content, f"{path}.content"))
        if message.role == "assistant":
            self._turn += parts
            return
        self._end_turn()
        self._out.messages.append(hub.Message("user" if message.role == "user" else "system", parts))

    def _call(self, call: hub.ToolCall, path: str) -> None:
        self._calls[call.id] = call.name
        self._open[call.id] = path
        self._turn.append(call)

    def _output(self, output: wire.CallOutputItem, kind: str, path: str) -> None:
        if output.call_id not in self._calls:
            what = "custom tool" if kind.startswith("custom") else "function"
            raise Invalid(f"No tool call found for {what} call output with call_id {output.call_id}.", param="input")
        self._open.pop(output.call_id, None)
        self._end_turn()
        parts = tuple(part for part in _parts(output.output, f"{path}.output") if isinstance(part, Result))
        result = hub.ToolResult(output.call_id, parts, self._calls[output.call_id])
        self._out.messages.append(hub.Message("tool", (result,)))

    def _thought(self, thought: wire.ReasoningItem) -> None:
        summary = tuple(part.text for part in thought.summary or ())
        text = "".join(part.text for part in thought.content or ())
        if thought.encrypted_content:
            opened = unseal(thought.encrypted_content)
            if opened is None:
                self._ignore("input.reasoning.encrypted_content")
            text = opened or text
        if text or summary:
            self._turn.append(hub.Thinking(text or "\n\n".join(summary), thought.encrypted_content, summary))

    def _compaction(self, sealed: str, path: str) -> None:
        text = unseal(sealed)
        if text is None:
            raise Invalid(
                f"The encrypted content of '{path}' could not be read: it was not made here.",
                param=f"{path}.encrypted_content",
                code="invalid_encrypted_content",
            )
        self._end_turn()
        self._out.messages.append(hub.Message("user", (hub.Text(SUMMARY + text),)))


def check_item(item: Any, path: str) -> Struct:
    """Return an item in the shape of its kind. Raises errors.Invalid."""
    return convert(item, wire.ITEMS.get(kind_of(item, path), wire.OtherItem), path)


def kind_of(item: Any, path: str) -> str:
    """Return the type of an item: a message where it has a role and no type, a reference where it has an id alone."""
    if not isinstance(item, dict):
        raise wrong_type(path, "an object", item)
    kind = item.get("type")
    if kind is None:
        if "role" in item or "content" in item:
            return "message"
        if "id" in item:
            return "item_reference"
        raise missing(f"{path}.type")
    if not isinstance(kind, str):
        raise wrong_type(f"{path}.type", "a string", kind)
    if kind not in wire.ITEMS and kind not in wire.OTHER_ITEMS:
        raise invalid_value(f"{path}.type", kind, sorted((*wire.ITEMS, *wire.OTHER_ITEMS)))
    return kind


def _parts(content: str | Sequence[wire.Content], path: str) -> Iterator[hub.Part]:
    if isinstance(content, str):
        if content:
            yield hub.Text(content)
        return
    for index, part in enumerate(content):
        yield _part(part, f"{path}[{index}]")


def _part(part: wire.Content, path: str) -> hub.Part:
    match part:
        case wire.InputText(text) | wire.OutputText(text) | wire.PlainText(text):
            return hub.Text(text)
        case wire.RefusalText(text):
            return hub.Refusal(text)
        case wire.InputImage(url, id, detail):
            if url is None:
                raise missing(f"{path}.image_url") if id is None else not_kept(id)
            return image(url, detail, f"{path}.image_url")
        case wire.InputFile(file_url=str()):
            raise Unsupported(
                "Files by URL are not fetched here. Send the content as 'file_data', or upload it and send 'file_id'.",
                param=f"{path}.file_url",
            )
        case wire.InputFile(data, id, _, name):
            return file(data, id, name, path)
        case wire.AudioInput(sound):
            return hub.Audio(base64_of(sound.data, f"{path}.input_audio.data"), sound.format, param=path)
    raise AssertionError(part)  # the shape lets nothing else through


def not_kept(id: str) -> Invalid:
    return Invalid(f"No such File object: {id}", param="file_id")


# --- how items are kept -----------------------------------------------------------------------------------------------


def canonical(items: Sequence[JsonObject], new_id: Callable[[str], str]) -> list[JsonObject]:
    """Return items as they are kept and listed. `new_id` makes an id from its prefix; an id that an item has stays."""
    return [_canonical(item, new_id) for item in items]


def _canonical(item: JsonObject, new_id: Callable[[str], str]) -> JsonObject:
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    id = item.get("id") or new_id(PREFIXES.get(kind, "item_"))
    kept: JsonObject = {"id": id, "type": kind}
    if kind in WITH_STATUS:
        kept["status"] = item.get("status") or "completed"
    rest = {name: value for name, value in item.items() if name not in kept}
    if kind == "message":
        rest["content"] = _content(item.get("content"), item.get("role") == "assistant")
    return kept | rest


def _content(content: Any, spoken: bool) -> list[JsonObject]:
    if isinstance(content, str):
        content = [{"type": "output_text" if spoken else "input_text", "text": content}]
    return [_listed(part) if isinstance(part, dict) else part for part in content or ()]


def _listed(part: JsonObject) -> JsonObject:
    """Return a part with the keys that lists always have."""
    match part.get("type"):
        case "output_text":
            return {"annotations": [], "logprobs": [], **part}
        case "input_image":
            return {"detail": "auto", **part}
        case _:
            return part
