"""OpenAI's routes as its SDK has them (openai_routes.tsv: resource, method of the SDK, HTTP method, path, notes), and
what becomes of each here. `python -m tests.openai_routes` writes anew what is made of them: the package's own table,
openai_table.tsv (each method, and whether it is served, forwarded or refused) and the README's table of groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ollama_proxy.server.groups import group_of
from ollama_proxy.server.routes import ROUTES

How = Literal["served", "forwarded", "refused"]

# WebSockets are no methods of a resource's table.
SOCKETS = ("/realtime", "/realtime/translations", "/live/sessions", "/live/sessions/{session_id}/fork", "/responses")

HERE = Path(__file__).parent
ROOT = HERE.parent
SHIPPED = ROOT / "ollama_proxy" / "data" / "openai" / "routes.tsv"
TABLE = HERE / "openai_table.tsv"
README = ROOT / "README.md"
BEGIN, END = "<!-- made by `python -m tests.openai_routes` -->\n", "<!-- end -->\n"

# What the README says of a group beside how its methods are answered.
NOTES: Mapping[str, str] = {
    "admin": "usage, costs, keys and limits over our own ledger; there is one organization and one project",
    "audio": "speech, transcriptions, translations, voices",
    "batches": "run on local models when nobody else waits",
    "chat": "stored completions too",
    "moderations": "by a guard model, or by any other",
    "models": "of all backends, with aliases",
    "realtime": "WebSockets too",
    "live": "WebSockets too",
    "responses": "WebSocket, background, conversations and compaction too",
}


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

    @property
    def group(self) -> str:
        """What it belongs to, where being new is no group of its own: `beta.threads` is `threads`."""
        parts = self.resource.split("/")
        return parts[1] if parts[0] == "beta" else parts[0]

    @property
    def how(self) -> How:
        """What becomes of it: served by ourselves, forwarded where a backend is there for it, or refused."""
        if (self.method, nameless(f"/v1{self.path}")) in OWN:
            return "served"
        return "forwarded" if group_of(f"/v1{self.path}") else "refused"


def nameless(path: str) -> str:
    """Return a path without the names of its parts, which are ours to choose."""
    return re.sub(r"{\w+}", "{}", path)


OWN = frozenset((row.route.method, nameless(row.route.path)) for row in ROUTES)


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


def table() -> str:
    """Return every method with its request and what becomes of it."""
    return "".join(f"{sdk.call}\t{sdk.method} /v1{sdk.path}\t{sdk.how}\n" for sdk in methods())


def groups() -> str:
    """Return the README's table of groups."""
    by_group: dict[str, list[Sdk]] = {}
    for sdk in methods():
        by_group.setdefault(sdk.group, []).append(sdk)
    lines = ["| group | methods | what becomes of them |", "| --- | --- | --- |"]
    order: Mapping[How, int] = {"served": 0, "forwarded": 1, "refused": 2}
    for name, all_ in sorted(by_group.items(), key=lambda item: (min(order[sdk.how] for sdk in item[1]), item[0])):
        told = []
        for how in order:
            some = [sdk for sdk in all_ if sdk.how == how]
            if some:
                which = "" if len(some) == len(all_) else f"{len(some)} "
                where = f' with `serves = ["{group_of(f"/v1{some[0].path}")}"]`' if how == "forwarded" else ""
                told.append(f"{which}{how}{where}")
        note = f"; {NOTES[name]}" if name in NOTES else ""
        lines.append(f"| `{name}` | {len(all_)} | {', '.join(told)}{note} |")
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """Return the README with its table of groups as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{groups()}{END}{after}"


if __name__ == "__main__":
    SHIPPED.write_text(shipped(), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
