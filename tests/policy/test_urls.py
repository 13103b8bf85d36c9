"""URLs that are nearly right."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.urls import Meant, hint, meant

SERVED = {
    *("/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/messages"),
    *("/v1/messages/count_tokens", "/api/chat", "/api/tags", "/health", "/oproxy/models"),
    *("/v1/batches", "/v1/files"),
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/chat/completions", Meant("/v1/chat/completions", "/v1")),
        ("/v1/v1/chat/completions", Meant("/v1/chat/completions", "/v1")),
        ("//v1/chat/completions", Meant("/v1/chat/completions", "/v1")),
        ("/v1//chat/completions", Meant("/v1/chat/completions", "/v1")),
        ("/api/v1/models", Meant("/v1/models", "/v1")),
        ("/openai/v1/models", Meant("/v1/models", "/v1")),
        ("/v1/chat/completions/chat/completions", Meant("/v1/chat/completions", "/v1")),
        ("/openai/deployments/gpt-4o/chat/completions", Meant("/v1/chat/completions", "/v1", "gpt-4o")),
        # Clients of Anthropic and Ollama add the whole path themselves.
        ("/messages", Meant("/v1/messages", "")),
        ("/v1/v1/messages", Meant("/v1/messages", "")),
        ("/v1/api/chat", Meant("/api/chat", "")),
        ("/tags", Meant("/api/tags", "")),
        ("/v1/messages/v1/messages", Meant("/v1/messages", "")),
        ("/v1/chat/completions/models", Meant("/v1/models", "/v1")),
        # Anthropic's own routes, which are not OpenAI's of the same name.
        ("/v1/messages/batches", None),
        ("/v1/messages/files", None),
        ("/api/chat/models", None),
        ("/v1/batches/messages", None),
        ("/v1/foo", None),
        ("/foo/models", None),
        ("/", None),
        ("", None),
        ("/v1", None),
        ("/wp-login.php", None),
        ("/v1/health", None),
        ("/openai/deployments/gpt-4o/nothing", None),
        ("/" + "v1/" * 1000 + "models", None),
    ],
)
def test_what_a_path_was_meant_to_be(path: str, expected: Meant | None) -> None:
    assert meant(path, SERVED.__contains__) == expected


def test_the_hint_names_the_base_url_and_azures_the_model() -> None:
    assert hint(Meant("/v1/models", "/v1"), "http://localhost:1") == (
        "(HINT: Set the base URL to http://localhost:1/v1; this request then goes to /v1/models.)"
    )
    text = hint(Meant("/v1/chat/completions", "/v1", "gpt-4o"), "http://localhost:1")
    assert "Set the base URL http://localhost:1/v1 in a client for OpenAI, and the model 'gpt-4o'" in text
