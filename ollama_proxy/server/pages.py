"""The pages a person may open: the landing page, the API's description and Swagger UI. No CDN, no inline script."""

from __future__ import annotations

from aiohttp import web

from .. import __version__, assets
from ..errors import NotFound
from ..policy.printable import header_text
from ..translate import openapi

__all__ = ["DOCUMENT", "asset", "description", "docs", "landing"]

DOCUMENT = web.AppKey("openapi", bytes)

# The page loads only what we serve ourselves; Swagger UI sets styles and data-URI images.
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

LANDING = """oproxy {version}: OpenAI's API, answered by local models.

Point any OpenAI client at it:

    export OPENAI_BASE_URL={base}/v1
    export OPENAI_API_KEY=any

Ollama's own clients find it by

    export OLLAMA_HOST={base}

Try it:

    curl {base}/v1/models

    curl {base}/v1/chat/completions -H 'content-type: application/json' \\
      -d '{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Health:       {base}/v1/health
Description:  {base}/openapi.json
Try it out:   {base}/docs
"""


async def landing(request: web.Request) -> web.Response:
    """Say what this is and what to do next, as plain text. Ollama's own clients get the words they look for."""
    if request.headers.get("user-agent", "").lower().startswith("ollama"):
        return web.Response(text="Ollama is running")
    base = f"{request.scheme}://{header_text(request.host)}"
    return web.Response(text=LANDING.format(version=__version__, base=base))


async def description(request: web.Request) -> web.Response:
    """The OpenAPI document, made once at start from the table of routes."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    return web.Response(
        body=openapi.docs_page(),
        content_type="text/html",
        charset="utf-8",
        headers={"content-security-policy": POLICY},
    )


async def asset(request: web.Request) -> web.Response:
    """Serve a file of the documentation page."""
    name = request.match_info["name"]
    if name == "init.js":
        return web.Response(body=openapi.init_script(), content_type="text/javascript", charset="utf-8")
    data = assets.asset(name)
    if data is None:
        raise NotFound(f"Invalid URL ({request.method} {request.path})")
    return web.Response(
        body=data,
        headers={
            "content-type": assets.MEDIA_TYPES[name],
            "content-encoding": "gzip",
            "cache-control": "max-age=3600",
        },
    )
