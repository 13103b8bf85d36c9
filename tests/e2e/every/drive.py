"""Drives the official SDK by the steps of steps.json: `python drive.py URL KEY`. Imports nothing of ours, so that any
line of the SDK can run it. Tells, as JSON, its version, the methods called, those it does not have, and what did not
hold. Answers must fit the SDK's own types, unless a step says why not (`lenient`).
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

STEPS = Path(__file__).with_name("steps.json")
MISSING = object()


def at(value: Any, path: str) -> Any:
    """Return what is at a dotted path, MISSING for nothing."""
    for step in path.split(".") if path else ():
        if isinstance(value, list):
            value = value[int(step)] if int(step) < len(value) else MISSING
        elif isinstance(value, dict):
            value = value.get(step, MISSING)
        else:
            return MISSING
    return value


def filled(value: Any, saved: dict[str, Any]) -> Any:
    """Put in what earlier steps gave: "$file.id"; and files."""
    match value:
        case str() if value.startswith("$"):
            name, _, path = value[1:].partition(".")
            return at(saved[name], path)
        case {"@file": [name, text]}:
            return (name, io.BytesIO(text.encode()))
        case dict():
            return {key: filled(each, saved) for key, each in value.items()}
        case list():
            return [filled(each, saved) for each in value]
        case _:
            return value


def plain(answer: Any) -> Any:
    return json.loads(answer.to_json(indent=None)) if hasattr(answer, "to_json") else answer


def answered(kind: str, call: Callable[[], Any]) -> Any:
    """Make the call; return its answer as plain JSON."""
    match kind:
        case "not_found":
            try:
                call()
            except openai.NotFoundError as exc:
                return {"status": exc.status_code}
            raise AssertionError("it is still there")
        case "stream":
            events = [plain(event) for event in call()]
            return {"first": events[0], "last": events[-1]}
        case "page":
            return [plain(item) for item in call()]
        case "bytes":
            return {"text": call().content.decode()}
        case "text":
            return {"text": call()}
        case _:
            return plain(call())


def method(client: Any, name: str) -> Callable[..., Any] | None:
    for part in name.split("."):
        client = getattr(client, part, None)
    return client


def main(url: str, key: str) -> None:
    more: dict[str, Any] = {"admin_api_key": key} if "admin_api_key" in openai.OpenAI.__init__.__annotations__ else {}
    client, lenient = (
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, _strict_response_validation=strict, **more)
        for strict in (True, False)
    )
    told: dict[str, Any] = {"version": openai.__version__, "called": [], "missing": [], "wrong": []}
    saved: dict[str, Any] = {}
    # Deprecated methods are methods.
    warnings.simplefilter("ignore")
    for step in json.loads(STEPS.read_text()):
        name, kind = step["call"], step.get("kind", "object")
        called = method(lenient if "lenient" in step else client, name)
        if called is None:
            told["missing"].append(name)
            continue
        try:
            given = filled({**step.get("path", {}), **step.get("params", {})}, saved)
            answer = answered(kind, lambda called=called, given=given: called(**given))  # type: ignore[misc]
        except Exception as exc:
            told["wrong"].append(f"{name}: {type(exc).__name__}: {exc} {exc.__cause__ or ''}")
            continue
        told["called"].append(name)
        saved[step.get("save", "")] = answer
        for path, wanted in step["holds"].items():
            found, wanted = at(answer, path), filled(wanted, saved)
            if (found in (MISSING, None, "", [], {})) if wanted == "*" else (found != wanted):
                told["wrong"].append(f"{name}: {path} is {found!r:.200}, not {wanted!r:.200}")
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
