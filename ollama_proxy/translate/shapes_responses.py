"""The wire shapes of /v1/responses: the request, the items of its input and the parts of their content. Declared once,
as in `shapes.py`; nothing is interpreted here.

Items are checked one by one, by their type (`responses_items.py`): what kinds there are grows with every model, and
those that mean nothing to us are kept as they came.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from .shapes import INT32, Metadata, Model, Temperature, TopP, User
from .shapes_chat import FormatObject, FormatText, InputAudio, JsonObject, ToolName

__all__ = [
    "ITEMS",
    "OTHER_ITEMS",
    "CompactRequest",
    "Content",
    "CountRequest",
    "OtherItem",
    "ResponsesRequest",
]

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
# Items and tools are checked one by one; the API's description links the schemas of all kinds (`openapi`).
Items = Annotated[list[JsonObject], Meta(extra_json_schema={"x-items": "ResponseItem"})]
Tools = Annotated[list[JsonObject], Meta(extra_json_schema={"x-items": "ResponseTool"})]
WHAT = "What to answer: a text, or items (messages, calls, results …)."
Input = Annotated[str | Items | None, Meta(description=WHAT)]
Choice = Annotated[
    JsonObject, Meta(extra_json_schema={"required": ["type"], "properties": {"type": {"type": "string"}}})
]


# --- parts of a message -----------------------------------------------------------------------------------------


class InputText(Struct, tag="input_text"):
    """Text a person wrote."""

    text: str


class OutputText(Struct, tag="output_text"):
    """Text the model wrote."""

    text: str


class PlainText(Struct, tag="text"):
    """Text, as clients write it that speak both APIs."""

    text: str


class RefusalText(Struct, tag="refusal"):
    """A refusal the model gave."""

    refusal: str


class InputImage(Struct, tag="input_image"):
    """An image: a URL (or data URI), or an uploaded file."""

    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputFile(Struct, tag="input_file"):
    """A file: its content, or an uploaded one."""

    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class AudioInput(Struct, tag="input_audio"):
    """Sound."""

    input_audio: InputAudio


Content = InputText | OutputText | PlainText | RefusalText | InputImage | InputFile | AudioInput


# --- items ------------------------------------------------------------------------------------------------------


class MessageItem(Struct):
    """A message. Clients leave `type` away."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]
    type: Literal["message"] | None = None
    id: str | None = None


class FunctionCallItem(Struct):
    """A call of a function by the model."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    namespace: str | None = None


class CustomCallItem(Struct):
    """A call of a custom tool by the model."""

    call_id: str
    name: str
    input: str
    id: str | None = None
    namespace: str | None = None


class CallOutputItem(Struct):
    """What a function or a custom tool answered."""

    call_id: str
    output: str | list[Content]
    id: str | None = None


class SummaryPart(Struct):
    """A part of a summary of thoughts, or of the thoughts themselves."""

    text: str
    type: str | None = None


class ReasoningItem(Struct):
    """What the model thought."""

    summary: list[SummaryPart] | None = None
    content: list[SummaryPart] | None = None
    encrypted_content: str | None = None
    id: str | None = None


class CompactionItem(Struct):
    """A conversation made short."""

    encrypted_content: str
    id: str | None = None


class AdditionalToolsItem(Struct):
    """More tools, from here on."""

    tools: Tools
    id: str | None = None


class ReferenceItem(Struct):
    """An item that is kept here, by its id. Its `type` may be null."""

    id: str


class OtherItem(Struct):
    """An item that means nothing here."""

    id: str | None = None


# The kinds of items that are understood.
ITEMS: dict[str, type[Struct]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "function_call_output": CallOutputItem,
    "custom_tool_call": CustomCallItem,
    "custom_tool_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
    "compaction": CompactionItem,
    "additional_tools": AdditionalToolsItem,
    "item_reference": ReferenceItem,
}
# Those that OpenAI's own tools and models leave behind: kept, and left out of the prompt.
OTHER_ITEMS = (
    "agent_message",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "multi_agent_call",
    "multi_agent_call_output",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
)


# --- the request ------------------------------------------------------------------------------------------------


class FormatSchema(Struct, tag="json_schema"):
    """JSON that fits a schema."""

    name: ToolName
    schema: JsonObject
    strict: bool | None = None
    description: str | None = None


class TextOptions(Struct):
    """The form of the answer's text."""

    format: FormatText | FormatObject | FormatSchema | None = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, Meta(description="Has no effect.")] = None


