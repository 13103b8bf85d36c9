"""The conversation of `oproxy chat` on a terminal: reading lines, commands, and answers that Ctrl-C ends.

The commands are a table; what they do to the conversation is `session`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from ..private import make_folder, open_private
from .client import Api, ApiError, connect
from .failure import Failure
from .output import echo, tell
from .resume import remember, resume
from .session import Session, image_part
from .stream import Answer, Painter, answer, painter

__all__ = ["COMMANDS", "Command", "Repl", "parse_line"]


class Command(NamedTuple):
    """One command of the conversation: what it takes, and its line in /help."""

    takes: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "/model": Command("[NAME]", "ask another model, or list the models"),
    "/system": Command("[TEXT]", "say how the model should behave; without TEXT: show it"),
    "/image": Command("FILE", "add an image (file or URL) to the next question"),
    "/clear": Command("", "begin anew; model and system text stay"),
    "/save": Command("FILE", "write the conversation to a file"),
    "/load": Command("FILE", "go on with a saved conversation"),
    "/retry": Command("", "ask the last question again"),
    "/usage": Command("", "tokens of this conversation so far"),
    "/help": Command("", "this list"),
    "/quit": Command("", "end (or Ctrl-D)"),
}

FENCE = '"""'


def parse_line(text: str) -> tuple[str, str]:
    """Return (command, rest) for a line that begins with one, ("", text) for a question."""
    word, _, rest = text.strip().partition(" ")
    if word.startswith("/") and len(word) > 1 and "/" not in word[1:]:
        return word.lower(), rest.strip()
    return "", text


def goes_on(text: str) -> bool:
    """Return whether more lines are to come: after a backslash, or inside a block of three quotes."""
    return text.endswith("\\") or text.count(FENCE) % 2 == 1


def joined(text: str) -> str:
    """Return a question without what only held its lines together."""
    text = text.replace("\\\n", "\n")
    if text.strip().startswith(FENCE) and text.strip().endswith(FENCE) and len(text.strip()) >= 2 * len(FENCE):
        text = text.strip().removeprefix(FENCE).removesuffix(FENCE).strip("\n")
    return text


