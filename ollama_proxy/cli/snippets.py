"""What editors, agents and libraries must be told to come here: for each tool, the text it reads and where it goes.

Each row cites the tool's own documentation. Pure: the facts come in, text goes out; nothing is written or asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..declared import toml_value as toml
from ..policy.printable import json_text, line_text, shell_word

__all__ = ["TOOLS", "Facts", "Snippet"]


class Facts(NamedTuple):
    """What a tool is told. `url` ends in /v1; `window` is in tokens, input and answer together; `embedding` is "" where
    there is no model for it; `ca` is the authority to trust, "" if none need be named. `window_by` is the setting that
    makes the window larger."""

    url: str
    key: str
    model: str
    embedding: str = ""
    window: int = 8192
    tools: bool = True
    vision: bool = False
    thinks: bool = False
    ca: str = ""
    window_by: str = "models.num_ctx"

    @property
    def output(self) -> int:
        """Tokens to leave for an answer: a tool that fills the window with its prompt would get none."""
        return min(self.window // 4, 16384)


class Snippet(NamedTuple):
    """The text for a tool, where it goes, and what else there is to know."""

    where: str
    text: str
    notes: tuple[str, ...] = ()


def aider(facts: Facts) -> Snippet:
    """https://aider.chat/docs/llms/openai-compat.html, https://aider.chat/docs/config/adv-model-settings.html"""
    model = f"openai/{facts.model}"
    words = ("--openai-api-base", facts.url, "--openai-api-key", facts.key, "--model", model)
    flags = " ".join(map(shell_word, words))
    known = {
        "max_input_tokens": facts.window - facts.output,
        "max_output_tokens": facts.output,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    return Snippet(
        "~/.aider.conf.yml, or .aider.conf.yml in a repository",
        f"openai-api-base: {quoted(facts.url)}\nopenai-api-key: {quoted(facts.key)}\nmodel: {quoted(model)}\n",
        (
            f"As flags: aider {flags}",
            f"So that aider knows the window, in ~/.aider.model.metadata.json: {json.dumps({model: known})}",
        ),
    )


def continue_(facts: Facts) -> Snippet:
    """https://docs.continue.dev/reference"""
    lines = ["name: oproxy", "version: 1.0.0", "schema: v1", "models:"]
    can = [name for name, able in (("tool_use", facts.tools), ("image_input", facts.vision)) if able]
    lines += entry(facts, facts.model, "[chat, edit, apply]")
    lines += [f"    capabilities: [{', '.join(can)}]"] if can else []
    lines += [
        "    defaultCompletionOptions:",
        f"      contextLength: {facts.window}",
        f"      maxTokens: {facts.output}",
    ]
    if facts.embedding:
        lines += entry(facts, facts.embedding, "[embed]")
    return Snippet("~/.continue/config.yaml", "\n".join(lines) + "\n")


def entry(facts: Facts, model: str, roles: str) -> list[str]:
    """Return the lines of one of Continue's models."""
    pairs = {
        "name": quoted(f"{model} (oproxy)"),
        "provider": "openai",
        "model": quoted(model),
        "apiBase": quoted(facts.url),
        "apiKey": quoted(facts.key),
        "roles": roles,
    }
    lines = [f"{'  - ' if name == 'name' else '    '}{name}: {value}" for name, value in pairs.items()]
    if facts.ca:
        lines += ["    requestOptions:", f"      caBundlePath: {quoted(facts.ca)}"]
    return lines


def cline(facts: Facts) -> Snippet:
    """https://docs.cline.bot/provider-config/openai-compatible"""
    pairs = {
        "API Provider": "OpenAI Compatible",
        "Base URL": facts.url,
        "API Key": facts.key,
        "Model ID": facts.model,
        "Supports Images": "on" if facts.vision else "off",
        "Context Window Size": facts.window,
        "Max Output Tokens": facts.output,
    }
    text = "".join(f"{name + ':':<21}{line_text(str(value), None)}\n" for name, value in pairs.items())
    words = " ".join(map(shell_word, ("-b", facts.url, "-k", facts.key, "-m", facts.model)))
    notes = [f"Cline's CLI: cline auth -p openai {words}"]
    notes += [] if facts.tools else [f"{facts.model} has no tools of its own; they are emulated."]
    notes += narrow(facts)
    return Snippet("Cline's settings (the gear in its panel)", text, tuple(notes))


def codex(facts: Facts) -> Snippet:
    """https://developers.openai.com/codex/config-reference, https://github.com/openai/codex/discussions/7782: since
    February 2026 "responses" is the only wire_api there is."""
    text = (
        f"model = {toml(facts.model)}\n"
        'model_provider = "oproxy"\n'
        f"model_context_window = {facts.window}\n"
        "\n[model_providers.oproxy]\n"
        'name = "oproxy"\n'
        f"base_url = {toml(facts.url)}\n"
        'env_key = "OPENAI_API_KEY"\n'
        'wire_api = "responses"\n'
    )
    return Snippet("~/.codex/config.toml", text, (KEY_FROM_ENVIRONMENT, *narrow(facts)))


def claude_code(facts: Facts) -> Snippet:
    """https://code.claude.com/docs/en/llm-gateway, https://code.claude.com/docs/en/env-vars"""
    env = {
        "ANTHROPIC_BASE_URL": facts.url.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": facts.key,
        **dict.fromkeys(CLAUDE_MODELS, facts.model),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(facts.output),
        # A line at the start of every prompt that is different each time: the model would read the whole prompt again.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    if facts.window >= AGENT_WINDOW:
        # Without it, Claude Code assumes 1,000,000 tokens for a model that it does not know, and compacts the
        # conversation only after a prompt was refused as too long. With a window that its own instructions fill, it
        # would refuse every question itself.
        env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(facts.window)
    if facts.ca:
        env["NODE_EXTRA_CA_CERTS"] = facts.ca
    notes = [
        'For one session only: claude --settings "$(oproxy env --for claude-code)"',
        "Its instructions and tools alone take about 16,000 tokens.",
        *narrow(facts),
    ]
    return Snippet("~/.claude/settings.json, or .claude/settings.json in a project", pretty({"env": env}), tuple(notes))


def opencode(facts: Facts) -> Snippet:
    """https://opencode.ai/docs/providers/"""
    model: dict[str, Any] = {"name": facts.model, "limit": {"context": facts.window, "output": facts.output}}
    if facts.vision:
        # opencode replaces images by an error text for a model that does not list them.
        model |= {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
    if facts.thinks:
        model["reasoning"] = True
    value = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "oproxy": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "oproxy",
                "options": {"baseURL": facts.url, "apiKey": "{env:OPENAI_API_KEY}"},
                "models": {facts.model: model},
            }
        },
        "model": f"oproxy/{facts.model}",
    }
    where = "opencode.json in a project, or ~/.config/opencode/opencode.json"
    return Snippet(where, pretty(value), (KEY_FROM_ENVIRONMENT, *narrow(facts)))


