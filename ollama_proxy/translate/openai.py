"""The back for OpenAI's own wire, as LM Studio, vLLM, llama.cpp and many others serve it: hub to requests, answers to
events.

`WIRE` is the wire as OpenAI has it, `LLAMACPP` the same with the ways of llama.cpp's server.
Reading is in `openai_read.py` and `openai_lists.py`, errors in `openai_errors.py`. Never waits; never sends a
parameter that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..errors import Invalid, OproxyError, Unsupported
from ..model import (
    Abilities,
    Ask,
    Audio,
    Call,
    Capability,
    Completion,
    Embedding,
    File,
    Format,
    Image,
    Message,
    ModelInfo,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from .openai_errors import read_error
from .openai_lists import read_vectors
from .openai_read import AnswerReader, ChatChoice, TextChoice
from .wire import Reader, Vectors

__all__ = ["LLAMACPP", "WIRE", "OpenAIWire"]

Json = dict[str, Any]

# Ollama's options for its runner. They say how a model is loaded, which no request of this wire does.
RUNNER = frozenset(
    {
        *("f16_kv", "logits_all", "low_vram", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_thread"),
        *("numa", "use_mlock", "use_mmap", "vocab_only"),
    }
)
# What an option must not reach: the fields that decide what is answered, and how.
OURS = frozenset(
    {"function_call", "functions", "input", "messages", "model", "n", "prompt", "stream", "stream_options"}
)
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}

_encode = msgspec.json.Encoder().encode


class OpenAIWire(Struct, frozen=True, kw_only=True):
    """OpenAI's wire. `llamacpp` says that llama.cpp's server is at the other end."""

    abilities: Abilities
    llamacpp: bool = False

    # --- chat ---------------------------------------------------------------------------------------------------

    def chat(self, ask: Ask, info: ModelInfo) -> Call:
        _must(info, "completion", ask.model)
        body: Json = self._options(ask.options)
        body["model"] = info.id
        body["messages"] = list(self._messages(ask.messages))
        body |= self._sampling(ask.sampling)
        body |= self._tools(ask)
        body |= _format(ask.format)
        body |= self._reasoning(ask.reasoning)
        if ask.top_logprobs is not None:
            body["logprobs"] = True
            # llama.cpp takes 0 for "no logprobs at all"; the reader leaves the one it did not want out again.
            body["top_logprobs"] = max(ask.top_logprobs, 1) if self.llamacpp else ask.top_logprobs
        if not self.llamacpp:
            body |= {
                key: ask.extra[key] for key in ("metadata", "safety_identifier", "store", "user") if key in ask.extra
            }
        return _post("/chat/completions", body, stream=ask.stream)

    def chat_reader(self, ask: Ask, *, backend: str) -> Reader:
        return AnswerReader(ChatChoice(top_logprobs=ask.top_logprobs), backend=backend, model=ask.model)

    def _messages(self, messages: Sequence[Message]) -> Iterator[Json]:
        for message in _merged(messages) if self.llamacpp else _strict(messages):
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            yield from (self._result(part) for part in results)
            parts = [part for part in message.parts if not isinstance(part, ToolResult)]
            if message.role == "assistant":
                yield self._assistant(message, parts)
            elif parts or not results:
                yield _named(message, {"role": message.role, "content": self._content(parts)})

    def _result(self, result: ToolResult) -> Json:
        message: Json = {"role": "tool", "tool_call_id": result.id, "content": self._content(result.parts)}
        if self.llamacpp and result.name:
            # Some chat templates tell results apart by the tool's name.
            message["name"] = result.name
        return message

    def _assistant(self, message: Message, parts: Sequence[Part]) -> Json:
        calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
        thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
        refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
        said: list[Part] = [part for part in parts if isinstance(part, Text)]
        if self.llamacpp and refusal:
            # It knows no refusals, and they are what the assistant said.
            said, refusal = [*said, Text(refusal)], ""
        written: Json = {"role": "assistant", "content": self._content(said) if said else None}
        if not said and not calls and not refusal:
            written["content"] = ""
        if refusal:
            written["refusal"] = refusal
        if thoughts:
            written["reasoning_content"] = thoughts
        if calls:
            written["tool_calls"] = calls
        return _named(message, written)

    def _content(self, parts: Sequence[Part]) -> str | list[Json]:
        """Write text alone as a string, which every server takes; else parts."""
        if all(isinstance(part, Text) for part in parts) and (self.llamacpp or len(parts) < 2):
            # llama.cpp's templates know strings only and would put line ends of their own between the parts.
            return "".join(part.text for part in parts if isinstance(part, Text))
        return [_part(part) for part in parts]

    def _tools(self, ask: Ask) -> Json:
        """Write tools and choice. A narrowed choice narrows the tools: only OpenAI itself knows `allowed_tools`, and
        llama.cpp not even a named tool."""
        choice, tools = ask.tool_choice, ask.tools
        if not tools:
            return {}
        named = choice.names is not None and len(choice.names) == 1 and choice.mode == "required"
        if choice.names is not None and (self.llamacpp or not named):
            tools = tuple(tool for tool in tools if tool.name in choice.names)
        body: Json = {"tools": [self._tool(tool) for tool in tools]}
        if named and not self.llamacpp:
            body["tool_choice"] = _tool_named(choice, tools)
        elif choice.mode != "auto":
            body["tool_choice"] = choice.mode
        if not ask.parallel_tools:
            body["parallel_tool_calls"] = False
        return body

    def _tool(self, tool: Tool) -> Json:
        written: Json = {"name": tool.name}
        if tool.description is not None:
            written["description"] = tool.description
        if tool.kind == "custom":
            if tool.grammar is not None:
                syntax, definition = tool.grammar
                written["format"] = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
            return {"type": "custom", "custom": written}
        if tool.parameters is not None or self.llamacpp:
            written["parameters"] = NO_PARAMETERS if tool.parameters is None else tool.parameters
        if tool.strict:
            written["strict"] = True
        return {"type": "function", "function": written}

    def _reasoning(self, reasoning: Reasoning) -> Json:
        effort = reasoning.effort
        match reasoning.think:
            case False:
                effort = "none"
            case str(level):
                effort = level
        if not self.llamacpp:
            return {"reasoning_effort": effort} if effort is not None and not reasoning.implied else {}
        if effort is None and reasoning.think is None:
            return {}
        # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: it is the template that knows.
        words: Json = {"enable_thinking": effort != "none"}
        if effort is not None:
            words["reasoning_effort"] = effort
        return {"chat_template_kwargs": words}

    def _sampling(self, sampling: Sampling) -> Json:
        body: Json = {
            key: value
            for key in ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "seed")
            if (value := getattr(sampling, key)) is not None
        }
        if sampling.max_tokens is not None:
            body["max_tokens" if self.llamacpp else "max_completion_tokens"] = sampling.max_tokens
        if sampling.stop:
            body["stop"] = sampling.stop
        if sampling.logit_bias:
            body["logit_bias"] = sampling.logit_bias
        return body

    def _options(self, options: Mapping[str, Any]) -> Json:
        body = {key: value for key, value in options.items() if key not in RUNNER and key not in OURS}
        if self.llamacpp and "num_keep" in options:
            body["n_keep"] = options["num_keep"]
        return body

    # --- completions --------------------------------------------------------------------------------------------

    def complete(self, ask: Completion, info: ModelInfo) -> Call:
        _must(info, "completion", ask.model)
        if ask.suffix is not None and self.llamacpp:
            raise Unsupported("Unsupported parameter: 'suffix' is not supported with this model.", param="suffix")
        body: Json = self._options(ask.options)
        body |= {"model": info.id, "prompt": ask.prompt}
        body |= self._sampling(ask.sampling)
        if "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if ask.suffix is not None:
            body["suffix"] = ask.suffix
        if ask.logprobs is not None:
            body["logprobs"] = max(ask.logprobs, 1) if self.llamacpp else ask.logprobs
        return _post("/completions", body, stream=ask.stream)

    def completion_reader(self, ask: Completion, *, backend: str) -> Reader:
        return AnswerReader(TextChoice(top_logprobs=ask.logprobs), backend=backend, model=ask.model, param="prompt")

    # --- embeddings ---------------------------------------------------------------------------------------------

    def embed(self, ask: Embedding, info: ModelInfo) -> Call:
        _must(info, "embedding", ask.model)
        body: Json = self._options(ask.options)
        # base64 is a third of the size of numbers in decimal, and exact.
        body |= {"model": info.id, "input": ask.inputs, "encoding_format": "base64"}
        if ask.dimensions is not None:
            body["dimensions"] = ask.dimensions
        return Call("POST", "/embeddings", _encode(body))

    def read_embeddings(self, body: bytes, *, backend: str) -> Vectors:
        return read_vectors(body, backend=backend)

    # --- errors -------------------------------------------------------------------------------------------------

    def error(
        self,
        status: int,
        body: bytes,
        *,
        backend: str,
        model: str,
        param: str = "messages",
        headers: Mapping[str, str] | None = None,
    ) -> OproxyError:
        return read_error(status, body, backend=backend, model=model, param=param, headers=headers)


WIRE = OpenAIWire(
    abilities=Abilities(
        tool_choice=True,
        # Custom tools are OpenAI's alone; as functions they work everywhere.
        custom_tools=False,
        parallel_tools=True,
        logit_bias=True,
        # LM Studio takes no URLs, and a server in the same network could be made to fetch what only it can reach.
        image_urls=False,
    )
)
LLAMACPP = OpenAIWire(
    abilities=Abilities(
        # Its "required" binds some templates only; a schema binds them all, and goes with tools in the prompt.
        tool_choice=False,
        # "logprobs is not supported with tools + stream"
        logprobs_with_streamed_tools=False,
        # A client cannot know this tokenizer's ids: its bias would hit other words than it meant.
        logit_bias=False,
        grammars=True,
        echoes_last=True,
    ),
    llamacpp=True,
)


# --- writing ----------------------------------------------------------------------------------------------------------


WORK: Mapping[Capability, str] = {"completion": "write text", "embedding": "make embeddings"}


def _must(info: ModelInfo, capability: Capability, asked: str) -> None:
    """Refuse a model that is known not to do it: a server with one model for each kind of work would answer by
    another."""
    if not info.can(capability):
        raise Invalid(
            f"The model `{asked}` does not {WORK[capability]}. Choose one that does: `oproxy models list` shows what "
            "each can.",
            param="model",
            code="unsupported_model",
        )


def _post(path: str, body: Json, *, stream: bool) -> Call:
    body["stream"] = stream
    if stream:
        body["stream_options"] = {"include_usage": True}
    return Call("POST", path, _encode(body), stream=stream)


def _merged(messages: Sequence[Message]) -> Iterable[Message]:
    """Join system messages at the beginning, and user messages that follow each other: many chat templates refuse
    both ("Conversation roles must alternate")."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        joined = last is not None and last.role == message.role and last.name == message.name
        if last is not None and joined and (message.role == "user" or (message.role == "system" and len(out) == 1)):
            out[-1] = Message(last.role, (*last.parts, Text("\n\n"), *message.parts), last.name)
        else:
            out.append(message)
    return out


