"""What the routes answer, as JSON Schemas for the API's description. Answers may have more keys than are named here.

Writes nothing: tests compare what the writers write with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["ANSWERS", "ERRORS", "SCHEMAS", "Answer"]

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
SECONDS: Schema = {"type": "integer", "description": "Seconds since 1970."}


class Answer(NamedTuple):
    """What a route answers: JSON of a `schema`, and in a stream events or lines of `stream`; or another `type` of
    content."""

    schema: str = ""
    stream: str = ""
    type: str = "application/json"


def const(*words: str) -> Schema:
    return {"enum": list(words)}


def null_or(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def obj(needed: Mapping[str, Schema], more: Mapping[str, Schema] | None = None, text: str = "") -> Schema:
    """Return the schema of an object: the keys it always has, and those it may have."""
    schema: Schema = {"type": "object", "properties": {**needed, **(more or {})}, "required": list(needed)}
    return {"description": text, **schema} if text else schema


def page(item: Schema) -> Schema:
    """Return the schema of a page of a list."""
    ids = null_or(STRING)
    return obj({"object": const("list"), "data": array(item), "first_id": ids, "last_id": ids, "has_more": BOOLEAN})


def one_of(field: str, members: Mapping[str, Schema]) -> Schema:
    """Return the schema of objects that a field tells apart."""
    return {"oneOf": list(members.values()), "discriminator": {"propertyName": field}}


# --- refusals ---------------------------------------------------------------------------------------------------------

# How a path tells its refusals: by how it begins, the name of the shape and whose it is.
ERRORS = (
    ("/v1/messages", "AnthropicError", "Anthropic's"),
    ("/api/", "OllamaError", "Ollama's"),
    ("/", "Error", "OpenAI's"),
)
REFUSALS: dict[str, Schema] = {
    "Error": obj(
        {
            "error": obj(
                {
                    "message": {**STRING, "description": "What is wrong, for a person."},
                    "type": STRING,
                    "param": {"type": ["string", "null"], "description": "The path of the culprit in the request."},
                    "code": {"type": ["string", "null"], "description": "What is wrong, for a program."},
                }
            )
        }
    ),
    "AnthropicError": obj(
        {"type": const("error"), "error": obj({"type": STRING, "message": STRING}), "request_id": STRING}
    ),
    "OllamaError": obj({"error": STRING}),
}

# --- chat, completions, embeddings ------------------------------------------------------------------------------------

USAGE = obj(
    {"prompt_tokens": INTEGER, "completion_tokens": INTEGER, "total_tokens": INTEGER},
    {"prompt_tokens_details": OBJECT, "completion_tokens_details": OBJECT},
)
FINISH = null_or(const("stop", "length", "tool_calls", "content_filter", "function_call"))
TOOL_CALL = obj({"id": STRING, "type": const("function", "custom")}, {"function": OBJECT, "custom": OBJECT})
HEAD = {"id": STRING, "created": SECONDS, "model": {**STRING, "description": "The name the request asked for."}}
CHAT: dict[str, Schema] = {
    "ChatCompletion": obj(
        {
            **HEAD,
            "object": const("chat.completion"),
            "choices": array(
                obj(
                    {
                        "index": INTEGER,
                        "message": obj(
                            {"role": const("assistant"), "content": null_or(STRING)},
                            {
                                "refusal": null_or(STRING),
                                "tool_calls": null_or(array(TOOL_CALL)),
                                "function_call": null_or(OBJECT),
                                "reasoning_content": null_or(STRING),
                            },
                        ),
                        "finish_reason": FINISH,
                    },
                    {"logprobs": null_or(OBJECT)},
                )
            ),
        },
        {"usage": null_or(USAGE), "service_tier": null_or(STRING), "system_fingerprint": null_or(STRING)},
    ),
    "ChatCompletionChunk": {
        "description": "The data of an event; `[DONE]` comes last. A stream that breaks off ends in an `error`.",
        "anyOf": [
            obj(
                {
                    **HEAD,
                    "object": const("chat.completion.chunk"),
                    "choices": array(
                        obj({"index": INTEGER, "delta": OBJECT}, {"finish_reason": FINISH, "logprobs": null_or(OBJECT)})
                    ),
                },
                {"usage": null_or(USAGE), "obfuscation": STRING},
            ),
            ref("Error"),
        ],
    },
    "Completion": obj(
        {
            **HEAD,
            "object": const("text_completion"),
            "choices": array(
                obj(
                    {"index": INTEGER, "text": STRING},
                    {"finish_reason": FINISH, "logprobs": null_or(OBJECT)},
                )
            ),
        },
        {"usage": null_or(USAGE)},
        "In a stream the same, as the data of each event; `[DONE]` comes last.",
    ),
    "Edit": obj(
        {
            "object": const("edit"),
            "created": SECONDS,
            "choices": array(obj({"text": STRING, "index": INTEGER})),
            "usage": USAGE,
        }
    ),
    "Embeddings": obj(
        {
            "object": const("list"),
            "data": array(
                obj(
                    {
                        "object": const("embedding"),
                        "index": INTEGER,
                        "embedding": {"anyOf": [array(NUMBER), {**STRING, "description": "Base64, of 32-bit floats."}]},
                    }
                )
            ),
            "model": STRING,
            "usage": obj({"prompt_tokens": INTEGER, "total_tokens": INTEGER}),
        }
    ),
    "StoredMessage": obj({"id": STRING, "role": STRING, "content": null_or(STRING)}),
    "ChatCompletionPage": page(ref("ChatCompletion")),
    "StoredMessagePage": page(ref("StoredMessage")),
    "Moderation": obj(
        {
            "id": STRING,
            "model": STRING,
            "results": array(
                obj(
                    {
                        "flagged": BOOLEAN,
                        "categories": {"type": "object", "additionalProperties": {"type": ["boolean", "null"]}},
                        "category_scores": {"type": "object", "additionalProperties": NUMBER},
                    },
                    {"category_applied_input_types": OBJECT},
                )
            ),
        }
    ),
    "Deleted": obj({"id": STRING, "object": STRING, "deleted": {"const": True}}),
}

# --- responses and conversations --------------------------------------------------------------------------------------

PLACE = {"item_id": STRING, "output_index": INTEGER}
CONTENT = {**PLACE, "content_index": INTEGER}
SUMMARY = {**PLACE, "summary_index": INTEGER}
LIFE = {"response": ref("Response")}
ITEM = {"output_index": INTEGER, "item": ref("Item")}
EVENTS: dict[str, dict[str, Schema]] = {
    **{f"response.{word}": LIFE for word in ("created", "queued", "in_progress", "completed", "incomplete", "failed")},
    "response.output_item.added": ITEM,
    "response.output_item.done": ITEM,
    "response.content_part.added": {**CONTENT, "part": OBJECT},
    "response.content_part.done": {**CONTENT, "part": OBJECT},
    "response.output_text.delta": {**CONTENT, "delta": STRING, "logprobs": array(OBJECT)},
    "response.output_text.done": {**CONTENT, "text": STRING, "logprobs": array(OBJECT)},
    "response.refusal.delta": {**CONTENT, "delta": STRING},
    "response.refusal.done": {**CONTENT, "refusal": STRING},
    "response.reasoning_text.delta": {**CONTENT, "delta": STRING},
    "response.reasoning_text.done": {**CONTENT, "text": STRING},
    "response.reasoning_summary_part.added": {**SUMMARY, "part": OBJECT},
    "response.reasoning_summary_part.done": {**SUMMARY, "part": OBJECT},
    "response.reasoning_summary_text.delta": {**SUMMARY, "delta": STRING},
    "response.reasoning_summary_text.done": {**SUMMARY, "text": STRING},
    "response.function_call_arguments.delta": {**PLACE, "delta": STRING},
    "response.function_call_arguments.done": {**PLACE, "arguments": STRING, "name": STRING},
    "response.custom_tool_call_input.delta": {**PLACE, "delta": STRING},
    "response.custom_tool_call_input.done": {**PLACE, "input": STRING},
    "error": {"code": null_or(STRING), "message": STRING, "param": null_or(STRING), "error": OBJECT},
}
RESPONSES: dict[str, Schema] = {
    "Item": obj(
        {"id": STRING, "type": STRING},
        {"status": null_or(STRING), "role": STRING},
        "A message, a call of a tool, its output, a thought …, with all that it had when it came.",
    ),
    "Response": obj(
        {
            "id": STRING,
            "object": const("response"),
            "created_at": NUMBER,
            "status": const("completed", "failed", "in_progress", "cancelled", "queued", "incomplete"),
            "model": STRING,
            "output": array(ref("Item")),
            "error": null_or(obj({"code": STRING, "message": STRING})),
            "incomplete_details": null_or(obj({"reason": STRING})),
            "usage": null_or(obj({"input_tokens": INTEGER, "output_tokens": INTEGER, "total_tokens": INTEGER})),
        },
        {
            "background": null_or(BOOLEAN),
            "conversation": null_or(obj({"id": STRING})),
            "instructions": {},
            "metadata": null_or(OBJECT),
            "previous_response_id": null_or(STRING),
            "tools": array(OBJECT),
        },
    ),
    "ResponseEvent": one_of(
        "type",
        {name: obj({"type": const(name), "sequence_number": INTEGER, **fields}) for name, fields in EVENTS.items()},
    ),
    "InputTokens": obj({"object": const("response.input_tokens"), "input_tokens": INTEGER}),
    "Compaction": obj(
        {
            "id": STRING,
            "object": const("response.compaction"),
            "created_at": NUMBER,
            "output": array(ref("Item")),
            "usage": OBJECT,
        }
    ),
    "ItemPage": page(ref("Item")),
    "Conversation": obj(
        {"id": STRING, "object": const("conversation"), "created_at": SECONDS, "metadata": null_or(OBJECT)}
    ),
}

# --- files, uploads, batches ------------------------------------------------------------------------------------------

FILE_FIELDS = {
    "id": STRING,
    "object": const("file"),
    "bytes": INTEGER,
    "created_at": SECONDS,
    "filename": STRING,
    "purpose": STRING,
    "status": STRING,
}
FILES: dict[str, Schema] = {
    "File": obj(FILE_FIELDS, {"expires_at": null_or(SECONDS), "status_details": null_or(STRING)}),
    "FilePage": page(ref("File")),
    "Upload": obj(
        {
            **FILE_FIELDS,
            "object": const("upload"),
            "status": const("pending", "completed", "cancelled", "expired"),
            "expires_at": SECONDS,
            "file": null_or(ref("File")),
        }
    ),
    "UploadPart": obj({"id": STRING, "object": const("upload.part"), "created_at": SECONDS, "upload_id": STRING}),
    "Batch": obj(
        {
            "id": STRING,
            "object": const("batch"),
            "endpoint": STRING,
            "input_file_id": STRING,
            "completion_window": STRING,
            "status": const(
                *("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling"),
                "cancelled",
            ),
            "created_at": SECONDS,
            "errors": null_or(obj({"object": const("list"), "data": array(obj({"code": STRING, "message": STRING}))})),
            "output_file_id": null_or(STRING),
            "error_file_id": null_or(STRING),
            "request_counts": obj({"total": INTEGER, "completed": INTEGER, "failed": INTEGER}),
            "metadata": null_or(OBJECT),
        },
        {"expires_at": null_or(SECONDS), "model": null_or(STRING), "usage": OBJECT},
    ),
    "BatchPage": page(ref("Batch")),
}

# --- models, administration, the daemon -------------------------------------------------------------------------------

ADMIN_KEY = {
    "id": STRING,
    "object": const("organization.admin_api_key"),
    "name": STRING,
    "redacted_value": STRING,
    "created_at": SECONDS,
    "owner": OBJECT,
}
OTHERS: dict[str, Schema] = {
    "Model": obj(
        {"id": STRING, "object": const("model"), "created": SECONDS, "owned_by": STRING},
        {"shutdown_date": null_or(STRING)},
    ),
    "AnthropicModel": obj({"id": STRING, "type": const("model"), "display_name": STRING, "created_at": STRING}),
    "AnyModel": {"anyOf": [ref("Model"), ref("AnthropicModel")]},
    "Models": {
        "description": "Clients that send `anthropic-version` get Anthropic's form, in pages.",
        "anyOf": [
            obj({"object": const("list"), "data": array(ref("Model"))}),
            obj({"data": array(ref("AnthropicModel")), "has_more": BOOLEAN}),
        ],
    },
    "Buckets": obj(
        {
            "object": const("page"),
            "data": array(
                obj(
                    {
                        "object": const("bucket"),
                        "start_time": SECONDS,
                        "end_time": SECONDS,
                        "results": array(obj({"object": STRING})),
                    }
                )
            ),
            "has_more": BOOLEAN,
            "next_page": null_or(STRING),
        }
    ),
    "ProjectKey": obj(
        {
            "id": STRING,
            "object": const("organization.project.api_key"),
            "name": STRING,
            "redacted_value": STRING,
            "created_at": SECONDS,
            "owner": OBJECT,
            "owner_project_access": const("active", "inactive"),
        }
    ),
    "ProjectKeyPage": page(ref("ProjectKey")),
    "AdminKey": obj(ADMIN_KEY, {"value": {**STRING, "description": "The key itself, only when it is made."}}),
    "AdminKeyPage": page(ref("AdminKey")),
    "RateLimitPage": page(
        obj(
            {
                "id": STRING,
                "object": const("project.rate_limit"),
                "model": STRING,
                "max_requests_per_1_minute": INTEGER,
                "max_tokens_per_1_minute": INTEGER,
            }
        )
    ),
    "Health": obj({"status": const("ok", "degraded"), "version": STRING}, {"backends": array(OBJECT)}),
    "ModelsInFull": obj({"models": array(OBJECT), "aliases": OBJECT, "unreachable": OBJECT}),
    "ModelInFull": obj({"id": STRING, "backend": STRING, "loaded": BOOLEAN, "aliases": array(STRING)}),
    "Running": obj({"running": array(OBJECT)}),
    "Loaded": obj({"model": STRING, "backend": STRING, "loaded": BOOLEAN}),
    "Progress": {
        "description": "A line of a stream: how far it is, or at the end what went wrong.",
        "anyOf": [obj({"status": STRING}, {"total": null_or(INTEGER), "completed": null_or(INTEGER)}), OBJECT],
    },
    "Key": obj(
        {"id": STRING, "name": STRING, "shown": STRING, "created": NUMBER},
        {"key": {**STRING, "description": "The key itself, only when it is made or rotated."}},
    ),
    "Keys": obj({"keys": array(ref("Key"))}),
    "KeyDeleted": obj({"id": STRING, "deleted": {"const": True}}),
    "KeyUsage": obj({"id": STRING, "name": STRING}),
    "Document": obj({"openapi": STRING, "info": OBJECT, "paths": OBJECT}),
}

# --- the neighbours ---------------------------------------------------------------------------------------------------

BLOCK = obj({"type": STRING})
TOKENS = obj({"output_tokens": INTEGER}, {"input_tokens": INTEGER, "cache_read_input_tokens": INTEGER})
ANTHROPIC_EVENTS: dict[str, dict[str, Schema]] = {
    "message_start": {"message": ref("AnthropicMessage")},
    "content_block_start": {"index": INTEGER, "content_block": BLOCK},
    "content_block_delta": {"index": INTEGER, "delta": BLOCK},
    "content_block_stop": {"index": INTEGER},
    "message_delta": {"delta": OBJECT, "usage": TOKENS},
    "message_stop": {},
    "ping": {},
    "error": {"error": obj({"type": STRING, "message": STRING})},
}
LINE = {"model": STRING, "created_at": STRING, "done": BOOLEAN}
LAST: dict[str, Schema] = {
    "done_reason": STRING,
    **dict.fromkeys(
        ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
        INTEGER,
    ),
}
TAGS = array(obj({"name": STRING, "model": STRING}))
NEIGHBOURS: dict[str, Schema] = {
    "AnthropicMessage": obj(
        {
            "id": STRING,
            "type": const("message"),
            "role": const("assistant"),
            "model": {**STRING, "description": "The name the request asked for."},
            "content": array(BLOCK),
            "stop_reason": null_or(STRING),
            "stop_sequence": null_or(STRING),
            "usage": TOKENS,
        }
    ),
    "AnthropicEvent": one_of(
        "type", {name: obj({"type": const(name), **fields}) for name, fields in ANTHROPIC_EVENTS.items()}
    ),
    "AnthropicCount": obj({"input_tokens": INTEGER}),
    "OllamaChat": obj(
        {
            **LINE,
            "message": obj({"role": STRING, "content": STRING}, {"thinking": STRING, "tool_calls": array(OBJECT)}),
        },
        LAST,
    ),
    "OllamaChatLine": {"anyOf": [ref("OllamaChat"), ref("OllamaError")]},
    "OllamaText": obj({**LINE, "response": STRING}, {"thinking": STRING, **LAST}),
    "OllamaTextLine": {"anyOf": [ref("OllamaText"), ref("OllamaError")]},
    "OllamaVectors": obj({"model": STRING, "embeddings": array(array(NUMBER))}),
    "OllamaVector": obj({"embedding": array(NUMBER)}),
    "OllamaModels": obj({"models": TAGS}),
    "OllamaVersion": obj({"version": STRING}),
    "OllamaShow": obj({"details": OBJECT, "model_info": OBJECT}, {"capabilities": array(STRING)}),
    "OllamaStatus": obj({"cloud": OBJECT}),
    "OllamaProgress": {"anyOf": [obj({"status": STRING}), ref("OllamaError")]},
    "Anything": {"description": "Whatever the Ollama behind answers."},
}

SCHEMAS: dict[str, Schema] = {**REFUSALS, **CHAT, **RESPONSES, **FILES, **OTHERS, **NEIGHBOURS}

CHATS = "/v1/chat/completions"
CONVERSATION = "/v1/conversations/{conversation_id}"
PROJECT = "/v1/organization/projects/{project_id}"
ANSWERS: dict[tuple[str, str], Answer] = {
    ("POST", CHATS): Answer("ChatCompletion", "ChatCompletionChunk"),
    ("GET", CHATS): Answer("ChatCompletionPage"),
    ("GET", f"{CHATS}/{{completion_id}}"): Answer("ChatCompletion"),
    ("POST", f"{CHATS}/{{completion_id}}"): Answer("ChatCompletion"),
    ("DELETE", f"{CHATS}/{{completion_id}}"): Answer("Deleted"),
    ("GET", f"{CHATS}/{{completion_id}}/messages"): Answer("StoredMessagePage"),
    ("POST", "/v1/completions"): Answer("Completion", "Completion"),
    ("POST", "/v1/edits"): Answer("Edit"),
    ("POST", "/v1/embeddings"): Answer("Embeddings"),
    ("POST", "/v1/moderations"): Answer("Moderation"),
    ("POST", "/v1/responses"): Answer("Response", "ResponseEvent"),
    ("GET", "/v1/responses"): Answer("", "", ""),
    ("POST", "/v1/responses/input_tokens"): Answer("InputTokens"),
    ("POST", "/v1/responses/compact"): Answer("Compaction"),
    ("GET", "/v1/responses/{response_id}"): Answer("Response", "ResponseEvent"),
    ("DELETE", "/v1/responses/{response_id}"): Answer("Deleted"),
    ("POST", "/v1/responses/{response_id}/cancel"): Answer("Response"),
    ("GET", "/v1/responses/{response_id}/input_items"): Answer("ItemPage"),
    ("POST", "/v1/conversations"): Answer("Conversation"),
    ("GET", CONVERSATION): Answer("Conversation"),
    ("POST", CONVERSATION): Answer("Conversation"),
    ("DELETE", CONVERSATION): Answer("Deleted"),
    ("POST", f"{CONVERSATION}/items"): Answer("ItemPage"),
    ("GET", f"{CONVERSATION}/items"): Answer("ItemPage"),
    ("GET", f"{CONVERSATION}/items/{{item_id}}"): Answer("Item"),
    ("DELETE", f"{CONVERSATION}/items/{{item_id}}"): Answer("Conversation"),
    ("POST", "/v1/files"): Answer("File"),
    ("GET", "/v1/files"): Answer("FilePage"),
    ("GET", "/v1/files/{file_id}"): Answer("File"),
    ("DELETE", "/v1/files/{file_id}"): Answer("Deleted"),
    ("GET", "/v1/files/{file_id}/content"): Answer(type="application/octet-stream"),
    ("POST", "/v1/uploads"): Answer("Upload"),
    ("POST", "/v1/uploads/{upload_id}/parts"): Answer("UploadPart"),
    ("POST", "/v1/uploads/{upload_id}/complete"): Answer("Upload"),
    ("POST", "/v1/uploads/{upload_id}/cancel"): Answer("Upload"),
    ("POST", "/v1/batches"): Answer("Batch"),
    ("GET", "/v1/batches"): Answer("BatchPage"),
    ("GET", "/v1/batches/{batch_id}"): Answer("Batch"),
    ("POST", "/v1/batches/{batch_id}/cancel"): Answer("Batch"),
    ("GET", "/v1/models"): Answer("Models"),
    ("GET", "/v1/models/{model}"): Answer("AnyModel"),
    ("DELETE", "/v1/models/{model}"): Answer("Deleted"),
    **{("GET", f"/v1/organization/usage/{kind}"): Answer("Buckets") for kind in ("completions", "embeddings")},
    ("GET", "/v1/organization/usage/moderations"): Answer("Buckets"),
    ("GET", "/v1/organization/costs"): Answer("Buckets"),
    ("GET", f"{PROJECT}/api_keys"): Answer("ProjectKeyPage"),
    ("GET", f"{PROJECT}/api_keys/{{key_id}}"): Answer("ProjectKey"),
    ("GET", f"{PROJECT}/rate_limits"): Answer("RateLimitPage"),
    ("GET", "/v1/organization/admin_api_keys"): Answer("AdminKeyPage"),
    ("POST", "/v1/organization/admin_api_keys"): Answer("AdminKey"),
    ("GET", "/v1/organization/admin_api_keys/{key_id}"): Answer("AdminKey"),
    ("DELETE", "/v1/organization/admin_api_keys/{key_id}"): Answer("Deleted"),
    ("POST", "/v1/messages"): Answer("AnthropicMessage", "AnthropicEvent"),
    ("POST", "/v1/messages/count_tokens"): Answer("AnthropicCount"),
    ("POST", "/api/chat"): Answer("OllamaChat", "OllamaChatLine"),
    ("POST", "/api/generate"): Answer("OllamaText", "OllamaTextLine"),
    ("POST", "/api/embed"): Answer("OllamaVectors"),
    ("POST", "/api/embeddings"): Answer("OllamaVector"),
    ("GET", "/api/tags"): Answer("OllamaModels"),
    ("GET", "/api/ps"): Answer("OllamaModels"),
    ("GET", "/api/version"): Answer("OllamaVersion"),
    ("GET", "/api/status"): Answer("OllamaStatus"),
    ("POST", "/api/show"): Answer("OllamaShow"),
    **{("POST", f"/api/{verb}"): Answer("OllamaProgress", "OllamaProgress") for verb in ("pull", "push", "create")},
    ("POST", "/api/copy"): Answer("", "", ""),
    ("DELETE", "/api/delete"): Answer("", "", ""),
    ("HEAD", "/api/blobs/{digest}"): Answer("", "", ""),
    ("POST", "/api/blobs/{digest}"): Answer("", "", ""),
    ("POST", "/api/me"): Answer("Anything"),
    ("POST", "/api/signout"): Answer("Anything"),
    ("GET", "/v1/health"): Answer("Health"),
    ("GET", "/health"): Answer("Health"),
    ("GET", "/"): Answer(type="text/plain"),
    ("GET", "/docs"): Answer(type="text/html"),
    ("GET", "/docs/{name}"): Answer(type="*/*"),
    ("GET", "/openapi.json"): Answer("Document"),
    ("GET", "/oproxy/models"): Answer("ModelsInFull"),
    ("GET", "/oproxy/models/{model}"): Answer("ModelInFull"),
    ("GET", "/oproxy/running"): Answer("Running"),
    ("POST", "/oproxy/pull"): Answer("", "Progress", ""),
    ("POST", "/oproxy/load"): Answer("Loaded"),
    ("POST", "/oproxy/unload"): Answer("Loaded"),
    ("GET", "/oproxy/keys"): Answer("Keys"),
    ("POST", "/oproxy/keys"): Answer("Key"),
    ("POST", "/oproxy/keys/{key}"): Answer("Key"),
    ("DELETE", "/oproxy/keys/{key}"): Answer("KeyDeleted"),
    ("POST", "/oproxy/keys/{key}/rotate"): Answer("Key"),
    ("GET", "/oproxy/keys/{key}/usage"): Answer("KeyUsage"),
}
