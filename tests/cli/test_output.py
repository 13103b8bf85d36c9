"""How commands print."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator

import pytest

from ollama_proxy.cli.output import console, markdown, print_json, print_pairs, print_table, rule, size, table
from ollama_proxy.cli.plain import Bytes, echo, paint, print_json_line


@pytest.mark.parametrize(
    ("count", "want"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (98_417_000, "98 MB"),
        (999_600, "1.0 MB"),
        (2_019_393_189, "2.0 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_a_size_is_said_as_people_say_it(count: int | None, want: str) -> None:
    assert size(count) == want


def test_a_table_in_a_pipe_is_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "SIZE"), [("a b", None), ("[bold]x[/]", 3), ("two\nlines", "\t")], right=(1,))
    assert capsys.readouterr().out == "NAME\tSIZE\na b\t\n[bold]x[/]\t3\ntwo lines\t\n"


def test_the_cells_of_a_table_for_people_are_text_not_markup() -> None:
    made = table(("NAME",), [("[bold]x[/]",)])
    (cell,) = made.columns[0].cells
    assert str(cell) == "[bold]x[/]"


def test_json_for_programs_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, "ü"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [1, "ü"]}
    assert out.endswith("}\n")


def test_nothing_is_coloured_in_a_pipe() -> None:
    assert paint("up", fg="green") == "up"


class Terminal(io.TextIOWrapper):
    """A stdout that a person looks at."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@contextlib.contextmanager
def person() -> Iterator[Terminal]:
    """Have a person look at stdout for as long as the context lasts."""
    os.environ["TERM"] = "xterm-256color"
    with contextlib.redirect_stdout(Terminal()) as screen:
        yield screen


def test_only_our_own_colours_reach_a_terminal() -> None:
    with person() as screen:
        echo("plain \x1b[31mred", paint("\x1b[8mours", fg="green"), "\x9b2J")
    assert screen.text == "plain [31mred\x1b[32m[8mours\x1b[0m2J\n"
    # A text that was put together by hand has lost its colours, and its escapes.
    with person() as screen:
        echo(f"{paint('x', fg='green')}")
    assert screen.text.endswith("[32mx[0m\n")


def test_pairs_stay_on_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("name", "a\nstate  revoked"), ("empty", ""), ("none", None), ("count", 0)], column=7)
    assert capsys.readouterr().out == "name   a state  revoked\ncount  0\n"
    print_pairs([("name", "a\tb\x1b")], tabs=True)
    assert capsys.readouterr().out == "name\ta b?\n"


def test_json_keeps_its_meaning_and_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a\x9b": "\x1b\x7f\u202e\u2028ü\U000e0041"}
    print_json(value)
    print_json_line(json.dumps(value, ensure_ascii=False).encode())
    out = capsys.readouterr().out
    assert out.isascii() or set(filter(lambda c: not c.isascii(), out)) == {"ü"}
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(out)
    assert (first, json.loads(out[end:])) == (value, value)


def test_a_file_is_shown_to_a_person_as_text_and_to_a_program_as_it_is() -> None:
    data = "\x1b]0;x\x07ü\u202e\n".encode() + b"\xff\n"

    def put() -> None:
        with Bytes() as out:
            for place in range(len(data)):
                out.write(data[place : place + 1])

    with person() as screen:
        put()
    assert screen.text == "]0;xü\n\ufffd\n"
    program = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(program)) as stdout:
        put()
        assert program.getvalue() == data
        stdout.detach()


def test_a_link_in_an_answer_shows_where_it_leads() -> None:
    with person() as screen:
        console().print(markdown("[your bank](https://evil.example/)"))
    assert "https://evil.example/" in screen.text
    assert "\x1b]8" not in screen.text


@pytest.mark.parametrize("text", ["[/nope]", "[bold]x[/]", ":skull:", "[link=x]y"])
def test_what_looks_like_markup_is_text(text: str) -> None:
    with person() as screen:
        console().print(rule(text))
        console().print(text)
        console().print(table((text,), [(text,)]))
    assert screen.text.count(text) == 4