class ReasoningOptions(Struct):
    """How much to think, and what to show of it."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Annotated[
        Literal["auto", "concise", "detailed"] | None, Meta(description="Show the thinking as a summary.")
    ] = None
    generate_summary: Annotated[
        Literal["auto", "concise", "detailed"] | None, Meta(description="Deprecated: use `summary`.")
    ] = None
    context: Annotated[Literal["auto", "current_turn", "all_turns"] | None, Meta(description="Has no effect.")] = None
    mode: Annotated[Literal["standard", "pro"] | None, Meta(description="Has no effect.")] = None


class ConversationRef(Struct):
    """A conversation, by its id."""

    id: str


class StoredPrompt(Struct):
    """A prompt kept at OpenAI."""

    id: str
    version: str | None = None
    variables: JsonObject | None = None


class ResponseStreamOptions(Struct):
    """What a stream carries beside the answer."""

    include_obfuscation: Annotated[bool | None, Meta(description="Pad the events. Off by default here.")] = None


class ResponsesRequest(Struct):
    """The body of POST /v1/responses."""

    NEEDS: ClassVar = (("input", "previous_response_id", "prompt", "conversation"),)

    model: Model
    input: Annotated[str | Annotated[Items, Meta(min_length=1)] | None, Meta(description=WHAT)] = None
    instructions: Annotated[str | None, Meta(description="Put in front as a system message; not inherited.")] = None
    previous_response_id: Annotated[str | None, Meta(description="Go on from this response.")] = None
    conversation: Annotated[str | ConversationRef | None, Meta(description="Go on with this conversation.")] = None
    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events.")] = None
    stream_options: ResponseStreamOptions | None = None
    background: Annotated[bool | None, Meta(description="Answer later: the response is asked for by its id.")] = None
    store: Annotated[bool | None, Meta(description="Keep the response; true if not said.")] = None
    max_output_tokens: (
        Annotated[int, Meta(ge=16, le=INT32, description="At most this many tokens, thinking included.")] | None
    ) = None
    max_tool_calls: (
        Annotated[int, Meta(ge=1, le=INT32, description="Of OpenAI's own tools, which are not here.")] | None
    ) = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20, description="Alternatives of each token.")] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | Choice | None = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="False: at most one tool call an answer.")] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None, Meta(description="auto: drop the oldest items if the prompt is too long.")
    ] = None
    include: list[Include] | None = None
    metadata: Metadata | None = None
    user: User | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt: Annotated[StoredPrompt | None, Meta(description="Refused: there are none here.")] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None,
        Meta(description="Has no effect."),
    ] = None
    prompt_cache_key: Annotated[str | None, Meta(description="Has no effect.")] = None
    prompt_cache_retention: Annotated[str | None, Meta(description="Has no effect.")] = None
    prompt_cache_options: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    context_management: Annotated[list[JsonObject] | None, Meta(description="Has no effect.")] = None
    moderation: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None
    client_metadata: Annotated[Any, Meta(description="Accepted, as Codex sends it.")] = None


class CountRequest(Struct):
    """The body of POST /v1/responses/input_tokens."""

    model: Model | None = None
    input: Input = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    personality: Annotated[str | None, Meta(description="Has no effect.")] = None


class CompactRequest(Struct):
    """The body of POST /v1/responses/compact."""

    NEEDS: ClassVar = (("input", "previous_response_id"),)

    model: Model
    input: Input = None
    instructions: str | None = None
    previous_response_id: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: JsonObject | None = None
