"""OpenAI's routes as its SDK has them (openai_routes.tsv: resource, method of the SDK, HTTP method, path, notes), and
what is shipped of them: `python -m tests.openai_routes` writes the package's table anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# WebSockets are no methods of a resource's table.
SOCKETS = ("/realtime", "/realtime/translations", "/live/sessions", "/live/sessions/{session_id}/fork", "/responses")

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "ollama_proxy" / "data" / "openai" / "routes.tsv"


class Sdk(NamedTuple):
    """One method of the SDK: `client.{resource}.{name}(…)`, and the request that it makes. `path` is below /v1."""

    resource: str
    name: str
    method: str
    path: str
    deprecated: bool
    pages: bool

    @property
    def call(self) -> str:
        """The method as a client writes it: chat.completions.create. A resource that holds others is said once."""
        parts = self.resource.split("/")
        if len(parts) > 1 and parts[-1] == parts[-2]:
            parts.pop()
        return ".".join([*parts, self.name])


def methods() -> list[Sdk]:
    """Return every method, in the order of the table."""
    rows = []
    for line in (HERE / "openai_routes.tsv").read_text(encoding="utf-8").splitlines():
        resource, name, method, path, deprecated, pages = line.split("\t")
        rows.append(Sdk(resource, name, method, path.partition("?")[0], bool(deprecated), bool(pages)))
    return rows


def shipped() -> str:
    """Return what is shipped: each method and path once, sorted."""
    rows = {(sdk.method, sdk.path) for sdk in methods()} | {("GET", path) for path in SOCKETS}
    return "".join(sorted(f"{method}\t/v1{path}\n" for method, path in rows))


if __name__ == "__main__":
    SHIPPED.parent.mkdir(parents=True, exist_ok=True)
    SHIPPED.write_text(shipped(), encoding="utf-8")
