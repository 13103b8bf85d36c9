"""Bodies as they are written down: what is cut is cut before it is looked through, and no key survives the cut."""

from __future__ import annotations

import pytest

from ollama_proxy.recorder.body import MARGIN, kept
from ollama_proxy.recorder.patterns import Patterns

SECRET = b"sk-abcdefghijklmnopqrstuvwxyz0123456789"
NONE = Patterns([])
LARGEST = 10_000


@pytest.mark.parametrize("clean", [True, False])
def test_a_body_that_is_much_too_large_is_cut(clean: bool) -> None:
    body = kept(b'{"a":"' + b"word " * 100_000 + b'"}', NONE, LARGEST, clean=clean)
    assert body.done == ("cut",)
    assert len(body.json) <= LARGEST + 100


@pytest.mark.parametrize("place", [*range(LARGEST - 50, LARGEST + 10, 7), LARGEST + MARGIN - 20, LARGEST + MARGIN])
def test_no_part_of_a_key_survives_wherever_it_lies(place: int) -> None:
    data = b"." * place + SECRET + b"." * 500_000
    body = kept(data, NONE, LARGEST)
    assert "cut" in body.done
    assert b"sk-abc" not in body.json


@pytest.mark.parametrize("count", [1, 100, 5_000])
def test_redacting_does_not_bring_the_end_of_the_cut_part_into_the_line(count: int) -> None:
    # Each key becomes shorter, so that what lay far behind the limit moves before it, half a key at the end too.
    data = (SECRET + b" ") * count + b"." * 500_000
    for shift in range(0, len(SECRET), 5):
        body = kept(b"." * shift + data, NONE, LARGEST)
        assert body.done == ("redacted", "cut")
        assert b"abcdefgh" not in body.json
        assert len(body.json) <= LARGEST + 100


def test_media_in_a_large_body_is_taken_out_before_it_is_cut() -> None:
    data = b'{"url":"data:image/png;base64,' + b"A" * 400_000 + b'","text":"the end"}'
    body = kept(data, NONE, LARGEST)
    assert body.done == ("media",)
    assert b"the end" in body.json
