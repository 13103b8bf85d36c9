"""The files of the documentation page and the table of OpenAI's routes, read from package data. Never the network,
never a path a client gave.

Swagger UI (npm's swagger-ui-dist 5.35.0, Apache-2.0, unchanged) is shipped gzipped, as it is served: those bytes go
out with `content-encoding: gzip`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["MEDIA_TYPES", "asset", "openai_routes"]

# Every file below /docs/ that is package data.
MEDIA_TYPES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}


@cache
def asset(name: str) -> bytes | None:
    """Return a file of the documentation page, gzipped, or None where there is no such file."""
    if name not in MEDIA_TYPES:
        return None
    return files(__package__).joinpath("data", "swagger", f"{name}.gz").read_bytes()


def openai_routes() -> list[str]:
    """Return OpenAI's routes: each a method, a tab and a path with its names in braces."""
    return files(__package__).joinpath("data", "openai", "routes.tsv").read_text(encoding="utf-8").splitlines()
