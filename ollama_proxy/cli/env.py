"""`oproxy env`: what a shell, a .env file or a tool must be told to come here.

What is to be read by a machine goes to stdout, what a person should know beside it to stderr, so that
`eval "$(oproxy env)"` and `oproxy env --for opencode > opencode.json` work. For a shell only the config and the state
file are read: it must be cheap enough for a start-up file. Never writes a file, never makes a key.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PurePath
from typing import Annotated, Any, Literal, cast, get_args
from urllib.parse import quote

import msgspec
import typer

from .. import daemon
from ..model import ModelInfo
from ..policy.options import options_for
from ..settings import Settings, load
from .failure import Failure
from .plain import echo, interactive, print_json, tell
from .snippets import TOOLS, Facts
from .trust import ca_variables

__all__ = ["env"]

Shell = Literal["bash", "zsh", "fish", "powershell", "dotenv", "json"]
Tool = Literal[
    "aider", "continue", "cline", "codex", "claude-code", "opencode", "langchain", "llamaindex", "vscode", "cursor",
    "curl", "python", "node",
]  # fmt: skip

# What is written where no key is asked for, and where one is but we know none: keys are stored as digests only.
ANY_KEY, NO_KEY = "oproxy", "PUT-YOUR-KEY-HERE"
# Names that stand for the model that answers them (see `policy/route`).
CHAT_NAME, EMBEDDING_NAME = "gpt-4o", "text-embedding-3-small"
# How long the daemon may take to say what models there are (seconds); it asks its backends for that.
PATIENCE = 10.0


def env(
    shell: Annotated[Shell | None, typer.Option(help="The form to print; yours is found out if none is given.")] = None,
    tool: Annotated[Tool | None, typer.Option("--for", help="Print what this tool or library must be told.")] = None,
    word: Annotated[str | None, typer.Argument(metavar="SHELL", help="The same as --shell.")] = None,
) -> None:
    """Print what makes OpenAI clients come here: `eval "$(oproxy env)"`.

    With `--for` it is the configuration of one tool, with the model that would answer it. Works whether the daemon
    runs or not.
    """
    if word is not None:
        shell = named(word)
    state = daemon.running()
    settings = load(env=os.environ, flags={}).settings
    base = state.url if state is not None else address(settings)
    key = key_of(settings)
    if tool is not None:
        show_tool(tool, facts_of(settings, state, f"{base}/v1", key))
        return
    variables = {"OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_BASE": f"{base}/v1", "OPENAI_API_KEY": key}
    variables |= ca_variables(settings.tls, needed=base.startswith("https:"))
    form = shell or shell_of(os.environ)
    if form == "json":
        print_json(variables)
        return
    for name, value in variables.items():
        echo(FORMS[form](name, value))
    if interactive() and form in HOW:
        tell(f"\n{COMMENT} {HOW[form]}")


def named(word: str) -> Shell:
    """Return the shell of this name. Raises Failure, which tells of what else was meant."""
    for shell in get_args(Shell):
        if word == shell:
            return cast(Shell, shell)
    if word in get_args(Tool):
        raise Failure(f"{word!r} is no shell. For this tool: oproxy env --for {word}", code=2)
    raise Failure(
        f"{word!r} is no shell. oproxy env --shell takes {', '.join(get_args(Shell))}; "
        f"--for takes {', '.join(get_args(Tool))}.",
        code=2,
    )


# --- where we are -------------------------------------------------------------------------------------------------


def address(settings: Settings) -> str:
    """Return the base URL that a daemon with these settings would have."""
    server, tls = settings.server, settings.tls
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host
    secure = tls.mode != "off" and tls.only
    place = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{place}:{tls.port if secure else server.port}"


def key_of(settings: Settings) -> str:
    """Return a key that works, as far as one can be known, and say so where none can."""
    if settings.auth.mode == "off":
        return ANY_KEY
    mine = os.environ.get("OPENAI_API_KEY", "")
    if mine.startswith("sk-oproxy-"):
        return mine
    tell("A key is needed here, and it is shown only when it is made: oproxy keys create NAME")
    return NO_KEY


# --- shells -------------------------------------------------------------------------------------------------------


def shell_of(env: Mapping[str, str], *, windows: bool = sys.platform == "win32") -> Shell:
    """Tell whose lines are wanted. PowerShell sets PSModulePath for what it starts; on Windows it is always there."""
    name = PurePath(env.get("SHELL", "")).name
    if windows:
        return "bash" if name.startswith("bash") else "powershell"
    if env.get("PSModulePath"):
        return "powershell"
    return "fish" if name == "fish" else "zsh" if name == "zsh" else "bash"


def posix(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def fish(name: str, value: str) -> str:
    """https://fishshell.com/docs/current/language.html#quotes: in single quotes only \\ and ' are special."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def powershell(name: str, value: str) -> str:
    """In single quotes only a single quote is special, and the typographic ones count as such:
    https://learn.microsoft.com/powershell/module/microsoft.powershell.core/about/about_quoting_rules"""
    quoted = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)
    return f"$env:{name} = '{quoted}'"


