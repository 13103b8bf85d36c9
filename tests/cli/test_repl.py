"""The conversation at the keyboard: typed into a pipe as a terminal would send it, answered by a fake Ollama."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from ollama_proxy import daemon
from ollama_proxy.cli.repl import COMMANDS, Repl, history_file
from ollama_proxy.cli.session import Session
from ollama_proxy.server.app import build_app
from ollama_proxy.settings import load
from tests.fakes.ollama import FakeOllama

CTRL_C, CTRL_D, ALT_ENTER, UP, TAB = "\x03", "\x04", "\x1b\r", "\x1b[A", "\t"
GIF = b"GIF89a" + b"\x01\x00\x01\x00\x00\x00\x00;"


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


def said(content: str) -> list[dict[str, Any]]:
    """Return the records of a short answer."""
    return [record(content), record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)]


class Shown:
    """A painter that keeps what it was given; `something` is set by the first piece."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.something = asyncio.Event()

    def text(self, piece: str) -> None:
        self.pieces.append(piece)
        self.something.set()

    def thought(self, piece: str) -> None:
        return None

    def close(self) -> None:
        self.pieces.append("|")


class Person:
    """Somebody at the keyboard. `text` is all that was shown as answers, each closed with a bar."""

    def __init__(self, keyboard: PipeInput, config: Path, ollama: FakeOllama, session: Session) -> None:
        self.keyboard, self.ollama, self.session = keyboard, ollama, session
        self.shown = Shown()
        self.repl = Repl(session, config, source=keyboard, screen=DummyOutput(), show=lambda: self.shown, stats=True)

    async def types(self, *lines: str) -> None:
        """Type each line with Enter, then Ctrl-D; return when the program has ended."""
        self.keyboard.send_text("".join(f"{each}\r" for each in lines) + CTRL_D)
        await asyncio.wait_for(self.repl.run(), 20)

    def asked(self) -> list[list[dict[str, Any]]]:
        """Return the messages of every question that reached the model."""
        return [body["messages"] for body in self.ollama.asked("/api/chat")]

    @property
    def text(self) -> str:
        return "".join(self.shown.pieces)


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
def config(tmp_path: Path, ollama: FakeOllama) -> Path:
    path = tmp_path / "config.toml"
    quiet = "[store]\nledger = false\n[logs]\nrequests = false\n"
    path.write_text(f'{quiet}[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
    return path


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


@pytest.fixture
def person(keyboard: PipeInput, config: Path, ollama: FakeOllama) -> Person:
    return Person(keyboard, config, ollama, Session(model="smollm2"))


async def test_a_conversation_of_two_turns_remembers_the_first(person: Person) -> None:
    person.ollama.play("/api/chat", said("Hello."))
    person.ollama.play("/api/chat", said("Still here."))
    await person.types("Hi", "And now?")
    assert person.text == "Hello.|Still here.|"
    assert person.asked()[1] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And now?"},
    ]


async def test_each_answer_tells_what_it_took_when_asked_to(person: Person, capsys: Any) -> None:
    person.ollama.play("/api/chat", said("Hello."))
    await person.types("Hi")
    err = capsys.readouterr().err
    assert "Talking to smollm2 in this process" in err
    assert "9 + 3 tokens" in err
    assert "ollama/smollm2:latest]" in err


@pytest.mark.parametrize(
    "typed",
    ["one\\\rtwo\r", '"""one\rtwo"""\r', '"""\rone\rtwo\r"""\r', f"one{ALT_ENTER}two\r"],
    ids=["backslash", "quotes", "quotes on lines of their own", "Alt-Enter"],
)
async def test_several_lines_are_one_question(person: Person, typed: str) -> None:
    person.keyboard.send_text(typed)
    await person.types()
    assert person.asked() == [[{"role": "user", "content": "one\ntwo"}]]


async def test_an_empty_line_asks_nothing_and_ctrl_c_at_the_prompt_drops_the_line(person: Person) -> None:
    person.keyboard.send_text(f"\r   \rnever mind{CTRL_C}")
    await person.types("Hi")
    assert person.asked() == [[{"role": "user", "content": "Hi"}]]


async def test_questions_are_kept_for_the_next_time_and_nobody_else(person: Person, config: Path) -> None:
    await person.types("Hi")
    assert stat.S_IMODE(history_file().stat().st_mode) == 0o600
    with create_pipe_input() as again:
        other = Person(again, config, person.ollama, Session(model="smollm2"))
        # The history is read in a thread of its own; the arrow brings nothing before it is there.
        again.send_text("x\r")
        running = asyncio.ensure_future(other.repl.run())
        await asyncio.wait_for(other.shown.something.wait(), 10)
        again.send_text(f"{UP}{UP}\r{CTRL_D}")
        await asyncio.wait_for(running, 10)
    assert other.session.turns[2] == {"role": "user", "content": "Hi"}


