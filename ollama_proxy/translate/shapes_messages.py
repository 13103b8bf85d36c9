"""The request bodies of Anthropic's /v1/messages and /v1/messages/count_tokens, declared once.

As in `shapes.py`: types and ranges are validation, documentation and OpenAPI schema at once; every optional field
takes null; keys that are not listed are accepted and reported (`x-oproxy-ignored`). `cache_control` is taken
everywhere: a local backend reuses the beginning of a prompt by itself. Nothing is interpreted here.
https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .shapes import INT32, Count, Model

JsonObject = dict[str, Any]
Id = Annotated[str, Meta(min_length=1)]


# --- where content comes from ---------------------------------------------------------------------------------------


class Base64Source(Struct, tag="base64"):
    """Bytes, base64."""

    media_type: str
    data: str


class UrlSource(Struct, tag="url"):
    """An address, which oproxy fetches (images only)."""

    url: str


class FileSource(Struct, tag="file"):
    """An uploaded file."""

    file_id: str


class PlainSource(Struct, tag="text"):
    """Plain text."""

    data: str
    media_type: str | None = None


# --- blocks ---------------------------------------------------------------------------------------------------------


class TextBlock(Struct, tag="text"):
    """Plain text."""

    text: str


class ImageBlock(Struct, tag="image"):
    """An image: png, jpeg, webp or gif."""

    source: Base64Source | UrlSource | FileSource


class BlocksSource(Struct, tag="content"):
    """A document given as blocks."""

    content: str | list[TextBlock | ImageBlock]


class Citations(Struct):
    """Whether the answer shall cite the document. Has no effect."""

    enabled: bool | None = None


class DocumentBlock(Struct, tag="document"):
    """A document; text is put into the prompt."""

    source: Base64Source | UrlSource | FileSource | PlainSource | BlocksSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class SearchResultBlock(Struct, tag="search_result"):
    """Something found by the client's own search."""

    source: str
    title: str
    content: list[TextBlock]
    citations: Citations | None = None


class ThinkingBlock(Struct, tag="thinking"):
    """What the model thought, as it was returned."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Struct, tag="redacted_thinking"):
    """A thought that only its author can read."""

    data: str


class ToolUseBlock(Struct, tag="tool_use"):
    """A call the model made. The name is not checked: models invent names, and clients send them back."""

    id: Id
    name: str
    input: JsonObject


class ToolReference(Struct, tag="tool_reference"):
    """A tool that the client's own tool search found."""

    tool_name: str


class ToolResultBlock(Struct, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: Id
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReference] | None = None
    is_error: bool | None = None


class CompactionBlock(Struct, tag="compaction"):
    """What the conversation before it was about."""

    content: str | None = None


# What only Anthropic's own servers make and understand. A client that changes its address in mid-conversation sends
# them; they are left out of the prompt and named.


class ServerToolUse(Struct, tag="server_tool_use"):
    """A call that Anthropic's servers answered."""


class McpToolUse(Struct, tag="mcp_tool_use"):
    """A call of an MCP server that Anthropic's servers made."""


class McpToolResult(Struct, tag="mcp_tool_result"):
    """Its answer."""


class WebSearchResult(Struct, tag="web_search_tool_result"):
    """What was found on the web."""


class WebFetchResult(Struct, tag="web_fetch_tool_result"):
    """What was read on the web."""


class CodeResult(Struct, tag="code_execution_tool_result"):
    """What a program printed."""


class BashCodeResult(Struct, tag="bash_code_execution_tool_result"):
    """What a shell printed."""


class EditorCodeResult(Struct, tag="text_editor_code_execution_tool_result"):
    """What an editor did."""


class ToolSearchResult(Struct, tag="tool_search_tool_result"):
    """Which tools were found."""


class ContainerUpload(Struct, tag="container_upload"):
    """A file for a container."""


Foreign = (
    ServerToolUse
    | McpToolUse
    | McpToolResult
    | WebSearchResult
    | WebFetchResult
    | CodeResult
    | BashCodeResult
    | EditorCodeResult
    | ToolSearchResult
    | ContainerUpload
)
Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | CompactionBlock
    | Foreign
)


