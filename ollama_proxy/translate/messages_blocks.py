"""The turns of a messages request, wire to hub; and how thoughts are signed, so that they come back whole.

Anthropic's user turn holds the results of tools beside the person's words; the hub has a message for each result.
Never fetches an image, never judges whether a model can take one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from .. import model as hub
from ..errors import Invalid, Unsupported
from . import shapes_messages as wire
from .chat_tools import shallow
from .parts import IMAGE_TYPES, base64_of
from .sealed import unseal

__all__ = ["BILLING", "Conversation", "signed"]

# Claude Code puts this line, which changes with every request, first into its instructions. It is for Anthropic's
# billing; in front of a prompt it would make a backend read all of it anew.
BILLING = "x-anthropic-billing-header"


def signed(thought: str) -> str:
    """Return an opaque signature of a thought that is shown; of one that is not, `sealed.seal` makes one."""
    return base64.b64encode(hashlib.sha256(thought.encode("utf-8", "surrogatepass")).digest()).decode()


class Conversation:
    """Reads turns. `calls` are the names of the calls so far by id, `ignored` what had to be left out."""

    def __init__(self) -> None:
        self.calls: dict[str, str] = {}
        self.ignored: list[str] = []

    def system(self, system: str | Sequence[wire.TextBlock] | None) -> Iterator[hub.Message]:
        """Yield the instructions, if there are any."""
        texts = [system] if isinstance(system, str) else [block.text for block in system or ()]
        parts = []
        for text in texts:
            if text.startswith(f"{BILLING}:"):
                self.ignored.append(f"system.{BILLING}")
            elif text:
                parts.append(hub.Text(text))
        if parts:
            yield hub.Message("system", tuple(parts))

    def turns(self, turns: Sequence[wire.Turn]) -> Iterator[hub.Message]:
        """Yield the messages of all turns. Raises errors.Invalid with the path of the culprit."""
        for index, turn in enumerate(turns):
            path = f"messages[{index}]"
            if turn.role == "system":
                yield from self._aside(turn, path, first=index == 0)
            elif isinstance(turn.content, str):
                if turn.content or turn.role == "user":
                    yield hub.Message(turn.role, (hub.Text(turn.content),))
            elif turn.role == "assistant":
                if parts := tuple(self._assistant(turn.content, f"{path}.content")):
                    yield hub.Message("assistant", parts)
            else:
                yield from self._user(turn.content, f"{path}.content")

    def _aside(self, turn: wire.Turn, path: str, *, first: bool) -> Iterator[hub.Message]:
        """Yield instructions that stand among the turns. Many chat templates take none after the beginning, so there
        the person says them, marked as Claude Code marks its own."""
        texts: list[wire.TextBlock] = []
        for index, block in enumerate(
            [wire.TextBlock(turn.content)] if isinstance(turn.content, str) else turn.content
        ):
            if not isinstance(block, wire.TextBlock):
                raise Invalid("`system` messages hold text only.", param=f"{path}.content[{index}]")
            texts.append(block)
        if first:
            yield from self.system(texts)
        elif texts:
            text = "\n".join(block.text for block in texts)
            yield hub.Message("user", (hub.Text(f"<system-reminder>\n{text}\n</system-reminder>"),))

    def _assistant(self, blocks: Sequence[wire.Block], path: str) -> Iterator[hub.Part]:
        for index, block in enumerate(blocks):
            where = f"{path}[{index}]"
            match block:
                case wire.ThinkingBlock(thinking=text, signature=signature):
                    yield hub.Thinking(text or unseal(signature or "") or "", signature or None)
                case wire.RedactedThinkingBlock(data=data):
                    yield hub.Thinking("", data)
                case wire.ToolUseBlock(id=id, name=name, input=given):
                    shallow(given, f"{where}.input")
                    self.calls[id] = name
                    yield hub.ToolCall(id, name, msgspec.json.encode(given).decode())
                case wire.ToolResultBlock():
                    raise Invalid("`tool_result` blocks can only be in `user` messages.", param=where)
                case _:
                    yield from self._parts(block, where)

    def _user(self, blocks: Sequence[wire.Block], path: str) -> Iterator[hub.Message]:
        """Yield a message for each result, and then one for all else: words between a call and its result would tear
        the two apart."""
        said: list[hub.Part] = []
        for index, block in enumerate(blocks):
            where = f"{path}[{index}]"
            match block:
                case wire.ToolResultBlock():
                    yield hub.Message("tool", (self._result(block, where),))
                case wire.ToolUseBlock() | wire.ThinkingBlock() | wire.RedactedThinkingBlock():
                    kind = type(block).__struct_config__.tag
                    raise Invalid(f"`{kind}` blocks can only be in `assistant` messages.", param=where)
                case _:
                    said += self._parts(block, where)
        if said:
            yield hub.Message("user", tuple(said))
        elif not blocks:
            raise Invalid("user messages must have non-empty content.", param=path)

    def _result(self, block: wire.ToolResultBlock, path: str) -> hub.ToolResult:
        parts: list[hub.Text | hub.Image | hub.File] = []
        if isinstance(block.content, str):
            parts.append(hub.Text(block.content))
        else:
            for index, each in enumerate(block.content or ()):
                if isinstance(each, wire.ToolReference):
                    parts.append(hub.Text(f"The tool {each.tool_name} is available."))
                else:
                    parts += self._parts(each, f"{path}.content[{index}]")
        if block.is_error:
            # The hub's results know no failure: a model reads of it.
            parts.insert(0, hub.Text("Error:"))
        return hub.ToolResult(block.tool_use_id, tuple(parts), self.calls.get(block.tool_use_id))

    def _parts(self, block: wire.Block, path: str) -> Iterator[hub.Text | hub.Image | hub.File]:
        """Yield what either side may say, and name what only Anthropic's servers understand."""
        match block:
            case wire.TextBlock(text=text):
                yield hub.Text(text)
            case wire.ImageBlock(source=source):
                yield _image(source, f"{path}.source")
            case wire.DocumentBlock():
                yield from self._document(block, path)
            case wire.SearchResultBlock():
                self._cited(block.citations)
                text = "\n".join(each.text for each in block.content)
                yield hub.Text(f"{block.title}\n{block.source}\n\n{text}")
            case wire.CompactionBlock(content=text):
                if text:
                    yield hub.Text(text)
            case _:
                self.ignored.append(f"messages.content.{type(block).__struct_config__.tag}")

    def _cited(self, citations: wire.Citations | None) -> None:
        if citations is not None and citations.enabled:
            self.ignored.append("messages.content.citations")

    def _document(self, block: wire.DocumentBlock, path: str) -> Iterator[hub.Text | hub.Image | hub.File]:
        self._cited(block.citations)
        if block.context:
            yield hub.Text(block.context)
        where = f"{path}.source"
        match block.source:
            case wire.PlainSource(data=text):
                yield hub.Text(f"File: {block.title}\n\n{text}" if block.title else text)
            case wire.Base64Source(media_type=media_type, data=data):
                data = base64_of(data, f"{where}.data")
                yield hub.File(data=data, media_type=media_type, filename=block.title, param=where)
            case wire.FileSource(file_id=file_id):
                yield hub.File(file_id=file_id, filename=block.title, param=where)
            case wire.UrlSource():
                raise Unsupported("Documents are not fetched; send the text itself.", param=f"{where}.url")
            case wire.BlocksSource(content=content):
                if block.title:
                    yield hub.Text(block.title)
                if isinstance(content, str):
                    yield hub.Text(content)
                else:
                    for index, each in enumerate(content):
                        yield from self._parts(each, f"{where}.content[{index}]")


def _image(source: wire.Base64Source | wire.UrlSource | wire.FileSource, path: str) -> hub.Image:
    match source:
        case wire.Base64Source(media_type=media_type, data=data):
            # Not registered, but clients write it.
            media_type = {"image/jpg": "image/jpeg"}.get(media_type.lower(), media_type.lower())
            if media_type not in IMAGE_TYPES:
                expected = ", ".join(f"'{kind}'" for kind in IMAGE_TYPES)
                raise Invalid(f"Input should be one of {expected}.", param=f"{path}.media_type", code="invalid_value")
            return hub.Image(data=base64_of(data, f"{path}.data"), media_type=media_type, param=path)
        case wire.UrlSource(url=url):
            if not url.lower().startswith(("http://", "https://")):
                raise Invalid("Only http and https URLs are supported.", param=f"{path}.url", code="invalid_value")
            return hub.Image(url=url, param=path)
    raise Unsupported("Images cannot be given by file id; send the image itself.", param=f"{path}.file_id")
