"""Taking over a changed config: every way an editor saves, against the real watcher."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import inspect

from ollama_proxy import configfile, declared
from ollama_proxy.jobs import Reloader
from ollama_proxy.settings import Loaded, Settings, load
from ollama_proxy.tasks import Tasks
from tests.loop import Threads


def config(grace: float) -> str:
    return f"[server]\ngrace = {grace}\n"


class Watched:
    """A reloader over a real file. `said` are its lines in their order, `applied` the settings it took over."""

    def __init__(self, path: Path, **options: float) -> None:
        self.path = path
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.applied: list[Settings] = []
        self.tasks = Tasks()
        text = path.read_text() if path.exists() else ""
        self.reloader = Reloader(
            loaded=load(path=path, env={}, flags={}, text=text),
            load=self.load,
            apply=self.applied.append,
            say=self.said.put_nowait,
            **options,
        )

    def load(self) -> Loaded:
        return load(path=self.path, env={}, flags={})

    def watch(self) -> None:
        self.tasks.start(self.reloader.run(), name="reload")

    async def hears(self, text: str) -> None:
        """Wait until a message with this text comes; every other one on the way is a failure."""
        message = await self.said.get()
        assert text in message, message

    def grace(self) -> float:
        return self.reloader.loaded.settings.server.grace


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    folder = tmp_path / "etc" / "oproxy"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config(1))
    made = Watched(folder / "config.toml")
    yield made
    await made.tasks.aclose()


# --- one reading ----------------------------------------------------------------------------------------------------


def quiet(watched: Watched) -> list[str]:
    out = []
    while not watched.said.empty():
        out.append(watched.said.get_nowait())
    return out


async def test_a_change_is_taken_over_and_told(watched: Watched) -> None:
    watched.path.write_text(config(60) + '[models.aliases]\n"gpt-4*" = "m"\n')

    assert watched.reloader.reload_now() is True
    assert watched.applied == [watched.load().settings] == [watched.reloader.loaded.settings]
    assert quiet(watched) == [
        f'{watched.path} was read again:\n  server.grace: 1.0 → 60.0\n  models.aliases."gpt-4*": not set → "m"'
    ]


async def test_the_same_content_changes_and_says_nothing(watched: Watched) -> None:
    watched.path.write_text("# new comment\n" + config(1))

    assert watched.reloader.reload_now() is False
    assert (watched.applied, quiet(watched)) == ([], [])


async def test_the_types_of_the_settings_are_not_looked_up_on_the_loop(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Threads()
    monkeypatch.setattr(inspect, "type_info", threads.watch(inspect.type_info))
    declared.kind_of.cache_clear()
    watched.path.write_text(config(2))
    watched.watch()
    await watched.hears("server.grace: 1.0 → 2.0")
    assert len(threads.elsewhere) > 50
    assert len(threads.on_loop) < 5, "only for what changed"


async def test_secrets_are_not_told(watched: Watched) -> None:
    def text(secret: str) -> str:
        shared = f'[limits]\nurl = "redis://:{secret}@h"\n'
        return f'{shared}[backends.ollama]\napi_key = "{secret}"\nheaders = {{ a = "{secret}" }}\n'

    watched.path.write_text(text("12345"))
    watched.reloader.reload_now()
    watched.path.write_text(text("67890"))
    watched.reloader.reload_now()

    first, second = quiet(watched)
    assert "12345" not in first + second
    assert "67890" not in second
    assert '  backends.ollama.api_key: "" → (hidden)' in first
    assert second.split("\n")[1:] == [
        "  backends.ollama.api_key: changed",
        "  backends.ollama.headers: changed",
        "  limits.url: changed",
    ]


async def test_what_needs_a_restart_is_told_once_and_stays_as_it_is(watched: Watched) -> None:
    watched.path.write_text(config(2) + "port = 9000\n")
    assert watched.reloader.reload_now() is True
    assert watched.applied[-1].server.port == 11435
    assert "  server.port: 11435 → 9000 (takes effect after a restart)" in quiet(watched)[0]

    watched.path.write_text(config(3) + "port = 9000\n")
    assert watched.reloader.reload_now() is True
    assert "port" not in quiet(watched)[0]

    watched.path.write_text(config(3))
    assert watched.reloader.reload_now() is False
    assert "  server.port: 9000 → 11435 (as it is in force)" in quiet(watched)[0]
    assert len(watched.applied) == 2


async def test_a_backend_that_comes_or_goes_is_one_line(watched: Watched) -> None:
    watched.path.write_text(config(1) + '[backends.ollama]\n[backends.lm]\ntype = "openai"\nurl = "http://x"\n')
    watched.reloader.reload_now()

    assert quiet(watched)[0].split("\n")[1:] == ["  backends.embedded: removed", "  backends.lm: added (openai)"]


async def test_an_invalid_change_is_refused_once_with_its_line(watched: Watched) -> None:
    for _ in range(2):
        watched.path.write_text("[server]\ngrace = 5\nport = 0\n")
        assert watched.reloader.reload_now() is False

    assert (watched.applied, watched.grace()) == ([], 1)
    assert quiet(watched) == [
        (
            "The changed config is refused, the settings in force stay:\n"
            f"{watched.path}:3: server.port: expected an integer between 1 and 65535, got 0"
        )
    ]

    watched.path.write_text(config(1))
    assert watched.reloader.reload_now() is False
    assert quiet(watched) == [f"{watched.path} is right again."]


async def test_a_deleted_file_leaves_the_settings_in_force(watched: Watched) -> None:
    watched.path.unlink()
    assert [watched.reloader.reload_now() for _ in range(2)] == [False, False]

    assert quiet(watched) == [f"{watched.path} is gone; the settings in force stay."]
    assert (watched.applied, watched.grace()) == ([], 1)

    watched.path.write_text(config(1))
    assert watched.reloader.reload_now() is False
    assert quiet(watched) == [f"{watched.path} is right again."]


@pytest.mark.parametrize("error", [RuntimeError("out of sockets"), ValueError("bad")])
async def test_settings_that_cannot_be_taken_over_leave_the_old_ones(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "c.toml"
    path.write_text(config(1))
    said: list[str] = []

    def fail(settings: Settings) -> None:
        raise error

    def read() -> Loaded:
        return load(path=path, env={}, flags={})

    reloader = Reloader(loaded=read(), load=read, apply=fail, say=said.append)
    path.write_text(config(2))

    assert reloader.reload_now() is False
    assert reloader.loaded.settings.server.grace == 1
    assert len(said) == 1
    assert str(error) in said[0]


async def test_a_reader_that_fails_otherwise_is_survived_too(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(config(1))
    said: list[str] = []

    def fail() -> Loaded:
        raise LookupError("no such backend")

    reloader = Reloader(
        loaded=load(path=path, env={}, flags={}), load=fail, apply=lambda settings: None, say=said.append
    )

    assert reloader.reload_now() is False
    assert "no such backend" in said[0]


# --- the watcher ----------------------------------------------------------------------------------------------------


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    draft = path.with_name(".config.toml.swp")
    draft.write_text(text)
    draft.replace(path)


def with_a_backup(path: Path, text: str) -> None:
    # vim with 'backup': the old file is moved aside, a new one is written in its place.
    path.replace(path.with_name("config.toml~"))
    path.write_text(text)


def deleted_first(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def by_our_own_set(path: Path, text: str) -> None:
    configfile.set_value(path, ("server", "grace"), float(text.rpartition("= ")[2]))


SAVES = [in_place, by_rename, with_a_backup, deleted_first, by_our_own_set]


@pytest.mark.parametrize("save", SAVES)
async def test_every_way_to_save_is_seen(watched: Watched, save: Callable[[Path, str], None]) -> None:
    watched.watch()
    for grace in (2, 3):
        save(watched.path, config(grace))
        await watched.hears(f"→ {grace}.0")
        assert watched.grace() == grace


async def test_a_file_that_is_written_in_pieces_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config(1))
    watched = Watched(path, still=0.5)
    watched.watch()
    with path.open("w") as file:
        for piece in ("", "[server", "]\ngrace = ", "3\n"):
            file.write(piece)
            file.flush()
            await asyncio.sleep(0.01)

    await watched.hears("server.grace: 1.0 → 3.0")
    await watched.tasks.aclose()


async def test_a_change_made_before_anybody_watched_is_seen(watched: Watched) -> None:
    watched.path.write_text(config(2))
    watched.watch()

    await watched.hears("→ 2.0")


async def test_a_deleted_file_is_told_and_one_that_comes_again_is_read(watched: Watched) -> None:
    watched.watch()
    by_rename(watched.path, config(2))
    await watched.hears("→ 2.0")
    watched.path.unlink()
    await watched.hears("is gone")
    watched.path.write_text(config(3))
    await watched.hears("→ 3.0")


async def test_ten_saves_in_a_second_end_at_the_last(watched: Watched) -> None:
    watched.watch()
    for grace in range(2, 12):
        by_rename(watched.path, config(grace))
        await asyncio.sleep(0.05)
    while watched.grace() != 11:
        await watched.said.get()

    assert watched.applied[-1].server.grace == 11
    assert len(watched.applied) < 10


async def test_an_invalid_save_is_refused_and_the_next_good_one_taken(watched: Watched) -> None:
    watched.watch()
    in_place(watched.path, "[server]\ngrace = 'x'\n")
    await watched.hears(f"{watched.path}:2: server.grace: expected a number of at least 0")
    in_place(watched.path, config(4))
    await watched.hears("→ 4.0")


async def test_a_link_that_is_pointed_elsewhere_is_followed(tmp_path: Path) -> None:
    folder, link = tmp_path / "etc", tmp_path / "etc" / "config.toml"
    folder.mkdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "real.toml").write_text(config(1 if name == "a" else 2))
    link.symlink_to(tmp_path / "a" / "real.toml")
    watched = Watched(link)
    watched.watch()

    (folder / "new").symlink_to(tmp_path / "b" / "real.toml")
    (folder / "new").replace(link)
    await watched.hears("→ 2.0")
    by_rename(tmp_path / "b" / "real.toml", config(3))
    await watched.hears("→ 3.0")
    await watched.tasks.aclose()


async def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    # Kubernetes: config.toml → ..data/config.toml, ..data → a folder of the day; only ..data is exchanged.
    for name in ("day1", "day2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(config(1 if name == "day1" else 2))
    (tmp_path / "..data").symlink_to("day1")
    (tmp_path / "config.toml").symlink_to("..data/config.toml")
    watched = Watched(tmp_path / "config.toml")
    watched.watch()

    (tmp_path / "..tmp").symlink_to("day2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    await watched.hears("→ 2.0")
    await watched.tasks.aclose()


async def test_a_folder_that_comes_later_or_goes_and_comes_again_is_watched(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "later" / "config.toml")
    watched.watch()
    await asyncio.sleep(0)
    for grace in (2, 3):
        watched.path.parent.mkdir()
        watched.path.write_text(config(grace))
        await watched.hears(f"→ {grace}.0")
        shutil.rmtree(watched.path.parent)
        await watched.hears("is gone")
    await watched.tasks.aclose()


async def test_other_files_of_the_folder_do_not_matter(watched: Watched) -> None:
    watched.watch()
    (watched.path.parent / "other.toml").write_text("x = ")
    by_rename(watched.path, config(2))
    (watched.path.parent / "config.toml.bak").write_text("y = ")

    await watched.hears("→ 2.0")


async def test_polling_by_watchfiles_works_too(watched: Watched) -> None:
    os.environ["WATCHFILES_FORCE_POLLING"] = "true"
    watched.watch()
    in_place(watched.path, config(2))

    await watched.hears("→ 2.0")


async def test_it_ends_at_once_when_it_is_cancelled(watched: Watched) -> None:
    watched.watch()
    by_rename(watched.path, config(2))
    await watched.hears("→ 2.0")
    await watched.tasks.aclose()

    by_rename(watched.path, config(3))
    assert watched.said.empty()
    assert watched.grace() == 2
