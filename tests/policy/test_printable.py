"""Text from outside, in each place it is written to."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.policy.printable import (
    block_text,
    csv_cell,
    header_text,
    json_text,
    line_text,
    log_text,
    padded,
    shell_word,
    utf8_text,
    width,
)

# Nothing of this may reach a terminal: C0 (but newline and tab), DEL, C1, marks that turn text around, separators.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
ANY = st.text(st.characters(exclude_categories=())) | st.text(
    "ab \x00\x1b\x07[]0;m\n\r\t\x9b\u202e\u2066\ud800'\\=$`\""
)


@settings(max_examples=50)
@given(ANY)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for made in (line_text(text), block_text(text), log_text(text), shell_word(text)):
        assert not FORBIDDEN.search(made)
    assert "\n" not in line_text(text) + log_text(text) + header_text(text)
    assert header_text(text).isascii()
    made = json_text(json.dumps(text, ensure_ascii=False))
    assert not FORBIDDEN.search(made)
    assert json.loads(made) == re.sub("[\ud800-\udfff]", "\ufffd", text)


@settings(max_examples=50)
@given(ANY)
def test_what_is_harmless_already_stays_as_it_is(text: str) -> None:
    once = line_text(text, None)
    assert line_text(once, None) == once
    block = block_text(text)
    assert block_text(block) == block


@pytest.mark.parametrize(
    ("text", "line", "block"),
    [
        ("llama3.2:3b", "llama3.2:3b", "llama3.2:3b"),
        ("a\x1b[31mb\x07\r\n\tc\x9b1m\x7f", "a?[31mb? c?1m?", "a[31mb\n\tc1m"),
        ("\x1b]52;c;aGk=\x07", "?]52;c;aGk=?", "]52;c;aGk="),
        ("one\r\ntwo\x85three\u2028four", "one two three four", "one\ntwo\nthree\nfour"),
        ("exe\u202egpj.", "exe?gpj.", "exegpj."),
        ("\ud800x", "?x", "x"),
        ("žluťoučký 🎉", "žluťoučký 🎉", "žluťoučký 🎉"),
        # What joins emoji and letters belongs to the text.
        ("👨\u200d👩 نم\u200cبر", "👨?👩 نم?بر", "👨\u200d👩 نم\u200cبر"),
        ("in\u200bvis\ufeffible\U000e0041", "in?vis?ible?", "invisible"),
    ],
)
def test_text_for_a_terminal(text: str, line: str, block: str) -> None:
    assert (line_text(text), block_text(text)) == (line, block)


def test_a_long_name_is_cut_and_says_so() -> None:
    assert line_text("x" * 200) == "x" * 200
    assert line_text("x" * 201) == "x" * 199 + "…"
    assert line_text("x" * 1000, None) == "x" * 1000
    assert line_text("abcdef", 3) == "ab…"


def test_a_letter_beyond_the_first_plane_is_escaped_as_json_does() -> None:
    assert json_text('"\U000e0041"') == '"\\udb40\\udc41"'


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", "\uff1d", " =", "  @"])
def test_a_cell_is_no_formula(begin: str) -> None:
    cell = csv_cell(f"{begin}cmd|' /C calc'!A0")
    assert isinstance(cell, str)
    assert cell.startswith("'")


@settings(max_examples=50)
@given(st.lists(ANY, min_size=1, max_size=4))
def test_a_row_of_csv_stays_one_row(cells: list[str]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow([csv_cell(cell) for cell in cells] + ["end"])
    assert out.getvalue().count("\n") == 1
    assert "\r" not in out.getvalue()
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    assert len(row) == len(cells) + 1


def test_numbers_are_no_text() -> None:
    assert [csv_cell(value) for value in (-0.5, 3, None)] == [-0.5, 3, None]
    assert csv_cell("gpt-4o") == "gpt-4o"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two words",
        "$(touch x)",
        "`id`",
        "it's",
        "a;b|c&d",
        "",
        "-n",
        "\x1b]0;x\x07",
        "a\nb",
        "ü\u202e'\\",
        "\x9b",
        "!!",
    ],
)
def test_a_word_of_a_shell_is_that_word(text: str) -> None:
    word = shell_word(text)
    if text.isprintable():
        assert shlex.split(word) == [text]
    if shutil.which("bash") is not None:
        done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
        # `printf -n` and the like are the test's own trouble, not the word's.
        assert text.startswith("-") or done.stdout.decode() == text


def test_a_message_of_a_log_is_one_line() -> None:
    assert log_text("a\n2026-01-01 INFO root: all is well\x1b[2J") == "a\\n2026-01-01 INFO root: all is well\\x1b[2J"


def test_a_header_is_printable_ascii() -> None:
    assert header_text("a\r\nset-cookie: x=ü") == "a??set-cookie: x=?"
    assert len(header_text("x" * 1000)) == 500


def test_bytes_that_were_no_utf8_become_text() -> None:
    as_python_reads = b"caf\xc3\xa9 x\xff".decode("ascii", "surrogateescape")
    assert utf8_text(as_python_reads) == "café x\ufffd"
    assert utf8_text("plain") == "plain"
    assert utf8_text("\ud800").encode()


@settings(max_examples=50)
@given(ANY)
def test_any_text_can_be_written_as_utf8(text: str) -> None:
    utf8_text(text).encode()


def test_columns_are_counted_as_a_terminal_counts_them() -> None:
    assert (width("abc"), width("日本"), width("e\u0301"), width("🎉")) == (3, 4, 1, 2)
    assert (padded("日本", 6), padded("ab", 4, right=True), padded("long", 2)) == ("日本  ", "  ab", "long")
