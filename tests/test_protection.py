"""A config that is cut, emptied or half written never takes away what protects a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.declared import describe
from ollama_proxy.jobs import Reloader, in_force
from ollama_proxy.protection import cut_off, exposure, hold, protects, unfit, weaker, weakest
from ollama_proxy.settings import Loaded, Settings, load

# A daemon that is protected in every way there is.
GUARDED = """\
# the team's gateway
[server]
host = "0.0.0.0"
allowed_hosts = ["gateway.example"]
cors_origins = ["https://app.example"]
image_max_bytes = "1MiB"
image_timeout = 2.5
image_redirects = 0
image_allow_private = false

[auth]
mode = "on"
allow_anonymous = false
env_file = "keys.env"
failures = 3

[limits]
requests_per_minute = 60
tokens_per_day = 200_000
tier = "mine"
on_error = "refuse"

[limits.address]
concurrent = 4

[limits.models."gpt*"]
requests_per_day = 100

[limits.tiers.mine]
requests_per_minute = 30
models."gpt*".tokens_per_minute = 500

[budget]
money_per_month = 12.5
tokens_per_day = 1_000_000
count = "list"

[prices]
kwh = 0.4
models.qwen = { input = 1.5, cached = 0.5, output = 3.0 }

[queue]
max_concurrent = 2
max_waiting = 20
[queue.models."gpt*"]
max_concurrent = 1

[store]
on_error = "refuse"
keep = 30

[logs]
bodies = "none"
redact = ["secret-\\\\w+", "Zürich"]
max_total = "20MiB"

[tls]
mode = "files"
only = true
cert = "cert.pem"
key = "key.pem"

[responses]
keep = 1

[files]
max_total = "1GiB"

[backends.lab]
type = "openai"
url = "http://127.0.0.1:8000/v1"
max_concurrent = 3
"""

# What protects, by what is better of it. A new setting has its row here, or is PLAIN in its declaration.
PROTECTING = {
    "lower": {
        "server.max_body", "server.body_timeout", "server.max_connections", "server.max_requests",
        "server.max_sockets", "server.send_timeout", "server.images_max", "server.images_max_bytes",
        "server.images_timeout", "server.image_max_bytes", "server.image_timeout", "server.image_redirects",
        "backends.NAME.max_concurrent", "auth.failures", "queue.max_concurrent", "queue.max_waiting",
        'queue.models."NAME".max_concurrent', "budget.money_per_day", "budget.money_per_month",
        "budget.tokens_per_day", "budget.tokens_per_month", "files.max_size", "files.max_total",
        *(
            f"limits.{table}{name}"
            for table in (
                "", "address.", 'models."NAME".', 'key_models."NAME".', 'tiers."NAME".', 'tiers."NAME".models."NAME".'
            )
            for name in (
                "requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrent"
            )
        ),
    },
    "higher": {
        "server.body_rate", "prices.kwh", "prices.watts", 'prices.models."NAME".input', 'prices.models."NAME".output',
    },
    "fewer": {"server.cors_origins", "server.allowed_hosts", "backends.NAME.serves", "tls.names"},
    "more": {"logs.redact"},
    "stays": {
        "server.host", "server.memory", "backends.NAME.url", "store.url", "store.keep", "auth.env_file", "limits.url",
        'prices.models."NAME".cached', "logs.max_files", "logs.max_total", "tls.cert", "tls.key", "responses.keep",
    },
    "weak": {
        "server.image_allow_private", "store.ledger", "store.durability", "store.on_error", "auth.mode",
        "auth.allow_anonymous", "limits.tier", "limits.on_error", "budget.count", "logs.requests", "logs.bodies",
        "tls.mode", "tls.only",
    },
}  # fmt: skip


def loaded(text: str, path: Path = Path("config.toml")) -> Loaded:
    return load(path=path, env={}, flags={}, text=text)


def key_of(name: str) -> tuple[str, ...]:
    return tuple(name.replace('"NAME"', "NAME").split("."))


def test_every_setting_has_decided_whether_it_protects() -> None:
    found: dict[str, set[str]] = {}
    for setting in describe():
        found.setdefault(protects(key_of(setting.key)).order, set()).add(setting.key)
    plain = found.pop("none")
    assert found == PROTECTING
    assert len(plain) > 50


class Daemon:
    """A reloader over a file, which nobody watches: `write` is one change."""

    def __init__(self, path: Path, text: str = GUARDED) -> None:
        path.write_text(text, encoding="utf-8")
        self.path = path
        self.said: list[str] = []
        self.reloader = Reloader(loaded=self.load(), load=self.load, apply=lambda _: None, say=self.said.append)

    def load(self) -> Loaded:
        return load(path=self.path, env={}, flags={})

    def write(self, data: bytes | str) -> Settings:
        self.path.write_bytes(data if isinstance(data, bytes) else data.encode())
        self.reloader.reload_now()
        return self.settings

    @property
    def settings(self) -> Settings:
        return self.reloader.loaded.settings


def is_as_safe(before: Settings, after: Settings) -> bool:
    return weaker(before, after) == [] and exposure(after) == ""


def test_a_config_cut_at_any_byte_protects_as_before(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml")
    before, data = daemon.settings, GUARDED.encode()
    # One after another: what was lost stays in force over any number of changes.
    for end in range(len(data), -1, -1):
        assert is_as_safe(before, daemon.write(data[:end])), data[:end][-40:]
    assert is_as_safe(before, daemon.write(data))
    assert (daemon.reloader.held, daemon.reloader.problem, daemon.settings) == ([], "", before)


def pieces() -> Iterator[str]:
    """Yield the config without each line, without each section, and with the rest of it in another's place."""
    lines = GUARDED.splitlines(keepends=True)
    for at in range(len(lines)):
        yield "".join(lines[:at] + lines[at + 1 :])
        yield "".join(lines[at:])
    sections = GUARDED.split("\n[")
    for at in range(1, len(sections)):
        yield "\n[".join(sections[:at] + sections[at + 1 :])
        yield "[" + sections[at] + "\n"


