"""What is refused, word for word: the golden texts of every kind of mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.declared import SECTIONS, shown, toml_value
from ollama_proxy.settings import (
    ConfigError,
    Loaded,
    ModelOptions,
    load,
)


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


WRONG: list[tuple[str, str]] = [
    (
        '[server]\nport = "abc"',
        'config.toml:2: server.port: expected an integer between 1 and 65535, got "abc"',
    ),
    ("[server]\nport = 0", "config.toml:2: server.port: expected an integer between 1 and 65535, got 0"),
    ("[server]\nport = true", "config.toml:2: server.port: expected an integer between 1 and 65535, got true"),
    ("[server]\nport = 8080.0", "config.toml:2: server.port: expected an integer between 1 and 65535, got 8080.0"),
    ("server.prot = 1", "config.toml:1: server.prot: no such setting; expected server.port"),
    ("[server]\nmax-body = 1", "config.toml:2: server.max-body: no such setting; expected server.max_body"),
    ("[sever]\nport = 1", "config.toml:1: sever: no such setting; expected server"),
    (
        "port = 1",
        (
            "config.toml:1: port: no such setting; expected one of server, backends, models, store, auth, limits, "
            "budget, queue, prices, logs, tls, responses, files, batches, moderations"
        ),
    ),
    ("server = 1", "config.toml:1: server: expected a table, got 1"),
    ("[[server]]\nport = 1", 'config.toml:1: server: expected a table, got [{"port": 1}]'),
    ('[server]\nhost = ""', 'config.toml:2: server.host: expected an address or a host name, got ""'),
    ("[server]\ngrace = -1", "config.toml:2: server.grace: expected a number of at least 0, got -1"),
    ("[server]\ngrace = inf", "config.toml:2: server.grace: expected a number of at least 0, got Infinity"),
    ("[server]\nheartbeat = 0", "config.toml:2: server.heartbeat: expected a number above 0, got 0"),
    ("[server]\nheartbeat = nan", "config.toml:2: server.heartbeat: expected a number above 0, got NaN"),
    (
        "[server]\nheader_hold = 1e9",
        "config.toml:2: server.header_hold: expected a number above 0, at most 300, got 1000000000.0",
    ),
    (
        '[server]\nmax_body = "64 parsecs"',
        'config.toml:2: server.max_body: expected a number of bytes, or a size like "64MiB", got "64 parsecs"',
    ),
    (
        '[server]\nlog_level = "loud"',
        'config.toml:2: server.log_level: expected one of "debug", "error", "info", "warning", got "loud"',
    ),
    (
        '[server]\ncors_origins = "http://a"',
        'config.toml:2: server.cors_origins: expected a list of strings, got "http://a"',
    ),
    ("[server]\ncors_origins = [1]", "config.toml:2: server.cors_origins: expected a list of strings, got [1]"),
    ("[models]\nopenai_names = 1", "config.toml:2: models.openai_names: expected true or false, got 1"),
    ("[models]\ndefault = 2020-01-01", 'config.toml:2: models.default: expected a string, got "2020-01-01"'),
    ("[models.aliases]\na = 1", "config.toml:2: models.aliases.a: expected a string, got 1"),
    (
        '[models.aliases]\n"a.b" = ""',
        'config.toml:2: models.aliases."a.b": expected a name and a model, got an empty one',
    ),
    ("[models.options]\na = 1", "config.toml:2: models.options.a: expected a table, got 1"),
    (
        "[models.options.q]\ntemprature = 1",
        "config.toml:2: models.options.q.temprature: no such setting; expected models.options.q.temperature",
    ),
    (
        "[models.options.q]\nmirostat = 1",
        "config.toml:2: models.options.q.mirostat: no such setting; expected one of "
        + ", ".join(ModelOptions.__struct_fields__),
    ),
    (
        '[models.options.q]\nkeep_alive = "soon"',
        'config.toml:2: models.options.q.keep_alive: expected a number of seconds, or a time like "30m", got "soon"',
    ),
    (
        "[models.options.q]\nseed = 9223372036854775808",
        "config.toml:2: models.options.q.seed: expected an integer of 64 bits, got 9223372036854775808",
    ),
    (
        "[models]\nnum_ctx = 99999999999999999999999",
        "config.toml:2: models.num_ctx: expected an integer of at least 0, got 99999999999999999999999",
    ),
    (
        '[backends.lm]\nurl = "http://x"',
        'config.toml:1: backends.lm.type: expected one of "embedded", "ollama", "openai", got nothing',
    ),
    (
        '[backends.lm]\ntype = "openai"',
        "config.toml:1: backends.lm.url: expected the server's base URL, which type openai needs, got nothing",
    ),
    (
        '[backends.ollama]\nurl = "localhost:1"',
        (
            "config.toml:2: backends.ollama.url: expected a URL that begins with http:// or https://, "
            "got one without http:// in front"
        ),
    ),
    (
        "[backends.ollama]\ncontext = 4096",
        (
            "config.toml:2: backends.ollama.context: no such setting; "
            'expected it with type embedded only, this is type "ollama"'
        ),
    ),
    ('[backends."a/b"]\ntype = "ollama"', 'config.toml:1: backends."a/b": expected a name of letters, digits, - and _'),
    (
        '[backends.ollama]\nheaders = { "x y" = "z" }',
        'config.toml:2: backends.ollama.headers."x y": expected an HTTP header\'s name and its value on one line',
    ),
    (
        '[backends.ollama]\nheaders = { x = "a\\nb" }',
        "config.toml:2: backends.ollama.headers.x: expected an HTTP header's name and its value on one line",
    ),
]


# Never with the URL itself, which may hold a secret.
URLS = [
    ("openai", "127.0.0.1:1234/v1", "one without http:// in front"),
    ("openai", "htp://h/v1", "one of another scheme"),
    ("openai", "http://h h/v1", "one with white space or a control character in it"),
    ("openai", "http://h/v1 ", "one with white space or a control character in it"),
    ("openai", "http://h\\u200b/v1", "one with white space or a control character in it"),
    ("openai", "http:\\\\h", "one without http:// in front"),
    ("openai", "http://h:65536/v1", "one with a port that is no number from 1 to 65535"),
    ("openai", "http://h:0/v1", "one with a port that is no number from 1 to 65535"),
    ("openai", "http://h:port/v1", "one with a port that is no number from 1 to 65535"),
    ("openai", "http://me:SECRET@h/v1", "one with a user name or password in it"),
    ("openai", "http:///v1", "one without a host that can be"),
    ("openai", "http://[::1/v1", "one without a host that can be"),
    ("openai", "http://a..b/v1", "one without a host that can be"),
    ("openai", "http://h/v1?key=SECRET", "one with a query"),
    ("openai", "http://h/v1#x", "one with a # in it"),
    ("openai", "http://h/v1/chat/completions", "one with more behind it; http://h/v1 is it"),
    ("openai", "http://h/v1/models/", "one with more behind it; http://h/v1 is it"),
    ("ollama", "http://h:11434/v1", "one with more behind it; http://h:11434 is it"),
    ("ollama", "http://h:11434/api/", "one with more behind it; http://h:11434 is it"),
    ("ollama", "http://h/ollama/api/chat", "one with more behind it; http://h/ollama is it"),
]


@pytest.mark.parametrize(("kind", "url", "got"), URLS)
def test_a_url_that_cannot_be_right_is_told_with_its_line(kind: str, url: str, got: str) -> None:
    message = refused(f'[backends.lab]\ntype = "{kind}"\nurl = "{url}"\n')
    assert message.startswith("config.toml:3: backends.lab.url: expected ")
    assert f", got {got}" in message
    assert "SECRET" not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://h", "https://h:8443/v1", "http://[::1]:1234/v1", "http://h/openai/v1beta", "https://münchen.example/v1",
        "http://my_box.local:80", "http://h/v1/", "http://[fe80::1%25eth0]:1/v1", "http://h./v1",
    ],
)  # fmt: skip
def test_a_url_that_may_be_right_is_taken(url: str) -> None:
    assert loaded(f'[backends.lab]\ntype = "openai"\nurl = "{url}"\n').settings.backends["lab"].url == url


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [
        (
            "budget.webhook",
            ["hook.example", "ftp://h", "http:///", "http://h:99999/x", "http://h x"],
            ["https://me:pw@h/x?y=1"],
        ),
        (
            "limits.url",
            ["h:6379", "http://h", "redis://h:99999"],
            ["redis://:pw@h:1/0?a=b", "unix:///run/r.sock", "redis://"],
        ),
        ("store.url", ["mysql://h/x", "h/x"], ["postgresql://me:p/w@h/x", "postgresql:///x?host=/run", "sqlite:////x"]),
    ],
)
def test_other_urls_are_checked_and_never_shown(setting: str, wrong: list[str], right: list[str]) -> None:
    for url in wrong:
        message = refused(f'{setting} = "{url}"')
        assert message.startswith(f"config.toml:1: {setting}: expected ")
        assert url not in message
    for url in right:
        loaded(f'{setting} = "{url}"')


@pytest.mark.parametrize("value", ["sk-\nSECRET", "sk-\rSECRET", "sk-SECRET\x00", "sk-SECR…ET", "\x7f"])
def test_a_key_that_no_header_can_have_is_told_by_its_setting(value: str) -> None:
    text = '[backends.lab]\ntype = "openai"\nurl = "http://h/v1"\napi_key_env = "LAB_KEY"\n'
    message = refused(text, env={"LAB_KEY": value})
    assert message == (
        "config.toml:4: backends.lab.api_key_env: expected a key of printable ASCII on one line, got one in LAB_KEY "
        "with a line end or another character that no header can have"
    )
    message = refused(text, env={"OPROXY_BACKENDS_LAB_API_KEY": value})
    assert message.startswith("OPROXY_BACKENDS_LAB_API_KEY: backends.lab.api_key: expected a key of printable ASCII")
    assert "SECR" not in message


@pytest.mark.parametrize("value", ["sk-1\n", "sk-1\r\n", " sk-1\t", "sk-1"])
def test_white_space_around_a_key_does_not_count(value: str) -> None:
    text = '[backends.lab]\ntype = "openai"\nurl = "http://h/v1"\napi_key_env = "LAB_KEY"\n'
    assert loaded(text, env={"LAB_KEY": value})
    assert loaded(text, env={"OPROXY_BACKENDS_LAB_API_KEY": value})


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
def test_headers_that_http_needs_for_itself_are_refused(name: str) -> None:
    assert "a header other than those that HTTP itself needs" in refused(f'[backends.ollama]\nheaders."{name}" = "1"')


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text.replace("\n", " ") for text, _ in WRONG])
def test_a_wrong_value_is_told_with_file_line_key_and_what_was_expected(text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"OPROXY_SERVER_PORT": "abc"},
            'OPROXY_SERVER_PORT: server.port: expected an integer between 1 and 65535, got "abc"',
        ),
        ({"OPROXY_SERVER_PROT": "1"}, "OPROXY_SERVER_PROT: no such setting; expected OPROXY_SERVER_PORT"),
        ({"OPROXY_MODELS_X": "1"}, "OPROXY_MODELS_X: no such setting; expected a setting of `man oproxy.toml`"),
        (
            {"OPROXY_MODELS_ALIASES": "a"},
            "OPROXY_MODELS_ALIASES: models.aliases: expected to be set in the config file",
        ),
        (
            {"OPROXY_BACKENDS_X_URL": "http://y"},
            'OPROXY_BACKENDS_X_URL: backends.x.type: expected one of "embedded", "ollama", "openai", got nothing',
        ),
        (
            {"OPROXY_MODELS_OPENAI_NAMES": "maybe"},
            'OPROXY_MODELS_OPENAI_NAMES: models.openai_names: expected true or false, got "maybe"',
        ),
    ],
)
def test_a_wrong_environment_is_told_by_the_variable(env: dict[str, str], message: str) -> None:
    assert refused(env=env) == message


def test_a_wrong_flag_is_told_by_the_flag() -> None:
    assert refused(server_port=0) == "--port: server.port: expected an integer between 1 and 65535, got 0"


def test_variables_of_others_are_left_alone() -> None:
    assert loaded(env={"OPROXY_E2E_OLLAMA": "x", "OPROXY_FOO": "y", "SERVER_PORT": "z"}) == loaded()


def test_all_mistakes_are_told_at_once() -> None:
    text = '[server]\nport = "abc"\nprot = 1\n\n[models]\nnum_ctx = -1\n'

    assert refused(text, env={"OPROXY_SERVER_GRACE": "x"}).split("\n") == [
        'config.toml:2: server.port: expected an integer between 1 and 65535, got "abc"',
        "config.toml:3: server.prot: no such setting; expected server.port",
        'OPROXY_SERVER_GRACE: server.grace: expected a number of at least 0, got "x"',
        "config.toml:6: models.num_ctx: expected an integer of at least 0, got -1",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [("[server]\nport 1", "2:6"), ("[server]\nport = ", "2:8"), ("[server\n", "1:8"), ("a = 1\na = 2\n", "2:6")],
)
def test_broken_toml_is_told_with_line_and_column(text: str, where: str) -> None:
    assert re.fullmatch(rf"config\.toml:{where}: expected valid TOML, got the error: [^\n]+", refused(text))


@pytest.mark.parametrize("end", ['x = "', "x = '''\n\n", "x = [", "x ="])
def test_toml_that_ends_too_early_is_told_with_its_last_line(end: str) -> None:
    assert re.match(r"config\.toml:[2-4]:\d+: expected valid TOML", refused(f"[server]\n{end}"))


def test_no_secret_is_ever_told() -> None:
    texts = [
        refused("[backends.ollama]\napi_key = 12345\n"),
        refused('[backends.ollama]\napi_key = ["12345"]\n'),
        refused("[backends.ollama]\nheaders = { authorization = 12345 }\n"),
        refused('[backends.ollama]\nheaders = "12345"\n'),
        refused('[backends.ollama]\nheaders = { a = "12345\\n" }\n'),
    ]
    assert all("12345" not in text for text in texts)
    assert shown(("backends", "x", "api_key"), "12345") == "(hidden)"
    assert shown(("backends", "x", "headers"), {"a": "12345"}) == "(hidden)"
    assert shown(("backends", "x", "url"), "http://me:12345@host/v1") == '"http://(hidden)@host/v1"'
    assert shown(("backends", "x", "api_key"), "") == '""'


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from([*SECTIONS, "backends", "port", "ollama", "url", "type", "options", "aliases", "x"]),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
)
def test_whatever_stands_in_the_file_is_read_or_refused(value: Any) -> None:
    text = (
        "\n".join(f"{name} = {toml_value(below)}" for name, below in value.items()) if isinstance(value, dict) else ""
    )
    text = re.sub(r"\bNaN\b", "nan", text).replace("Infinity", "inf")
    try:
        loaded(text)
    except ConfigError as exc:
        told = [problem.where for problem in exc.problems]
    else:
        told = ["nothing"]
    assert told
    assert all(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[limits]\ntier = "tier9"', "config.toml:2: limits.tier: expected one of free, tier1, tier2"),
        ('[logs]\nredact = ["("]', "config.toml:2: logs.redact: expected regular expressions"),
        ('[tls]\nmode = "files"\ncert = "a.pem"', 'tls.key: expected the path of a PEM file, which mode "files" needs'),
    ],
)
def test_what_fits_its_type_and_still_cannot_work_is_told(text: str, told: str) -> None:
    assert told in refused(text)


def test_a_tier_of_ones_own_can_be_the_default() -> None:
    assert loaded('[limits]\ntier = "guest"\n[limits.tiers.guest]\nconcurrent = 1').settings.limits.tier == "guest"


def test_a_group_that_is_none_is_told_with_all_there_are() -> None:
    text = '[backends.lab]\ntype = "openai"\nurl = "http://lab/v1"\nserves = '
    assert loaded(f'{text}["audio", "images"]').settings.backends["lab"].serves == ("audio", "images")
    for wrong in ('["audo"]', '"audio"', "[5]"):
        told = refused(text + wrong)
        assert told.startswith("config.toml:4: backends.lab.serves: expected a list of agents, assistants, audio, ")
    assert "with type openai only" in refused('[backends.lab]\ntype = "ollama"\nserves = ["audio"]')