def _strict(messages: Sequence[Message]) -> Iterable[Message]:
    """Return the messages as the strictest templates of other servers take them: one system message, at the beginning
    ("System message must be at the beginning"), and never two user messages in a row.

    Instructions in the middle stay in their place; there the user says them, marked as Claude Code marks its own.
    """
    out: list[Message] = []
    for message in messages:
        if message.role == "system" and out and (len(out) > 1 or out[0].role != "system"):
            message = Message("user", _marked(message.parts))
        elif message.role == "system":
            message = Message("system", _joined(message.parts, ()), message.name)
        last = out[-1] if out else None
        same = last is not None and last.role == message.role and last.name == message.name
        if last is not None and same and message.role in ("system", "user"):
            out[-1] = Message(last.role, _joined(last.parts, message.parts), last.name)
        else:
            out.append(message)
    return out


def _marked(parts: Sequence[Part]) -> tuple[Part, ...]:
    text = "\n".join(part.text for part in parts if isinstance(part, Text))
    return (Text(f"<system-reminder>\n{text}\n</system-reminder>"),)


def _joined(first: Sequence[Part], second: Sequence[Part]) -> tuple[Part, ...]:
    """Join what two messages hold. Text alone becomes one text: not every server takes parts."""
    if all(isinstance(part, Text) for part in (*first, *second)):
        texts = ("\n".join(part.text for part in parts if isinstance(part, Text)) for parts in (first, second))
        return (Text("\n\n".join(text for text in texts if text)),)
    return (*first, *second)


