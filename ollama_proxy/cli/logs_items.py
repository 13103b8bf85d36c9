"""The items of the Responses API as `oproxy logs show` tells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .logs_section import Section, pretty, text_of

__all__ = ["item_sections"]


def item_sections(items: Sequence[Any]) -> Iterator[Section]:
    """Yield what each item says."""
    for item in items:
        match item:
            case {"role": str(role), "content": content}:
                yield Section(role, text_of(content), markdown=True)
            case {"type": "reasoning"}:
                shown = text_of(item.get("summary") or item.get("content"))
                yield Section("assistant thinks", shown or "[sealed]")
            case {"type": "function_call", "name": name, "arguments": str(text)}:
                yield Section(f"assistant calls {name}", readable(text))
            case {"type": "custom_tool_call", "name": name, "input": str(text)}:
                yield Section(f"assistant calls {name}", text)
            case {"type": "function_call_output" | "custom_tool_call_output", "output": output}:
                yield Section(f"tool {item.get('call_id', '')}".rstrip(), text_of(output))
            case {"type": str(kind)}:
                yield Section(kind, pretty(item))
            case _:
                yield Section("item", pretty(item))


def readable(text: str) -> str:
    try:
        return pretty(msgspec.json.decode(text))
    except (msgspec.DecodeError, ValueError):
        return text
