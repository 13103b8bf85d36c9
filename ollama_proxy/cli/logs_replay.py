"""`oproxy logs replay`: a recorded request sent again through the daemon, and both answers compared."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from ..account import NANO, Entry
from ..policy.printable import block_text, line_text
from ..recorder.assemble import assemble
from ..recorder.read import Found, find
from .client import Api, ApiError, connect
from .failure import Failure
from .logs_said import answer_sections
from .logs_table import seconds
from .output import console, echo, interactive, print_json, print_table
from .plain import paint
from .usage_show import money

__all__ = ["Outcome", "Wanted", "replayed"]

# How long the recorder may take to write the books of an answer that has just ended, and how often to look (seconds).
PATIENCE = 1.0
AGAIN = 0.05


class Wanted(NamedTuple):
    """What is to be sent, and how to show what came."""

    model: str = ""
    times: int = 1
    diff: bool = False
    as_json: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """An answer, recorded or new. Times are seconds, `listed` nano-dollars; None where it is not known."""

    title: str
    model: str
    status: int
    error: str = ""
    text: str = ""
    first: float | None = None
    total: float = 0.0
    prompt: int | None = None
    completion: int | None = None
    listed: int | None = None
    answer: Any = None


def replayed(found: Found, log: Path, config: Path | None, wanted: Wanted) -> bool:
    """Send a request again and print what came of it; return whether an answer failed. Raises Failure."""
    body = sendable(found, wanted.model)
    outcomes = [recorded(found)]
    outcomes += asyncio.run(sent(found.path, body, log, config, wanted.times))
    if wanted.as_json:
        print_json([as_value(each) for each in outcomes])
    else:
        show(outcomes, diff=wanted.diff)
    return any(each.error for each in outcomes[1:])


def sendable(found: Found, model: str) -> dict[str, Any]:
    """Return the body to send. Raises Failure if the request is not recorded as it was."""
    altered = set(found.altered.get("request", ()))
    whys = {
        "none": "was recorded without its body",
        "cut": "was too large to be kept whole",
        "text": "is no JSON",
        "media": "had images, sound or files, of which only size and hash are kept",
        "redacted": "had something in it that is redacted in the log",
    }
    for word, why in whys.items():
        if word in altered:
            raise Failure(f"Request {found.entry.id} {why}, so it cannot be sent again.")
    if found.method != "POST" or not isinstance(found.request, dict):
        raise Failure(f"Only requests with a JSON body can be sent again; this was {found.method} {found.path}.")
    body = {**found.request, "model": model} if model else found.request
    # Ollama's own API streams, unless it is told not to; what it says is the same.
    return {**body, "stream": False} if found.path.startswith("/api/") else body


def recorded(found: Found) -> Outcome:
    entry = found.entry
    answer = None if found.answer is msgspec.UNSET else found.answer
    return Outcome(
        title="recorded",
        model=named(entry),
        status=entry.status,
        error=error_of(answer) or (entry.code or str(entry.status) if entry.status >= 400 else ""),
        text=text_of(answer) if answer is not None else "(not recorded)",
        first=entry.first,
        total=entry.total,
        prompt=entry.prompt,
        completion=entry.completion,
        listed=entry.listed,
        answer=answer,
    )


def named(entry: Entry) -> str:
    return f"{entry.backend}/{entry.served}" if entry.served else entry.asked


# --- sending ------------------------------------------------------------------------------------------------------


async def sent(path: str, body: dict[str, Any], log: Path, config: Path | None, times: int) -> list[Outcome]:
    outcomes = []
    async with connect(config) as api:
        for number in range(times):
            title = "replay" if times == 1 else f"replay {number + 1}"
            outcome, id = await once(api, path, body, title)
            await complete(outcome, log, id)
            outcomes.append(outcome)
    return outcomes


async def once(api: Api, path: str, body: dict[str, Any], title: str) -> tuple[Outcome, str]:
    """Send a request; return what came, and the request's id."""
    headers: dict[str, str] = {}
    chunks: list[bytes] = []
    outcome = Outcome(title=title, model=str(body.get("model", "")), status=200)
    began = time.monotonic()
    try:
        if body.get("stream") is True:
            async for chunk in api.events(path, body, head=headers.update):
                if outcome.first is None:
                    outcome.first = time.monotonic() - began
                chunks.append(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        else:
            outcome.answer, found = await api.post(path, body)
            headers.update(found)
    except ApiError as exc:
        outcome.error = exc.message
        outcome.status = exc.status or outcome.status
    outcome.total = time.monotonic() - began
    if chunks:
        outcome.answer = assemble(chunks).answer
    outcome.text = text_of(outcome.answer)
    match outcome.answer:
        case {"usage": {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}}:
            outcome.prompt, outcome.completion = prompt, completion
        case {"usage": {"input_tokens": int(prompt), "output_tokens": int(completion)}}:
            outcome.prompt, outcome.completion = prompt, completion
        case {"prompt_eval_count": int(prompt), "eval_count": int(completion)}:
            outcome.prompt, outcome.completion = prompt, completion
        case {"usage": {"prompt_tokens": int(prompt)}}:
            outcome.prompt, outcome.completion = prompt, 0
    backend, model = headers.get("x-oproxy-backend"), headers.get("x-oproxy-model")
    if backend and model:
        outcome.model = f"{backend}/{model}"
    return outcome, headers.get("x-request-id", "")


async def complete(outcome: Outcome, log: Path, id: str) -> None:
    """Add what only the books know, as soon as they are written."""
    deadline = time.monotonic() + PATIENCE
    while id:
        found = await asyncio.to_thread(find, log, id, newest=True)
        if found is not None:
            entry = found.entry
            outcome.listed = entry.listed
            outcome.first = outcome.first if entry.first is None else entry.first
            if entry.prompt or entry.completion:
                outcome.prompt, outcome.completion = entry.prompt, entry.completion
            return
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(AGAIN)


# --- showing ------------------------------------------------------------------------------------------------------


def text_of(answer: Any) -> str:
    sections = list(answer_sections(answer)) if answer is not None else []
    if len(sections) == 1 and sections[0].title in ("assistant", "answer"):
        return block_text(sections[0].text)
    return "\n\n".join(f"[{line_text(each.title)}]\n{block_text(each.text)}" for each in sections)


def error_of(answer: Any) -> str:
    match answer:
        case {"error": {"message": str(text)}} | {"error": str(text)}:
            return text
    return ""


def as_value(outcome: Outcome) -> Mapping[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(outcome)
    listed = value.pop("listed")
    return {**value, "list": None if listed is None else listed / NANO}


def figures(outcome: Outcome) -> tuple[str, ...]:
    known = outcome.prompt is not None
    return (
        outcome.title,
        outcome.model,
        f"{outcome.status} failed" if outcome.error and outcome.status < 400 else str(outcome.status),
        f"{outcome.prompt}+{outcome.completion}" if known else "",
        seconds(outcome.first),
        seconds(outcome.total),
        "" if outcome.listed is None else money(outcome.listed),
    )


def show(outcomes: Sequence[Outcome], *, diff: bool) -> None:
    """Print the figures of all, then the answers side by side, or what differs from the recorded one."""
    headers = ("", "MODEL", "STATUS", "TOKENS", "FIRST", "TOTAL", "LIST")
    print_table(headers, [figures(each) for each in outcomes], right=(3, 4, 5, 6))
    echo()
    if diff:
        for each in outcomes[1:]:
            show_diff(outcomes[0], each)
    elif interactive():
        columns = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False, header_style="bold")
        for each in outcomes:
            columns.add_column(Text(line_text(f"{each.title}: {each.model}")), overflow="fold", ratio=1)
        columns.add_row(
            *(Text(block_text(each.error or each.text), style="red" if each.error else "") for each in outcomes)
        )
        console().print(columns, soft_wrap=False)
    else:
        for each in outcomes:
            echo("--- ", line_text(f"{each.title}: {each.model}"))
            echo(each.error or each.text)


def show_diff(old: Outcome, new: Outcome) -> None:
    before, after = (each.error or each.text for each in (old, new))
    if before == after:
        echo(f"{new.title}: the same answer.")
        return
    colours = {"+": "green", "-": "red", "@": "cyan"}
    names = (f"{old.title}: {old.model}", f"{new.title}: {new.model}")
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm=""):
        echo(paint(line, fg=colours.get(line[:1])))
