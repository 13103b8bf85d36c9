"""The wire shapes inside a chat request: messages, their parts, tools, answer formats. Declared once.

These Structs are the validation (`validate.py`), the documentation and the OpenAPI schemas at once. They hold types
and ranges only; what the fields mean together is `chat.py`'s. Where OpenAI's schema and what its API really takes
differ, the API wins; where real clients send more than OpenAI takes, a line says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

# A participant's name, as the API itself checks it.
Participant = Annotated[str, Meta(pattern=r"^[^\s<|\\/>]+$", max_length=64, description="The participant's name.")]
# OpenAI says a-z, A-Z, 0-9, underscores and dashes, at most 64.
ToolName = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$", description="The name the model calls it by.")
]
JsonObject = dict[str, Any]


# --- parts of a message -----------------------------------------------------------------------------------------


class TextPart(Struct, tag="text"):
    """Plain text."""

    text: Annotated[str, Meta(description="The text.")]


class RefusalPart(Struct, tag="refusal"):
    """A refusal the assistant gave earlier."""

    refusal: Annotated[str, Meta(description="The refusal.")]


class ImageUrl(Struct):
    """Where an image is."""

    url: Annotated[str, Meta(description="A data URI (png, jpeg, webp, gif) or an http(s) URL, which oproxy fetches.")]
    detail: Annotated[Literal["auto", "low", "high"] | None, Meta(description="Has no effect on local models.")] = None


class ImagePart(Struct, tag="image_url"):
    """An image. Ollama's clients send the bare URL where OpenAI's send an object."""

    image_url: ImageUrl | str


class InputAudio(Struct):
    """Sound, base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Struct, tag="input_audio"):
    """Sound."""

    input_audio: InputAudio


class FileData(Struct):
    """A file, by content or by id."""

    file_data: Annotated[str | None, Meta(description="The content: a data URI or base64.")] = None
    filename: str | None = None
    file_id: str | None = None


class FilePart(Struct, tag="file"):
    """A file; text files are put into the prompt."""

    file: FileData


# --- messages -----------------------------------------------------------------------------------------------------

UserPart = TextPart | ImagePart | AudioPart | FilePart | RefusalPart
TextContent = str | Annotated[list[TextPart], Meta(min_length=1)]
UserContent = str | Annotated[list[UserPart], Meta(min_length=1)]
# Tools that look at the screen answer with images.
ToolContent = str | Annotated[list[TextPart | ImagePart | FilePart], Meta(min_length=1)]


class SystemMessage(Struct, tag_field="role", tag="system"):
    """Instructions."""

    content: TextContent
    name: Participant | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    """Instructions, in the name newer OpenAI models give the role; the same as `system` here."""

    content: TextContent
    name: Participant | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    """What the person says."""

    content: UserContent
    name: Participant | None = None


class CalledFunction(Struct):
    """A call as the model wrote it. The name is not checked: models invent names, and clients send them back."""

    name: str
    arguments: Annotated[str, Meta(description="A JSON object, as text.")]


class CalledCustom(Struct):
    """A call of a custom tool."""

    name: str
    input: str


class FunctionCall(Struct, tag="function"):
    """An earlier call of a function."""

    id: str
    function: CalledFunction


class CustomCall(Struct, tag="custom"):
    """An earlier call of a custom tool."""

    id: str
    custom: CalledCustom


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    """What the model said earlier. Clients also send `tool_calls: []` and `content: []`, which OpenAI refuses."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    name: Participant | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: Annotated[CalledFunction | None, Meta(description="Deprecated: use `tool_calls`.")] = None
    reasoning_content: Annotated[str | None, Meta(description="What the model thought, as oproxy returned it.")] = None
    reasoning: Annotated[str | None, Meta(description="The same under its other usual name.")] = None
    audio: JsonObject | None = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    """What a tool answered."""

    tool_call_id: Annotated[str, Meta(description="The id of the call this answers.")]
    content: ToolContent
    name: str | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    """What a function answered. Deprecated: use `tool`."""

    name: str
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


# --- tools --------------------------------------------------------------------------------------------------------


class FunctionDef(Struct):
    """A function the model may call."""

    name: ToolName
    description: str | None = None
    parameters: Annotated[JsonObject | None, Meta(description="A JSON Schema of the arguments.")] = None
    strict: bool | None = None


class FunctionTool(Struct, tag="function"):
    """A function the model may call."""

    function: FunctionDef


class Grammar(Struct):
    """What a custom tool's input must look like."""

    definition: str
    syntax: Literal["lark", "regex"]


class TextFormat(Struct, tag="text"):
    """Free text."""


class GrammarFormat(Struct, tag="grammar"):
    """Text bound by a grammar."""

    grammar: Grammar


class CustomDef(Struct):
    """A tool that takes free text instead of JSON."""

    name: ToolName
    description: str | None = None
    format: TextFormat | GrammarFormat | None = None


class CustomTool(Struct, tag="custom"):
    """A tool that takes free text instead of JSON."""

    custom: CustomDef


Tool = FunctionTool | CustomTool


class Named(Struct):
    """A tool's name."""

    name: str


class ChooseFunction(Struct, tag="function"):
    """Call this function."""

    function: Named


class ChooseCustom(Struct, tag="custom"):
    """Call this custom tool."""

    custom: Named


class AllowedTools(Struct):
    """Only these tools may be called now."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ChooseFunction | ChooseCustom], Meta(min_length=1)]


class ChooseAllowed(Struct, tag="allowed_tools"):
    """Only some of the tools may be called now."""

    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | ChooseFunction | ChooseCustom | ChooseAllowed
FunctionChoice = Literal["none", "auto"] | Named


# --- the form of the answer -----------------------------------------------------------------------------------------


class FormatText(Struct, tag="text"):
    """Any text."""


class FormatObject(Struct, tag="json_object"):
    """Any JSON object."""


class FormatSchema(Struct):
    """A JSON Schema with a name."""

    name: ToolName
    schema: JsonObject | None = None
    strict: bool | None = None
    description: str | None = None


class FormatJsonSchema(Struct, tag="json_schema"):
    """JSON that fits a schema."""

    json_schema: FormatSchema


ResponseFormat = FormatText | FormatObject | FormatJsonSchema


class StreamOptions(Struct):
    """What a stream carries beside the text."""

    include_usage: Annotated[bool | None, Meta(description="A last chunk with the usage.")] = None
    include_obfuscation: Annotated[
        bool | None,
        Meta(description="Pad the chunks, so that their sizes do not betray the text. Off by default here."),
    ] = None
