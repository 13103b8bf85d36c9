"""A recorded request as something that sends it again: curl, Python, HTTPie, or its JSON.

What is written holds no key: it is taken from $OPENAI_API_KEY when it runs. Sends nothing itself.
"""

from __future__ import annotations

import pprint
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from ..policy.printable import block_text, json_text, line_text, shell_word
from ..recorder.read import Found
from .failure import Failure
from .plain import tell

__all__ = ["Form", "refuse_if_cut", "written"]

Form = Literal["curl", "python", "httpie", "json"]

# A longer body is easier to read, and to edit, below the command than in it.
INLINE = 300
WIDTH = 100

# The SDK's methods, and their parameters; anything else a body holds goes into extra_body.
# https://github.com/openai/openai-python/tree/main/src/openai/resources
METHODS = {
    "/v1/chat/completions": "chat.completions.create",
    "/v1/completions": "completions.create",
    "/v1/embeddings": "embeddings.create",
    "/v1/responses": "responses.create",
    "/v1/moderations": "moderations.create",
}
SAMPLING = (
    "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty", "seed", "stop", "stream",
    "stream_options", "temperature", "top_p", "user",
)  # fmt: skip
PARAMETERS: dict[str, tuple[str, ...]] = {
    "/v1/chat/completions": (
        "model", "messages", *SAMPLING, "audio", "function_call", "functions", "max_completion_tokens", "metadata",
        "modalities", "parallel_tool_calls", "prediction", "reasoning_effort", "response_format", "service_tier",
        "store", "tool_choice", "tools", "top_logprobs", "verbosity",
    ),
    "/v1/completions": ("model", "prompt", *SAMPLING, "best_of", "echo", "suffix"),
    "/v1/embeddings": ("model", "input", "dimensions", "encoding_format", "user"),
    "/v1/responses": (
        "model", "input", "instructions", "max_output_tokens", "metadata", "reasoning", "stream", "temperature", "text",
        "tool_choice", "tools", "top_p",
    ),
    "/v1/moderations": ("model", "input"),
}  # fmt: skip


def written(found: Found, form: Form, base: str) -> str:
    """Return the text; `base` is the daemon's URL without /v1. Raises Failure if the body is not whole."""
    refuse_if_cut(found)
    match form:
        case "json":
            return pretty(found.request) if found.request is not msgspec.UNSET else "null"
        case "python":
            return python(found, base)
        case "curl":
            return shell(found, base, curl_words(found), "--data-binary @-")
        case "httpie":
            return shell(found, base, ["http", "--stream"] if streams(found) else ["http"], "")


def refuse_if_cut(found: Found) -> None:
    """Raise Failure if the request cannot be had as it was; say on stderr what was taken out of it."""
    done = found.altered.get("request", ())
    if "cut" in done or "none" in done:
        why = "was too large to be kept whole" if "cut" in done else "was recorded without its body"
        raise Failure(f"Request {found.entry.id} {why}.")
    if found.request is msgspec.UNSET and found.headers.get("content-type", "").startswith("multipart/"):
        raise Failure(f"Request {found.entry.id} was an upload; what is uploaded is not recorded.")
    if "media" in done:
        tell("Images, sound and files are not in the log; put them in place of their hashes first.")
    if "redacted" in done:
        tell("Something was redacted in the log; put it back first where it says [redacted].")


def streams(found: Found) -> bool:
    return isinstance(found.request, dict) and found.request.get("stream") is True


def pretty(value: Any) -> str:
    return json_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


# --- shells -------------------------------------------------------------------------------------------------------


def address(found: Found, base: str) -> str:
    """Return the URL in double quotes for a shell."""
    if found.path.startswith("/v1/"):
        return f'"${{OPENAI_BASE_URL:-{base}/v1}}{quoted(in_url(found.path[3:]))}"'
    return f'"{quoted(base + in_url(found.path))}"'


def in_url(path: str) -> str:
    """Return a path, which is recorded as it reads, as a URL has it."""
    return quote(path, safe="/:@!$&'()*+,;=~")


def quoted(text: str) -> str:
    """Return text as it stands between double quotes."""
    return "".join(f"\\{letter}" if letter in '\\"$`' else letter for letter in text)


def curl_words(found: Found) -> list[str]:
    words = ["curl", "-sS"]
    if streams(found):
        words.append("-N")
    # curl takes what has a body for a POST, and what has none for a GET.
    if found.method != ("GET" if found.request is msgspec.UNSET else "POST"):
        words += ["-X", shell_word(found.method)]
    return words


