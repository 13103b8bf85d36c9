"""Text that a client carries for us comes back whole, and nothing else is taken for it."""

from __future__ import annotations

import base64
import zlib

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.translate import sealed
from ollama_proxy.translate.sealed import seal, unseal

TEXTS = st.text(st.characters(codec=None))


@given(TEXTS)
def test_what_is_sealed_comes_back_whole(text: str) -> None:
    token = seal(text)
    assert unseal(token) == text
    assert token.isascii()
    assert seal(text) == token


def test_lone_surrogates_come_back_too() -> None:
    assert unseal(seal("a\ud800b")) == "a\ud800b"


def test_the_text_cannot_be_read_by_chance() -> None:
    assert "secret" not in seal("secret plan")


@given(st.text())
def test_what_others_wrote_is_not_ours(token: str) -> None:
    assert unseal(token) is None


@given(st.binary(max_size=200))
def test_other_bytes_in_the_same_wrapping_are_not_ours(data: bytes) -> None:
    assert unseal(base64.urlsafe_b64encode(zlib.compress(data)).decode()) is None
    assert unseal(base64.urlsafe_b64encode(data).decode()) is None


@given(st.text(min_size=1), st.data())
def test_a_token_that_lost_its_end_is_not_ours(text: str, data: st.DataObject) -> None:
    token = seal(text)
    cut = data.draw(st.integers(0, len(token) - 5))
    assert unseal(token[:cut]) is None


def test_bytes_that_are_no_text_are_not_ours() -> None:
    wrapped = base64.urlsafe_b64encode(zlib.compress(sealed.MARK + b"\xff\xfe")).decode()
    assert unseal(wrapped) is None


def test_a_few_bytes_do_not_unpack_to_gigabytes() -> None:
    bomb = zlib.compress(sealed.MARK + b"a" * (sealed.LARGEST + 1), 1)
    assert len(bomb) < 400_000
    assert unseal(base64.urlsafe_b64encode(bomb).decode()) is None