# --- the commands -------------------------------------------------------------------------------------------------


async def test_help_lists_every_command(person: Person, capsys: Any) -> None:
    await person.types("/help")
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"{name} {command.takes}".rstrip() in out
        assert command.help in out


@pytest.mark.parametrize("word", ["/quit", "/exit", "/QUIT"])
async def test_quit_ends(person: Person, word: str) -> None:
    await person.types(word, "never asked")
    assert person.asked() == []


async def test_an_unknown_command_is_told_and_not_asked(person: Person, capsys: Any) -> None:
    await person.types("/foo bar")
    assert "There is no command /foo. /help lists them." in capsys.readouterr().err
    assert person.asked() == []


async def test_the_model_is_listed_and_changed(person: Person, capsys: Any) -> None:
    await person.types("/model", "/model smollm2-tools", "/model nosuch", "Hi", "/model smollm2", "Hi")
    captured = capsys.readouterr()
    assert "* smollm2\n" in captured.out
    assert "  all-minilm\n" in captured.out
    assert "Talking to smollm2-tools.\n" in captured.err
    assert "Talking to nosuch (not listed).\n" in captured.err
    assert "The model `nosuch` does not exist" in captured.err
    assert [body["model"] for body in person.ollama.asked("/api/chat")] == ["smollm2:latest"]


async def test_the_system_text_is_shown_set_and_sent(person: Person, capsys: Any) -> None:
    await person.types("/system", "/system Be short.", "/system", "Hi")
    assert capsys.readouterr().out == "(no system text)\nBe short.\n"
    assert person.asked()[0][0] == {"role": "system", "content": "Be short."}


async def test_an_image_goes_with_the_next_question_only(person: Person, tmp_path: Path, capsys: Any) -> None:
    picture = tmp_path / "a picture.gif"
    picture.write_bytes(GIF)
    await person.types("/image", f"/image {tmp_path}/none.gif", f"/image {picture}", "/clear", f"/image {picture}")
    err = capsys.readouterr().err
    assert "/image needs a file or a URL" in err
    assert "none.gif: No such file" in err
    assert err.count("1 image(s) go with the next question.") == 2
    url = f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"
    person.session.ask("What is it?")
    assert person.session.turns[-1]["content"][1] == {"type": "image_url", "image_url": {"url": url}}
    assert person.session.images == []


async def test_clear_forgets_what_was_said_but_not_who_is_asked(person: Person) -> None:
    await person.types("/system Be short.", "Hi", "/clear", "And now?")
    assert person.asked()[1] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "And now?"}]