def test_a_config_without_any_line_or_section_protects_as_before(tmp_path: Path) -> None:
    for text in pieces():
        daemon = Daemon(tmp_path / "c.toml")
        before = daemon.settings
        assert is_as_safe(before, daemon.write(text)), text
        assert is_as_safe(before, daemon.write(GUARDED)), text
        assert daemon.reloader.problem == ""


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["drop", "comment", "space"])), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_config_that_lost_any_lines_protects_as_before(losses: list[tuple[int, str]]) -> None:
    before = loaded(GUARDED)
    lines = GUARDED.splitlines()
    for place, how in losses:
        at = place % len(lines)
        lines[at] = {"drop": "", "comment": f"#{lines[at]}", "space": " "}[how]
    try:
        new = loaded("\n".join(lines) + "\n")
    except Exception:
        return
    wanted, _ = hold(before.settings, new.settings, new.written)
    mixed = in_force(before.settings, wanted)
    assert list(unfit(mixed, wanted)) or is_as_safe(before.settings, mixed)


@pytest.mark.parametrize("text", ["", "\n\n", "# all of it\n# is a comment\n", "\ufeff", "[auth]\n[limits]\n", " \t\n"])
def test_an_empty_config_is_like_one_that_is_gone(tmp_path: Path, text: str) -> None:
    daemon = Daemon(tmp_path / "c.toml")
    before = daemon.settings
    assert daemon.write(text) == daemon.write(text) == before
    assert daemon.said == [
        f"{daemon.path} sets nothing; the settings in force stay. For the defaults, restart the daemon."
    ]
    assert daemon.reloader.problem == daemon.said[0]
    daemon.write(GUARDED)
    assert (daemon.said[1:], daemon.reloader.problem) == ([f"{daemon.path} is right again."], "")


