"""One recorded request on the screen: its books, what was asked, what was answered.

Markdown and colours where a person looks, plain text in a pipe, all that is recorded with --json.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from rich.markdown import Markdown
from rich.rule import Rule
from rich.text import Text

from ..account import Entry
from ..recorder.read import Found
from .logs_table import clean, seconds
from .output import console, echo, interactive, print_json
from .session import printable
from .usage_show import money

__all__ = ["Section", "answer_sections", "show_request", "text_of"]

COLOURS = {"system": "magenta", "developer": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}


# Fields of a request that are shown as what was said, or above it.
SHOWN = ("messages", "prompt", "input", "model", "stream")


class Section(NamedTuple):
    """A piece of a conversation: who or what, the text, and whether it is Markdown."""

    title: str
    text: str
    markdown: bool = False


def show_request(found: Found, *, as_json: bool) -> None:
    """Print a request."""
    if as_json:
        print_json(found)
        return
    pairs = [(name, text) for name, text in books(found) if text]
    sections = [*request_sections(found), *answer_sections(found.answer)]
    if not interactive():
        for name, text in pairs:
            echo(f"{name}\t{' '.join(text.split())}")
        for section in sections:
            echo(f"\n--- {section.title}")
            echo(printable(section.text))
        return
    screen = console()
    for name, text in pairs:
        screen.print(Text.assemble((f"{name:<9} ", "dim"), text))
    for section in sections:
        screen.print()
        style = COLOURS.get(section.title.split()[0], "blue")
        screen.print(Rule(section.title, align="left", style=style), soft_wrap=False)
        text = printable(section.text)
        screen.print(Markdown(text) if section.markdown else Text(text), soft_wrap=False)


def books(found: Found) -> Iterator[tuple[str, str]]:
    """Yield what the ledger knows of it, in words."""
    entry = found.entry
    yield "id", entry.id
    yield "time", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    yield "request", f"{found.method} {clean(found.path)}{', streamed' if entry.stream else ''}"
    yield "model", clean(f"{entry.asked} → {entry.backend}/{entry.served}" if entry.served else entry.asked)
    yield "status", f"{entry.status} {entry.code}" if entry.code else str(entry.status)
    yield "caller", ", ".join(filter(None, (clean(entry.caller), entry.key, entry.address, clean(entry.client))))
    yield "tag", clean(entry.tag)
    yield "tokens", tokens(entry)
    yield "times", times(found)
    yield "cost", "" if entry.cost is None else money(entry.cost)
    yield "list", "" if entry.listed is None else f"{money(entry.listed)} on {clean(entry.asked)}"
    yield "ignored", clean(", ".join(found.ignored))
    for side, done in found.altered.items():
        yield "kept", f"the {side} not as it was: {', '.join(WORDS.get(word, word) for word in done)}"


WORDS = {
    "media": "images, sound and files as size and hash",
    "redacted": "something redacted",
    "cut": "cut to its beginning",
    "text": "no JSON, so as text",
    "none": "without its body",
}


def tokens(entry: Entry) -> str:
    if not entry.prompt and not entry.completion:
        return ""
    parts = [f"{entry.prompt} + {entry.completion}"]
    parts += [f"{entry.cached} cached"] * bool(entry.cached) + [f"{entry.reasoning} for thinking"] * bool(
        entry.reasoning
    )
    parts += ["estimated"] * (not entry.exact)
    return ", ".join(parts)


def times(found: Found) -> str:
    entry, timing = found.entry, found.timing
    parts = [f"queued {seconds(entry.queued)}"] * bool(entry.queued)
    parts += [f"first {seconds(entry.first)}"] * (entry.first is not None)
    parts.append(f"{seconds(entry.total)} in all")
    if timing is not None:
        parts.append(f"{timing.count} pieces")
        if timing.last > timing.first and timing.count > 2:
            parts.append(f"{(timing.count - 1) / (timing.last - timing.first):.0f} a second")
        parts += ["broken off"] * (not timing.done)
    return ", ".join(parts)


# --- what was said ------------------------------------------------------------------------------------------------


def request_sections(found: Found) -> Iterator[Section]:
    body = found.request
    if isinstance(body, str):
        yield Section("request", body)
    if not isinstance(body, dict):
        return
    if isinstance(messages := body.get("messages"), list):
        for message in messages:
            yield from message_sections(message)
    for name in ("prompt", "input"):
        if (value := body.get(name)) is not None:
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


def text_of(content: Any) -> str:
    """Return a message's content as text; what is no text is named."""
    match content:
        case None:
            return ""
        case str():
            return content
        case [*parts]:
            return "\n\n".join(text_of(part) for part in parts)
        case {"text": str(text)}:
            return text
        case {"type": str(kind), **rest}:
            return f"[{kind} {msgspec.json.encode(rest).decode()}]"
    return pretty(content)


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
        case {"type": "message", "content": [*blocks]}:
            yield from block_sections(blocks)
            if (reason := answer.get("stop_reason")) not in ("end_turn", "tool_use", None):
                yield Section("ended", str(reason))
        case {"message": {"role": _} as message, "done": _} | {"response": message, "done": _}:
            # Ollama's own form.
            yield from ollama_sections(answer, message)
        case {"error": _}:
            pass
        case str():
            yield Section("answer", answer)
        case _:
            yield Section("answer", pretty(answer))
    match answer:
        case {"error": {"message": str(text)}} | {"error": str(text)}:
            yield Section("error", text)
        case {"error": error}:
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


def pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
