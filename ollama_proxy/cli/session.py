"""A conversation as `oproxy chat` holds it: what was said, with what settings, and the request it makes. Pure, but for
reading the files a person names."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from ..private import replace_private
from .failure import Failure

__all__ = ["Session", "image_part", "read_schema"]

# What a model without a configured default is asked by: the daemon finds a fitting one.
ANY_MODEL = "gpt-4o"
# Larger than any image a local model takes.
IMAGE_LIMIT = 50_000_000


class Spent(Struct):
    """The tokens of a session so far."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0


class Session(Struct):
    """The state of a chat. `images` wait for the next question; `turns` are the messages so far; `unanswered` is the
    last question if it got no answer, for another try. `marks` are the responses kept by the server: how many turns
    each ends, and its id."""

    model: str = ANY_MODEL
    system: str = ""
    turns: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    temperature: float | None = None
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    spent: Spent = field(default_factory=Spent)
    unanswered: dict[str, Any] | None = None
    marks: list[tuple[int, str]] = field(default_factory=list)

    def ask(self, text: str) -> None:
        """Add a question, with the images that wait for one."""
        content: Any = [{"type": "text", "text": text}, *self.images] if self.images else text
        self.turns.append({"role": "user", "content": content})
        self.images = []
        self.unanswered = None

    def answer(self, text: str, id: str = "") -> None:
        """Add an answer; `id` is its response's if it is complete and can be gone on from."""
        self.turns.append({"role": "assistant", "content": text})
        if id:
            self.marks.append((len(self.turns), id))

    def retry(self) -> bool:
        """Forget the last answer, or take up the question that got none; return whether there is one to ask again."""
        if self.unanswered is not None:
            self.turns.append(self.unanswered)
            self.unanswered = None
            return True
        while self.turns and self.turns[-1]["role"] == "assistant":
            self.turns.pop()
        self.marks = [mark for mark in self.marks if mark[0] < len(self.turns)]
        return bool(self.turns)

    def forget_question(self) -> None:
        """Take back a question that got no answer."""
        if self.turns and self.turns[-1]["role"] == "user":
            self.unanswered = self.turns.pop()

    def clear(self) -> None:
        self.turns = []
        self.images = []
        self.unanswered = None
        self.marks = []

    def body(self, *, stream: bool) -> dict[str, Any]:
        """Return the request for the turns so far: those since the last response that the server keeps, or all."""
        said, previous = self.marks[-1] if self.marks else (0, None)
        body: dict[str, Any] = {"model": self.model, "input": [item(turn) for turn in self.turns[said:]]}
        if previous is not None:
            body["previous_response_id"] = previous
        body["stream"] = stream
        if self.system:
            body["instructions"] = self.system
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_tokens is not None:
            body["max_output_tokens"] = self.max_tokens
        if self.schema is not None:
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": self.schema}}
        return body

    def count(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.spent.requests += 1
            self.spent.prompt += usage["prompt_tokens"]
            self.spent.completion += usage["completion_tokens"]

    def save(self, file: str) -> None:
        """Write the conversation to a file, for nobody else's eyes; an old file is replaced only by a whole new one.
        Raises Failure."""
        path = Path(file).expanduser()
        data = msgspec.json.format(
            msgspec.json.encode(msgspec.structs.replace(self, unanswered=None, marks=[])), indent=2
        )
        try:
            replace_private(path, data + b"\n")
        except OSError as exc:
            raise Failure(f"{path}: {exc.strerror}") from exc

    @classmethod
    def load(cls, file: str) -> Session:
        """Read a conversation. Raises Failure with what is wrong."""
        path = Path(file).expanduser()
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as exc:
            raise Failure(f"{path}: {exc.strerror}") from exc
        except msgspec.DecodeError as exc:
            raise Failure(f"{path} is no saved conversation: {exc}") from exc


def item(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the Responses API takes it."""
    content = turn["content"]
    if isinstance(content, str):
        return {"role": turn["role"], "content": content}
    parts = [
        {"type": "input_text", "text": part["text"]}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"]}
        for part in content
    ]
    return {"role": turn["role"], "content": parts}


def image_part(source: str) -> dict[str, Any]:
    """Return a message part for an image file or URL. Raises Failure."""
    if source.startswith(("http://", "https://", "data:")):
        return {"type": "image_url", "image_url": {"url": source}}
    path = Path(source).expanduser()
    try:
        if path.stat().st_size > IMAGE_LIMIT:
            raise Failure(f"{path} is larger than {IMAGE_LIMIT // 1_000_000} MB.")
        data = path.read_bytes()
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror}") from exc
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def read_schema(source: str) -> dict[str, Any]:
    """Read a JSON schema from a file, or as it stands. Raises Failure."""
    text = source
    if not source.lstrip().startswith("{"):
        try:
            text = Path(source).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(f"{source}: {getattr(exc, 'strerror', None) or 'not a text file'}") from exc
    try:
        schema = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise Failure(f"The schema is no JSON: {exc}") from exc
    if not isinstance(schema, dict):
        raise Failure("The schema must be a JSON object.")
    return schema