def test_a_daemon_without_a_config_takes_one_and_may_lose_it_again(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml", "# nothing yet\n")
    daemon.write("")
    assert daemon.said == []
    assert daemon.write('[auth]\nmode = "on"\n').auth.mode == "on"
    assert daemon.write("").auth.mode == "on"


def test_what_cannot_be_read_leaves_the_settings_in_force(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml")
    before = daemon.settings
    for data in (b"\xff\xfe[\x00a", GUARDED.encode()[: GUARDED.encode().index(b"\xc3") + 1], b"\0" * 500):
        assert daemon.write(data) == before
    daemon.path.unlink()
    daemon.path.mkdir()
    assert daemon.reloader.reload_now() is False
    daemon.path.rmdir()
    daemon.path.symlink_to(tmp_path / "nowhere")
    assert daemon.reloader.reload_now() is False
    daemon.path.unlink()
    daemon.path.symlink_to("c.toml")
    assert daemon.reloader.reload_now() is False
    assert daemon.settings == before
    assert [line.split(": ", 1)[0].split("; ")[0].removeprefix(f"{daemon.path} ") for line in daemon.said[-3:]] == [
        "is no file", "is gone", "cannot be read (Too many levels of symbolic links)",
    ]  # fmt: skip


def test_what_disappeared_is_told_with_the_way_out_and_stays_until_it_is_written(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml", '[auth]\nmode = "on"\n[limits]\nconcurrent = 2\n[models]\ndefault = "a"\n')
    after = daemon.write('[models]\ndefault = "b"\n')
    # The rest of the change is taken.
    assert (after.auth.mode, after.limits.concurrent, after.models.default) == ("on", 2, "b")
    assert daemon.said[-1].split("\n")[1:] == [
        '  models.default: "a" → "b"',
        (
            '  auth.mode: stays "on", although the file no longer sets it. To change it, write mode = "off" under '
            "[auth], or restart the daemon."
        ),
        (
            "  limits.concurrent: stays 2, although the file no longer sets it. To change it, write "
            'concurrent = "none" under [limits], or restart the daemon.'
        ),
    ]
    daemon.write('[models]\ndefault = "c"\n')
    assert daemon.said[-1].split("\n")[1:] == ['  models.default: "b" → "c"']
    daemon.write('[auth]\nmode = "on"\n[models]\ndefault = "c"\n')
    assert daemon.said[-1].split("\n")[1:] == ["  auth.mode: the file sets it again"]
    after = daemon.write('[auth]\nmode = "off"\n[limits]\nconcurrent = "none"\n[models]\ndefault = "c"\n')
    assert (after.auth.mode, after.limits.concurrent, daemon.reloader.held) == ("off", None, [])


def every_protecting() -> list[tuple[str, ...]]:
    return [key_of(setting.key) for setting in describe() if protects(key_of(setting.key)).order != "none"]


@pytest.mark.parametrize("key", every_protecting(), ids=".".join)
def test_the_way_out_works_when_it_is_written(key: tuple[str, ...]) -> None:
    """What a message tells a person to write is a right value of the setting, and its weakest or its default."""
    *above, name = key
    head = (
        '[backends.NAME]\ntype = "openai"\nurl = "http://h/v1"\n' if key[0] == "backends" else f"[{'.'.join(above)}]\n"
    )
    line = f"{name} = {weakest(key)}\n"
    if key == ("backends", "NAME", "url"):
        head, line = '[backends.NAME]\ntype = "ollama"\n', line
    assert key in loaded(head + line).written


def test_what_runs_is_judged_and_not_the_file_alone(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml", '[server]\nhost = "0.0.0.0"\n[auth]\nmode = "on"\n')
    after = daemon.write('[server]\nhost = "127.0.0.1"\n[auth]\nmode = "off"\n')
    assert (after.server.host, after.auth.mode) == ("0.0.0.0", "on")
    assert "0.0.0.0 can be reached by other machines" in daemon.said[-1]
    assert "server.host changes at a restart only" in daemon.said[-1]
    # Nor is a file taken with which a restart would be refused.
    after = daemon.write('[server]\nhost = "::"\n[auth]\nmode = "off"\n')
    assert (after.server.host, after.auth.mode) == ("0.0.0.0", "on")
    assert ":: can be reached" in daemon.said[-1]


def test_allowing_everybody_takes_effect_at_a_restart_only(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml", '[server]\nhost = "0.0.0.0"\n[auth]\nmode = "on"\n')
    assert daemon.write('[server]\nhost = "0.0.0.0"\n[auth]\nmode = "off"\nallow_anonymous = true\n').auth.mode == "on"
    assert "auth.allow_anonymous changes at a restart only" in daemon.said[-1]


def test_a_backend_that_is_taken_out_is_gone() -> None:
    new = loaded('[backends.other]\ntype = "ollama"\n')
    wanted, held = hold(
        loaded('[backends.lab]\ntype = "ollama"\nmax_concurrent = 2\n').settings, new.settings, new.written
    )
    assert (list(wanted.backends), held) == (["other"], [])


@pytest.mark.parametrize(
    ("setting", "weak", "strong"),
    [
        ("auth.mode", '"off"', '"on"'),
        ("auth.failures", "0", "10"),
        ("auth.failures", "20", "10"),
        ("limits.requests_per_minute", '"none"', "5"),
        ("limits.requests_per_minute", "6", "5"),
        ("budget.money_per_day", '"none"', "0"),
        ("server.cors_origins", '["a", "*"]', '["a"]'),
        ("logs.redact", '["a"]', '["a", "b"]'),
        ("logs.bodies", '"all"', '"none"'),
        ("server.image_allow_private", "true", "false"),
        ("prices.kwh", "0", "0.5"),
        ("tls.only", "false", "true"),
        ("store.keep", "400", "0"),
    ],
)
def test_weaker_knows_the_direction(setting: str, weak: str, strong: str) -> None:
    one, other = (loaded(f"{setting} = {value}\n").settings for value in (strong, weak))
    assert [".".join(key) for key in weaker(one, other)] == [setting]
    assert weaker(one, one) == []
    if setting != "store.keep":
        assert weaker(other, one) == []


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        ("a = 10\n", "a = 1", True),
        ("a = 10\n", "a = 10", False),
        ("a = 10\r\n", "a = 10", False),
        ("a = 10\n", "a = 1\n", False),
        ("a = 10\nb = 2\n", "a = 10\n", False),
        ("a = 10\n", "", False),
        ("a = 10\n", "a = 10\n", False),
        ("a = 10\n", "b", False),
    ],
)
def test_a_text_is_cut_off_where_a_line_has_no_end(before: str, after: str, want: bool) -> None:
    assert cut_off(before, after) is want


def test_numbers_that_are_cut_within_are_not_taken(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "c.toml", "[store]\nkeep = 365\n")
    assert daemon.write("[store]\nkeep = 3").store.keep == 365
    assert daemon.said[-1].endswith(
        f"{daemon.path}:2: the file is cut off within this line. If that is its end, end the line."
    )
    assert daemon.write("[store]\nkeep = 3\n").store.keep == 3


def test_flags_and_the_environment_count_as_written() -> None:
    before = loaded('[auth]\nmode = "on"\n').settings
    new = load(path=Path("c"), env={"OPROXY_AUTH_MODE": "off"}, flags={}, text="[models]\nnum_ctx = 1\n")
    assert hold(before, new.settings, new.written)[0].auth.mode == "off"
