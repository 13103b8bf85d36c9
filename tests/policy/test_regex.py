r"""Patterns in the form of llama.cpp's grammars. What is written is a regular expression too, of the text in the JSON:
so Python can say whether both mean the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.regex import write

# Pattern, texts that fit, texts that do not.
EXACT = [
    (r"^\d{4}-\d{2}$", ["2026-11"], ["2026-1", "x2026-11", "\u0662\u0660\u0662\u0666-\u0661\u0661"]),
    (r"\d", ["a1b", "1", "a\n1"], ["", "ab"]),
    ("^ab", ["ab", "abc", 'ab"'], ["xab"]),
    ("ab$", ["ab", "cab"], ["abx"]),
    ("^a|b$", ["ax", "xb", "a"], ["xa", "bx"]),
    ("^(a|b$)", ["ax", "b"], ["bx", "xa"]),
    (r"^[^@]+@[a-z.]+$", ["a@b.c", 'x"y\\z@b', "a\nb@c"], ["@b", "a@B"]),
    (r"^\D\S\W$", ["ab-", "xy "], ["1b-", "ab1", "a --"]),
    ("^.$", ["a", "é", "😀", '"', "\\", "\t"], ["", "ab", "\n"]),
    (r"^[\s\S]*$", ["", "a\nb"], []),
    ('^"[a-z]\\\\$', ['"a\\'], ["a"]),
    (r"^\[x\]\(\)\{\}\/\.\*\+\?\|\^\$\-$", ["[x](){}/.*+?|^$-"], ["[x]"]),
    (r"^(?<y>\d\d)(?:-(?P<m>\d))?$", ["12", "12-3"], ["12-"]),
    (r"^(a|)b$", ["ab", "b"], ["aab"]),
    (r"^(ab){2,3}$", ["abab", "ababab"], ["ab", "abb"]),
    (r"^a{2}b{1,}c{0,1}$", ["aab", "aabbc"], ["aa", "aabcc"]),
    (r"^a+?b*?$", ["a", "aabb"], ["b"]),
    (r"^\u00e9\x41\u{1F600}\uD83D\uDE00$", ["éA😀😀"], ["eA"]),
    (r"^[\u4e00-\u9fff]+$", ["中文"], ["a"]),
    (r"^\t\n\r\f\cJ$", ["\t\n\r\f\n"], ["t"]),
    (r"^[\]\-a\\]$", ["]", "-", "a", "\\"], ["["]),
    ("^[a-]$", ["a", "-"], ["b"]),
    ("^[^]$", ["a", "\n"], [""]),
    ("^x{,3}$", ["x{,3}"], ["xx"]),
    ("(?i)^ab$", ["ab", "AB"], ["ac"]),
    ("^(?i:a)b$", ["Ab", "ab"], ["AB"]),
    ("(?s)^.$", ["\n"], [""]),
    ("", ["", "anything"], []),
    ("^", ["", "anything"], []),
]


def written_of(pattern: str) -> re.Pattern[str]:
    found = write(pattern).pattern
    assert found is not None
    assert found[0] == "^"
    assert found[-1] == "$"
    return re.compile(found[1:-1])


def fits(pattern: re.Pattern[str], text: str) -> bool:
    """Return whether a grammar would let a model write `text`."""
    return pattern.fullmatch(json.dumps(text, ensure_ascii=False)[1:-1]) is not None


@pytest.mark.parametrize(("pattern", "good", "bad"), EXACT)
def test_a_pattern_means_the_same_as_before(pattern: str, good: list[str], bad: list[str]) -> None:
    assert write(pattern).exact
    written = written_of(pattern)
    assert [text for text in good if not fits(written, text)] == []
    assert [text for text in bad if fits(written, text)] == []


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^(?=.*[A-Z])[A-Za-z]{3,5}$", ["Abc", "abc"], ["ab"]),
        (r"^(?!no)[a-z]+(?<!x)$", ["yes", "no"], ["1"]),
        (r"^(\w)=\1$", ["a=a", "a=b"], ["a"]),
        (r"^(?<q>a|b)\k<q>$", ["aa", "ab"], ["a"]),
        (r"^\bab\B$", ["ab"], ["a"]),
        (r"^\p{Lu}\P{L}$", ["A1", "É-"], ["a1", "Aa"]),
        (r"^(a^b)$", ["ab"], ["a"]),
        ("^(?>a+)b$", ["aab"], ["a"]),
        ("^a{1,9999}$", ["a", "aa"], ["b", ""]),
        ("^(a{900}){900}$", ["a" * 900], ["b"]),
    ],
)
def test_what_a_grammar_cannot_say_is_left_out_and_told(pattern: str, good: list[str], bad: list[str]) -> None:
    assert not write(pattern).exact
    written = written_of(pattern)
    assert [text for text in good if not fits(written, text)] == []
    assert [text for text in bad if fits(written, text)] == []


@pytest.mark.parametrize("pattern", ["(", "a)", "[a", "*", "a{3,1}", "[]", "[z-a]", "\\", r"\u12", "(?x)a", "(" * 999])
def test_what_cannot_be_read_or_met_has_no_form(pattern: str) -> None:
    assert write(pattern).pattern is None
    assert not write(pattern).exact


def test_a_long_row_of_alternatives_is_one_choice() -> None:
    codes = "|".join(f"A{number:03}" for number in range(249))
    assert fits(written_of(codes), "x A123")
    written = written_of(f"^({codes})$")
    assert fits(written, "A200")
    assert not fits(written, "A200x")
    mixed = written_of(f"^B|{codes}|C$")
    assert [fits(mixed, text) for text in ("Bx", "xA001x", "xC", "xB")] == [True, True, True, False]


@pytest.mark.parametrize(
    "pattern",
    [
        "(ab)" + "".join(rf"(\{number}\{number})" for number in range(1, 30)),
        "(a|b)" + "".join(rf"(\{number}|\{number})" for number in range(1, 30)),
        "(?:" * 40 + "a" + "){30}" * 40,
        "a" * 5000,
        "|".join(f"^{number}" for number in range(200)),
        "[" + "".join(rf"\u{code:04x}" for code in range(0x4E00, 0x5000, 2)) + "]",
    ],
)
def test_a_pattern_made_to_grow_does_not(pattern: str) -> None:
    written = write(pattern).pattern
    assert written is None or len(written) < 30_000


def test_the_empty_text_alone_is_the_empty_pattern() -> None:
    assert write("^$") == ("", True, True)


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest", "expected"),
    [
        ("^[a-z]+$", 3, 10, "^([a-z]{3,10})$"),
        ("^[a-z]*$", 0, 4, "^([a-z]{0,4})$"),
        ("^[a-z]{2,8}$", 3, None, "^([a-z]{3,8})$"),
        (r"^\d$", 1, 5, "^([0-9])$"),
    ],
)
def test_a_repeated_class_takes_the_length_in(pattern: str, shortest: int, longest: int | None, expected: str) -> None:
    assert write(pattern, shortest=shortest, longest=longest) == (expected, True, True)


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest"),
    [("^ab+$", 3, 10), ("[a-z]", 1, 5), ("^[a-z]{2}$", 3, None), ("^[a-z]+$", 0, 5000)],
)
def test_a_length_that_does_not_fit_in_is_not_said(pattern: str, shortest: int, longest: int | None) -> None:
    assert not write(pattern, shortest=shortest, longest=longest).sized


@given(st.text(max_size=40))
def test_any_text_at_all_is_read_or_given_up(text: str) -> None:
    found = write(text).pattern
    assert found is None or found == "" or re.compile(found)


ATOMS = st.sampled_from(["a", "b", ".", r"\d", r"\w", r"\s", "[ab]", "[^a]", '"', r"\\", r"\.", "é", r"[^\s\d]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=5,
)


@given(st.sampled_from(["", "^"]), PATTERNS, st.sampled_from(["", "$"]), st.text(alphabet='ab1_ ."\\\té😀', max_size=5))
def test_it_matches_what_the_original_matches(start: str, middle: str, end: str, text: str) -> None:
    original = re.compile(f"{start}{middle}{end.replace('$', chr(92) + 'Z')}", re.ASCII)
    assert fits(written_of(f"{start}{middle}{end}"), text) == (original.search(text) is not None)