def _named(message: Message, written: Json) -> Json:
    if message.name is not None:
        written["name"] = message.name
    return written


def _part(part: Part) -> Json:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            image: Json = {"url": part.url if part.data is None else f"data:{part.media_type};base64,{part.data}"}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio(data, format):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format}}
        case File():
            uri = None if part.data is None else f"data:{part.media_type or 'text/plain'};base64,{part.data}"
            file = {"file_data": uri, "filename": part.filename, "file_id": part.file_id}
            return {"type": "file", "file": {key: value for key, value in file.items() if value is not None}}
        case Refusal(text) | Thinking(text):
            return {"type": "text", "text": text}
    raise AssertionError(part)  # calls and results have messages of their own


def _call(call: ToolCall) -> Json:
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def _tool_named(choice: ToolChoice, tools: Sequence[Tool]) -> Json:
    (name,) = choice.names or ()
    kind = next((tool.kind for tool in tools if tool.name == name), "function")
    return {"type": kind, kind: {"name": name}}


def _format(format: Format) -> Json:
    match format.kind:
        case "json":
            return {"response_format": {"type": "json_object"}}
        case "schema":
            schema: Json = {"name": format.name or "answer", "schema": format.schema or {}}
            if format.strict:
                schema["strict"] = True
            if format.description is not None:
                schema["description"] = format.description
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {}
