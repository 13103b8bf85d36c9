"""Keys as callers show them: read from headers, masked in messages, held against what they may."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_proxy.account import Key
from ollama_proxy.errors import Forbidden, ModelNotFound
from ollama_proxy.policy import credentials
from ollama_proxy.policy.credentials import named_keys, new_secret, sent_key, shown
from ollama_proxy.policy.redact import mask_key


def key(**more: object) -> Key:
    return Key(**{"id": "key_1", "name": "one", "digest": "d", "shown": "s", "created": 0.0, **more})  # type: ignore[arg-type]


def test_a_new_key_has_its_prefix_and_all_of_its_randomness() -> None:
    secret = new_secret(bytes(range(25)))

    assert re.fullmatch(r"sk-oproxy-[a-z2-7]{40}", secret)
    assert new_secret(bytes(25)) != new_secret(bytes(24) + b"\x01")
    assert shown(secret) == f"sk-oproxy-…{secret[-4:]}"
    with pytest.raises(ValueError, match="25"):
        new_secret(bytes(24))


@given(st.text(min_size=1, max_size=300))
@example("sk-proj-abcdefghijklmnopqrstuvwxyz")
@example("k")
def test_a_masked_key_never_shows_half_of_it(secret: str) -> None:
    told = mask_key(secret)

    shown_letters = len(told) - told.count("*")
    assert shown_letters - secret.count("*") <= max(1, min(len(secret), 200)) // 2
    assert told.isprintable()


def test_a_long_key_is_masked_as_openai_masks_it() -> None:
    assert mask_key("sk-1234567890abcdefghijklmnop") == "sk-12345" + "*" * 17 + "mnop"
    assert mask_key("sk-123") == "s*****"


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({}, None),
        ({"authorization": "Bearer sk-1"}, "sk-1"),
        ({"authorization": "bearer   sk-1  "}, "sk-1"),
        ({"authorization": "Bearer"}, ""),
        ({"authorization": "sk-1"}, ""),
        ({"authorization": "Basic " + base64.b64encode(b"me:sk-1").decode()}, "sk-1"),
        ({"authorization": "Basic " + base64.b64encode(b"sk-1:").decode()}, "sk-1"),
        ({"authorization": "Basic ###"}, ""),
        ({"x-api-key": "sk-2"}, "sk-2"),
        ({"api-key": "sk-3"}, "sk-3"),
        ({"authorization": "Bearer sk-1", "x-api-key": "sk-2"}, "sk-1"),
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-4, openai-beta.realtime-v1"}, "sk-4"),
        ({"sec-websocket-protocol": "realtime"}, None),
    ],
)
def test_a_key_is_read_from_where_clients_put_it(headers: dict[str, str], secret: str | None) -> None:
    assert sent_key(headers) == secret


def test_keys_of_the_environment_have_names() -> None:
    assert named_keys("laptop=sk-1, sk-2,\nci = sk-3,,") == {"laptop": "sk-1", "key-2": "sk-2", "ci": "sk-3"}
    assert named_keys(" ") == {}


def test_a_key_without_lists_may_use_everything() -> None:
    credentials.check_model(key(), "gpt-4o")
    credentials.check_endpoint(key(), "/v1/embeddings")


def test_a_model_outside_the_list_is_not_there() -> None:
    limited = key(models=("gpt-4*", "smollm2"))

    credentials.check_model(limited, "gpt-4o")
    credentials.check_model(limited, "smollm2")
    with pytest.raises(ModelNotFound) as caught:
        credentials.check_model(limited, "o3")
    assert caught.value.body()["error"]["code"] == "model_not_found"


def test_an_endpoint_opens_what_is_below_it_and_nothing_beside_it() -> None:
    limited = key(endpoints=("/v1/responses", "/v1/files/", "/"))

    for path in ("/v1/responses", "/v1/responses/resp_1/cancel", "/v1/files", "/v1/files/file-1/content", "/"):
        credentials.check_endpoint(limited, path)
    for path in ("/v1/responsesx", "/v1/response", "/v1/filesystem", "/v1/models"):
        with pytest.raises(Forbidden):
            credentials.check_endpoint(limited, path)


def test_an_endpoint_outside_the_list_is_forbidden() -> None:
    limited = key(endpoints=("/v1/chat/*",))

    credentials.check_endpoint(limited, "/v1/chat/completions/")
    with pytest.raises(Forbidden) as caught:
        credentials.check_endpoint(limited, "/v1/embeddings")
    assert (caught.value.status, caught.value.code) == (403, "insufficient_permissions")