class Words(Completer):
    """Completes commands, model names after /model, and files where a file is wanted."""

    def __init__(self, models: Callable[[], list[str]]) -> None:
        self._models = models
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: object) -> Iterator[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        word, space, rest = text.partition(" ")
        if not space:
            yield from (Completion(name, -len(word)) for name in COMMANDS if name.startswith(word))
        elif word == "/model":
            yield from (Completion(name, -len(rest)) for name in self._models() if name.startswith(rest))
        elif word in ("/image", "/save", "/load"):
            below = Document(rest, len(rest))
            for found in self._files.get_completions(below, complete_event):  # type: ignore[arg-type]
                yield Completion(found.text, found.start_position, display=found.display)


def keys() -> KeyBindings:
    """Return the keys: Enter sends, unless the text goes on; Alt-Enter begins a new line."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if goes_on(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def history_file() -> Path:
    """Return the file of questions asked before, for nobody else's eyes."""
    path = Path(platformdirs.user_state_path("oproxy")) / "chat_history"
    make_folder(path.parent)
    # The editor opens it by its name, later.
    os.close(open_private(path, os.O_WRONLY | os.O_CREAT))
    return path


class Repl:
    """A conversation on the terminal. `going_on` is the response that it goes on from; `source` and `screen` stand in
    for the terminal's two sides."""

    def __init__(
        self,
        session: Session,
        config: Path | None,
        *,
        stats: bool = False,
        going_on: str = "",
        source: Input | None = None,
        screen: Output | None = None,
        show: Callable[[], Painter] = painter,
    ) -> None:
        self._session, self._config, self._stats, self._show = session, config, stats, show
        self._going_on = going_on
        self._models: list[str] = []
        self._editor: PromptSession[str] = PromptSession(
            history=FileHistory(str(history_file())),
            completer=Words(lambda: self._models),
            complete_while_typing=False,
            key_bindings=keys(),
            multiline=True,
            input=source,
            output=screen,
        )
        self._commands: Mapping[str, Callable[[Api, str], Awaitable[None]]] = {
            "/model": self._model,
            "/system": self._system,
            "/image": self._image,
            "/clear": self._clear,
            "/save": self._save,
            "/load": self._load,
            "/retry": self._retry,
            "/usage": self._usage,
            "/help": self._help,
        }

    async def run(self) -> None:
        """Read and answer until /quit or Ctrl-D."""
        async with connect(self._config) as api:
            await self._names(api)
            if self._going_on:
                await resume(api, self._session, self._going_on)
            where = "in this process" if api.inside else f"at {api.base}"
            tell(f"Talking to {self._session.model} {where}. /help lists the commands, Ctrl-D ends.")
            while True:
                try:
                    text = joined(await self._editor.prompt_async(">>> "))
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return
                if not text.strip():
                    continue
                command, rest = parse_line(text)
                if command in ("/quit", "/exit"):
                    return
                await self._do(api, command, rest)

    async def _do(self, api: Api, command: str, rest: str) -> None:
        """Do what was typed. Ctrl-C ends it, not the program; what came of an answer stays in the conversation."""
        work = asyncio.ensure_future(self._obey(api, command, rest))
        try:
            with interrupting(work):
                await work
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # Not this work alone but the whole conversation is to end.
                raise
            tell("(stopped)")
        except (ApiError, Failure) as exc:
            tell(f"oproxy: {exc.message}")

    async def _obey(self, api: Api, command: str, rest: str) -> None:
        if not command:
            self._session.ask(rest)
            await self._ask(api)
        elif (work := self._commands.get(command)) is not None:
            await work(api, rest)
        else:
            tell(f"There is no command {command}. /help lists them.")

    async def _ask(self, api: Api) -> None:
        """Answer the last question; keep what came of it, however it ended."""
        result = Answer()
        try:
            await answer(api, self._session, result, self._show(), stream=True)
        finally:
            if result.text:
                self._session.answer(result.text, result.id)
                self._session.count(result.usage)
                remember(result.id, self._session.model)
            else:
                self._session.forget_question()
            if self._stats and result.headers:
                tell(result.stats.line(result.usage, result.served(self._session.model)))

    async def _names(self, api: Api) -> None:
        with contextlib.suppress(ApiError):
            found = [row["id"].removesuffix(":latest") for row in (await api.get("/v1/models"))["data"]]
            # Others cannot be typed, and the editor would paint them.
            self._models = [name for name in found if name.isprintable()]

    # --- the commands -----------------------------------------------------------------------------------------

    async def _model(self, api: Api, rest: str) -> None:
        await self._names(api)
        if rest:
            self._session.model = rest
            known = "" if rest in self._models or rest.removesuffix(":latest") in self._models else " (not listed)"
            tell(f"Talking to {rest}{known}.")
        else:
            for name in self._models:
                echo(f"{'*' if name == self._session.model else ' '} {name}")

    async def _system(self, api: Api, rest: str) -> None:
        if rest:
            self._session.system = rest
            tell("The system text is set.")
        else:
            echo(self._session.system or "(no system text)")

    async def _image(self, api: Api, rest: str) -> None:
        if not rest:
            raise Failure("/image needs a file or a URL.")
        self._session.images.append(image_part(rest))
        tell(f"{len(self._session.images)} image(s) go with the next question.")

    async def _clear(self, api: Api, rest: str) -> None:
        self._session.clear()
        tell("A new conversation.")

    async def _save(self, api: Api, rest: str) -> None:
        if not rest:
            raise Failure("/save needs a file.")
        self._session.save(rest)
        tell(f"Saved to {rest}.")

    async def _load(self, api: Api, rest: str) -> None:
        if not rest:
            raise Failure("/load needs a file.")
        self._session = Session.load(rest)
        tell(f"{len(self._session.turns)} messages with {self._session.model}.")

    async def _retry(self, api: Api, rest: str) -> None:
        if not self._session.retry():
            raise Failure("There is no question to ask again.")
        await self._ask(api)

    async def _usage(self, api: Api, rest: str) -> None:
        spent = self._session.spent
        total = spent.prompt + spent.completion
        echo(f"{spent.requests} answers, {spent.prompt} + {spent.completion} = {total} tokens")

    async def _help(self, api: Api, rest: str) -> None:
        for name, command in COMMANDS.items():
            echo(f"  {f'{name} {command.takes}'.rstrip():<18} {command.help}")
        echo('  Enter sends. Alt-Enter, a \\ at the end, or """ around the text: several lines.')


@contextlib.contextmanager
def interrupting(work: asyncio.Future[None]) -> Iterator[None]:
    """Let Ctrl-C end `work` instead of the program, where the loop can be told of signals."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, work.cancel)
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        # The loop leaves Python's own handler behind, which would throw KeyboardInterrupt into the midst of anything.
        signal.signal(signal.SIGINT, before)
