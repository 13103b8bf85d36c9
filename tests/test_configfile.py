"""The TOML file: lines of keys, and changes that leave everything else as it was."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.configfile import Broken, lines_of, place_of, remove_value, set_value, split_key

TEXT = '''\
# head
top = 1
[server] # a comment with = and [
port = 1 # "why"
"quoted key" = """
many
[not.a.table]
lines = "\\""""
hosts = [
  "a", # one ]
  "b",
]
after = """"three""""

  [models.aliases]
  "gpt-4.1" = 'lit # eral'
  dotted.'in'."a b" = { x = 1, y = [ { z = 2 } ] }
[[many]]
a = \'\'\'
[x]\'\'\'
[[many]]
b = 2
[ "q.r" . s ]
last = 3'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("top",), 2),
        (("server",), 3),
        (("server", "port"), 4),
        (("server", "quoted key"), 5),
        (("server", "hosts"), 9),
        (("server", "after"), 13),
        (("server", "missing"), 3),
        (("models", "aliases"), 15),
        (("models", "aliases", "gpt-4.1"), 16),
        (("models", "aliases", "dotted", "in", "a b"), 17),
        (("models", "aliases", "dotted", "in", "a b", "x"), 17),
        (("many", "a"), 19),
        (("many", "b"), 22),
        (("q.r", "s", "last"), 24),
        (("nowhere",), 1),
        ((), 1),
    ],
)
def test_a_key_is_found_at_its_line_or_at_the_table_above_it(key: tuple[str, ...], line: int) -> None:
    assert place_of(lines_of(TEXT), key) == line


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("server.port", ("server", "port")),
        ('models.aliases."gpt-4.1"', ("models", "aliases", "gpt-4.1")),
        ("models.aliases.'gpt-4*'", ("models", "aliases", "gpt-4*")),
        ("models.aliases.gpt-4*", ("models", "aliases", "gpt-4*")),
        ("models.aliases.hf/me:q4", ("models", "aliases", "hf/me:q4")),
        ("server", ("server",)),
    ],
)
def test_a_key_is_split_as_toml_does(key: str, parts: tuple[str, ...]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize("key", ["", ".", "a..b", "a.", 'a."b', "a=b", "a\nb", "a = 1\nb"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Broken, match="is no key"):
        split_key(key)


CHANGES: list[tuple[str, str, tuple[str, ...], Any, str]] = [
    ("a value", "[a]\n# c\nx = 1  # why\ny = 2\n", ("a", "x"), 5, "[a]\n# c\nx = 5  # why\ny = 2\n"),
    ("an empty file", "", ("a", "x"), 5, "[a]\nx = 5\n"),
    ("a new table", "[b]\ny = 1\n", ("a", "x"), "t", '[b]\ny = 1\n\n[a]\nx = "t"\n'),
    ("no last line feed", "[a]\ny = 1", ("a", "x"), 5, "[a]\ny = 1\nx = 5\n"),
    (
        "before the comment of the next table",
        "[a]\ny = 1\n\n# about b\n[b]\nz = 1\n",
        ("a", "x"),
        5,
        "[a]\ny = 1\nx = 5\n\n# about b\n[b]\nz = 1\n",
    ),
    (
        "below the line that shows the default",
        "[a]\ny = 1\n# help\n#x = 1\n# more\n#z = 1\n[b]\n",
        ("a", "x"),
        5,
        "[a]\ny = 1\n# help\n#x = 1\nx = 5\n# more\n#z = 1\n[b]\n",
    ),
    (
        "in a table whose heading is a comment",
        "[b]\ny = 1\n#[a]\n#x = 1\n[c]\n",
        ("a", "x"),
        5,
        "[b]\ny = 1\n[a]\n#x = 1\nx = 5\n[c]\n",
    ),
    ("after a value of many lines", "[a]\ny = [\n 1,\n]\n[b]\n", ("a", "x"), 5, "[a]\ny = [\n 1,\n]\nx = 5\n[b]\n"),
    ("indented", "[a]\n  y = 1\n[b]\n", ("a", "x"), 5, "[a]\n  y = 1\n  x = 5\n[b]\n"),
    ("a quoted key", "[m.al]\nq = 1\n", ("m", "al", "gpt-4.*"), "s", '[m.al]\nq = 1\n"gpt-4.*" = "s"\n'),
    ("in an inline table", "[m]\nal = { q = 1 }\n", ("m", "al", "x"), 2, "[m]\nal = { q = 1, x = 2}\n"),
    ("under dotted keys", "[m]\nal.q = 1\n", ("m", "al", "x"), 2, "[m]\nal.q = 1\nal.x = 2\n"),
    ("a key of the top", "[a]\nx = 1\n", ("top",), 2, "top = 2\n[a]\nx = 1\n"),
    ("a list", "[a]\nx = [1, 2]\n", ("a", "x"), ["p", "q"], '[a]\nx = ["p", "q"]\n'),
    ("windows lines", "[a]\r\nx = 1\r\n# c\r\n", ("a", "y"), 2, "[a]\r\nx = 1\r\ny = 2\r\n# c\r\n"),
    ("a byte order mark", "\ufeff[a]\nx = 1\n", ("a", "x"), 2, "\ufeff[a]\nx = 2\n"),
    ("an inner table first", "[a.b]\nx = 1\n", ("a", "y"), 2, "[a]\ny = 2\n\n[a.b]\nx = 1\n"),
]


@pytest.mark.parametrize(("old", "key", "value", "new"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_value_is_set_at_its_place(tmp_path: Path, old: str, key: tuple[str, ...], value: Any, new: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(old.encode())

    set_value(path, key, value)

    assert path.read_bytes().decode() == new


names = st.sampled_from(["a", "b", "gpt-4*", "x.y", "é", 'q"'])
values = st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=2))


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(st.tuples(names, names, names), min_size=1, max_size=5, unique=True), data=st.data())
def test_whatever_is_set_is_read_again_and_old_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, ...]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("set") / "c.toml"
    path.write_text(TEXT)
    for key in keys:
        before, value = path.read_text().split("\n"), data.draw(values)
        set_value(path, key, value)
        now: Any = tomllib.loads(path.read_text())
        for part in key:
            now = now[part]
        assert now == value
        after = iter(path.read_text().split("\n"))
        assert all(line in after for line in before), "old lines, in their order"


def test_the_old_value_is_returned_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[a]\nx = 1\n# keep\ny = 2 # too\n")

    assert set_value(path, ("a", "x"), 3) == 1
    assert set_value(path, ("a", "z"), 3) is None
    assert remove_value(path, ("a", "x")) is True
    assert remove_value(path, ("a", "x")) is False
    assert remove_value(path, ("nowhere", "x")) is False
    assert path.read_text() == "[a]\n# keep\ny = 2 # too\nz = 3\n"


def test_nothing_is_written_when_the_check_refuses(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[a]\nx = 1\n")

    def refuse(text: str) -> None:
        assert "x = 2" in text or "x" not in text
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        set_value(path, ("a", "x"), 2, check=refuse)
    with pytest.raises(ValueError, match="no"):
        remove_value(path, ("a", "x"), check=refuse)

    assert path.read_text() == "[a]\nx = 1\n"
    assert os.listdir(tmp_path) == ["c.toml", "home"]


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("[a\nx = 1", ("a", "x"), "line 1"),
        ("[a]\nx = 1\n", ("a",), "a is a table"),
        ("[a]\nx = 1\n", ("a", "x", "y"), "x is a value"),
    ],
)
def test_what_cannot_be_set_is_refused_and_the_file_stays(
    tmp_path: Path, text: str, key: tuple[str, ...], why: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)

    with pytest.raises(Broken, match=why):
        set_value(path, key, {"z": 1} if key == ("a",) else 1)

    assert path.read_text() == text


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"a = '\xff'")

    with pytest.raises(Broken, match="not UTF-8"):
        set_value(path, ("a",), 1)


def test_a_link_stays_a_link_and_a_file_keeps_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("[a]\nx = 1\n")
    real.chmod(0o644)
    link.symlink_to(real)

    set_value(link, ("a", "x"), 2)

    assert link.is_symlink()
    assert real.read_text() == "[a]\nx = 2\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o644


def test_a_new_file_and_one_with_a_key_are_for_their_owner_alone(tmp_path: Path) -> None:
    new, old = tmp_path / "deep" / "new.toml", tmp_path / "old.toml"
    old.write_text("#api_key = 1\n")
    old.chmod(0o664)

    set_value(new, ("a", "x"), 1)
    set_value(old, ("a", "x"), 1)
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o664

    set_value(old, ("a", "api_key"), "s")
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
