"""How many connections there may be, and which have come to a standstill."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.crowd import Unsent, most_connections, standstills


@pytest.mark.parametrize(
    ("wanted", "files", "most"), [(2000, None, 2000), (2000, 65_536, 2000), (2000, 1024, 448), (99, 64, 16), (5, 64, 5)]
)
def test_there_are_no_more_connections_than_files_may_be_opened(wanted: int, files: int | None, most: int) -> None:
    assert most_connections(wanted, files) == most


def test_who_takes_nothing_for_too_long_is_found() -> None:
    unsent, over = standstills({}, {"slow": 100, "stuck": 100, "done": 0}, 10.0, 30.0)
    assert (unsent, over) == ({"slow": Unsent(100, 10.0), "stuck": Unsent(100, 10.0)}, [])
    unsent, over = standstills(unsent, {"slow": 99, "stuck": 100}, 40.0, 30.0)
    assert (unsent["slow"], over) == (Unsent(99, 40.0), ["stuck"])
