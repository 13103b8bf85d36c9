"""The line a request leaves on the terminal."""

from __future__ import annotations

import time

import pytest

from ollama_proxy.events import Usage
from ollama_proxy.policy.books import Books
from ollama_proxy.server.line import duration, request_line

NOON = time.mktime((2026, 1, 2, 12, 0, 5, 0, 0, -1))


def books() -> Books:
    made = Books(100.0)
    made.asked, made.backend, made.served, made.status = "gpt-4o", "ollama", "smollm2:latest", 200
    made.usage, made.first, made.ended = Usage(21, 8), 100.012, 101.5
    return made


def line(books: Books, path: str = "/v1/chat/completions") -> str:
    return request_line("POST", path, books, NOON)


def test_a_request_that_was_answered_tells_all() -> None:
    assert line(books()) == (
        "12:00:05 POST /v1/chat/completions gpt-4o → ollama/smollm2:latest 200 21+8 tokens, first 12 ms, 1.5 s"
    )


def test_estimated_tokens_say_so() -> None:
    made = books()
    made.usage = Usage(21, 8, exact=False)
    assert " ~21+8 tokens" in line(made)


def test_a_refusal_tells_its_code_and_that_nobody_answered() -> None:
    made = Books(100.0)
    made.asked, made.status, made.code, made.ended = "nosuch", 404, "model_not_found", 100.001
    assert line(made) == "12:00:05 POST /v1/chat/completions nosuch → ? 404 model_not_found 1 ms"


def test_a_refusal_names_the_origin_of_a_browser() -> None:
    made = Books(100.0)
    made.status, made.ended = 403, 100.0
    assert request_line("OPTIONS", "/api/chat", made, NOON, "app://obsidian.md\x1b[2J") == (
        "12:00:05 OPTIONS /api/chat 403 from app://obsidian.md?[2J 0 ms"
    )


def test_a_page_has_no_model() -> None:
    made = Books(100.0)
    made.status, made.ended = 200, 100.0
    assert request_line("GET", "/", made, NOON) == "12:00:05 GET / 200 0 ms"


@pytest.mark.parametrize(
    ("text", "want"),
    [("a\r\nb\x1b[31m\x9b", "a b?[31m?"), ("ž→", "ž→"), ("x" * 999, "x" * 199 + "…"), ("\u202e", "?")],
)
def test_what_a_client_sent_cannot_command_the_terminal(text: str, want: str) -> None:
    made = books()
    made.asked = made.served = made.code = text
    assert line(made, text) == (
        f"12:00:05 POST {want} {want} → ollama/{want} 200 {want} 21+8 tokens, first 12 ms, 1.5 s"
    )


def test_a_key_that_a_client_put_into_a_name_or_a_path_is_not_printed() -> None:
    made = books()
    made.asked = "sk-proj-abcdefghijklmnop"
    shown = line(made, "/v1/files/sk-abcdefghijklmnop")
    assert "abcdefgh" not in shown
    assert "POST /v1/files/sk-[redacted] sk-[redacted] → ollama/" in shown


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0, "0 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (1, "1.0 s"), (59.94, "59.9 s"), (125, "2 min 5 s")],
)
def test_a_time_is_said_as_people_say_it(seconds: float, want: str) -> None:
    assert duration(seconds) == want
