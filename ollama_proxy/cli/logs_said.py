"""What was asked and what was answered in a recorded request, piece by piece, by whatever API. Prints nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..recorder.read import Found
from .logs_items import item_sections
from .logs_section import Section, pretty, text_of

__all__ = ["answer_sections", "request_sections"]

# Fields of a request that are shown as what was said, or above it.
SHOWN = ("instructions", "messages", "prompt", "input", "model", "stream")


def request_sections(found: Found) -> Iterator[Section]:
    body = found.request
    if isinstance(body, str):
        yield Section("request", body)
    if not isinstance(body, dict):
        return
    if isinstance(system := body.get("instructions"), str) and system:
        yield Section("system", system)
    if isinstance(messages := body.get("messages"), list):
        for message in messages:
            yield from message_sections(message)
    for name in ("prompt", "input"):
        if (value := body.get(name)) is not None:
            if isinstance(value, list) and all(isinstance(each, dict) for each in value):
                yield from item_sections(value)
            else:
                yield Section(name, value if isinstance(value, str) else pretty(value))
    others = {name: value for name, value in body.items() if name not in SHOWN}
    if others:
        yield Section("parameters", pretty(others))


def message_sections(message: Any) -> Iterator[Section]:
    """Yield a message: its thoughts, its text, its tool calls."""
    if not isinstance(message, Mapping):
        yield Section("message", pretty(message))
        return
    role = str(message.get("role", "assistant"))
    title = " ".join(filter(None, (role, str(message.get("name") or message.get("tool_call_id") or ""))))
    for name in ("reasoning", "reasoning_content", "thinking"):
        if isinstance(thought := message.get(name), str) and thought:
            yield Section(f"{role} thinks", thought)
            break
    text = text_of(message.get("content"))
    calls = message.get("tool_calls") or ()
    if text or not (calls or message.get("refusal")):
        yield Section(title, text, markdown=role != "tool")
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        yield Section(f"{role} refuses", refusal)
    for call in calls:
        yield Section(f"{role} calls {call_name(call)}", call_input(call))


def call_name(call: Any) -> str:
    match call:
        case {"function": {"name": name}} | {"custom": {"name": name}}:
            return str(name)
    return "?"


def call_input(call: Any) -> str:
    match call:
        case {"function": {"arguments": str(text)}}:
            try:
                return pretty(msgspec.json.decode(text))
            except (msgspec.DecodeError, ValueError):
                return text
        case {"custom": {"input": str(text)}}:
            return text
        case {"function": {"arguments": dict(given)}}:
            return pretty(given)
    return pretty(call)


def answer_sections(answer: Any) -> Iterator[Section]:
    match answer:
        case msgspec.UNSET:
            return
        case {"choices": [*choices]}:
            for number, choice in enumerate(choices):
                which = f" ({number + 1} of {len(choices)})" if len(choices) > 1 else ""
                yield from choice_sections(choice, which)
        case {"object": "list", "data": [{"embedding": embedding}, *_] as data}:
            length = f" of {len(embedding)} numbers" if isinstance(embedding, list) else ""
            yield Section("answer", f"{len(data)} embedding{'s' * (len(data) != 1)}{length}")
        case {"object": "response", "output": [*items]}:
            yield from item_sections(items)
            if answer.get("status") not in ("completed", "failed"):
                yield Section("ended", str(answer.get("status")))
        case {"type": "message", "content": [*blocks]}:
            yield from block_sections(blocks)
            if (reason := answer.get("stop_reason")) not in ("end_turn", "tool_use", None):
                yield Section("ended", str(reason))
        case {"message": {"role": _} as message, "done": _} | {"response": message, "done": _}:
            # Ollama's own form.
            yield from ollama_sections(answer, message)
        case {"error": error} if error is not None:
            pass
        case str():
            yield Section("answer", answer)
        case _:
            yield Section("answer", pretty(answer))
    match answer:
        case {"error": {"message": str(text)}} | {"error": str(text)}:
            yield Section("error", text)
        case {"error": error} if error is not None:
            yield Section("error", pretty(error))


def ollama_sections(answer: Mapping[str, Any], message: Any) -> Iterator[Section]:
    """Yield an answer of /api/chat or /api/generate."""
    if isinstance(message, Mapping):
        yield from message_sections(message)
    else:
        if isinstance(thought := answer.get("thinking"), str) and thought:
            yield Section("assistant thinks", thought)
        yield Section("answer", text_of(message))
    if (reason := answer.get("done_reason")) not in ("stop", None):
        yield Section("ended", str(reason))


def block_sections(blocks: Sequence[Any]) -> Iterator[Section]:
    """Yield the blocks of one of Anthropic's messages."""
    for block in blocks:
        match block:
            case {"type": "text", "text": str(text)}:
                yield Section("assistant", text)
            case {"type": "thinking", "thinking": str(thought)}:
                yield Section("assistant thinks", thought)
            case {"type": "tool_use", "name": name, "input": given}:
                yield Section(f"assistant calls {name}", given if isinstance(given, str) else pretty(given))
            case _:
                yield Section("assistant", pretty(block))


def choice_sections(choice: Any, which: str) -> Iterator[Section]:
    match choice:
        case {"message": message}:
            for section in message_sections(message):
                yield section._replace(title=f"{section.title}{which}")
        case {"text": str(text)}:
            yield Section(f"answer{which}", text)
        case _:
            yield Section(f"answer{which}", pretty(choice))
    match choice:
        case {"finish_reason": str(reason)} if reason not in ("stop", "tool_calls"):
            yield Section(f"ended{which}", reason)
