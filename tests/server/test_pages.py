"""The pages a person may open."""

from __future__ import annotations

import gzip

import pytest

from ollama_proxy import __version__
from ollama_proxy.server.routes import ROUTES

from .conftest import Setup


async def test_the_landing_page_is_text_that_says_what_to_do_next(setup: Setup) -> None:
    async with setup.http.get("/", headers={"host": "localhost:4321"}) as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/plain")
    assert text.startswith(f"oproxy {__version__}")
    assert "export OPENAI_BASE_URL=http://localhost:4321/v1\n" in text
    assert '{"model": "gpt-4o"' in text


async def test_the_description_knows_every_route(setup: Setup) -> None:
    async with setup.http.get("/openapi.json") as response:
        document = await response.json()
    served = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    api = {(row.route.path, row.route.method) for row in ROUTES if row.route.path.startswith("/v1/")}
    assert api <= served


async def test_the_documentation_loads_only_what_we_serve_ourselves(setup: Setup) -> None:
    async with setup.http.get("/docs") as response:
        page = await response.text()
        policy = response.headers["content-security-policy"]
        assert (response.status, response.content_type) == (200, "text/html")
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http://" not in page
    assert "https://" not in page
    files = [piece.split('"', 1)[0] for mark in ('src="', 'href="') for piece in page.split(mark)[1:]]
    assert files
    for file in files:
        if file.startswith("data:"):
            continue
        path = file if file.startswith("/") else f"/docs/{file.removeprefix('./').removeprefix('docs/')}"
        async with setup.http.get(path) as response:
            assert response.status == 200, file
            assert await response.read()


async def test_files_are_sent_compressed_and_may_be_kept(setup: Setup) -> None:
    async with setup.http.get("/docs/swagger-ui.css", auto_decompress=False) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert "max-age" in response.headers["cache-control"]
        assert b"swagger" in gzip.decompress(await response.read())


@pytest.mark.parametrize("name", ["none.js", "..%2f__init__.py", "%2e%2e%2fsettings.py", "swagger-ui.css%00"])
async def test_other_files_are_not_served(setup: Setup, name: str) -> None:
    async with setup.http.get(f"{setup.proxy.url}/docs/{name}") as response:
        assert response.status == 404
        assert "Invalid URL" in (await response.json())["error"]["message"]
