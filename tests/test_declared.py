"""The declaration, and what is printed from it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ollama_proxy import configfile
from ollama_proxy.cli.gen_toml import commented_toml
from ollama_proxy.declared import field_of, groups, kind_of, public, restarts, secret, shown, toml_value
from ollama_proxy.settings import (
    BackendSettings,
    ConfigError,
    Loaded,
    ModelOptions,
    Models,
    Server,
    Settings,
    changes,
    describe,
    load,
    values_of,
)

DEFAULTS = Settings(backends={"ollama": BackendSettings(type="ollama"), "embedded": BackendSettings(type="embedded")})


def loaded(text: str = "", *, env: dict[str, str] | None = None, **flags: Any) -> Loaded:
    """Read a config from text. Flags are given as `server_port=1`."""
    named = {name.replace("_", ".", 1): value for name, value in flags.items()}
    return load(path=Path("config.toml"), env=env or {}, flags=named, text=text)


def refused(text: str = "", *, env: dict[str, str] | None = None, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text, env=env, **flags)
    assert str(caught.value) == caught.value.message
    assert len(caught.value.problems) == len(caught.value.message.split("\n"))
    return caught.value.message


def test_the_commented_config_sets_nothing() -> None:
    found = loaded(commented_toml())

    assert found.settings == DEFAULTS
    assert set(found.origin.values()) == {"default"}


def test_the_commented_config_without_its_signs_says_the_defaults() -> None:
    text = re.sub(r"(?m)^#(?! )", "", commented_toml())
    found = loaded(text)

    assert found.settings == DEFAULTS
    assert all(origin.startswith("file ") for origin in found.origin.values()), "every setting is shown"


def test_the_commented_config_is_plain_to_read() -> None:
    lines = commented_toml().split("\n")

    assert max(map(len, lines)) <= 120
    assert lines.index("#port = 11435") == lines.index("# Port to listen on. Takes effect after a restart.") + 1
    assert '#max_body = "64MiB"' in lines
    assert not any(line.endswith(" ") for line in lines)


limits: dict[str, st.SearchStrategy[Any]] = {
    "url": st.sampled_from(["", "http://x", "https://[::1]:1/x"]),
    "headers": st.dictionaries(st.sampled_from(["a", "X-B"]), st.sampled_from(["", "é c", "\t"]), max_size=2),
    "keep_alive": st.sampled_from([None, -1, 0.5, "30m", "1h30m"]),
    # What a header can have.
    "api_key": st.sampled_from(["", "sk-1", "a ~"]),
    "host": st.sampled_from(["::1", "0.0.0.0"]),
}
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def values(struct: type[msgspec.Struct], **fixed: Any) -> st.SearchStrategy[Any]:
    """Make any values that a table may hold."""
    kinds = {
        field.name: limits.get(field.name, st.from_type(field.type) if field.name == "type" else of(field.type))
        for field in msgspec.structs.fields(struct)
        if field.name not in fixed
    }
    return st.builds(struct, **kinds, **{name: st.just(value) for name, value in fixed.items()})


def of(type_: Any) -> st.SearchStrategy[Any]:
    """Make what a declared type takes: its schema says the limits."""
    schema = msgspec.json.schema(type_)
    options = schema.get("anyOf", [schema])
    return st.one_of(*(of_schema(each) for each in options))


def of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum", -1000)), schema.get("maximum", 1_000_000)
    match schema:
        case {"enum": choices}:
            return st.sampled_from(choices)
        case {"type": "integer"}:
            return st.integers(low, high)
        case {"type": "number"}:
            return st.floats(low, high, exclude_min="exclusiveMinimum" in schema, allow_subnormal=False)
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "array"}:
            return st.lists(plain, max_size=2).map(tuple)
        case {"type": "null"}:
            return st.none()
        case _:
            return plain


remote = values(BackendSettings, model_path="", embedding_path="", context=4096, threads=0, serves=(), type="ollama")
built_in = values(BackendSettings, url="", api_key="", api_key_env="", headers={}, serves=(), type="embedded")
any_settings = st.builds(
    Settings,
    server=values(Server),
    backends=st.fixed_dictionaries({"a": remote, "b_-2": built_in}),
    models=st.builds(
        Models,
        default=plain,
        openai_names=st.booleans(),
        num_ctx=st.integers(0, 10**6),
        aliases=st.dictionaries(plain.filter(bool), plain.filter(bool), max_size=2),
        options=st.dictionaries(plain, values(ModelOptions).filter(lambda o: msgspec.to_builtins(o) != {}), max_size=2),
    ),
)


# Shrinking settings of a hundred values takes minutes, and the failing one says enough.
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(any_settings)
def test_any_settings_written_into_the_commented_config_are_read_again(
    tmp_path_factory: pytest.TempPathFactory, wanted: Settings
) -> None:
    text, path = commented_toml(), tmp_path_factory.mktemp("config") / "config.toml"
    for key, _, value in changes(DEFAULTS, wanted):
        if len(key) == 2 and key[0] == "backends":
            for name, each in msgspec.to_builtins(wanted.backends.get(key[1], {})).items():
                if (*key, name) in values_of(wanted):
                    _, text = configfile.with_value(text, (*key, name), each, path)
        elif value is not None:
            plain_value = list(value) if isinstance(value, tuple) else value
            _, text = configfile.with_value(text, key, plain_value, path)

    assert loaded(text).settings == wanted
    kept = iter(text.split("\n"))
    assert all(line in kept for line in commented_toml().split("\n")), "every comment stays, in its order"


def test_every_setting_is_declared_with_all_that_is_printed_of_it() -> None:
    names = {setting.key for setting in describe()}

    assert {"server.port", "backends.NAME.url", "models.aliases", 'models.options."NAME".num_ctx'} <= names
    tables = {prefix: {field.name for field in msgspec.structs.fields(struct)} for prefix, struct in groups()}
    assert {f"{prefix}.{name}" for prefix in tables for name in tables[prefix]} == names | {"limits.address"}
    port = next(setting for setting in describe() if setting.key == "server.port")
    assert (port.flag, port.env, port.default, port.restart) == ("--port", "OPROXY_SERVER_PORT", 11435, True)
    assert port.type_text == "an integer between 1 and 65535"


def test_every_named_environment_variable_is_read() -> None:
    for setting in describe():
        if setting.env is None:
            continue
        variable = setting.env.replace("_NAME_", "_EMBEDDED_" if setting.only == ("embedded",) else "_OLLAMA_")
        message = refused(env={variable: "\x00"}) if setting.type_text.startswith(("an integer", "true")) else ""
        assert not message or message.startswith(f"{variable}: "), variable
        assert "no such setting" not in message


def test_a_key_tells_its_type_its_secrecy_and_its_need_of_a_restart() -> None:
    assert [restarts(("server", name)) for name in ("port", "grace", "nothing")] == [True, False, False]
    assert [secret(("backends", "x", name)) for name in ("api_key", "headers", "url")] == [True, True, False]
    assert secret(("backends", "x", "headers", "authorization"))
    assert field_of(("models", "options", "q", "seed")) is not None
    assert field_of(("models", "options", "q")) is None
    assert kind_of(("models", "aliases", "x")) is not None
    for key in [("nothing",), ("server", "x"), ("models", "aliases", "x", "y"), ("server", "port", "x")]:
        assert kind_of(key) is None


@given(st.dictionaries(plain, st.one_of(plain, st.integers(), st.booleans(), st.lists(plain)), max_size=3))
def test_values_are_written_as_toml(value: dict[str, Any]) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


def test_a_key_where_another_value_belongs_is_not_shown() -> None:
    key = "hf_" + "Ab3d" * 9
    assert public(("models", "default"), key) == "hf_[redacted]"
    assert shown(("models", "default"), key) == '"hf_[redacted]"'
    assert public(("models", "default"), "hf.co/unsloth/Qwen3-4B-GGUF:Q4_K_M") == "hf.co/unsloth/Qwen3-4B-GGUF:Q4_K_M"
    assert public(("backends", "one", "api_key"), "x") == "(hidden)"
