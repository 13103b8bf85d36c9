"""The table of routes: what is served, how it is described, and who answers. Everything about routes is printed
from here: the router, the OpenAPI document, the README's table."""

from __future__ import annotations

from aiohttp import web

from .. import assets
from ..translate.openapi import Route
from ..translate.organization import COSTS, KINDS
from ..translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from ..translate.shapes_admin import AdminKeyRequest, KeyRequest, ModelCommand
from ..translate.shapes_queries import AdminKeysQuery, AnthropicModelsQuery, ProjectKeysQuery, RateLimitsQuery
from . import (
    account_keys,
    batches,
    conversations,
    edits,
    elsewhere,
    files,
    generate,
    groups,
    health,
    messages,
    models,
    moderations,
    ollama_api,
    ollama_api_models,
    organization,
    pages,
    responses,
    stored_chat,
    uploads,
)
from .row import Row
from .urls import URLS, Table, Urls

__all__ = ["ROUTES", "add_routes"]


ROUTES: tuple[Row, ...] = (
    Row(Route("POST", "/v1/chat/completions", "Answer a conversation", ChatRequest, "Chat"), generate.chat_completions),
    *stored_chat.ROWS,
    *conversations.ROWS,
    Row(
        Route("POST", "/v1/completions", "Continue a text", CompletionRequest, "Completions"),
        generate.create_completion,
    ),
    Row(Route("POST", "/v1/embeddings", "Embed texts", EmbeddingRequest, "Embeddings"), generate.create_embedding),
    *responses.ROWS,
    *messages.ROWS,
    *moderations.ROWS,
    *edits.ROWS,
    Row(
        Route("GET", "/v1/models", "List the models and aliases", None, "Models", query=AnthropicModelsQuery),
        models.list_models,
    ),
    Row(Route("GET", "/v1/models/{model}", "Describe a model", None, "Models"), models.retrieve_model),
    Row(Route("DELETE", "/v1/models/{model}", "Delete a model from its backend", None, "Models"), models.delete_model),
    *ollama_api.ROWS,
    *ollama_api_models.ROWS,
    *files.ROWS,
    *uploads.ROWS,
    *batches.ROWS,
    Row(Route("GET", "/v1/health", "Tell the state of the daemon and its backends", None, "Daemon"), health.health),
    Row(Route("GET", "/health", "The same, for load balancers", None, "Daemon"), health.health),
    Row(Route("GET", "/", "Say what this is", None, "Daemon"), pages.landing),
    Row(Route("GET", "/openapi.json", "This API's description", None, "Daemon"), pages.description),
    Row(Route("GET", "/docs", "Try the API in a browser", None, "Daemon"), pages.docs),
    Row(Route("GET", "/docs/{name}", "The page's own files", None, "Daemon"), pages.asset),
    *(
        Row(
            Route(
                "GET",
                f"/v1/organization/usage/{kind}",
                f"Sum up the {kind} of a time",
                None,
                "Administration",
                query=KINDS[kind].query,
            ),
            organization.usage_of(kind),
        )
        for kind in ("completions", "embeddings", "moderations")
    ),
    Row(
        Route("GET", "/v1/organization/costs", "Sum up what it cost", None, "Administration", query=COSTS.query),
        organization.costs,
    ),
    Row(
        Route(
            "GET",
            "/v1/organization/projects/{project_id}/api_keys",
            "List the keys",
            None,
            "Administration",
            query=ProjectKeysQuery,
        ),
        organization.project_keys,
    ),
    Row(
        Route("GET", "/v1/organization/projects/{project_id}/api_keys/{key_id}", "Show one", None, "Administration"),
        organization.project_key,
    ),
    Row(
        Route(
            "GET",
            "/v1/organization/projects/{project_id}/rate_limits",
            "List the limits",
            None,
            "Administration",
            query=RateLimitsQuery,
        ),
        organization.rate_limits,
    ),
    Row(
        Route(
            "GET",
            "/v1/organization/admin_api_keys",
            "List the admin keys",
            None,
            "Administration",
            query=AdminKeysQuery,
        ),
        organization.admin_keys,
    ),
    Row(
        Route("POST", "/v1/organization/admin_api_keys", "Make an admin key", AdminKeyRequest, "Administration"),
        organization.create_admin_key,
    ),
    Row(
        Route("GET", "/v1/organization/admin_api_keys/{key_id}", "Show an admin key", None, "Administration"),
        organization.admin_key,
    ),
    Row(
        Route("DELETE", "/v1/organization/admin_api_keys/{key_id}", "Remove an admin key", None, "Administration"),
        organization.delete_admin_key,
    ),
    Row(Route("GET", "/oproxy/models", "All that is known of every model", None, "oproxy"), models.models_in_full),
    Row(Route("GET", "/oproxy/models/{model}", "All that is known of one", None, "oproxy"), models.model_in_full),
    Row(Route("GET", "/oproxy/running", "The models in memory", None, "oproxy"), models.running),
    Row(Route("POST", "/oproxy/pull", "Fetch a model, with progress", ModelCommand, "oproxy"), models.pull),
    Row(Route("POST", "/oproxy/load", "Bring a model into memory", ModelCommand, "oproxy"), models.load),
    Row(Route("POST", "/oproxy/unload", "Take a model out of memory", ModelCommand, "oproxy"), models.unload),
    Row(Route("GET", "/oproxy/keys", "List the keys", None, "oproxy"), account_keys.list_keys),
    Row(Route("POST", "/oproxy/keys", "Make a key", KeyRequest, "oproxy"), account_keys.create_key),
    Row(Route("POST", "/oproxy/keys/{key}", "Change a key", KeyRequest, "oproxy"), account_keys.change_key),
    Row(Route("DELETE", "/oproxy/keys/{key}", "Remove a key", None, "oproxy"), account_keys.remove_key),
    Row(Route("POST", "/oproxy/keys/{key}/rotate", "Give a key a new secret", None, "oproxy"), account_keys.rotate_key),
    Row(Route("GET", "/oproxy/keys/{key}/usage", "Tell what a key used", None, "oproxy"), account_keys.key_usage),
)

# A model's name may hold slashes, raw or as %2F.
PATTERNS = {"{model}": "{model:.+?}"}


def add_routes(app: web.Application) -> None:
    """Register every row, with and without the slash at the end."""
    app[URLS] = Urls(
        Table(f"{row.route.method}\t{row.route.path}" for row in ROUTES if row.route.path != "/"),
        Table(assets.openai_routes()),
    )
    for row in ROUTES:
        path = row.route.path
        for name, pattern in PATTERNS.items():
            path = path.replace(name, pattern)
        if path != "/":
            # First, for a name may hold slashes and would take the last one for its own.
            add(app, row, f"{path}/")
        add(app, row, path)
    # Behind all others: it takes what nobody else does.
    app.router.add_route("*", f"{groups.BASE}{{rest:.*}}", elsewhere.handler())


def add(app: web.Application, row: Row, path: str) -> None:
    """Register one path; what can be read can be asked for without its body too, as probes do."""
    app.router.add_route(row.route.method, path, row.handler)
    if row.route.method == "GET":
        app.router.add_route("HEAD", path, row.handler)
