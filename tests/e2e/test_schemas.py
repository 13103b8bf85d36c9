"""Every schema of the table, asked of the real engines: none refuses it, and what they finish fits it.

By default the embedded engine is asked for an answer by each schema and Ollama by every eighth, and both for a forced
tool with every eighth, of one token, which is enough to see that the schema is taken: about a minute.
`OPROXY_TEST_SCHEMAS=all` asks both for all of it, with tools that may say as much as an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from ollama_proxy.policy.grammar import write
from ollama_proxy.policy.schema import Checker

from ..schemas import SCHEMAS
from .conftest import ENVIRONMENT, GIVEN, Daemon

pytestmark = pytest.mark.skipif(bool(GIVEN), reason="run once, with one SDK")
ALL = ENVIRONMENT.get("OPROXY_TEST_SCHEMAS") == "all"
SAMPLE = [*SCHEMAS][::8]
# Tokens of an answer, and of a forced tool's arguments.
ANSWER, ARGUMENTS = 48, 48 if ALL else 1
QUESTION: Any = [{"role": "user", "content": "Answer with a short JSON object."}]


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=daemon.url, api_key="sk-test", max_retries=0, timeout=120) as made:
        yield made


def fits(name: str, text: str, reason: str) -> None:
    if reason == "length":
        return
    schema, written = SCHEMAS[name], write(SCHEMAS[name])
    # A written pattern is one of the JSON, where some characters are two.
    if r"x5C" not in str(written.schema):
        assert Checker(written.schema).miss(text) is None, "the grammar did not hold"
    miss = Checker(schema).miss(text)
    assert miss is None or written.untold, "what no grammar holds is known"
    assert (reason == "content_filter") == (miss is not None)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_honoured(client: openai.OpenAI, daemon: Daemon, name: str) -> None:
    if not ALL and daemon.kind != "embedded" and name not in SAMPLE:
        pytest.skip("OPROXY_TEST_SCHEMAS=all asks every engine for every schema")
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS[name]}}
    answer = client.chat.completions.create(
        model=daemon.chat, messages=QUESTION, response_format=form, max_tokens=ANSWER, temperature=0
    )
    choice = answer.choices[0]
    fits(name, choice.message.content or "", choice.finish_reason)


@pytest.mark.parametrize("name", SCHEMAS if ALL else SAMPLE)
def test_a_tool_with_it_can_be_forced(client: openai.OpenAI, daemon: Daemon, name: str) -> None:
    if SCHEMAS[name].get("type", "object") != "object":
        return
    schema: Any = {"type": "object", **SCHEMAS[name]}
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": schema}}
    answer = client.chat.completions.create(
        model=daemon.chat, messages=QUESTION, tools=[tool], tool_choice="required", max_tokens=ARGUMENTS, temperature=0
    )
    assert answer.choices[0].finish_reason in ("tool_calls", "length")


@pytest.mark.parametrize("limit", [1, 3, 8, 30])
def test_an_answer_with_a_pattern_may_be_cut_anywhere(client: openai.OpenAI, daemon: Daemon, limit: int) -> None:
    schema = {
        "type": "object",
        "properties": {"m": {"type": "string", "pattern": "^[^@]+@[a-z.]+$"}},
        "required": ["m"],
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for seed in (1, 2):
        answer = client.chat.completions.create(
            model=daemon.chat, messages=QUESTION, response_format=form, max_tokens=limit, temperature=1, seed=seed
        )
        assert answer.choices[0].finish_reason in ("stop", "length")
