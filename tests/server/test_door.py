"""Who is let in: keys on and off, what each may, and what is told to those who may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from ollama_proxy.server.keys import CLERK
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config

WORD = "the-daemons-own-word"
ON = '[auth]\nmode = "on"\n'


class Door(NamedTuple):
    """A proxy that asks for keys, and a session to it."""

    proxy: Proxy
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str) -> Any:
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        async with self.http.request(method, path, json=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def chat(self, key: str | None = None, **headers: str) -> Any:
        body = {"model": "smollm2", "messages": HELLO}
        return await self.ask("POST", "/v1/chat/completions", body, key, **headers)

    async def make(self, **body: Any) -> dict[str, Any]:
        status, made, _ = await self.ask("POST", "/oproxy/keys", {"name": "one", **body}, WORD)
        assert status == 200, made
        return dict(made)


@pytest.fixture
async def door(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Door]:
    proxy = await start_proxy(config(ollama.url, ON), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        yield Door(proxy, http)


async def test_without_a_key_nothing_is_answered(door: Door) -> None:
    status, body, _ = await door.chat()

    assert status == 401
    error = body["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert error["message"].startswith("You didn't provide an API key.")


@pytest.mark.parametrize("scheme", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_taken_from_every_header_clients_use(door: Door, scheme: str) -> None:
    made = await door.make()
    value = f"Bearer {made['key']}" if scheme == "authorization" else made["key"]

    status, body, headers = await door.chat(**{scheme: value})

    assert status == 200
    assert body["object"] == "chat.completion"
    assert headers["x-oproxy-model"] == "smollm2:latest"


async def test_a_wrong_key_is_told_masked(door: Door) -> None:
    wrong = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    status, body, _ = await door.chat(wrong)

    assert status == 401
    assert body["error"]["code"] == "invalid_api_key"
    assert body["error"]["message"].startswith("Incorrect API key provided: sk-proj-**********************wxyz.")
    assert wrong not in str(body)
    assert not any(wrong in line for line in door.proxy.said)


async def test_a_key_that_was_revoked_rotated_or_removed_opens_nothing_at_once(door: Door) -> None:
    made = await door.make()
    assert (await door.chat(made["key"]))[0] == 200

    await door.ask("POST", f"/oproxy/keys/{made['id']}", {"revoked": True}, WORD)
    status, body, _ = await door.chat(made["key"])
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert "has been revoked" in body["error"]["message"]

    await door.ask("POST", f"/oproxy/keys/{made['id']}", {"revoked": False}, WORD)
    _, again, _ = await door.ask("POST", "/oproxy/keys/one/rotate", {}, WORD)
    assert again["id"] == made["id"]
    assert (await door.chat(made["key"]))[0] == 401
    assert (await door.chat(again["key"]))[0] == 200

    await door.ask("DELETE", "/oproxy/keys/one", None, WORD)
    assert (await door.chat(again["key"]))[0] == 401


async def test_a_key_may_be_for_some_models_and_paths_only(door: Door) -> None:
    made = await door.make(models=["all-minilm*"], endpoints=["/v1/chat/*", "/v1/models"])

    status, body, _ = await door.chat(made["key"])
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    status, body, _ = await door.ask("POST", "/v1/embeddings", {"model": "all-minilm", "input": "x"}, made["key"])
    assert (status, body["error"]["code"]) == (403, "insufficient_permissions")
    status, body, _ = await door.ask("GET", "/v1/models", None, made["key"])
    assert {model["id"] for model in body["data"]} <= {"all-minilm:latest", "all-minilm"}


async def test_a_key_may_name_the_model_that_answers_whatever_is_asked(door: Door) -> None:
    made = await door.make(model="smollm2")

    status, body, headers = await door.ask(
        "POST", "/v1/chat/completions", {"model": "claude-9", "messages": HELLO}, made["key"]
    )

    assert (status, body["model"], headers["x-oproxy-model"]) == (200, "claude-9", "smollm2:latest")


async def test_only_administrators_manage_keys(door: Door) -> None:
    plain = await door.make()
    admin = await door.make(name="boss", admin=True)

    assert (await door.ask("GET", "/oproxy/keys", None, plain["key"]))[0] == 403
    assert (await door.ask("GET", "/oproxy/models", None, plain["key"]))[0] == 403
    assert (await door.ask("DELETE", "/v1/models/smollm2", None, plain["key"]))[0] == 403
    assert (await door.ask("GET", "/oproxy/keys"))[0] == 401
    status, body, _ = await door.ask("GET", "/oproxy/keys", None, admin["key"])
    assert status == 200
    assert [key["name"] for key in body["keys"]] == ["one", "boss"]
    assert all("digest" not in key and plain["key"] not in str(key) for key in body["keys"])


async def test_what_a_load_balancer_asks_needs_no_key(door: Door) -> None:
    for path in ("/health", "/v1/health", "/", "/openapi.json", "/docs"):
        async with door.http.get(path) as response:
            assert response.status == 200, path
    async with door.http.options("/v1/chat/completions") as response:
        assert response.status == 204


async def test_an_address_that_guesses_keys_has_to_wait_and_learns_nothing(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    text = config(ollama.url, f"{ON}failures = 3\n")
    proxy = await start_proxy(text, control=WORD, env={"OPROXY_API_KEYS": "weak=hunter2,mine=hunter3"})
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        made = await door.make()
        admin = await door.make(name="admin", admin=True)
        assert (await door.chat(made["key"]))[0] == 200
        assert [(await door.chat(f"hunter{n}"))[0] for n in range(4, 8)] == [401, 401, 401, 429]
        # What opens and what does not are told in the same words, of whatever kind the key is, and wherever.
        for path in ("/v1/models", "/oproxy/keys", "/v1/organization/admin_api_keys", "/api/tags"):
            told = []
            for key in ("hunter2", "hunter9", admin["key"], "sk-oproxy-" + "a" * 40):
                status, body, headers = await door.ask("GET", path, None, key)
                assert 1 <= int(headers["retry-after"]) <= 20
                told.append((status, str(body).partition("try again in")[0], sorted(headers)))
            assert told[0][0] == 429
            assert all(each == told[0] for each in told), path
        for key in (admin["key"], "sk-wrong"):
            assert set((await door.ask("GET", "/v1/health", None, key))[1]) == {"status", "version"}
        # Who had a key before goes on, and so do those who send none, the same wrong one, or the daemon's own token.
        assert (await door.chat(made["key"]))[0] == 200
        assert (await door.chat())[0] == 401
        assert (await door.chat("hunter4"))[0] == 401
        assert (await door.ask("GET", "/oproxy/models", None, WORD))[0] == 200


async def test_a_client_with_an_old_key_and_one_without_block_nobody(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, f"{ON}failures = 3\n"), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        made = await door.make()
        assert [(await door.chat(key))[0] for key in ("sk-old", None) * 8] == [401] * 16
        assert (await door.chat(made["key"]))[0] == 200


async def test_guesses_at_an_open_door_count_too(start_proxy: Start, ollama: FakeOllama) -> None:
    """/v1/health answers everybody, and tells an administrator more."""
    proxy = await start_proxy(config(ollama.url, f"{ON}failures = 3\n"), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        admin = await door.make(admin=True)
        assert [(await door.ask("GET", "/v1/health", None, f"sk-{n}"))[0] for n in range(9)] == [200] * 9
        assert set((await door.ask("GET", "/v1/health", None, admin["key"]))[1]) == {"status", "version"}
        assert (await door.chat(admin["key"]))[0] == 429


async def test_with_auth_off_a_guesser_of_admin_keys_has_to_wait_and_others_do_not(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, "[auth]\nfailures = 3\n"), control=WORD, books=True)
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        admin = await door.make(admin=True)
        assert [(await door.ask("GET", "/oproxy/keys", None, f"sk-{n}"))[0] for n in range(4)] == [401, 401, 401, 429]
        assert (await door.ask("GET", "/oproxy/keys", None, admin["key"]))[0] == 429
        assert [(await door.chat(f"any-{n}"))[0] for n in range(12)] == [200] * 12


async def test_with_auth_off_everybody_is_let_in_and_named(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        assert (await door.chat())[0] == 200
        assert (await door.chat("sk-anything-at-all-of-some-length"))[0] == 200
        assert (await door.ask("GET", "/oproxy/models"))[0] == 200
        status, body, _ = await door.ask("POST", "/oproxy/keys", {"name": "x"})
        assert status == 401, "a key made now would open the door later"
        assert "API key" in body["error"]["message"]


async def test_keys_of_the_environment_open(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, ON), env={"OPROXY_API_KEYS": "ci=sk-from-the-environment"})
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        assert (await door.chat("sk-from-the-environment"))[0] == 200
        assert (await door.chat("sk-other"))[0] == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x", "tier": "tier9"}, "tier"),
        ({"name": "x", "nonsense": 1}, "nonsense"),
        ({"name": "x", "rates": {"requests_per_minute": "many"}}, "rates.requests_per_minute"),
        ([], None),
    ],
)
async def test_a_key_that_cannot_be_made_is_refused(door: Door, body: Any, param: str | None) -> None:
    status, answer, _ = await door.ask("POST", "/oproxy/keys", body, WORD)

    assert (status, answer["error"]["param"]) == (400, param)


async def test_two_keys_have_two_names(door: Door) -> None:
    await door.make()
    status, answer, _ = await door.ask("POST", "/oproxy/keys", {"name": "one"}, WORD)

    assert (status, answer["error"]["code"]) == (400, "name_taken")
    assert (await door.ask("POST", "/oproxy/keys/nobody", {}, WORD))[0] == 404


async def test_a_keys_usage_is_told(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, ON), control=WORD, books=True)
    async with aiohttp.ClientSession(proxy.url) as http:
        door = Door(proxy, http)
        made = await door.make(tags=["t"])
        for _ in range(2):
            assert (await door.chat(made["key"]))[0] == 200
        status, used, _ = await door.ask("GET", "/oproxy/keys/one/usage", None, WORD)
        assert status == 200
        assert (used["requests"], used["errors"], used["cost"]) == (2, 0, 0)
        assert used["prompt"] > 0
        assert used["completion"] > 0
        assert proxy.app[CLERK].ledger is not None
