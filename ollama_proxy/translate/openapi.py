"""The API's description (OpenAPI 3.1) and its page, printed from the declarations that validate.

The server hands in its table of routes; the schemas are made from the request Structs. Serves nothing, reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Route", "docs_page", "document", "init_script"]

ABOUT = (
    "OpenAI's API on this machine, answered by local models. "
    "Every optional parameter may be null; keys that are not listed are accepted and named in `x-oproxy-ignored`."
)

# How a path tells its refusals: by how it begins, the name of the shape and whose it is.
REFUSALS = (
    ("/v1/messages", "AnthropicError", "Anthropic's"),
    ("/api/", "OllamaError", "Ollama's"),
    ("/", "Error", "OpenAI's"),
)

# What is answered, by path; the rest answers some JSON.
COUNTS = {
    "type": "object",
    "properties": {
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "What is wrong, for a person."},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"], "description": "The path of the culprit in the request."},
                    "code": {"type": ["string", "null"], "description": "What is wrong, for a program."},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
    "OllamaError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "AnthropicAnswer": {
        "type": "object",
        "required": ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
        "properties": {
            "id": {"type": "string"},
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": {"type": "string", "description": "The name the request asked for."},
            "content": {"type": "array", "items": {"type": "object"}},
            "stop_reason": {"type": ["string", "null"]},
            "stop_sequence": {"type": ["string", "null"]},
            "usage": {
                "type": "object",
                "properties": {
                    "input_tokens": {"type": "integer", "description": "Without those read from the cache."},
                    "cache_read_input_tokens": {"type": "integer"},
                    "output_tokens": {"type": "integer"},
                },
            },
        },
    },
    "AnthropicCount": {
        "type": "object",
        "required": ["input_tokens"],
        "properties": {"input_tokens": {"type": "integer"}},
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer", "description": "Seconds since 1970."},
            "owned_by": {"type": "string"},
            "shutdown_date": {"type": ["string", "null"]},
        },
    },
    "Answer": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"type": "string"},
            "created": {"type": "integer", "description": "Seconds since 1970."},
            "model": {"type": "string", "description": "The name the request asked for."},
            "choices": {"type": "array", "items": {"type": "object"}},
            "usage": COUNTS,
        },
    },
    "List": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object"}}},
    },
    "Deleted": {
        "type": "object",
        "required": ["id", "object", "deleted"],
        "properties": {"id": {"type": "string"}, "object": {"type": "string"}, "deleted": {"type": "boolean"}},
    },
}
ANSWERS = {
    ("POST", "/v1/chat/completions"): "Answer",
    ("POST", "/v1/completions"): "Answer",
    ("POST", "/v1/embeddings"): "List",
    ("POST", "/v1/messages"): "AnthropicAnswer",
    ("POST", "/v1/messages/count_tokens"): "AnthropicCount",
    ("GET", "/v1/models"): "List",
    ("GET", "/v1/models/{model}"): "Model",
    ("DELETE", "/v1/models/{model}"): "Deleted",
}
# The streams that end in [DONE].
DONE = ("/v1/chat/completions", "/v1/completions")
# The routes that are no JSON.
TEXTS = {"/": "text/plain", "/docs": "text/html", "/docs/{name}": "application/octet-stream"}


class Route(Struct, frozen=True):
    """One route as it is described. `path` has OpenAPI's `{names}`; `request` is the Struct of the body, if any."""

    method: str
    path: str
    summary: str
    request: type[Struct] | None
    tag: str


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`; `version` is the program's."""
    routes = tuple(routes)
    bodies = [route.request for route in routes if route.request is not None]
    # One call for all, so that shared parts are named once.
    schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    of = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        body = of[route.request] if route.request is not None else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "oproxy", "version": version, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, **SCHEMAS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, body: dict[str, Any] | None) -> dict[str, Any]:
    out: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "responses": {"200": _response(route, body), **dict.fromkeys(("4XX", "5XX"), _refusal(route.path))},
    }
    if names := re.findall(r"{(\w+)}", route.path):
        out["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if body is not None:
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return out


def _response(route: Route, body: dict[str, Any] | None) -> dict[str, Any]:
    if route.path in TEXTS:
        return {"description": "OK", "content": {TEXTS[route.path]: {"schema": {"type": "string"}}}}
    name = ANSWERS.get((route.method, route.path))
    schema = {"$ref": f"#/components/schemas/{name}"} if name else {"type": "object"}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if route.request is not None and "stream" in route.request.__struct_fields__:
        kind = "application/x-ndjson" if route.path.startswith("/api/") else "text/event-stream"
        words = "a line" if kind == "application/x-ndjson" else "an event"
        words += ", `[DONE]` at the end" if route.path in DONE else ""
        content[kind] = {"schema": {"type": "string", "description": f"With `stream`: one JSON object {words}."}}
    return {"description": "OK", "content": content}


def _refusal(path: str) -> dict[str, Any]:
    _, name, whose = next(row for row in REFUSALS if path.startswith(row[0]))
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {
        "description": f"A refusal, in {whose} shape.",
        "content": {"application/json": {"schema": schema}},
    }


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/v1"))
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