def dotenv(name: str, value: str) -> str:
    """Bare where nothing can be misread, in single quotes where those do, which no reader of .env expands."""
    if re.fullmatch(r"[A-Za-z0-9_./:@%+,-]*", value):
        return f"{name}={value}"
    if not re.search(r"['\\\n]", value):
        return f"{name}='{value}'"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'{name}="{quoted}"'


FORMS: Mapping[Shell, Callable[[str, str], str]] = {
    "bash": posix,
    "zsh": posix,
    "fish": fish,
    "powershell": powershell,
    "dotenv": dotenv,
}
COMMENT = "#"
HOW: Mapping[Shell, str] = {
    "bash": 'To set them: eval "$(oproxy env)"',
    "zsh": 'To set them: eval "$(oproxy env)"',
    "fish": "To set them: oproxy env | source",
    "powershell": "To set them: oproxy env | Out-String | Invoke-Expression",
}


# --- tools --------------------------------------------------------------------------------------------------------


def show_tool(tool: Tool, facts: Facts) -> None:
    snippet = TOOLS[tool](facts)
    tell(f"{COMMENT} {snippet.where}:")
    echo(snippet.text.rstrip("\n"))
    notes = list(snippet.notes)
    if tool == "codex" and not served("/v1/responses"):
        notes.append("Codex asks by /v1/responses alone, which this version of oproxy does not serve yet.")
    for note in notes:
        tell(f"{COMMENT} {note}")


def served(path: str) -> bool:
    """Return whether this version has a route. By name, for the server is too slow to import for a shell's lines."""
    return any(row.route.path == path for row in import_module("ollama_proxy.server.routes").ROUTES)


def facts_of(settings: Settings, state: daemon.State | None, url: str, key: str) -> Facts:
    """Return what is known: of the models that answer, if a daemon runs, else what the config says."""
    ca = ca_variables(settings.tls, needed=True).get("NODE_EXTRA_CA_CERTS", "") if url.startswith("https:") else ""
    facts = Facts(url=url, key=key, model=settings.models.default or CHAT_NAME, ca=ca)
    facts = facts._replace(window=settings.models.num_ctx or facts.window)
    if state is None:
        tell(f"{COMMENT} No daemon runs; with one, the model that answers is named here.")
        return facts
    chat, embedding = asyncio.run(answering(settings.models.default or CHAT_NAME))
    if chat is None:
        tell(f"{COMMENT} No model answers yet: oproxy models pull smollm2")
        return facts
    options, _ = options_for(
        msgspec.to_builtins(settings.models.options), asked=chat.id, info=chat, num_ctx=settings.models.num_ctx
    )
    can = chat.capabilities
    backend = settings.backends.get(chat.backend)
    if backend is not None and backend.type == "embedded":
        facts = facts._replace(window_by=f"backends.{chat.backend}.context")
    return facts._replace(
        model=chat.id.removesuffix(":latest"),
        embedding=embedding.id.removesuffix(":latest") if embedding is not None else "",
        window=options.get("num_ctx") or chat.context or facts.window,
        tools=can is None or "tools" in can,
        vision=can is not None and "vision" in can,
        thinks=can is not None and "thinking" in can,
    )


async def answering(name: str) -> tuple[ModelInfo | None, ModelInfo | None]:
    """Ask the daemon which models answer `name` and OpenAI's usual name for embeddings; None for one that nobody
    answers. `client` is imported by name, for it is too slow for a shell's lines."""
    client = import_module("ollama_proxy.cli.client")

    async def ask(api: Any, asked: str) -> ModelInfo | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return msgspec.convert(await api.get(f"/oproxy/models/{quote(asked, safe='')}"), ModelInfo)
        except (client.ApiError, TimeoutError):
            return None

    async with client.connect(None) as api:
        if api.inside:
            # The daemon has just ended.
            return None, None
        return await ask(api, name), await ask(api, EMBEDDING_NAME)
