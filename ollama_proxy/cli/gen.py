"""Writes `man/` and `completions/`: `python -m ollama_proxy.cli.gen`. A test fails when they are stale.

They are printed from the command line and the declared settings; nothing in them is written by hand.
"""

from __future__ import annotations

from pathlib import Path

from . import gen_complete, gen_man
from .output import echo
from .tree import tree

__all__ = ["generated", "write"]

ROOT = Path(__file__).parents[2]


def generated() -> dict[str, str]:
    """Return every generated file, by its path below the repository, with its text."""
    root = tree()
    files = {"man/oproxy.1": gen_man.root_page(root), "man/oproxy.toml.5": gen_man.settings_page()}
    files |= {f"man/oproxy-{command.name}.1": gen_man.command_page(command) for command in root.commands}
    return files | {
        "completions/oproxy.bash": gen_complete.bash(root),
        "completions/oproxy.zsh": gen_complete.zsh(root),
        "completions/oproxy.fish": gen_complete.fish(root),
    }


def write(root: Path) -> list[str]:
    """Write what has changed below `root`, remove what is no longer generated, and return the paths touched."""
    wanted = generated()
    touched = []
    for name, text in wanted.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            touched.append(name)
    for name in stale(root, wanted):
        (root / name).unlink()
        touched.append(name)
    return touched


def stale(root: Path, wanted: dict[str, str]) -> list[str]:
    """Return the files in the two folders that nothing generates any more."""
    found = (f"{folder}/{path.name}" for folder in ("man", "completions") for path in (root / folder).glob("*"))
    return sorted(set(found) - set(wanted))


if __name__ == "__main__":
    for each in write(ROOT):
        echo(each)
