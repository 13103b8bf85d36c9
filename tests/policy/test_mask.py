"""URLs and foreign words without their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.mask import HIDDEN, mask_secrets, mask_url, secrets_of

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
    assert CANARY not in mask_url(url)
    assert HIDDEN in mask_url(url) or "[redacted]" in mask_url(url)
    assert CANARY not in mask_secrets(f'could not connect to "{url}": refused')


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
    assert mask_url(url) == url
    assert mask_secrets(url) == url


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
    assert mask_secrets(text) == shown


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
    assert CANARY not in mask_secrets(text, secrets_of(url))


def test_an_escaped_password_is_known_in_both_forms() -> None:
    assert {"p%40ss", "p@ss"} <= secrets_of("postgresql://me:p%40ss@db/x")
    assert secrets_of("postgresql://db/x?sslmode=require") == frozenset()


@given(st.text())
def test_any_text_can_be_masked_and_masking_it_again_changes_nothing(text: str) -> None:
    assert mask_url(mask_url(text)) == mask_url(text)
    assert mask_secrets(mask_secrets(text)) == mask_secrets(text)
