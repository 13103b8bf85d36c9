"""Keys are taken out of what is written down, and nothing else is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.redact import KEYS, plain, secrets, suspicious, without_keys, without_secrets

KEY = "sk-proj-AbCd_1234-efgh5678"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (KEY, "sk-[redacted]"),
        (f"my key is {KEY}, keep it", "my key is sk-[redacted], keep it"),
        (f"\n{KEY}", "\nsk-[redacted]"),
        (f"密钥{KEY}。", "密钥sk-[redacted]。"),
        (f"OPENAI_API_KEY={KEY}", "OPENAI_API_KEY=sk-[redacted]"),
        ("Authorization: Bearer abc", "Authorization: Bearer [redacted]"),
        ("-H 'authorization: Basic dXNlcg=='", "-H 'authorization: Basic [redacted]'"),
        ('{"Authorization": "Bearer abc"}', '{"Authorization": "Bearer [redacted]"}'),
        ('{"api_key": "hunter2"}', '{"api_key": "[redacted]"}'),
        ("bearer eyJhbGciOiJIUzI1NiJ9.eyJz", "bearer [redacted]"),
    ],
)
def test_a_key_is_blanked_wherever_it_stands(text: str, want: str) -> None:
    for ascii_only in (True, False):
        assert json.loads(secrets(json.dumps({"a": text}, ensure_ascii=ascii_only).encode())) == {"a": want}


@pytest.mark.parametrize(
    "text",
    ["risk-management-strategies", "task-550e8400-e29b", "desk-lamps-for-all", "sk-learn", "bearer certificates",
     "authorization is needed", "an api_key is needed", "C:\\\\users\\\\me"],
)  # fmt: skip
def test_what_only_looks_like_a_key_stays(text: str) -> None:
    data = json.dumps({"a": text}).encode()
    assert secrets(data) is data


@pytest.mark.parametrize("value", [None, 1, ["x"], {"a": "b"}, True])
def test_json_stays_json(value: object) -> None:
    data = json.dumps({"authorization": value, "api_key": value, "b": KEY}).encode()
    assert json.loads(secrets(data)) == {"authorization": value, "api_key": value, "b": "sk-[redacted]"}


def test_a_key_hidden_behind_escapes_is_found() -> None:
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    assert secrets(f'{{"a":"{hidden}"}}'.encode()) == b'{"a":"sk-[redacted]"}'
    assert secrets(b'{"a":"sk\\u002dabcdefghijkl"}') == b'{"a":"sk-[redacted]"}'


@given(st.text(), st.from_regex(r"sk-[A-Za-z0-9_-]{8,40}", fullmatch=True), st.text(), st.booleans())
def test_no_key_survives(before: str, key: str, after: str, ascii_only: bool) -> None:
    text = f"{before} {key} {after}"
    data = secrets(json.dumps([{"x": text, "y": [json.dumps({"z": text})]}], ensure_ascii=ascii_only).encode())
    assert key.encode() not in data
    assert key not in json.loads(data)[0]["x"]
    assert not re.search(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{8,}", json.loads(data)[0]["x"])


WORDS = (
    *(
        "sk-",
        "Bearer ",
        "AUTHORIZATION: ",
        '"api-key": "',
        "ApiKey='",
        "abcdefgh12345678",
        "\\u0073k-",
        "\n",
        "ap",
        "i_key",
    ),
)


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join))
def test_what_is_not_suspicious_holds_no_key_and_no_part_of_it_does(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    if not suspicious(data):
        assert KEYS.search(plain(data)) is None
        assert all(secrets(data[start:]) == data[start:] for start in range(len(data)))
    else:
        assert not suspicious(b"The capital of France is Paris.")


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))
)
def test_writing_letters_as_themselves_changes_no_value(value: object) -> None:
    data = json.dumps(value).encode()
    escaped = (
        re.sub(rb"(?<!\\)[a-z](?=[^\\]*$)", lambda found: b"\\u%04x" % found[0][0], data)
        if type(value) is str
        else data
    )
    assert json.loads(plain(data)) == value
    assert json.loads(plain(escaped)) == value


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("sk-proj-abcdefghij", "sk-[redacted]"),
        ("openai/sk-abcdefghij:latest", "openai/sk-[redacted]:latest"),
        ("SK-ABCDEFGHIJ", "SK-ABCDEFGHIJ"),
        ("Authorization: Bearer x1", "Authorization: Bearer [redacted]"),
        ('{"api_key": "abc"}', '{"api_key": "[redacted]"}'),
        ("https://user:pa55@host/x?a=1&api_key=zz&b=2", "https://user:[redacted]@host/x?a=1&api_key=[redacted]&b=2"),
        ("postgresql://u@h:1/x?password=SECRETPW", "postgresql://u@h:1/x?password=[redacted]"),
        ("/v1/files?KEY=abc", "/v1/files?KEY=[redacted]"),
        ("gpt-4o", "gpt-4o"), ("", ""), ("task-force risk-abcdefghijk", "task-force risk-abcdefghijk"),
        ("smollm2 \ud800 sk-abcdefghij", "smollm2 \ud800 sk-[redacted]"), ("me@example.com", "me@example.com"),
    ],
)  # fmt: skip
def test_plain_text_is_kept_without_keys_and_secrets_of_urls(text: str, want: str) -> None:
    assert without_secrets(text) == want
    assert without_secrets(want) == want


def test_an_error_repeats_no_key_but_may_say_where_one_belongs() -> None:
    assert without_keys(b'{"message":"no sk-abcdefghij"}') == b'{"message":"no sk-[redacted]"}'
    told = b'{"message":"(i.e. Authorization: Bearer YOUR_KEY). Incorrect API key: sk-abcd****wxyz"}'
    assert without_keys(told) is told
