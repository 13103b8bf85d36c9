"""How commands print."""

from __future__ import annotations

import json

import pytest

from ollama_proxy.cli.output import print_json, print_table, size, table
from ollama_proxy.cli.plain import paint


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
