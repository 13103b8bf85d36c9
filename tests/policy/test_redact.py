"""Keys, passwords and tokens are taken out of what is written down or shown, and nothing else is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.redact import (
    FORMATS,
    HIDDEN,
    may_hold_key,
    redact_error,
    redact_foreign,
    redact_json,
    redact_text,
    redact_url,
    unescaped,
    url_secrets,
)

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
        assert json.loads(redact_json(json.dumps({"a": text}, ensure_ascii=ascii_only).encode())) == {"a": want}


@pytest.mark.parametrize(
    "text",
    ["risk-management-strategies", "task-550e8400-e29b", "desk-lamps-for-all", "sk-learn", "bearer certificates",
     "authorization is needed", "an api_key is needed", "C:\\\\users\\\\me"],
)  # fmt: skip
def test_what_only_looks_like_a_key_stays(text: str) -> None:
    data = json.dumps({"a": text}).encode()
    assert redact_json(data) is data


@pytest.mark.parametrize("value", [None, 1, ["x"], {"a": "b"}, True])
def test_json_stays_json(value: object) -> None:
    data = json.dumps({"authorization": value, "api_key": value, "b": KEY}).encode()
    assert json.loads(redact_json(data)) == {"authorization": value, "api_key": value, "b": "sk-[redacted]"}


def test_a_key_hidden_behind_escapes_is_found() -> None:
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    assert redact_json(f'{{"a":"{hidden}"}}'.encode()) == b'{"a":"sk-[redacted]"}'
    assert redact_json(b'{"a":"sk\\u002dabcdefghijkl"}') == b'{"a":"sk-[redacted]"}'


@given(st.text(), st.from_regex(r"sk-[A-Za-z0-9_-]{8,40}", fullmatch=True), st.text(), st.booleans())
def test_no_key_survives(before: str, key: str, after: str, ascii_only: bool) -> None:
    text = f"{before} {key} {after}"
    data = redact_json(json.dumps([{"x": text, "y": [json.dumps({"z": text})]}], ensure_ascii=ascii_only).encode())
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
    if not may_hold_key(data):
        assert redact_json(unescaped(data)) == unescaped(data)
        assert all(redact_json(data[start:]) == data[start:] for start in range(len(data)))
    else:
        assert not may_hold_key(b"The capital of France is Paris.")


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
    assert json.loads(unescaped(data)) == value
    assert json.loads(unescaped(escaped)) == value


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
    assert redact_text(text) == want
    assert redact_text(want) == want


def test_an_error_repeats_no_key_but_may_say_where_one_belongs() -> None:
    assert redact_error(b'{"message":"no sk-abcdefghij"}') == b'{"message":"no sk-[redacted]"}'
    told = b'{"message":"(i.e. Authorization: Bearer YOUR_KEY). Incorrect API key: sk-abcd****wxyz"}'
    assert redact_error(told) is told


# --- URLs of settings, and what other programs say -----------------------------------------------------------------

CANARY = "c4n4ry-SECRET"

URLS = [
    f"postgresql://me:{CANARY}@db.example:5432/books",
    f"postgresql://me:{CANARY}@/books?host=/run/pg",
    f"postgresql://me@db/books?password={CANARY}",
    f"postgresql://me@db/books?sslmode=require&PassWord={CANARY}&port=1",
    f"postgresql://me@db/books?p%61ssword={CANARY}",
    f"postgresql://me@db/books?sslpassword={CANARY}&passfile=/x/{CANARY}",
    f"postgresql+psycopg://me:a/b{CANARY}@db/books",
    f"postgresql://me:a@b{CANARY}@db/books",
    f"postgresql://me:a#{CANARY}@db/books",
    f"postgresql://me:a?{CANARY}@db/books",
    f"redis://:{CANARY}@cache:6379/0",
    f"rediss://{CANARY}@cache:6379/0",
    f"unix://me:{CANARY}@/run/redis.sock?db=1",
    f"unix:///run/redis.sock?password={CANARY}",
    f"redis://cache/0?username=x&password={CANARY}",
    f"https://hooks.example/services?token={CANARY}",
    f"https://hooks.example/services?{CANARY}",
    f"https://hooks.example/x#{CANARY}",
    f"HTTPS://ME:{CANARY}@GATEWAY.EXAMPLE/V1",
    f"postgresql:me:{CANARY}@db/books",
    f"https://gateway.example/sk-{CANARY}aaaa1111/v1",
    f"https://gateway.example/aaaaaaaaaaaa1111{CANARY}/v1",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_shown_without_its_secrets_wherever_they_are(url: str) -> None:
    assert CANARY not in redact_url(url)
    assert HIDDEN in redact_url(url) or "[redacted]" in redact_url(url)
    assert CANARY not in redact_foreign(f'could not connect to "{url}": refused')


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434",
        "https://gateway.example/openai/v1",
        "postgresql://db.example:5432/books?sslmode=require&connect_timeout=3&host=/run/pg",
        "redis://localhost:6379/0?db=2",
        "unix:///run/redis.sock",
        "sqlite:////home/me/.local/share/oproxy/oproxy.db",
        "",
        "no url at all",
    ],
)
def test_a_url_without_secrets_stays_as_it_is(url: str) -> None:
    assert redact_url(url) == url
    assert redact_foreign(url) == url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"invalid: host=db password={CANARY} dbname=x", f"invalid: host=db password={HIDDEN} dbname=x"),
        (f"host=db password='a b \\' {CANARY}' port=1", f"host=db password={HIDDEN} port=1"),
        (f"{{'host': 'db', 'password': '{CANARY}', 'port': 1}}", f"{{'host': 'db', 'password': {HIDDEN}, 'port': 1}}"),
        (f'{{"api_key": "{CANARY}"}}', f'{{"api_key": {HIDDEN}}}'),
        (f"PGPASSWORD={CANARY} psql", f"PGPASSWORD={HIDDEN} psql"),
        (f"SSLPASSWORD = {CANARY}", f"SSLPASSWORD = {HIDDEN}"),
        (f"X-Api-Key: {CANARY}", f"X-Api-Key: {HIDDEN}"),
        ("password authentication failed for user \"me\"", "password authentication failed for user \"me\""),
        ("8 prompt tokens, 12 completion tokens", "8 prompt tokens, 12 completion tokens"),
        (f'could not translate host name "{CANARY}@db"', f'could not translate host name "{HIDDEN}@db"'),
        ('server at "db", port 5432 failed: refused', 'server at "db", port 5432 failed: refused'),
    ],
)  # fmt: skip
def test_foreign_words_are_shown_without_passwords(text: str, shown: str) -> None:
    assert redact_foreign(text) == shown


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (f"postgresql://me:{CANARY}@db/x", CANARY),
        (f"postgresql://me:a/b?c#d@{CANARY}@db/x", f"a/b?c#d@{CANARY}"),
        (f"postgresql://db/x?PASSWORD={CANARY}", CANARY),
        (f"redis://{CANARY}@db", CANARY),
        (f"https://hooks.example/x?{CANARY}", CANARY),
        (f"https://hooks.example/x#{CANARY}", CANARY),
    ],
)
def test_what_is_known_to_be_secret_is_hidden_without_any_sign_around_it(url: str, secret: str) -> None:
    text = f'could not translate host name "x{secret}" to address'
    assert CANARY not in redact_foreign(text, url_secrets(url))


def test_an_escaped_password_is_known_in_both_forms() -> None:
    assert {"p%40ss", "p@ss"} <= url_secrets("postgresql://me:p%40ss@db/x")
    assert url_secrets("postgresql://db/x?sslmode=require") == frozenset()


@given(st.text())
def test_any_text_can_be_masked_and_masking_it_again_changes_nothing(text: str) -> None:
    assert redact_url(redact_url(text)) == redact_url(text)
    assert redact_foreign(redact_foreign(text)) == redact_foreign(text)


# --- what keys look like ------------------------------------------------------------------------------------------

A40, H64 = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7jKl0n", "0123456789abcdef" * 4
PEM = "-----BEGIN {0}-----\n" + ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n" * 3)
PEM += "dGVzdA==\n-----END {0}-----"
LEGACY = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n" + H64
# Text that holds a key → what is left of it.
KEYS_OF_VENDORS = {
    f"sk-ant-api03-{A40}-{A40}AA": "sk-[redacted]",
    f"sk-or-v1-{H64}": "sk-[redacted]",
    f"sk-proj-{A40}": "sk-[redacted]",
    f"hf_{A40[:34]}": "hf_[redacted]",
    f"gsk_{A40}{A40[:12]}": "gsk_[redacted]",
    f"AIza{A40[:35]}": "AIza[redacted]",
    f"ghp_{A40[:36]}": "ghp_[redacted]",
    f"gho_{A40[:36]}": "gho_[redacted]",
    f"ghu_{A40[:36]}": "ghu_[redacted]",
    f"ghs_{A40[:36]}": "ghs_[redacted]",
    f"ghr_{A40}": "ghr_[redacted]",
    f"glpat-{A40[:20]}": "glpat-[redacted]",
    f"github_pat_11{A40[:20]}_{A40}{A40[:19]}": "github_pat_[redacted]",
    f"xai-{A40}{A40}": "xai-[redacted]",
    f"pplx-{A40}": "pplx-[redacted]",
    f"r8_{A40[:37]}": "r8_[redacted]",
    "AKIAIOSFODNN7EXAMPLE": "AKIA[redacted]",
    f"xoxb-123456789012-1234567890123-{A40[:24]}": "xoxb-[redacted]",
    "xoxp-1234567890-abcdef": "xoxp-[redacted]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.4pcPyMD09olPSyXnrXCjTwXyr4BsezdI1AVTmud2fU4": "eyJ[redacted]",
    # Without a signature, and with a dash in the header.
    "eyJhbGciOiJub25lIn0-_A.eyJzdWIiOiIxIn0.": "eyJ[redacted]",
    PEM.format("PRIVATE KEY"): "-----BEGIN PRIVATE KEY-----[redacted]\n-----END PRIVATE KEY-----",
    PEM.format("EC PRIVATE KEY"): "-----BEGIN EC PRIVATE KEY-----[redacted]\n-----END EC PRIVATE KEY-----",
    PEM.format(
        "OPENSSH PRIVATE KEY"
    ): "-----BEGIN OPENSSH PRIVATE KEY-----[redacted]\n-----END OPENSSH PRIVATE KEY-----",
    # Cut off before its end.
    LEGACY: "-----BEGIN RSA PRIVATE KEY-----[redacted]",
    f"Bearer {A40}": "Bearer [redacted]",
}
# Like the above, and none.
HARMLESS_TEXTS = [
    "sk-learn",
    "hf_model_of_the_month",
    "hf_transformers",
    f"shelf_{A40}",
    "hf.co/unsloth/Qwen3-4B-GGUF:Q4_K_M",
    "gsk_short",
    "AIzawa was here",
    "the right_hand ghp_",
    "ghost_writer_of_the_year_who_wrote_it_all",
    "github_pat_ tokens begin so",
    "glpat-tokens begin so",
    "xai-org/grok-1",
    "xai-grok-4-fast-non-reasoning-latest",
    "pplx-70b-online",
    "pplx-embed-context-v1-0.6b-and-more-words",
    "r8_unorm",
    "r8_g8_b8_a8",
    "AKIA",
    "AKIAT",
    "xoxo-hugs and kisses",
    "xoxo",
    "eyJ",
    "eyJhbGciOiJIUzI1NiJ9",
    "heyJude.eyJoy",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nis how a private key begins.",
    "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "bearer certificates are paid to whoever holds them",
    f"resp_{H64[:48]}",
    f"call_{A40[:24]}",
    f"file-{A40[:24]}",
    f"msg_{H64[:48]}",
    f"batch_{H64[:32]}",
    f"chatcmpl-{A40[:29]}",
    f"org-{A40[:24]}",
    f"toolu_{A40[:24]}",
    H64,
    f"sha256:{H64}",
    "550e8400-e29b-41d4-a716-446655440000",
    "task-550e8400-e29b-41d4-a716-446655440000",
    "qwen3:30b-a3b-thinking-2507-q4_K_M",
    "gpt-4o-mini-2024-07-18",
    "mxbai-embed-large",
    "text-embedding-3-small",
    "deepseek-r1:8b",
    "max_completion_tokens",
    "risk-management-strategies",
]


@pytest.mark.parametrize(("text", "want"), KEYS_OF_VENDORS.items(), ids=[key[:12] for key in KEYS_OF_VENDORS])
def test_a_key_of_any_vendor_is_blanked_in_every_kind_of_text(text: str, want: str) -> None:
    assert redact_text(text) == want
    assert redact_text(want) == want
    for before, after in (
        ("", ""),
        ("my key is ", ", keep it"),
        ("密钥", "。"),
        ("\n", "\n"),
        ("(", ")"),
        ("x=", "&y"),
    ):
        whole = f"{before}{text}{after}"
        assert redact_text(whole) == f"{before}{want}{after}", whole
        secret = text.removeprefix("Bearer ").removeprefix("eyJ")[-12:].rsplit("-----END", 1)[0]
        assert text not in redact_foreign(whole)
        assert redact_foreign(redact_foreign(whole)) == redact_foreign(whole)
        for ascii_only in (True, False):
            data = json.dumps({"a": whole, "b": json.dumps([whole])}, ensure_ascii=ascii_only).encode()
            assert may_hold_key(data)
            for redacted in (redact_json(data), redact_error(data)):
                found = json.loads(redacted)
                assert found["a"] == f"{before}{want}{after}"
                assert json.loads(found["b"]) == [f"{before}{want}{after}"]
        if not text.startswith("-----"):
            assert secret not in redact_foreign(f"https://host/x?key={whole}: refused")
            assert text not in redact_url(f"https://host/{text}/v1")


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_what_only_resembles_the_key_of_a_vendor_stays(text: str) -> None:
    for whole in (text, f"a {text} b", f"\n{text}\n"):
        assert redact_text(whole) == whole
        assert redact_foreign(whole) == whole
        data = json.dumps({"a": whole}).encode()
        assert redact_json(data) is data
        assert redact_error(data) is data


def test_every_format_has_a_key_among_those_tried_and_its_prefix_has_a_fixed_width() -> None:
    for each in FORMATS:
        assert any(re.match(each.prefix, key.encode()) for key in KEYS_OF_VENDORS), each.vendor
        re.compile(b"(?<=" + each.prefix + b")")


@given(
    st.lists(st.sampled_from((*KEYS_OF_VENDORS, *HARMLESS_TEXTS, " ", "-", "_", "\\", '"', "\n")), max_size=6).map(
        "".join
    )
)
def test_keys_next_to_anything_are_found_by_the_quick_look_if_they_are_found_at_all(text: str) -> None:
    for data in (text.encode(), json.dumps(text).encode()):
        if not may_hold_key(data):
            assert redact_json(unescaped(data)) == unescaped(data)


# Beginnings of a match, again and again, none of which comes to its end.
PILES = [
    "sk-",
    "hf_",
    "eyJ",
    "-eyJ",
    "eyJ.",
    "-eyJ.eyJ",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA",
    "-----BEGIN " + "A " * 20,
    "bearer ",
    "authorization",
    "authorization\\",
    "api_key\\",
    'api_key"',
    "api_key ",
    "Bearer a",
    "password",
    "password ",
    "pass-",
    "password='",
    'token="\\',
    "x.",
    "a+",
    "://",
    "://a",
    "://:",
    "//",
    "//@",
    "'@",
    "@",
    "?key",
    "&key=",
    ";",
    "#",
    "https://",
    "\\u00",
    "AKIA",
    "xoxb-",
    "ghp_",
    "9a/",
]


@pytest.mark.parametrize("pile", PILES)
def test_no_text_takes_more_time_than_its_length_is_worth(pile: str) -> None:
    # What takes quadratic time is not through in a minute here; the suite's own limit says so.
    text = (pile * (60_000 // len(pile)))[:60_000]
    for whole in (text, f"@ token {text}", f"{text} :// @ ' key"):
        data = whole.encode()
        redact_json(data)
        redact_error(data)
        redact_text(whole)
        redact_foreign(whole)
        redact_url(whole)
        url_secrets(whole)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("at postgresql://u:secret@h/x?password=secret", "at postgresql://(hidden)@h/x?password=(hidden)"),
        ("host=h password=secret port=1", "host=h password=(hidden) port=1"),
        ("failed: password='a b' x", "failed: password=(hidden) x"),
        ("{'password': 'secret'}", "{'password': (hidden)}"),
    ],
)
def test_what_is_hidden_already_is_not_hidden_again(text: str, hidden: str) -> None:
    assert redact_foreign(text) == hidden
    assert redact_foreign(hidden) == hidden
