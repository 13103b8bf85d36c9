"""OpenAI's administration API as clients meet it: raw, and by the official SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from ollama_proxy.account import NANO
from ollama_proxy.server import organization
from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import ACCOUNTS
from ollama_proxy.server.routes import ROUTES
from ollama_proxy.settings import load
from ollama_proxy.store.rollup import roll_up
from tests.shapes import check
from tests.store.rows import BASE, entry, put

DAY = 86400
TOKEN = "the-daemons-own-word"
PROJECT = "/v1/organization/projects/proj_oproxy"
CONFIG = """
[auth]
mode = "on"
[backends.none]
type = "ollama"
url = "http://127.0.0.1:9"
[limits]
requests_per_minute = 60
[limits.models."gpt-*"]
tokens_per_minute = 1000
"""
HANDLERS = {
    ("GET", "/v1/organization/usage/completions"): organization.usage_of("completions"),
    ("GET", "/v1/organization/usage/embeddings"): organization.usage_of("embeddings"),
    ("GET", "/v1/organization/usage/moderations"): organization.usage_of("moderations"),
    ("GET", "/v1/organization/costs"): organization.costs,
    ("GET", "/v1/organization/projects/{project_id}/api_keys"): organization.project_keys,
    ("GET", "/v1/organization/projects/{project_id}/api_keys/{key_id}"): organization.project_key,
    ("GET", "/v1/organization/projects/{project_id}/rate_limits"): organization.rate_limits,
    ("GET", "/v1/organization/admin_api_keys"): organization.admin_keys,
    ("POST", "/v1/organization/admin_api_keys"): organization.create_admin_key,
    ("GET", "/v1/organization/admin_api_keys/{key_id}"): organization.admin_key,
    ("DELETE", "/v1/organization/admin_api_keys/{key_id}"): organization.delete_admin_key,
}


class Office(NamedTuple):
    """A running daemon's application, its URL, and an administrator's session."""

    app: web.Application
    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, **params: Any) -> Any:
        return (await self.ask("GET", path, params=params))[1]

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.http.request(method, path, **more) as response:
            return response.status, await response.json()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    app = build_app(load(env={}, flags={}, text=CONFIG), say=lambda line: None, env={}, control=TOKEN)
    served = {(row.route.method, row.route.path) for row in ROUTES}
    for (method, path), handler in HANDLERS.items():
        if (method, path) not in served:
            app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    async with aiohttp.ClientSession(url, headers={"authorization": f"Bearer {TOKEN}"}) as http:
        yield Office(app, url, http)
    await runner.cleanup()


@pytest.fixture
async def ledger(office: Office) -> None:
    """Three days: the first summed, the last two not yet."""
    await office.app[ACCOUNTS].wait()
    store = office.app[ACCOUNTS].store
    assert store is not None
    put(
        store,
        [
            entry(BASE + 60, prompt=100, cached=40, completion=10, key="key_a", caller="ann", cost=NANO),
            entry(BASE + 7200, prompt=50, completion=5, key="key_b", caller="bob", asked="llama3.2"),
            entry(BASE + 7200, prompt=8, endpoint="/v1/embeddings", asked="text-embedding-3-small", cost=NANO // 2),
        ],
    )
    roll_up(store)
    put(store, [entry(BASE + DAY + 5, prompt=7, completion=7, key="key_a", caller="ann", cost=NANO * 2)])
    put(store, [entry(BASE + 2 * DAY, status=429), entry(BASE + 2 * DAY, endpoint="/v1/models")])


def results(page: Any) -> list[list[dict[str, Any]]]:
    return [bucket["results"] for bucket in page["data"]]


@pytest.mark.usefixtures("ledger")
async def test_usage_by_the_day_counts_what_was_answered(office: Office) -> None:
    page = await office.get("/v1/organization/usage/completions", start_time=BASE, end_time=BASE + 3 * DAY)

    check("UsageResponse", page)
    first, second, third = results(page)
    assert [(each["input_tokens"], each["num_model_requests"]) for each in (*first, *second)] == [(150, 2), (7, 1)]
    assert third == []


@pytest.mark.usefixtures("ledger")
async def test_usage_is_grouped_and_filtered(office: Office) -> None:
    asked = {"start_time": BASE, "limit": 1, "group_by[]": "model"}
    page = await office.get("/v1/organization/usage/completions", **asked)

    assert {each["model"]: each["input_tokens"] for each in results(page)[0]} == {"gpt-5": 100, "llama3.2": 50}
    only = await office.get("/v1/organization/usage/completions", **asked, **{"api_key_ids[]": "key_b"})
    assert [each["model"] for each in results(only)[0]] == ["llama3.2"]
    nobody = await office.get("/v1/organization/usage/completions", **asked, project_ids="proj_other")
    assert results(nobody) == [[]]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("width", ["1m", "1h"])
async def test_usage_by_smaller_buckets_adds_up(office: Office, width: str) -> None:
    page = await office.get(
        "/v1/organization/usage/completions", start_time=BASE, end_time=BASE + 10800, bucket_width=width, limit=168
    )

    found = {bucket["start_time"]: bucket["results"][0]["input_tokens"] for bucket in page["data"] if bucket["results"]}
    assert found == {BASE + (60 if width == "1m" else 0): 100, BASE + 7200: 50}


@pytest.mark.usefixtures("ledger")
async def test_embeddings_and_costs_have_pages_of_their_own(office: Office) -> None:
    page = await office.get("/v1/organization/usage/embeddings", start_time=BASE, limit=1)
    assert results(page)[0][0]["input_tokens"] == 8
    assert results(await office.get("/v1/organization/usage/moderations", start_time=BASE, limit=1)) == [[]]

    money = await office.get("/v1/organization/costs", start_time=BASE, limit=2, group_by="line_item")
    check("UsageResponse", money)
    first, second = results(money)
    assert {each["line_item"]: each["amount"]["value"] for each in first} == {
        "gpt-5": 1.0, "llama3.2": 0.0, "text-embedding-3-small": 0.5,
    }  # fmt: skip
    assert second[0]["amount"] == {"value": 2.0, "currency": "usd"}


@pytest.mark.usefixtures("ledger")
async def test_the_sdk_turns_the_pages(office: Office) -> None:
    async with AsyncOpenAI(base_url=f"{office.url}/v1", api_key="none", admin_api_key=TOKEN) as client:
        usage = client.admin.organization.usage
        page = await usage.completions(start_time=BASE, end_time=BASE + 3 * DAY, limit=2, group_by=["api_key_id"])
        assert page.has_more
        assert page.next_page is not None
        rest = await usage.completions(start_time=BASE, end_time=BASE + 3 * DAY, limit=2, page=page.next_page)
        costs = await usage.costs(start_time=BASE, end_time=BASE + 3 * DAY)

    assert {getattr(each, "api_key_id", "") for each in page.data[0].results} == {"key_a", "key_b"}
    assert [bucket.start_time for bucket in rest.data] == [BASE + 2 * DAY]
    assert not rest.has_more
    assert len(costs.data) == 3


async def test_the_sdk_makes_lists_and_deletes_admin_keys(office: Office) -> None:
    async with AsyncOpenAI(base_url=f"{office.url}/v1", api_key="none", admin_api_key=TOKEN) as client:
        keys = client.admin.organization.admin_api_keys
        made = await keys.create(name="ops", expires_in_seconds=3600)
        assert made.value.startswith("sk-oproxy-")
        assert made.expires_at == made.created_at + 3600
        assert [each.id async for each in await keys.list()] == [made.id]
        assert (await keys.retrieve(made.id)).redacted_value == f"sk-oproxy-…{made.value[-4:]}"

        async with AsyncOpenAI(base_url=f"{office.url}/v1", api_key="none", admin_api_key=made.value) as other:
            projects = other.admin.organization.projects
            listed = [each async for each in await projects.api_keys.list("proj_oproxy")]
            assert [each.name for each in listed] == ["ops"]
            assert listed[0].owner.type == "service_account"
            one = await projects.api_keys.retrieve(api_key_id=made.id, project_id="proj_oproxy")
            assert one.owner_project_access == "active"

        assert (await keys.delete(made.id)).deleted
        assert [each async for each in await keys.list()] == []
    async with office.http.get(
        "/v1/organization/admin_api_keys", headers={"authorization": f"Bearer {made.value}"}
    ) as gone:
        assert gone.status == 401


async def test_rate_limits_are_those_of_the_settings(office: Office) -> None:
    page = await office.get(f"{PROJECT}/rate_limits")

    names = ("model", "max_requests_per_1_minute", "max_tokens_per_1_minute")
    assert [tuple(each[name] for name in names) for each in page["data"]] == [
        ("*", 60, 2**31 - 1), ("gpt-*", 2**31 - 1, 1000),
    ]  # fmt: skip
    assert {each["object"] for each in page["data"]} == {"project.rate_limit"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/organization/usage/completions", 400),
        ("GET", "/v1/organization/projects/proj_other/api_keys", 404),
        ("GET", "/v1/organization/projects/proj_other/rate_limits", 404),
        ("GET", f"{PROJECT}/api_keys/key_none", 404),
        ("GET", f"{PROJECT}/api_keys?after=key_none", 400),
        ("GET", "/v1/organization/admin_api_keys/key_none", 404),
        ("DELETE", "/v1/organization/admin_api_keys/key_none", 404),
        ("POST", "/v1/organization/admin_api_keys", 400),
    ],
)
async def test_what_is_wrong_is_refused_in_openais_shape(office: Office, method: str, path: str, status: int) -> None:
    got, body = await office.ask(method, path, data=b'{"name": 5}' if method == "POST" else None)

    assert got == status
    check("ErrorResponse", body)


async def test_a_key_that_is_no_administrators_is_not_deleted_there(office: Office) -> None:
    _, made = await office.ask("POST", "/oproxy/keys", json={"name": "plain"})
    got, _ = await office.ask("DELETE", f"/v1/organization/admin_api_keys/{made['id']}")

    assert got == 404
    listed = await office.get(f"{PROJECT}/api_keys")
    assert [each["id"] for each in listed["data"]] == [made["id"]]


async def test_a_stranger_sees_nothing(office: Office) -> None:
    async with aiohttp.ClientSession(office.url) as http, http.get("/v1/organization/costs?start_time=1") as response:
        assert response.status == 401