class Turn(Struct):
    """One turn of the conversation. `system` in the middle is an instruction from there on."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


# --- tools ----------------------------------------------------------------------------------------------------------


class ToolDef(Struct):
    """A tool: the client's own (`input_schema`), or by `type` one that Anthropic defines."""

    name: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$")] | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Annotated[JsonObject | None, Meta(description="A JSON Schema of the arguments.")] = None
    input_examples: list[JsonObject] | None = None


class ChoiceAuto(Struct, tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class ChoiceAny(Struct, tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool | None = None


class ChoiceTool(Struct, tag="tool"):
    """This tool must be called."""

    name: str
    disable_parallel_tool_use: bool | None = None


class ChoiceNone(Struct, tag="none"):
    """No tool may be called."""


# --- thinking, output, metadata -------------------------------------------------------------------------------------

Display = Annotated[
    Literal["summarized", "omitted", "updates"] | None,
    Meta(description="`omitted`: only a signature of the thoughts comes back; `updates`: the same as `summarized`."),
]
# How strictly thoughts that come back are held against the conversation. Ours are sealed with their text alone.
Binding = dict[str, Any] | None


class ThinkingEnabled(Struct, tag="enabled"):
    """Think, up to about so many tokens."""

    budget_tokens: Annotated[int, Meta(ge=1024, le=INT32)]
    display: Display = None
    block_binding: Binding = None


class ThinkingAdaptive(Struct, tag="adaptive"):
    """Think as much as `output_config.effort` says."""

    display: Display = None
    block_binding: Binding = None


class ThinkingBetween(Struct, tag="between_tools"):
    """Think between the calls of tools; the same as adaptive here."""

    display: Display = None
    block_binding: Binding = None


class ThinkingDisabled(Struct, tag="disabled"):
    """Do not think."""


class OutputSchema(Struct, tag="json_schema"):
    """JSON that fits a schema."""

    schema: JsonObject


class OutputConfig(Struct):
    """How the answer shall be."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputSchema | None = None
    task_budget: Annotated[JsonObject | None, Meta(description="Has no effect.")] = None


class ThreadCreate(Struct, tag="create"):
    """Hold this conversation at the server."""


class ThreadContinue(Struct, tag="continue"):
    """Go on from a message that the server holds; only the new turn is sent."""

    previous_message_id: Id


class Compaction(Struct, tag="summarize"):
    """Answer with a summary of the conversation and nothing else."""

    instructions: str | None = None


class MessagesMetadata(Struct):
    """Who asks."""

    user_id: Annotated[str | None, Meta(description="Kept in the records as the request's tag.")] = None


# --- the requests ---------------------------------------------------------------------------------------------------


class CountTokensRequest(Struct, kw_only=True):
    """The body of POST /v1/messages/count_tokens."""

    model: Model
    messages: Annotated[list[Turn], Meta(min_length=1, description="The conversation so far.")]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDef] | None = None
    tool_choice: ChoiceAuto | ChoiceAny | ChoiceTool | ChoiceNone | None = None
    thinking: ThinkingEnabled | ThinkingAdaptive | ThinkingBetween | ThinkingDisabled | None = None
    output_config: OutputConfig | None = None
    output_format: Annotated[OutputSchema | None, Meta(description="The older place of `output_config.format`.")] = None
    cache_control: Annotated[Any, Meta(description="Beginnings of prompts are always reused.")] = None
    thread: Annotated[
        ThreadCreate | ThreadContinue | None,
        Meta(description="Refused: no conversation is held here. Anthropic's SDKs then send all of it."),
    ] = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """The body of POST /v1/messages."""

    max_tokens: Annotated[Count, Meta(description="At most this many tokens, thinking included.")]
    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events.")] = None
    stop_sequences: Annotated[list[str] | None, Meta(description="Texts that end the answer.")] = None
    temperature: Annotated[float, Meta(ge=0, le=1, description="Higher is more random.")] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=INT32)] | None = None
    metadata: MessagesMetadata | None = None
    service_tier: Annotated[Literal["auto", "standard_only"] | None, Meta(description="There is one tier.")] = None
    compaction: Annotated[Compaction | None, Meta(description="Refused: ask for a summary in a message.")] = None
    container: Annotated[JsonObject | str | None, Meta(description="Refused: there are no containers here.")] = None