async def test_a_conversation_is_saved_and_gone_on_with(person: Person, tmp_path: Path, capsys: Any) -> None:
    person.ollama.play("/api/chat", said("Hello."))
    file = tmp_path / "talk.json"
    await person.types(
        "/save", "/load", f"/load {file}", "Hi", f"/save {file}", "/clear", f"/save {tmp_path}/no/x", f"/load {file}",
        "And now?",
    )  # fmt: skip
    err = capsys.readouterr().err
    for line in ("/save needs a file", "/load needs a file", "No such file", f"Saved to {file}", "2 messages with"):
        assert line in err
    assert [message["content"] for message in person.asked()[1]] == ["Hi", "Hello.", "And now?"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_retry_asks_the_last_question_again(person: Person, capsys: Any) -> None:
    person.ollama.play("/api/chat", said("One."))
    person.ollama.play("/api/chat", said("Two."))
    await person.types("/retry", "Hi", "/retry")
    assert "There is no question to ask again." in capsys.readouterr().err
    assert person.asked() == [[{"role": "user", "content": "Hi"}]] * 2
    assert [turn["content"] for turn in person.session.turns] == ["Hi", "Two."]


async def test_retry_asks_again_what_got_no_answer(person: Person, capsys: Any) -> None:
    person.ollama.play("/api/chat", [{"error": "model runner has unexpectedly stopped"}], status=500)
    person.ollama.play("/api/chat", said("Here."))
    await person.types("Hi", "/retry", "/clear", "/retry")
    assert person.asked() == [[{"role": "user", "content": "Hi"}]] * 2
    assert person.text.endswith("Here.|")
    assert "There is no question to ask again." in capsys.readouterr().err


async def test_usage_adds_up_the_answers(person: Person, capsys: Any) -> None:
    for _ in range(2):
        person.ollama.play("/api/chat", said("Hello."))
    await person.types("Hi", "Hi", "/usage")
    assert capsys.readouterr().out == "2 answers, 18 + 6 = 24 tokens\n"


@pytest.mark.parametrize(
    ("typed", "want"),
    [("/mod", "/model"), ("/model all-", "/model all-minilm"), ("/load FOLDER/ta", "/load FOLDER/talk.json")],
)
async def test_tab_completes(person: Person, tmp_path: Path, typed: str, want: str) -> None:
    (tmp_path / "talk.json").write_text("{}")
    words = person.repl._editor.completer
    assert words is not None
    await person.types()  # learns the models' names
    found = list(completions(words, typed.replace("FOLDER", str(tmp_path))))
    assert found == [want.replace("FOLDER", str(tmp_path))]


def completions(words: Any, text: str) -> Iterator[str]:
    for each in words.get_completions(Document(text, len(text)), None):
        yield text[: len(text) + each.start_position] + each.text


async def test_words_of_a_question_are_not_completed(person: Person) -> None:
    assert list(completions(person.repl._editor.completer, "What is /mod")) == []


# --- what breaks off ----------------------------------------------------------------------------------------------


@contextmanager
def ctrl_c_again() -> Iterator[None]:
    """Keep Ctrl-C for the program under test: whatever it leaves behind is taken away again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def test_ctrl_c_ends_the_answer_frees_the_model_and_keeps_what_came(person: Person, capsys: Any) -> None:
    person.ollama.play("/api/chat", [record("Once upon"), *said(" a time")], hold_after=1)
    person.ollama.play("/api/chat", said("The end."))
    with ctrl_c_again():
        running = asyncio.ensure_future(person.repl.run())
        person.keyboard.send_text("A story\r")
        await asyncio.wait_for(person.shown.something.wait(), 10)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(person.ollama.hangups.wait(), 10)
        person.keyboard.send_text(f"And then?\r{CTRL_D}")
        await asyncio.wait_for(running, 10)
    assert person.text == "Once upon|The end.|"
    assert "(stopped)" in capsys.readouterr().err
    assert [message["content"] for message in person.asked()[1]] == ["A story", "Once upon", "And then?"]


async def test_ctrl_c_before_the_first_word_takes_the_question_back(person: Person) -> None:
    person.ollama.play("/api/chat", said("Never."), delay=30)
    with ctrl_c_again():
        running = asyncio.ensure_future(person.repl.run())
        person.keyboard.send_text("A story\r")
        for _ in range(1000):
            if person.asked():
                break
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(person.ollama.hangups.wait(), 10)
        person.keyboard.send_text(f"Hi\r{CTRL_D}")
        await asyncio.wait_for(running, 10)
    assert person.asked()[1] == [{"role": "user", "content": "Hi"}]


async def test_ctrl_c_after_an_answer_is_the_programs_again(person: Person) -> None:
    def mine(*_: object) -> None:
        return None

    with ctrl_c_again():
        signal.signal(signal.SIGINT, mine)
        await person.types("Hi")
        assert signal.getsignal(signal.SIGINT) is mine


async def test_an_answer_that_breaks_off_is_told_and_kept_as_far_as_it_came(person: Person, capsys: Any) -> None:
    person.ollama.play("/api/chat", [record("Hel"), {"error": "model runner has unexpectedly stopped"}])
    await person.types("Hi")
    assert "unexpectedly stopped" in capsys.readouterr().err
    assert person.session.turns[-1] == {"role": "assistant", "content": "Hel"}


async def test_a_daemon_that_goes_away_is_told_and_found_when_it_is_back(person: Person, capsys: Any) -> None:
    app = build_app(load(env={}, flags={}, text=f'[backends.ollama]\ntype = "ollama"\nurl = "{person.ollama.url}"\n'))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=os.getpid(), url=url, version="1", started=1.0, grace=1.0))
        running = asyncio.ensure_future(person.repl.run())
        person.keyboard.send_text("Hi\r")
        await asyncio.wait_for(person.shown.something.wait(), 10)
        await runner.cleanup()
        person.keyboard.send_text(f"Hi again\r/model\r{CTRL_D}")
        await asyncio.wait_for(running, 10)
    err = capsys.readouterr().err
    assert f"Talking to smollm2 at {url}." in err
    assert f"oproxy: The connection to {url} was lost" in err
    assert len(person.asked()) == 1
    assert [turn["role"] for turn in person.session.turns] == ["user", "assistant"]


def test_a_question_without_an_answer_is_not_saved(tmp_path: Path) -> None:
    session = Session(model="m")
    session.ask("Hi")
    session.forget_question()
    session.save(str(tmp_path / "talk.json"))
    assert "Hi" not in (tmp_path / "talk.json").read_text()
