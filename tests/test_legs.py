"""The single calls of an answer: their windows, their filters, and the numbers of a prompt that is too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.backends import table
from ollama_proxy.errors import ContextTooLong, OproxyError, UpstreamFailed
from ollama_proxy.events import Event, Finish, Logprob, Refusal, Text, Thinking, ToolDelta, ToolStart
from ollama_proxy.legs import PORTION, Given, Leg, filtered, flushed, portions, window_of
from ollama_proxy.model import Ask, Completion, Embedding, ModelInfo
from ollama_proxy.policy.memory import Hold
from tests.conftest import Clock
from tests.fakes.ollama import traces

INFO = ModelInfo(id="m", backend="b", context=2048)


class Late:
    """A filter that holds every text back to the end, and marks it."""

    def __init__(self, mark: str) -> None:
        self._mark, self._held = mark, ""

    def feed(self, events: Sequence[Event]) -> list[Event]:
        self._held += "".join(event.text for event in events if isinstance(event, Text))
        return [event for event in events if not isinstance(event, Text)]

    def flush(self) -> list[Event]:
        return [Text(0, f"{self._held}{self._mark}")]


class Refused:
    """A reply with a status and headers, as `refusal` looks at it."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}

    async def read(self, hold: Hold | None = None) -> bytes:
        return b""

    async def chunks(self) -> Any:
        yield b""


@pytest.fixture
def leg(clock: Clock, tmp_path: Path) -> Leg:
    backend = table.build("lab", env={}, clock=clock, data_dir=tmp_path, type="ollama", url="http://127.0.0.1:9")
    return Leg(backend, None, Given([]), (), "asked", "messages", 512, lambda: 600)


def refusal(leg: Leg, status: int, body: bytes) -> OproxyError:
    return leg.refusal(Refused(status), body)


def test_the_window_is_what_was_asked_for_or_what_the_model_has() -> None:
    assert window_of(Ask(model="m", messages=(), options={"num_ctx": 99}), INFO) == 99
    assert window_of(Completion(model="m", prompt="x"), INFO) == 2048
    assert window_of(Embedding(model="m", inputs=(), options={"num_ctx": "99"}), INFO) == 2048
    assert window_of(Embedding(model="m", inputs=()), ModelInfo(id="m", backend="b")) is None


def test_an_answer_known_without_asking_comes_once_at_its_end() -> None:
    given = Given([Finish(0, "stop")])
    assert given.feed(b"anything") == []
    assert given.flush() == [Finish(0, "stop")]
    assert given.flush() == []


def test_what_a_filter_held_back_goes_through_the_filters_after_it(leg: Leg) -> None:
    leg = leg._replace(reader=Given([Text(0, "a"), Finish(0, "stop")]), filters=(Late("1"), Late("2")))
    assert flushed(leg) == [Finish(0, "stop"), Text(0, "a12")]


def test_events_go_through_the_filters_in_their_order() -> None:
    first, second = Late("1"), Late("2")
    assert filtered([Text(0, "a"), Finish(0, "stop")], (first, second)) == [Finish(0, "stop")]
    assert first.flush() == [Text(0, "a1")]
    assert second.flush() == [Text(0, "2")]


def test_the_numbers_a_backend_gives_are_kept(leg: Leg) -> None:
    trace = traces()["ctx-chat-truncate-false-stream"]
    error = refusal(leg, trace.status, trace.body)
    assert isinstance(error, ContextTooLong)
    assert error.tokens == 613
    assert error.limit is not None


def test_numbers_a_backend_does_not_give_are_ours(leg: Leg) -> None:
    trace = traces()["embed-toolong-truncate-false"]
    given = refusal(leg._replace(param="input"), trace.status, trace.body)
    assert isinstance(given, ContextTooLong)
    assert (given.limit, given.tokens, given.param) == (512, 600, "input")


def test_a_count_below_the_window_would_only_confuse(leg: Leg) -> None:
    trace = traces()["embed-toolong-truncate-false"]
    given = refusal(leg._replace(size=lambda: 400), trace.status, trace.body)
    assert isinstance(given, ContextTooLong)
    assert (given.limit, given.tokens) == (512, None)


def test_other_refusals_are_the_backends_own_words(leg: Leg) -> None:
    error = refusal(leg, 500, b'{"error": "no luck"}')
    assert isinstance(error, UpstreamFailed)
    assert "no luck" in error.message
    assert error.backend == "lab"


# --- large answers ----------------------------------------------------------------------------------------------------

LONG = "".join(map(str, range(40_000)))


def test_a_small_batch_is_one_portion() -> None:
    batch: list[Event] = [Text(0, "a"), ToolStart(0, 0, "c", "f"), ToolDelta(0, 0, "{}"), Finish(0, "stop")]
    assert list(portions(batch)) == [batch]
    assert list(portions([])) == []


@pytest.mark.parametrize("event", [Text(1, LONG), Refusal(1, LONG), Thinking(1, LONG, "s"), ToolDelta(1, 2, LONG)])
def test_a_long_text_comes_in_pieces(event: Any) -> None:
    found = list(portions([event, Finish(1, "stop")]))
    events: list[Any] = [each for portion in found for each in portion]
    assert len(found) > 2
    assert events.pop() == Finish(1, "stop")
    text = "arguments" if type(event) is ToolDelta else "text"
    assert "".join(getattr(each, text) for each in events) == LONG
    assert all(type(each) is type(event) and each.index == 1 for each in events)
    assert max(len(getattr(each, text)) for each in events) <= PORTION
    if type(event) is Thinking:
        assert [each.signature for each in events] == [None] * (len(events) - 1) + ["s"], "it closes the thought"


def test_what_belongs_together_stays_so() -> None:
    event = Text(0, LONG, (Logprob(LONG, 0.0),))
    assert list(portions([event])) == [[event]]


def test_many_events_come_in_several_portions() -> None:
    batch: list[Event] = [Text(0, "word ")] * 5_000
    found = list(portions(batch))
    assert len(found) > 2
    assert [event for portion in found for event in portion] == batch
