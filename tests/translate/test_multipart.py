"""Finding a field in a form that passes by, wherever it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.multipart import FieldFinder, boundary_of

PARTS = [
    b'Content-Disposition: form-data; name="file"; filename="a; name=\\"model\\".wav"\r\n\r\nname="model"\r\n\r\nno',
    b'content-disposition: form-data; name="model"\r\n\r\nwhisper-1',
    b"Content-Type: text/plain\r\nContent-Disposition: form-data; name=model\r\n\r\nsecond",
    b'Content-Disposition: form-data; name="empty"\r\n\r\n',
    b'Content-Disposition: form-data; name="model"\r\n\r\n--xy\r\n-x',
]
FORM = b"".join(b"--x-y\r\n%b\r\n" % part for part in PARTS) + b"--x-y--\r\nepilogue"
FOUND = ["whisper-1", "second", "--xy\r\n-x"]


def found(pieces: list[bytes], name: str = "model") -> list[str]:
    finder = FieldFinder(b"x-y", name)
    for piece in pieces:
        finder.feed(piece)
    return finder.found


def test_a_field_is_found_whole_and_at_every_cut() -> None:
    assert found([FORM]) == FOUND
    for cut in range(len(FORM)):
        assert found([FORM[:cut], FORM[cut:]]) == FOUND, cut
    assert found([FORM[place : place + 1] for place in range(len(FORM))]) == FOUND


def test_a_field_is_known_as_soon_as_the_next_boundary_is_there() -> None:
    end = FORM.index(b"--x-y\r\nContent-Type") + len(b"--x-y")
    assert found([FORM[: end - 1]]) == []
    assert found([FORM[:end]]) == ["whisper-1"]


def test_a_preamble_and_other_fields_are_passed_over() -> None:
    assert found([b"preamble\r\n" + FORM]) == FOUND
    assert found([FORM], "empty") == [""]
    assert found([FORM], "other") == []


def test_a_long_value_is_cut_and_nothing_else_is_kept() -> None:
    finder = FieldFinder(b"x-y", "model")
    finder.feed(b'--x-y\r\nContent-Disposition: form-data; name="model"\r\n\r\n')
    for _ in range(100):
        finder.feed(b"a" * 1000)
        assert len(finder._buffer) < 1000
    finder.feed(b"\r\n--x-y--")
    assert finder.found == ["a" * 1024]


def test_headers_without_an_end_are_not_kept_for_ever() -> None:
    finder = FieldFinder(b"x-y", "model")
    finder.feed(b"--x-y\r\n")
    for _ in range(100):
        finder.feed(b"a: b\r\n" * 100)
        assert len(finder._buffer) < 20_000
    finder.feed(b"\r\n" + FORM)
    assert finder.found == FOUND
    assert not finder.sound


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_what_is_no_form_does_no_harm(pieces: list[bytes]) -> None:
    found(pieces)


@given(st.lists(st.integers(0, len(FORM)), max_size=8))
def test_any_cuts_find_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(FORM)]
    assert found([FORM[a:b] for a, b in pairwise(places)]) == FOUND


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=x; BOUNDARY="a b;c"', b"a b;c"),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b"],
)
def test_a_form_with_no_boundary_or_two_is_refused(content_type: str) -> None:
    with pytest.raises(Invalid):
        boundary_of(content_type)


def finder_of(form: bytes) -> FieldFinder:
    finder = FieldFinder(b"x-y", "model")
    finder.feed(form)
    return finder


def test_a_form_that_every_reader_reads_alike_is_sound_and_ended() -> None:
    for cut in range(len(FORM)):
        finder = finder_of(FORM[:cut])
        assert finder.sound
        finder.feed(FORM[cut:])
        assert finder.sound
        assert finder.ended


ODD = {
    "lines without CR": FORM.replace(b"\r\n", b"\n"),
    "a first line without CR": FORM.replace(b"--x-y\r\n", b"--x-y\n", 1),
    "blanks behind a boundary": FORM.replace(b"--x-y\r\n", b"--x-y  \r\n", 1),
    "a header on two lines": FORM.replace(b"form-data; name=model", b"form-data;\r\n name=model"),
    "no end": FORM[: FORM.index(b"--x-y--")],
    "nothing": b"",
}


@pytest.mark.parametrize("case", ODD)
def test_a_form_that_another_reader_may_read_otherwise_is_not_sound(case: str) -> None:
    finder = finder_of(ODD[case])
    assert not (finder.sound and finder.ended)


def test_a_name_is_found_however_it_is_written() -> None:
    for said in (b"name*=utf-8''model", b'NAME="model"', b'filename="x"; name = model', b'name=x; name="model"'):
        form = b"--x-y\r\nContent-Disposition: form-data; " + said + b"\r\n\r\nm\r\n--x-y--\r\n"
        assert finder_of(form).found == ["m"], said
