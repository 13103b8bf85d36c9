"""The settings: where each comes from, and what differs between two."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.declared import dotted
from ollama_proxy.settings import (
    BackendSettings,
    ConfigError,
    Loaded,
    Models,
    Server,
    Settings,
    changes,
    default_path,
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


# --- where values come from -----------------------------------------------------------------------------------------


def test_with_nothing_set_the_defaults_are_in_force() -> None:
    found = load(env={}, flags={})

    assert found.settings == DEFAULTS
    assert set(found.origin.values()) == {"default"}
    assert found.path == default_path()


def test_file_environment_and_flag_win_in_this_order() -> None:
    text, env = "[server]\nport = 1\n", {"OPROXY_SERVER_PORT": "2"}
    cases = [
        (loaded(), 11435, "default"),
        (loaded(text), 1, "file config.toml:2"),
        (loaded(text, env=env), 2, "environment OPROXY_SERVER_PORT"),
        (loaded(text, env=env, server_port=3), 3, "flag --port"),
        (loaded(text, env=env, server_port=None), 2, "environment OPROXY_SERVER_PORT"),
    ]
    for found, port, origin in cases:
        assert (found.settings.server.port, found.origin["server.port"]) == (port, origin)


def test_every_setting_in_force_has_its_origin() -> None:
    found = loaded(
        '[models.aliases]\n"gpt-4*" = "m"\n[models.options.q]\nstop = ["a"]\n[backends.ollama]\nheaders.x = "y"'
    )

    assert set(found.origin) == {dotted(key) for key in values_of(found.settings)}
    assert found.origin['models.aliases."gpt-4*"'] == "file config.toml:2"
    assert found.origin["models.options.q.stop"] == "file config.toml:4"
    assert found.origin["backends.ollama.headers"] == "file config.toml:6"
    assert found.origin["backends.ollama.type"] == "default"


def test_the_file_is_found_by_argument_by_environment_and_by_default(tmp_path: Path) -> None:
    paths = [tmp_path / "a.toml", tmp_path / "b.toml", default_path()]
    for port, path in enumerate(paths, 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[server]\nport = {port}\n")
    env = {"OPROXY_CONFIG": str(paths[1])}

    assert load(path=paths[0], env=env, flags={}).settings.server.port == 1
    assert load(env=env, flags={}).settings.server.port == 2
    assert load(env={}, flags={}).settings.server.port == 3
    assert load(env={"OPROXY_CONFIG": ""}, flags={}).path == paths[2]


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    for kwargs in ({"path": tmp_path / "no", "env": {}}, {"env": {"OPROXY_CONFIG": str(tmp_path / "no")}}):
        with pytest.raises(ConfigError) as caught:
            load(**kwargs, flags={})
        assert caught.value.message == f"{tmp_path / 'no'}: expected a config file, got no such file"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"a = '\xff'")
    for path, why in ((bad, "bytes that are not UTF-8"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(path=path, env={}, flags={})
        assert caught.value.message == f"{path}: expected a text file that can be read, got {why}"


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\n\r\nport = 5\r\n")

    found = load(path=path, env={}, flags={})

    assert (found.settings.server.port, found.origin["server.port"]) == (5, f"file {path}:3")


@pytest.mark.parametrize(
    ("variable", "text", "pick", "value"),
    [
        ("OPROXY_SERVER_HOST", "::1", lambda s: s.server.host, "::1"),
        (
            "OPROXY_SERVER_CORS_ORIGINS",
            "http://a, http://b,",
            lambda s: s.server.cors_origins,
            ("http://a", "http://b"),
        ),
        ("OPROXY_SERVER_GRACE", "5", lambda s: s.server.grace, 5.0),
        ("OPROXY_SERVER_MAX_BODY", "1.5MiB", lambda s: s.server.max_body, 1572864),
        ("OPROXY_SERVER_MAX_BODY", "2048", lambda s: s.server.max_body, 2048),
        ("OPROXY_SERVER_IMAGE_ALLOW_PRIVATE", "Yes", lambda s: s.server.image_allow_private, True),
        ("OPROXY_MODELS_OPENAI_NAMES", "off", lambda s: s.models.openai_names, False),
        ("OPROXY_MODELS_DEFAULT", "123", lambda s: s.models.default, "123"),
        ("OPROXY_SERVER_LOG_LEVEL", "debug", lambda s: s.server.log_level, "debug"),
        ("OPROXY_BACKENDS_OLLAMA_URL", "http://x:1", lambda s: s.backends["ollama"].url, "http://x:1"),
        ("OPROXY_BACKENDS_OLLAMA_API_KEY_ENV", "K", lambda s: s.backends["ollama"].api_key_env, "K"),
        ("OPROXY_SERVER_PORT", "", lambda s: s.server.port, 11435),
    ],
)
def test_the_environment_is_read_by_the_settings_type(
    variable: str, text: str, pick: Callable[[Settings], Any], value: object
) -> None:
    assert pick(loaded(env={variable: text}).settings) == value


def test_the_environment_changes_a_default_backend_and_leaves_the_other() -> None:
    found = loaded(env={"OPROXY_BACKENDS_OLLAMA_URL": "http://x:1"}).settings.backends

    assert found == DEFAULTS.backends | {"ollama": BackendSettings(type="ollama", url="http://x:1")}


def test_the_environment_can_add_a_backend_and_knows_those_of_the_file() -> None:
    env = {
        "OPROXY_BACKENDS_LM_STUDIO_TYPE": "openai",
        "OPROXY_BACKENDS_LM_STUDIO_URL": "http://x/v1",
        "OPROXY_BACKENDS_MY_BOX_POOL": "3",
    }
    found = loaded('[backends.my-Box]\ntype = "ollama"\n', env=env).settings.backends

    assert found == {
        "my-Box": BackendSettings(type="ollama", pool=3),
        "lm_studio": BackendSettings(type="openai", url="http://x/v1"),
    }


def test_a_backend_called_what_it_is_need_not_say_its_type() -> None:
    assert loaded("[backends.ollama]\npool = 3\n").settings.backends == {
        "ollama": BackendSettings(type="ollama", pool=3)
    }


def test_changes_name_what_differs_and_take_a_backend_as_one() -> None:
    new = Settings(
        server=Server(grace=1),
        backends={
            "lm": BackendSettings(type="openai", url="http://x"),
            "ollama": BackendSettings(type="ollama", pool=3),
        },
        models=Models(aliases={"a": "b"}),
    )

    assert list(changes(DEFAULTS, DEFAULTS)) == []
    assert list(changes(DEFAULTS, new)) == [
        (("server", "grace"), 30.0, 1),
        (("backends", "ollama", "pool"), 100, 3),
        (("backends", "embedded"), "embedded", None),
        (("models", "aliases", "a"), None, "b"),
        (("backends", "lm"), None, "openai"),
    ]


def test_the_order_of_the_backends_is_a_change() -> None:
    other = Settings(backends=dict(reversed(DEFAULTS.backends.items())))

    assert list(changes(DEFAULTS, other)) == [(("backends",), ["ollama", "embedded"], ["embedded", "ollama"])]


def test_reading_the_settings_does_not_load_the_heavy_libraries() -> None:
    heavy = {"aiohttp", "sqlalchemy", "tiktoken", "watchfiles", "rich"}
    code = f"import sys, ollama_proxy.settings; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