def vscode(facts: Facts) -> Snippet:
    """https://code.visualstudio.com/docs/agent-customization/language-models"""
    model = {
        "id": facts.model,
        "name": f"{facts.model} (oproxy)",
        "url": f"{facts.url}/chat/completions",
        "toolCalling": True,
        "vision": facts.vision,
        "maxInputTokens": facts.window - facts.output,
        "maxOutputTokens": facts.output,
    }
    value = [
        {
            "name": "oproxy",
            "vendor": "customendpoint",
            "apiKey": facts.key,
            "apiType": "chat-completions",
            "models": [model],
        }
    ]
    notes = (
        "In VS Code 1.122 or newer: Chat: Manage Language Models, Add Models, Custom Endpoint; it then opens the file.",
        "Titles and commit messages come from it too with the setting chat.byokUtilityModelDefault.",
    )
    return Snippet("chatLanguageModels.json of VS Code", pretty(value), notes)


def cursor(facts: Facts) -> Snippet:
    """https://cursor.com/help/models-and-usage/api-keys"""
    text = (
        f"OpenAI API Key:            {facts.key}\n"
        f"Override OpenAI Base URL:  {facts.url}\n"
        f"Add or search model:       {line_text(facts.model, None)}\n"
    )
    note = (
        "Cursor's own servers call this URL, so they must reach it: an address of this machine alone does not do. It "
        'needs a public one with HTTPS, and `mode = "on"` under [auth].'
    )
    return Snippet("Cursor Settings, Models, API Keys", text, (note,))


def langchain(facts: Facts) -> Snippet:
    """https://docs.langchain.com/oss/python/integrations/chat/openai"""
    names = "ChatOpenAI, OpenAIEmbeddings" if facts.embedding else "ChatOpenAI"
    where = f"base_url={quoted(facts.url)}, api_key={quoted(facts.key)}"
    text = f"from langchain_openai import {names}\n\n"
    # Counting tokens in a stream is off by default for a foreign base_url.
    text += f"model = ChatOpenAI(model={quoted(facts.model)}, {where}, stream_usage=True)\n"
    if facts.embedding:
        text += f"embeddings = OpenAIEmbeddings(model={quoted(facts.embedding)}, {where}, "
        # It would cut texts by OpenAI's own vocabulary and window otherwise.
        text += "check_embedding_ctx_length=False)\n"
    return Snippet("Python", text, ("pip install langchain-openai",))


