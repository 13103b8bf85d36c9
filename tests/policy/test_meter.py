"""The books of one request, as arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.events import Event, Finish, Note, Text, Thinking, Usage
from ollama_proxy.policy.books import Books
from ollama_proxy.policy.meter import Meter


def words(text: str, model: str) -> int:
    return len(text.split())


def meter(books: Books, now: Callable[[], float] = lambda: 3.0, copies: int | None = None) -> Meter:
    return Meter(books, now, prompt=lambda: 7, count=words, model="m", copies=copies)


def test_the_first_event_is_timed_and_usage_is_taken_out() -> None:
    books = Books(1.0)
    one = meter(books)
    first: list[Event] = [Text(0, "a")]
    assert one.see(first) == first
    assert one.see([Finish(0, "stop"), Usage(5, 2, cached=4)]) == [Finish(0, "stop")]
    assert one.close() == books.usage == Usage(5, 2, cached=4)
    assert books.first == 3.0


def test_the_prompt_of_several_choices_counts_once() -> None:
    one = meter(Books(0))
    for completion in (2, 3, 4):
        one.see([Usage(5, completion)])
    assert one.close() == Usage(5, 9)


def test_the_prompts_of_a_list_count_each_once() -> None:
    one = meter(Books(0), copies=2)
    for prompt in (5, 5, 8, 8):
        one.see([Usage(prompt, 1)])
    assert one.close() == Usage(13, 4)


def test_without_the_backends_count_it_is_estimated_and_says_so() -> None:
    one = meter(Books(0))
    one.see([Text(0, "three words here")])
    assert one.close() == Usage(7, 3, exact=False)


def test_thoughts_are_a_share_of_the_backends_count() -> None:
    one = meter(Books(0))
    one.see([Thinking(0, "a b c"), Text(0, "d")])
    one.see([Usage(5, 8)])
    assert one.close().reasoning == 6


def test_notes_are_kept() -> None:
    books = Books(0)
    meter(books).see([Note({"schema_miss": "x"})])
    assert books.notes == {"schema_miss": "x"}
