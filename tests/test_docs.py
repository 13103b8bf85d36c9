"""What is documented is what is there: manual pages, completions, the README's table of routes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ollama_proxy.cli import gen
from ollama_proxy.cli.app import COMMANDS
from ollama_proxy.cli.gen_toml import commented_toml
from ollama_proxy.cli.tree import Command, tree
from ollama_proxy.declared import describe
from ollama_proxy.server.routes import ROUTES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return gen.generated()


@pytest.fixture(scope="module")
def root() -> Command:
    return tree()


def plain(page: str) -> str:
    """Undo roff's escapes, roughly: enough to find words in a page."""
    page = re.sub(r"\\f[BIR]", "", page).replace(r"\&", "")
    return page.replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\(aq", "'").replace(r"\(ha", "^")


def test_the_generated_files_are_fresh(generated: dict[str, str]) -> None:
    old = [
        name
        for name, text in generated.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    assert old + gen.stale(ROOT, generated) == [], "run: make gen"


def test_a_stale_and_a_left_over_file_are_seen_and_mended(tmp_path: Path) -> None:
    gen.write(tmp_path)
    (tmp_path / "man" / "oproxy.1").write_text("old")
    (tmp_path / "man" / "oproxy-gone.1").write_text("old")

    assert sorted(gen.write(tmp_path)) == ["man/oproxy-gone.1", "man/oproxy.1"]
    assert gen.write(tmp_path) == []


def test_every_setting_is_in_the_manual_and_in_the_commented_config(generated: dict[str, str]) -> None:
    page, config = plain(generated["man/oproxy.toml.5"]), commented_toml()
    for setting in describe():
        name = setting.key.rpartition(".")[2]
        assert f"\n{name}\n" in page, setting.key
        assert setting.help.replace("`", "") in page, setting.key
        assert re.search(rf"(?m)^#\s*({re.escape(name)}( =|:) |\[.*\.{re.escape(name)}[].])", config), setting.key
        if setting.env:
            assert setting.env in page


def test_every_setting_has_a_help(generated: dict[str, str]) -> None:
    assert [setting.key for setting in describe() if not setting.help] == []


def test_every_command_has_a_page_with_all_its_options(generated: dict[str, str], root: Command) -> None:
    assert {command.name for command in root.commands} == set(COMMANDS)
    for top in root.commands:
        page = plain(generated[f"man/oproxy-{top.name}.1"])
        assert f"oproxy-{top.name}(1)" in plain(generated["man/oproxy.1"])
        for command in top.walk():
            if not command.commands and command is not top:
                assert f'.SS "{" ".join(command.path[1:])}"' in page
            for param in command.params if not command.commands else ():
                assert all(flag in page for flag in param.flags), (command.path, param.name)


def test_every_command_and_option_is_in_every_completion(generated: dict[str, str], root: Command) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = generated[f"completions/oproxy.{shell}"]
        for command in root.walk():
            assert command.name in script
            for flag in (flag for param in command.options for flag in param.flags):
                assert re.search(rf"(-l |-s |\W){re.escape(flag.lstrip('-') if shell == 'fish' else flag)}\b", script)


def test_every_route_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        f"{row.route.method} {row.route.path}"
        for row in ROUTES
        if not re.search(rf"{row.route.method}\W+{re.escape(row.route.path)}\W", readme)
    ]
    assert missing == []


def test_the_manual_pages_are_valid_roff(generated: dict[str, str], tmp_path: Path) -> None:
    checker = shutil.which("mandoc") or shutil.which("groff")
    if checker is None:
        pytest.skip("neither mandoc nor groff is here")
    args = ["-T", "lint", "-W", "error"] if checker.endswith("mandoc") else ["-man", "-Tutf8", "-ww"]
    for name, text in generated.items():
        if name.startswith("man/"):
            path = tmp_path / Path(name).name
            path.write_text(text)
            done = subprocess.run([checker, *args, str(path)], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), name
