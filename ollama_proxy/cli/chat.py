"""`oproxy chat`: a question on the command line or on stdin, or a conversation.

Talks to the running daemon, or to the same application in this process where none runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from .client import ApiError, connect, load_settings
from .failure import Failure
from .output import print_json, tell
from .repl import Repl
from .resume import remember, remembered, resume
from .session import ANY_MODEL, Session, image_part, read_schema
from .stream import Answer, answer, painter

__all__ = ["chat"]


def chat(
    prompt: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="The question.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model to ask.")] = None,
    system: Annotated[str, typer.Option("--system", "-s", metavar="TEXT", help="How the model should behave.")] = "",
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", metavar="FILE", help="An image (file or URL); may be repeated.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="FILE", help="JSON schema (file or text) the answer must follow.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Higher is more random.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=16, help="The longest answer, in tokens.")] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")] = False,
    go_on: Annotated[bool, typer.Option("--resume", "-r", help="Go on with the last conversation.")] = False,
    resume_id: Annotated[
        str, typer.Option("--resume-id", metavar="ID", help="Go on from this response (resp_…).")
    ] = "",
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens, speed and times to stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer object as JSON.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
    ] = None,
) -> None:
    """Ask a model, once or in a conversation.

    With a PROMPT, or text on stdin, or both (the prompt first): one answer. Without: a conversation; /help tells what
    it understands.
    """
    text = gathered(prompt or [])
    going_on = resume_id or (remembered() if go_on else "")
    session = Session(
        model=model or load_settings(config).settings.models.default or ANY_MODEL,
        system=system,
        images=[image_part(source) for source in image or []],
        temperature=temperature,
        max_tokens=max_tokens,
        schema=read_schema(schema) if schema is not None else None,
    )
    try:
        if text is None:
            asyncio.run(Repl(session, config, stats=stats, going_on=going_on).run())
        else:
            stream = not (no_stream or as_json)
            asyncio.run(once(session, text, config, going_on, stream=stream, stats=stats, as_json=as_json))
    except ApiError as exc:
        raise Failure(exc.message) from exc


def gathered(words: list[str]) -> str | None:
    """Return the question from the command line and stdin, None if there is none and a person sits there."""
    parts = [" ".join(words)] if words else []
    if not sys.stdin.isatty():
        try:
            said = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as exc:
            raise Failure("What came on stdin is not text in UTF-8.") from exc
        if said.strip():
            parts.append(said.rstrip("\n"))
        if not parts:
            raise Failure("There is nothing to ask: give a prompt, or text on stdin.", code=2)
    return "\n\n".join(parts) if parts else None


async def once(
    session: Session, text: str, config: Path | None, going_on: str, *, stream: bool, stats: bool, as_json: bool
) -> None:
    """Ask one question and print its answer."""
    result = Answer()
    async with connect(config) as api:
        if going_on:
            await resume(api, session, going_on)
        session.ask(text)
        await answer(api, session, result, Silent() if as_json else painter(), stream=stream)
    remember(result.id, session.model)
    if as_json:
        print_json(result.whole)
    if stats:
        tell(result.stats.line(result.usage, result.served(session.model)))


class Silent:
    """Shows nothing: the answer is printed as JSON afterwards."""

    def text(self, piece: str) -> None:
        return None

    def thought(self, piece: str) -> None:
        return None

    def close(self) -> None:
        return None