def shell(found: Found, base: str, words: list[str], take: str) -> str:
    """Return a command; its body on stdin, from a here-document if it is long."""
    http = words[0] == "http"
    if http:
        words = [*words, shell_word(found.method)]
    headers = ['"Authorization: Bearer ${OPENAI_API_KEY:-any}"']
    body = None
    if found.request is not msgspec.UNSET:
        # curl says that JSON is a form unless it is told otherwise, and the daemon does not mind.
        plain = isinstance(found.request, str)
        kind = found.headers.get("content-type", "text/plain") if plain else "application/json"
        headers.append(shell_word(f"Content-Type: {kind}"))
        body = found.request if isinstance(found.request, str) else pretty(found.request)
    if tag := found.headers.get("x-oproxy-tag"):
        headers.append(shell_word(f"x-oproxy-tag: {tag}"))
    given = headers if http else [f"-H {header}" for header in headers]
    lines = [f"{' '.join(words)} {address(found, base)}", *given]
    if http and body is None:
        lines[0] = lines[0].replace("http ", "http --ignore-stdin ", 1)
    if body is None:
        return " \\\n  ".join(lines)
    short = body if isinstance(found.request, str) else json_text(msgspec.json.encode(found.request).decode())
    # What is no JSON and not to be shown either is written with escapes, for which a here-document has none.
    if len(short) <= INLINE or block_text(body) != body:
        if http:
            return f"printf %s {shell_word(short)} | " + " \\\n  ".join(lines)
        return " \\\n  ".join([*lines, f"-d {shell_word(short)}" if "\n" not in short and short[:1] != "@" else
                               f"--data-raw {shell_word(short)}"])  # fmt: skip
    end = "JSON"
    while end in body.splitlines():
        end += "_"
    last = f"{take} <<'{end}'".lstrip()
    return " \\\n  ".join([*lines, last]) + f"\n{body}\n{end}"


# --- Python -------------------------------------------------------------------------------------------------------


def python(found: Found, base: str) -> str:
    """Return a program for OpenAI's SDK."""
    method = METHODS.get(found.path)
    head = [
        "import os",
        "",
        "from openai import OpenAI",
        "",
        "client = OpenAI(",
        f'    base_url=os.environ.get("OPENAI_BASE_URL", {f"{base}/v1"!r}),',
        '    api_key=os.environ.get("OPENAI_API_KEY", "any"),',
        ")",
    ]
    body = found.request
    if method is None or not isinstance(body, dict):
        # What is not below the SDK's own base is named in full; Ollama's own API streams unless it is told not to.
        path = found.path.removeprefix("/v1") if found.path.startswith("/v1/") else base + found.path
        if isinstance(body, dict) and found.path.startswith("/api/"):
            body = {**body, "stream": False}
        if found.method not in ("DELETE", "GET", "PATCH", "POST", "PUT"):
            raise Failure(f"OpenAI's SDK sends no {line_text(found.method)} requests.")
        call = f"client.{found.method.lower()}({path!r}, cast_to=object"
        if body is not msgspec.UNSET:
            call += f", body={literal(body, 0)}"
        return "\n".join([*head, f"answer = {call})", "print(answer)"])
    known = PARAMETERS[found.path]
    given = {name: value for name, value in body.items() if name in known}
    extra = {name: value for name, value in body.items() if name not in known}
    if extra:
        given["extra_body"] = extra
    lines = [f"    {name}={literal(value, 4)}," for name, value in given.items()]
    return "\n".join([*head, f"answer = client.{method}(", *lines, ")", *shown(found)])


def literal(value: Any, indent: int) -> str:
    return pprint.pformat(value, width=WIDTH, sort_dicts=False).replace("\n", "\n" + " " * indent)


def shown(found: Found) -> list[str]:
    """Return the lines that print the answer."""
    if not streams(found):
        return ["print(answer.model_dump_json(indent=2))"]
    if found.path == "/v1/chat/completions":
        piece = 'chunk.choices[0].delta.content or ""'
    elif found.path == "/v1/completions":
        piece = "chunk.choices[0].text"
    else:
        return ["for event in answer:", "    print(event.model_dump_json())"]
    return ["for chunk in answer:", "    if chunk.choices:", f'        print({piece}, end="", flush=True)', "print()"]