def llamaindex(facts: Facts) -> Snippet:
    """https://developers.llamaindex.ai/python/framework-api-reference/llms/openai_like"""
    text = "from llama_index.llms.openai_like import OpenAILike\n"
    if facts.embedding:
        text = f"from llama_index.embeddings.openai_like import OpenAILikeEmbedding\n{text}"
    text += (
        "\nllm = OpenAILike(\n"
        f"    model={quoted(facts.model)},\n"
        f"    api_base={quoted(facts.url)},\n"
        f"    api_key={quoted(facts.key)},\n"
        f"    context_window={facts.window},\n"
        "    is_chat_model=True,\n"
        f"    is_function_calling_model={facts.tools},\n"
        ")\n"
    )
    packages = "llama-index-llms-openai-like"
    if facts.embedding:
        packages += " llama-index-embeddings-openai-like"
        text += (
            "embed_model = OpenAILikeEmbedding(\n"
            f"    model_name={quoted(facts.embedding)},\n"
            f"    api_base={quoted(facts.url)},\n"
            f"    api_key={quoted(facts.key)},\n"
            ")\n"
        )
    return Snippet("Python", text, (f"pip install {packages}",))


def curl(facts: Facts) -> Snippet:
    """https://platform.openai.com/docs/api-reference/chat/create"""
    body = json_text(json.dumps({"model": facts.model, "messages": [HELLO]}, ensure_ascii=False))
    text = f"curl {shell_word(f'{facts.url}/chat/completions')}"
    text += f" \\\n  --cacert {shell_word(facts.ca)}" if facts.ca else ""
    text += (
        f" \\\n  -H {shell_word(f'Authorization: Bearer {facts.key}')}"
        f" \\\n  -H 'Content-Type: application/json' \\\n  -d {shell_word(body)}\n"
    )
    return Snippet("a shell", text)


def python(facts: Facts) -> Snippet:
    """https://github.com/openai/openai-python"""
    text = (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={quoted(facts.url)}, api_key={quoted(facts.key)})\n"
        "answer = client.chat.completions.create(\n"
        f"    model={quoted(facts.model)}, messages=[{json.dumps(HELLO)}]\n"
        ")\n"
        "print(answer.choices[0].message.content)\n"
    )
    return Snippet("Python", text, ("pip install openai", *from_environment(facts, "SSL_CERT_FILE")))


def node(facts: Facts) -> Snippet:
    """https://github.com/openai/openai-node"""
    text = (
        'import OpenAI from "openai";\n\n'
        f"const client = new OpenAI({{ baseURL: {quoted(facts.url)}, apiKey: {quoted(facts.key)} }});\n"
        "const answer = await client.chat.completions.create({\n"
        f"  model: {quoted(facts.model)},\n"
        f"  messages: [{json.dumps(HELLO)}],\n"
        "});\n"
        "console.log(answer.choices[0].message.content);\n"
    )
    return Snippet(
        "JavaScript (a module)", text, ("npm install openai", *from_environment(facts, "NODE_EXTRA_CA_CERTS"))
    )


HELLO: Mapping[str, str] = {"role": "user", "content": "Say hello."}
KEY_FROM_ENVIRONMENT = 'The key is read from OPENAI_API_KEY: eval "$(oproxy env)", or start it with `oproxy run --`.'
# What Claude Code calls its models; it asks the small one for titles and the like.
CLAUDE_MODELS = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
)
# Agents send long instructions with every request; with less than this they soon have no room for the work.
AGENT_WINDOW = 32768


def narrow(facts: Facts) -> list[str]:
    """Return a word about the window where it is small for an agent."""
    if facts.window >= AGENT_WINDOW:
        return []
    more = f"oproxy config set {facts.window_by} {AGENT_WINDOW}"
    return [f"A window of {facts.window} tokens is small for an agent; where there is memory for more: {more}"]


def from_environment(facts: Facts, variable: str) -> list[str]:
    return [f"It trusts our certificate by {variable} in its environment; `oproxy env` prints it."] if facts.ca else []


def quoted(text: str) -> str:
    """Write a string so that YAML, Python and JavaScript all read it as it is."""
    return json_text(json.dumps(text, ensure_ascii=False))


def pretty(value: Any) -> str:
    return json_text(json.dumps(value, indent=2, ensure_ascii=False)) + "\n"


TOOLS: Mapping[str, Callable[[Facts], Snippet]] = {
    "aider": aider,
    "continue": continue_,
    "cline": cline,
    "codex": codex,
    "claude-code": claude_code,
    "opencode": opencode,
    "langchain": langchain,
    "llamaindex": llamaindex,
    "vscode": vscode,
    "cursor": cursor,
    "curl": curl,
    "python": python,
    "node": node,
}
