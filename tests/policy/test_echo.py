"""An answer that goes on with the assistant's last message never repeats it."""

from __future__ import annotations

from ollama_proxy.events import Finish, Text
from ollama_proxy.model import Message
from ollama_proxy.model import Text as Part
from ollama_proxy.policy.echo import WithoutEcho, last_said

SAID = Message(role="assistant", parts=(Part("The capital of France is"),))
ASKED = Message(role="user", parts=(Part("Well?"),))


def test_only_an_assistants_last_message_is_gone_on_with() -> None:
    assert last_said((ASKED, SAID)) == "The capital of France is"
    assert last_said((SAID, ASKED)) == ""
    assert last_said(()) == ""


def test_what_was_said_before_is_cut_off_the_front_once() -> None:
    cut = WithoutEcho("Paris")

    assert cut.feed([Text(0, "Paris is Paris"), Text(0, "Paris"), Finish(0, "stop")]) == [
        Text(0, " is Paris"),
        Text(0, "Paris"),
        Finish(0, "stop"),
    ]
    assert cut.flush() == []


def test_an_answer_that_does_not_begin_so_stays_whole() -> None:
    assert WithoutEcho("Paris").feed([Text(0, "Lyon, not Paris")]) == [Text(0, "Lyon, not Paris")]
    assert WithoutEcho("Paris").feed([Text(0, "Paris")]) == []
