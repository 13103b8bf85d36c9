"""How an answer is shown: rendered at a terminal, plain in a pipe, with what a person should know beside it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ollama_proxy.cli.stream import Answer, Plain, Rendered, Stats, notes, painter, take


def screen(width: int = 40) -> tuple[Console, io.StringIO]:
    """Return a console that paints into text, as on a terminal without colours."""
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False), out


def shown(out: io.StringIO) -> str:
    """Return what is left on the screen: what was painted over is gone, and trailing blanks with it."""
    lines: list[str] = [""]
    row = 0
    text = out.getvalue()
    place = 0
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\x1b":
            end = place + 1
            while not text[end].isalpha():
                end += 1
            code, place = text[place + 1 : end + 1], end + 1
            if code.endswith("A"):
                row -= int(code[:-1] or 1)
            elif code == "2K":
                lines[row] = ""
        elif char == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif char != "\r":
            lines[row] += char
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def test_text_in_a_pipe_is_as_it_came_and_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    show = Plain()
    for piece in ("**a", "", "b**"):
        show.text(piece)
    show.thought("hm")
    show.close()
    assert capsys.readouterr().out == "**ab**\n"
    show = Plain()
    show.text("a\n")
    show.close()
    assert capsys.readouterr().out == "a\n"
    Plain().close()
    assert capsys.readouterr().out == ""


def test_what_is_not_a_terminal_is_painted_plainly() -> None:
    assert isinstance(painter(), Plain)


def test_markdown_is_rendered_and_each_block_is_painted_once() -> None:
    console, out = screen()
    show = Rendered(console)
    for piece in ("# He", "ad\n\nSome **bo", "ld** words.\n\n- one\n", "- two\n"):
        show.text(piece)
    show.close()
    left = shown(out)
    assert "Head" in left
    assert "Some bold words." in left
    assert "• one" in left
    assert "• two" in left
    assert "*" not in left
    assert left.count("Some bold words.") == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["word ", "\n\n", "- x\n", "```\n", "code\n", "# h\n"]), max_size=12))
def test_however_it_is_cut_the_same_is_left_on_the_screen(pieces: list[str]) -> None:
    console, out = screen()
    show = Rendered(console)
    for piece in pieces:
        show.text(piece)
    show.close()
    console, single = screen()
    show = Rendered(console)
    show.text("".join(pieces))
    show.close()
    assert shown(out) == shown(single)


def test_thoughts_stand_before_the_answer_on_lines_of_their_own() -> None:
    console, out = screen()
    show = Rendered(console)
    show.thought("Let me ")
    show.thought("[think]")
    show.text("Four.")
    show.close()
    assert [line for line in shown(out).split("\n") if line] == ["Let me [think]", "Four."]


def test_thoughts_without_an_answer_end_their_line() -> None:
    console, out = screen()
    show = Rendered(console)
    show.thought("Hm")
    show.close()
    assert out.getvalue().endswith("\n")
    show.close()
    assert out.getvalue().count("\n") == 1  # closing once more does no harm


@pytest.mark.parametrize(
    ("headers", "reason", "want"),
    [
        ({}, "stop", ""),
        ({"x-oproxy-ignored": "verbosity"}, "stop", "Without effect on this model: verbosity.\n"),
        ({"x-oproxy-schema-miss": "x is missing"}, "content_filter", "The answer does not follow the schema: x is"),
        ({}, "content_filter", "The answer does not follow the schema.\n"),
        ({}, "length", "The answer was cut by its length limit.\n"),
    ],
)
def test_what_a_person_should_know_is_told_on_stderr(
    headers: dict[str, str], reason: str, want: str, capsys: pytest.CaptureFixture[str]
) -> None:
    into = Answer()
    into.headers, into.reason = headers, reason
    notes(into)
    captured = capsys.readouterr()
    assert (captured.out, captured.err[: len(want)], bool(captured.err)) == ("", want, bool(want))


def test_a_refusal_is_shown_as_the_answer() -> None:
    into, show = Answer(), Plain()
    take({"type": "response.refusal.delta", "delta": "No."}, into, show)
    assert into.text == "No."


@pytest.mark.parametrize(
    "chunk", [{}, {"type": "response.output_text.delta"}, {"type": "response.output_text.delta", "delta": None}]
)
def test_chunks_without_words_do_no_harm(chunk: dict[str, Any]) -> None:
    into = Answer()
    take(chunk, into, Plain())
    assert (into.text, into.reason, into.usage) == ("", None, None)


def test_an_answer_without_usage_or_words_has_its_time() -> None:
    stats = Stats()
    stats.total = 2.0
    assert stats.line(None, "m") == "[2.00 s in all; m]"
    assert Answer().served("asked") == "asked"
