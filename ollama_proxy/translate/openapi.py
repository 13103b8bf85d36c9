"""The API's description (OpenAPI 3.1) and its page, printed from the declarations that validate.

The server hands in its table of routes; the schemas are made from the Structs that read bodies, forms and queries.
Serves nothing, reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from .openapi_answers import ANSWERS, ERRORS, SCHEMAS
from .responses_tools import HOSTED, TOOLS
from .shapes_responses import ITEMS, OTHER_ITEMS, MessageItem, ReferenceItem

__all__ = ["Access", "Route", "docs_page", "document", "init_script"]

ABOUT = (
    "OpenAI's API on this machine, answered by local models, and beside it Anthropic's and Ollama's. Every optional "
    "parameter of a body may be null; keys that are not listed are accepted and named in `x-oproxy-ignored`. Clients "
    "that send `anthropic-version` get refusals in Anthropic's form on every path."
)

Schema = dict[str, Any]
# Who may use a path: anybody, whoever may use the API, or administrators only.
Access = Literal["open", "caller", "admin"]

# What a name in a path may be; a model's may have slashes.
NAME: Schema = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
NAMES: Mapping[str, Schema] = {
    "model": {"type": "string", "minLength": 1, "description": "A model's name; its slashes may be written as %2F."},
    "digest": {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"},
}
# What every answer carries, and what an answer of a model does.
HEADERS: Mapping[str, tuple[str, str]] = {
    "x-request-id": ("The request's id, in the logs too.", "all"),
    "x-oproxy-ignored": ("What of the request had no effect, separated by commas.", "all"),
    "x-oproxy-backend": ("The backend that answered.", "model"),
    "x-oproxy-model": ("The model that answered.", "model"),
}
RETRY = "Seconds after which to try again."
STATUSES: Mapping[int, str] = {
    400: "The request is wrong.",
    401: "No key, or one that opens nothing.",
    403: "Not allowed: the host, the origin, or what the key is not for.",
    404: "There is nothing of that name.",
    405: "Not with this method.",
    409: "Not in this state.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "Too many requests, or a spent budget.",
    500: "Our own fault.",
    502: "The backend cannot be reached, or failed.",
    503: "Too much to do; try again later.",
    504: "The backend did not answer in time.",
    507: "No room for files.",
    529: "Too much to do; try again later.",
}


class Route(Struct, frozen=True):
    """One route as it is described. `path` has OpenAPI's `{names}`; `request` is the Struct of the body, `query` that
    of the query string, `form` that of a form's fields beside the `file` (its name in the form). `optional`: the body
    may be left out; `raw`: it is bytes. `more` are statuses that no other route answers."""

    method: str
    path: str
    summary: str
    request: type[Struct] | None
    tag: str
    query: type[Struct] | None = None
    form: type[Struct] | None = None
    file: str = ""
    optional: bool = False
    raw: bool = False
    more: tuple[int, ...] = ()


def document(routes: Iterable[Route], version: str, access: Callable[[str], Access]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`; `version` is the program's, `access` says who may use a path."""
    routes = tuple(routes)
    shapes = _shapes(routes)
    # One call for all, so that shared parts are named once.
    schemas, components = msgspec.json.schema_components(shapes, ref_template=f"{COMPONENT}{{name}}")
    of = dict(zip(shapes, schemas, strict=True))
    for shape, schema in of.items():
        _complete(components[_name(schema)], shape)
    kinds = {"ResponseItem": _items(of), "ResponseTool": _tools(of)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, of, components, access(route.path))
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    # Those of queries and forms are told where they are used.
    elsewhere = {_name(of[shape]) for route in routes for shape in (route.query, route.form) if shape is not None}
    components = {name: schema for name, schema in components.items() if name not in elsewhere}
    return {
        "openapi": "3.1.0",
        "info": {"title": "oproxy", "version": version, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "security": [{}, *KEYS],
        "paths": paths,
        "components": {
            "schemas": _linked({**components, **kinds, **SCHEMAS}),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "anthropicKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "azureKey": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    }


COMPONENT = "#/components/schemas/"
# A key may come in any of these ways.
KEYS: list[dict[str, list[str]]] = [{"key": []}, {"anthropicKey": []}, {"azureKey": []}]


# --- schemas ----------------------------------------------------------------------------------------------------------


def _shapes(routes: Iterable[Route]) -> list[type[Struct]]:
    found = [shape for route in routes for shape in (route.request, route.query, route.form) if shape is not None]
    return list(dict.fromkeys([*found, *ITEMS.values(), *(tool for tools in TOOLS.values() for tool in tools)]))


def _name(schema: Schema) -> str:
    return str(schema["$ref"]).removeprefix(COMPONENT)


def _complete(schema: Schema, shape: type[Struct]) -> None:
    """Add what no type of a field can say: of which parameters one must be there (`validate.needs`)."""
    groups: tuple[tuple[str, ...], ...] = getattr(shape, "NEEDS", ())
    if groups:
        schema["allOf"] = [
            {"anyOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in group]}
            for group in groups
        ]


def _linked(value: Any) -> Any:
    """Return schemas in which lists name what they hold (`x-items`, `x-any-of`), where the type alone cannot say it."""
    if isinstance(value, list):
        return [_linked(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _linked(each) for key, each in value.items() if key not in ("x-items", "x-any-of")}
    if isinstance(value.get("x-any-of"), list):
        found["anyOf"] = value["x-any-of"]
    if isinstance(value.get("x-items"), str):
        found["items"] = {"$ref": COMPONENT + value["x-items"]}
    return found


def _typed(kind: str, schema: Schema) -> Schema:
    return {"allOf": [schema, {"properties": {"type": {"const": kind}}, "required": ["type"]}]}


def _items(of: Mapping[type[Struct], Schema]) -> Schema:
    """Return the schema of the items that a client sends: `responses_items.kind_of` in words of JSON Schema."""
    untyped: Schema = {"type": {"type": "null"}}
    return {
        "type": "object",
        "description": "A message, a call, its output, a thought …; `type` says which. A message may leave it out.",
        "anyOf": [
            *(_typed(kind, of[shape]) for kind, shape in ITEMS.items()),
            {"allOf": [of[MessageItem], {"properties": untyped}]},
            {"allOf": [of[ReferenceItem], {"properties": {**untyped, "role": False, "content": False}}]},
            {
                "type": "object",
                "description": "What OpenAI's own tools and models leave behind: kept, and left out of the prompt.",
                "properties": {"type": {"enum": list(OTHER_ITEMS)}, "id": {"type": ["string", "null"]}},
                "required": ["type"],
            },
        ],
    }


def _tools(of: Mapping[type[Struct], Schema]) -> Schema:
    """Return the schema of the tools of a response."""
    return {
        "type": "object",
        "anyOf": [
            *(_typed(kind, of[shape]) for kind, shapes in TOOLS.items() for shape in shapes),
            {
                "type": "object",
                "description": "What only OpenAI's own servers run: left out, and named in `x-oproxy-ignored`.",
                "properties": {"type": {"enum": list(HOSTED)}},
                "required": ["type"],
            },
        ],
    }


# --- operations -------------------------------------------------------------------------------------------------------


def _operation(
    route: Route, of: Mapping[type[Struct], Schema], components: Mapping[str, Schema], access: Access
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "parameters": _parameters(route, of, components),
        "responses": {**_successes(route), **_refusals(route, access)},
    }
    if access != "caller":
        # Administrators need a key only from outside, or once keys are asked for at all.
        out["security"] = [] if access == "open" else KEYS
    if body := _body(route, of, components):
        out["requestBody"] = body
    return {key: value for key, value in out.items() if value != [] or key == "security"}


def _parameters(
    route: Route, of: Mapping[type[Struct], Schema], components: Mapping[str, Schema]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": NAMES.get(name, NAME)}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        schema = components[_name(of[route.query])]
        found += [_query(name, each, name in schema["required"]) for name, each in schema["properties"].items()]
    if route.path.startswith(("/v1/messages", "/v1/models")):
        text = "Sent by Anthropic's clients, which get Anthropic's form."
        found.append({"name": "anthropic-version", "in": "header", "description": text, "schema": {"type": "string"}})
    if asks_a_model(route):
        text = "A name for this request in the ledger: `oproxy usage --by tag`."
        found.append({"name": "x-oproxy-tag", "in": "header", "description": text, "schema": {"type": "string"}})
    return found


def _query(name: str, schema: Schema, required: bool) -> dict[str, Any]:
    """Describe a parameter of a query. An empty one says nothing, which is no value to name."""
    rest = {key: value for key, value in schema.items() if key != "description"}
    if rest.get("default") in ("", None, [], {}):
        rest.pop("default", None)
    rest["anyOf"] = [each for each in rest.get("anyOf", ()) if each != {"type": "null"}]
    if not rest["anyOf"]:
        del rest["anyOf"]
    out: dict[str, Any] = {"name": name, "in": "query", "required": required, "schema": rest}
    if rest.get("type") == "object":
        out |= {"style": "deepObject", "explode": True}
    if text := schema.get("description"):
        out["description"] = text
    return out


def _body(route: Route, of: Mapping[type[Struct], Schema], components: Mapping[str, Schema]) -> dict[str, Any] | None:
    if route.request is not None:
        return {"required": not route.optional, "content": {"application/json": {"schema": of[route.request]}}}
    if route.file:
        fields: Schema = {"properties": {}, "required": []}
        if route.form is not None:
            fields = components[_name(of[route.form])]
        schema = {
            "type": "object",
            "properties": {route.file: {"type": "string", "format": "binary"}, **fields["properties"]},
            "required": [route.file, *fields["required"]],
        }
        # Fields that are objects are written `expires_after[seconds]`.
        encoding = {
            name: {"style": "deepObject", "explode": True}
            for name, each in fields["properties"].items()
            if "$ref" in str(each)
        }
        media: dict[str, Any] = {"schema": schema, **({"encoding": encoding} if encoding else {})}
        return {"required": True, "content": {"multipart/form-data": media}}
    if route.raw:
        return {"required": True, "content": {"application/octet-stream": {}}}
    return None


def asks_a_model(route: Route) -> bool:
    """Return whether a model answers."""
    answer = ANSWERS.get((route.method, route.path))
    fields = route.request.__struct_fields__ if route.request is not None else ()
    return "model" in fields and answer is not None and route.tag not in ("oproxy",)


def _successes(route: Route) -> dict[str, Any]:
    answer = ANSWERS[route.method, route.path]
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, (text, when) in HEADERS.items()
        if when == "all" or asks_a_model(route)
    }
    if route.path == "/v1/responses" and route.method == "GET":
        return {"101": {"description": "A WebSocket, over which responses are created.", "headers": headers}}
    out: dict[str, Any] = {"description": "OK", "headers": headers}
    content: dict[str, Any] = {}
    if answer.schema:
        content[answer.type] = {"schema": {"$ref": COMPONENT + answer.schema}}
    elif answer.type:
        content[answer.type] = {"schema": {"type": "string"}} if answer.type.startswith("text/") else {}
    if answer.stream:
        lines = route.path.startswith(("/api/", "/oproxy/"))
        kind = "application/x-ndjson" if lines else "text/event-stream"
        content[kind] = {"schema": {"$ref": COMPONENT + answer.stream}}
    if content:
        out["content"] = content
    return {"200": out}


def _refusals(route: Route, access: Access) -> dict[str, Any]:
    _, name, whose = next(row for row in ERRORS if route.path.startswith(row[0]))
    content = {"application/json": {"schema": {"$ref": COMPONENT + name}}}
    found: dict[str, Any] = {}
    for status in sorted(statuses(route, access)):
        found[str(status)] = {"description": STATUSES[status], "content": content}
        if status in (429, 503, 529):
            found[str(status)]["headers"] = {"retry-after": {"description": RETRY, "schema": {"type": "integer"}}}
    if asks_a_model(route) or route.tag == "Ollama":
        for each in ("4XX", "5XX"):
            found[each] = {"description": f"The backend's own refusal, in {whose} form.", "content": content}
    return found


def statuses(route: Route, access: Access) -> set[int]:
    """Return the statuses that a route refuses with."""
    busy = 529 if route.path.startswith("/v1/messages") else 503
    # Whoever calls by a wrong name, and what is our own fault.
    found = {400, 403, 500, *route.more}
    if access != "open":
        found |= {401, 429, busy}
    if route.request is not None or route.file or route.raw:
        found |= {408, 413}
    if "{" in route.path:
        found.add(404)
    if asks_a_model(route) or route.tag in ("Ollama", "Models", "oproxy"):
        found |= {404, 502, 504}
    return found


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/v1"))
    if route.path == "/health":
        # /v1/health has the name.
        words = ["plain", *words]
    return "_".join([route.method.lower(), *words] if words else [route.method.lower(), "root"])


PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>oproxy</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
"""

# https://github.com/swagger-api/swagger-ui/blob/master/docs/usage/configuration.md
SCRIPT = b"""window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    validatorUrl: null,
  });
});
"""


def docs_page() -> bytes:
    """Return the page of Swagger UI. It loads only what we serve and holds no inline script, for a strict CSP."""
    return PAGE


def init_script() -> bytes:
    """Return /docs/init.js, which starts Swagger UI on the page."""
    return SCRIPT
