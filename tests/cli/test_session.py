"""A conversation as arithmetic: the requests it makes, and the files it is kept in."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.cli.failure import Failure
from ollama_proxy.cli.repl import goes_on, joined, parse_line
from ollama_proxy.cli.session import Session, image_part, read_schema
from ollama_proxy.cli.stream import Answer, Stats, finished_blocks, take


def test_a_question_becomes_a_request_with_only_what_was_set() -> None:
    session = Session(model="m")
    session.ask("Hi")
    assert session.body(stream=False) == {
        "model": "m", "input": [{"role": "user", "content": "Hi"}], "stream": False,
    }  # fmt: skip


def test_settings_images_and_schema_are_in_the_request() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://x/y.png"}}
    session = Session(model="m", system="Be short.", images=[image], temperature=0.0, max_tokens=50, schema={"a": 1})
    session.ask("What is it?")
    body = session.body(stream=True)
    assert body["instructions"] == "Be short."
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "http://x/y.png"},
    ]
    assert body["input"] == [{"role": "user", "content": parts}]
    assert (body["temperature"], body["max_output_tokens"]) == (0.0, 50)
    assert body["text"]["format"]["schema"] == {"a": 1}
    assert session.images == []


def test_what_the_server_keeps_is_not_sent_again() -> None:
    session = Session(model="m")
    session.ask("Hi")
    session.answer("Hello", "resp_1")
    session.ask("And?")
    assert session.body(stream=True)["input"] == [{"role": "user", "content": "And?"}]
    assert session.body(stream=True)["previous_response_id"] == "resp_1"
    # An answer that was stopped has no id to go on from.
    session.answer("Well")
    session.ask("Go on")
    body = session.body(stream=True)
    assert body["previous_response_id"] == "resp_1"
    assert [item["content"] for item in body["input"]] == ["And?", "Well", "Go on"]


def test_asking_again_goes_back_to_the_response_before() -> None:
    session = Session(model="m")
    for number in (1, 2):
        session.ask(f"Q{number}")
        session.answer(f"A{number}", f"resp_{number}")
    assert session.retry()
    body = session.body(stream=True)
    assert (body["previous_response_id"], [item["content"] for item in body["input"]]) == ("resp_1", ["Q2"])
    session.clear()
    session.ask("New")
    assert "previous_response_id" not in session.body(stream=True)


def test_retry_forgets_the_answer_and_keeps_the_question() -> None:
    session = Session()
    assert session.retry() is False
    session.ask("Hi")
    session.answer("Hello")
    assert session.retry() is True
    assert [turn["role"] for turn in session.turns] == ["user"]
    session.forget_question()
    assert session.turns == []


def test_a_saved_conversation_comes_back_whole_and_is_nobody_elses(tmp_path: Path) -> None:
    session = Session(model="m", system="s")
    session.ask("Hi")
    session.answer("Hello")
    session.count({"prompt_tokens": 3, "completion_tokens": 2})
    path = tmp_path / "talk.json"
    session.save(str(path))
    assert Session.load(str(path)) == session
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["{", "[]", '{"turns": 5}'])
def test_a_file_that_is_no_conversation_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(Failure, match="no saved conversation"):
        Session.load(str(path))
    with pytest.raises(Failure, match="No such file"):
        Session.load(str(tmp_path / "none"))


def test_an_image_file_becomes_a_data_uri_and_a_missing_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"GIF89a")
    part = image_part(str(path))
    assert part["image_url"]["url"] == f"data:image/gif;base64,{base64.b64encode(b'GIF89a').decode()}"
    assert image_part("https://x/y.png")["image_url"]["url"] == "https://x/y.png"
    with pytest.raises(Failure, match="No such file"):
        image_part(str(tmp_path / "none.png"))


def test_a_schema_is_read_from_a_file_or_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"type": "object"}')
    assert read_schema(str(path)) == read_schema('{"type": "object"}') == {"type": "object"}
    for wrong in ("{", str(tmp_path / "none")):
        with pytest.raises(Failure):
            read_schema(wrong)
    path.write_text("[1]")
    with pytest.raises(Failure, match="object"):
        read_schema(str(path))


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("/model x", ("/model", "x")), ("/HELP", ("/help", "")), ("hello /model", ("", "hello /model")),
        ("/usr/bin is a path", ("", "/usr/bin is a path")), ("/", ("", "/")), ("  /save  a b ", ("/save", "a b")),
    ],
)  # fmt: skip
def test_commands_are_told_from_questions(line: str, want: tuple[str, str]) -> None:
    assert parse_line(line) == want


def test_several_lines_are_one_question() -> None:
    assert goes_on("a\\")
    assert goes_on('"""a')
    assert not goes_on('"""a"""')
    assert joined("a\\\nb") == "a\nb"
    assert joined('"""a\nb"""') == "a\nb"


@given(st.text(alphabet="a-#`~\n 1*", max_size=80))
def test_blocks_lose_nothing_and_fences_stay_whole(text: str) -> None:
    done, rest = finished_blocks(text)
    assert done + rest == text
    assert done == "" or done.endswith("\n")


def test_a_block_is_done_at_the_empty_line_but_not_inside_a_fence() -> None:
    assert finished_blocks("One.\n\nTwo") == ("One.\n\n", "Two")
    assert finished_blocks("```\na\n\nb") == ("", "```\na\n\nb")
    assert finished_blocks("- a\n\n- b") == ("", "- a\n\n- b")


class Shown:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []

    def text(self, piece: str) -> None:
        self.texts.append(piece)

    def thought(self, piece: str) -> None:
        self.thoughts.append(piece)

    def close(self) -> None:
        return None


def test_chunks_are_gathered_and_shown() -> None:
    into, show = Answer(), Shown()
    take({"type": "response.created", "response": {}}, into, show)
    take({"type": "response.reasoning_text.delta", "delta": "hm"}, into, show)
    take({"type": "response.output_text.delta", "delta": "a\x1b"}, into, show)
    usage = {"input_tokens": 1, "output_tokens": 2}
    ended = {"id": "resp_1", "usage": usage, "incomplete_details": None}
    take({"type": "response.completed", "response": ended}, into, show)
    assert (into.text, into.reason, show.texts, show.thoughts) == ("a\x1b", "stop", ["a"], ["hm"])
    assert (into.usage, into.id) == ({"prompt_tokens": 1, "completion_tokens": 2}, "resp_1")
    stats = Stats()
    stats.first, stats.total = 0.5, 1.5
    assert stats.line({"prompt_tokens": 3, "completion_tokens": 5}, "m") == (
        "[3 + 5 tokens, 4.0 tokens/s, first after 0.50 s, 1.50 s in all; m]"
    )
