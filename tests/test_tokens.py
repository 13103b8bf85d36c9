"""Counting by OpenAI's vocabularies, from package data alone."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from importlib.resources import files

import pytest

from ollama_proxy import tokens
from ollama_proxy.errors import Invalid
from ollama_proxy.model import Ask, File, Image, Message, Sampling, Text, Thinking, Tool, ToolCall, ToolResult


def test_the_shipped_vocabularies_are_the_ones_tiktoken_expects() -> None:
    hashes = {
        name: hashlib.sha256(
            gzip.decompress(files("ollama_proxy").joinpath("data", "tiktoken", f"{name}.tiktoken.gz").read_bytes())
        ).hexdigest()
        for name in tokens.VOCABULARIES
    }
    assert hashes == {
        "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    }


# From https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken.
@pytest.mark.parametrize(
    ("text", "older", "newer"),
    [
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("tiktoken is great!", 6, 6),
        ("", 0, 0),
    ],
)
def test_texts_count_as_openai_counts_them(text: str, older: int, newer: int) -> None:
    assert (tokens.count(text, "gpt-4"), tokens.count(text, "gpt-4o")) == (older, newer)


def test_known_token_ids_decode_to_their_text() -> None:
    assert tokens.decode([83, 1609, 5963, 374, 2294, 0], "text-embedding-3-small") == "tiktoken is great!"
    assert tokens.decode([83, 8251, 2488, 382, 2212, 0], "gpt-4o") == "tiktoken is great!"
    assert tokens.decode([83, 1609, 5963, 374, 2294, 0], "nomic-embed-text") == "tiktoken is great!"
    assert tokens.decode([100257], "gpt-4") == "<|endoftext|>"


def test_a_character_cut_in_two_by_the_client_is_replaced() -> None:
    assert tokens.decode([9468], "gpt-4") == "�"


@pytest.mark.parametrize("id", [100256, 10**7, 2**32, 2**70, -1])
def test_an_id_that_is_no_token_is_the_clients_fault(id: int) -> None:
    with pytest.raises(Invalid) as caught:
        tokens.decode([0, id], "gpt-4", param="input[3]")
    assert caught.value.param == "input[3]"


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo:org", "cl100k_base"),
        ("text-embedding-ada-002", "cl100k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("smollm2", "o200k_base"),
        ("", "o200k_base"),
    ],
)
def test_each_model_has_its_encoding(model: str, encoding: str) -> None:
    assert tokens.encoding_name(model) == encoding


def test_what_looks_like_a_special_token_is_counted_as_plain_text() -> None:
    assert tokens.count("<|endoftext|>", "gpt-4") > 1


@pytest.mark.parametrize("unit", ["a", " ", "\n", "!", "字", "a b\n"])
def test_a_very_long_text_is_counted_in_slices_and_comes_out_the_same_but_for_the_cuts(unit: str) -> None:
    text = unit * 200_000
    cuts = len(text) // tokens.RUN
    by_slices = tokens.count(text)
    in_one = len(tokens._encoder("o200k_base").encode_ordinary(text[:20_000]))
    assert abs(by_slices - in_one * len(text) / 20_000) <= cuts + 10


def test_no_slice_is_longer_than_the_limit_and_nothing_is_lost() -> None:
    text = "short " + "x" * 10_000 + " " * 9_000 + "word " * 3_000 + "y" * tokens.RUN
    pieces = list(tokens._pieces(text))
    assert "".join(pieces) == text
    assert max(len(run) for piece in pieces for run in piece.split()) <= tokens.RUN
    assert list(tokens._pieces("word " * 3_000)) == ["word " * 3_000]


def test_an_estimate_follows_the_cookbooks_rule() -> None:
    # The cookbook's example, 129 tokens with gpt-4 by OpenAI's own count.
    system = (
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        "New synergies will help drive top-line growth.",
        "Things working well together will increase revenue.",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        "Let's talk later when we're less busy about how to do better.",
    )
    names = (None, "example_user", "example_assistant", "example_user", "example_assistant")
    user = "This late pivot means we don't have time to boil the ocean for the client deliverable."
    messages = [
        Message(role="system", parts=(Text(text),), name=name) for text, name in zip(system, names, strict=True)
    ]
    messages.append(Message(role="user", parts=(Text(user),)))
    assert tokens.estimate(Ask(model="gpt-4", messages=tuple(messages), sampling=Sampling())) == 129


def test_everything_that_reaches_the_prompt_adds_to_the_estimate() -> None:
    def of(*parts: object, tools: tuple[Tool, ...] = ()) -> int:
        return tokens.estimate(Ask(model="m", messages=(Message(role="user", parts=parts),), tools=tools))  # type: ignore[arg-type]

    empty = of()
    assert of(Text("hello there")) > empty
    assert of(Thinking("hello there")) == of(Text("hello there"))
    assert of(Image(data="AAAA")) > of(Image(data="AAAA", detail="low")) > empty
    assert of(File(data="A" * 1000)) > empty
    assert of(ToolCall("call_1", "weather", '{"city": "Oslo"}')) > empty
    assert of(ToolResult("call_1", (Text("it rains"),))) == of(Text("it rains"))
    assert of(tools=(Tool("weather", "Tells the weather", {"type": "object"}),)) > of(tools=(Tool("weather"),)) > empty


def test_counting_never_opens_a_socket() -> None:
    # In a process of its own, where the interpreter itself refuses sockets (https://peps.python.org/pep-0578/).
    script = (
        "import sys\n"
        "def refuse(event, args):\n"
        "    if event.startswith(('socket.', 'urllib.')): raise SystemExit(f'asked the network: {event}')\n"
        "sys.addaudithook(refuse)\n"
        "from ollama_proxy import tokens\n"
        "assert tokens.count('hello', 'gpt-4') == tokens.count('hello', 'gpt-4o') == 1\n"
        "print(tokens.decode([15339], 'gpt-4'))\n"
        "try:\n"
        "    import socket; socket.socket()\n"
        "except SystemExit: print('the guard works')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout.split("\n")[:2]) == (0, ["hello", "the guard works"]), run.stderr


PROSE = "The quick brown fox, 42 of them, jumps over the lazy dog. "


@pytest.mark.parametrize(
    "text", ["a" * 500_000, PROSE * 4_000, "お誕生日" * 40_000, " " * 200_000, "!@#$%" * 40_000], ids=str.__len__
)
def test_an_estimate_of_a_long_text_is_near_its_count(text: str) -> None:
    assert tokens.estimate_text(text) == pytest.approx(tokens.count(text), rel=0.02)
    assert tokens.estimate_texts([text, text]) == pytest.approx(2 * tokens.count(text), rel=0.02)


def test_an_estimate_of_a_short_text_is_its_count() -> None:
    for text in ("", "Hello", PROSE * (tokens.SAMPLED // len(PROSE))):
        assert tokens.estimate_text(text) == tokens.estimate_texts([text]) == tokens.count(text)
    assert tokens.estimate_texts([]) == 0


def test_texts_of_all_sizes_are_sampled_by_their_weight() -> None:
    for texts in ([PROSE * 10_000] + ["Hi"] * 500, ["Hi"] * 100_000, [""] * 100_000, [PROSE] * 30_000):
        want = sum(map(tokens.count, texts))
        assert tokens.estimate_texts(texts) == pytest.approx(want, rel=0.05)


class Counted(str):
    """A text that notes how much of it is looked at."""

    seen = 0

    def __getitem__(self, place: object) -> str:
        piece = super().__getitem__(place)  # type: ignore[index]
        Counted.seen += len(piece)
        return piece


def test_what_an_estimate_looks_at_does_not_grow_with_the_input() -> None:
    for length in (1_000_000, 10_000_000):
        Counted.seen = 0
        tokens.estimate_text(Counted("word " * (length // 5)))
        assert 0 < Counted.seen <= tokens.SAMPLED


def test_an_estimate_of_many_messages_is_near_their_count() -> None:
    for messages in (
        [Message(role="user", parts=(Text(f"Hello {number}"),)) for number in range(30_000)],
        [Message(role="user", parts=tuple(Text("Hello there") for _ in range(50_000)))],
        [Message(role="user", name="Ann", parts=()) for _ in range(30_000)],
    ):
        ask = Ask(model="m", messages=tuple(messages))
        assert tokens.estimate(ask) == pytest.approx(tokens.count_ask(ask), rel=0.05)


def test_a_count_is_exact_for_any_length() -> None:
    text = PROSE * 5_000
    ask = Ask(model="gpt-4o", messages=(Message(role="user", parts=(Text(text),)),))
    around = tokens.count_ask(Ask(model="gpt-4o", messages=(Message(role="user", parts=(Text(""),)),)))
    assert tokens.count_ask(ask) == around + tokens.count(text, "gpt-4o")


def test_what_is_remembered_of_names_and_texts_is_bounded() -> None:
    for number in range(10_000):
        tokens.encoding_name(f"model-{number}")
        tokens.encoding_name("x" * 1_000_000)
        tokens.count(f"text {number}")
    for cache in (tokens._encoding_name, tokens._count_short):
        assert cache.cache_info().currsize <= 2048
    assert tokens.encoding_name("gpt-4" + "x" * 1000) == tokens.encoding_name("gpt-4xxx")
