"""The package's order, checked by reading its source: what may import what, and how long a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1] / "ollama_proxy"

# A module imports only from lower layers; a folder's own modules know each other.
LAYERS: dict[str, int] = {
    "__init__": 0,
    "errors": 0,
    "model": 1,
    "account": 1,
    "stored": 1,
    "events": 1,
    "framing": 1,
    "strict": 1,
    "translate": 2,
    "policy": 2,
    # The declaration of the settings: values and text.
    "sections": 2,
    "sections_help": 2,
    "sections_state": 2,
    # Not layers of the program but what it stands on: the keeper of tasks, threads for large inputs, the package's own
    # data files, and how files are opened for their owner alone.
    "tasks": 2,
    "workers": 2,
    "assets": 2,
    "private": 2,
    "settings": 3,
    "declared": 3,
    "check": 3,
    "protection": 3,
    "configfile": 3,
    "tokens": 3,
    "plugins": 3,
    "store": 3,
    "limits": 3,
    "recorder": 3,
    "pricing": 3,
    "certs": 3,
    "blobs": 3,
    "batchfiles": 4,
    "batchlines": 4,
    "batches": 4,
    "backends": 3,
    "engine": 4,
    "fanout": 4,
    "legs": 4,
    "gate": 4,
    "spend": 4,
    "turns": 4,
    "clerk": 4,
    "keyring": 4,
    "jobs": 4,
    "server": 5,
    "daemon": 5,
    "cli": 6,
    "__main__": 7,
}
# Neighbours on one layer that do know each other, by their parts: one idea in more than one file.
NEIGHBOURS = {
    ("sections", "sections_help"),
    ("sections", "sections_state"),
    ("sections_state", "sections_help"),
    ("server", "daemon"),
    ("configfile", "settings"),
    ("declared", "settings"),
    ("check", "settings"),
    ("check", "declared"),
    ("protection", "check"),
    ("protection", "declared"),
    ("protection", "settings"),
    ("engine", "fanout"),
    ("engine", "legs"),
    ("legs", "fanout"),
    ("engine", "gate"),
    ("engine", "turns"),
    ("clerk", "gate"),
    ("batches", "batchfiles"),
    ("batches", "batchlines"),
    ("batchlines", "batchfiles"),
    ("gate", "spend"),
}
# Layers 0 to 2 are arithmetic: nothing that waits, asks the machine, throws dice or tells the time.
OUTSIDE = frozenset(
    {
        *("aiohttp", "asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib"),
        *("platformdirs", "random", "requests", "secrets", "select", "selectors", "shutil", "signal", "socket"),
        *("sqlalchemy", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "tiktoken", "time", "urllib", "uuid"),
        "watchfiles",
    }
)
# urllib.parse is string work.
HARMLESS = frozenset({"urllib.parse"})
# Stand on their own above the pure layers' rule.
IMPURE = frozenset({"tasks", "workers", "assets", "private"})

FUNCTION_LINES = 50


class Import(NamedTuple):
    """One imported module: `name` with its dots, `line`, and whether it stands inside a function."""

    name: str
    line: int
    inside: bool


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def dotted(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """Return a file's place below the package: `translate/chat.py` is ("translate", "chat")."""
    return path.relative_to(root).with_suffix("").parts


def imports(tree: ast.Module, place: tuple[str, ...]) -> Iterator[Import]:
    """Yield what a module imports, relative names made absolute."""
    inner = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    package = ("ollama_proxy", *place[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in inner)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                yield Import(f"{name}.{alias.name}", node.lineno, id(node) in inner)


def part_of(name: str) -> str | None:
    """Return the part of the package an absolute name belongs to; None for another package."""
    pieces = name.split(".")
    if pieces[0] != "ollama_proxy":
        return None
    return pieces[1] if len(pieces) > 1 and pieces[1] in LAYERS else "__init__"


def violations(source: str, place: tuple[str, ...]) -> list[str]:
    """Return what is wrong with one module of the package."""
    tree = ast.parse(source)
    own = place[0]
    where = "/".join(place) + ".py"
    if own not in LAYERS:
        return [f"{where}: {own} is in no layer; give it one in the table above"]
    found = []
    if source and not ast.get_docstring(tree):
        found.append(f"{where}: does not say what it is for")
    if source and not source.endswith("\n"):
        found.append(f"{where}: does not end with a line feed")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > FUNCTION_LINES:
                found.append(f"{where}:{node.lineno}: {node.name} has {count} lines, more than {FUNCTION_LINES}")
    for each in imports(tree, place):
        found += [f"{where}:{each.line}: {problem}" for problem in wrong(each, own)]
    return found


def wrong(each: Import, own: str) -> Iterator[str]:
    """Yield what is wrong with one import of a module that belongs to `own`."""
    if each.inside:
        yield f"{each.name} is imported inside a function"
    top = each.name.split(".")[0]
    if top == "click":
        yield "typer carries its own click"
    other = part_of(each.name)
    if other is None:
        pure = LAYERS[own] <= 2 and own not in IMPURE
        if pure and top in OUTSIDE and not each.name.startswith(tuple(HARMLESS)):
            yield f"{each.name} is of the outside world, and {own} is pure"
        return
    if other == own or (own, other) in NEIGHBOURS or (other, own) in NEIGHBOURS:
        return
    if LAYERS[other] > LAYERS[own]:
        yield f"{own} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[other]})"
    elif LAYERS[other] == LAYERS[own] and LAYERS[own] > 0:
        yield f"{own} and {other} are neighbours and do not know each other"


def test_every_module_keeps_to_its_layer_and_its_size() -> None:
    found = [problem for path in files() for problem in violations(path.read_text(encoding="utf-8"), dotted(path))]
    assert not found, "\n".join(["", *found])


def test_the_package_has_been_found() -> None:
    assert ROOT / "errors.py" in files()
    assert len(files()) > 50


def test_every_row_of_the_layer_table_is_in_use() -> None:
    # Parts that are named before they exist, so that whoever adds one finds its place.
    planned = {"plugins", "store", "limits", "recorder", "pricing", "certs"}
    present = {dotted(path)[0] for path in files()}

    assert set(LAYERS) - planned - present == set()


@pytest.mark.parametrize(
    ("place", "source", "want"),
    [
        (("model",), "from .engine import Engine", "imports engine (layer 4)"),
        (("translate", "chat"), "from ..server.app import build_app", "imports server (layer 5)"),
        (("translate", "chat"), "from ..policy import plan", "neighbours"),
        (("translate", "chat"), "from ollama_proxy import engine", "imports engine (layer 4)"),
        (("policy", "route"), "import time", "outside world"),
        (("policy", "route"), "from random import random", "outside world"),
        (("errors",), "import logging", "outside world"),
        (("engine",), "from .jobs import Reloader", "neighbours"),
        (("engine",), "def f():\n    import json", "inside a function"),
        (("cli", "app"), "import click", "its own click"),
        (("cli", "app"), "from click import echo", "its own click"),
        (("helpers",), "", "no layer"),
        (("engine",), "x = 1", "what it is for"),
        (("engine",), '"""x"""', "line feed"),
        (("engine",), '"""x"""\ndef f():\n' + "    x = 1\n" * 50, "f has 51 lines"),
    ],
)
def test_a_violation_is_seen(place: tuple[str, ...], source: str, want: str) -> None:
    assert any(want in problem for problem in violations(source, place))


@pytest.mark.parametrize(
    ("place", "source"),
    [
        (("cli", "app"), '"""x"""\nfrom ..server import app\nfrom .output import echo\n'),
        (("server", "run"), '"""x"""\nfrom ..daemon import DaemonError\nfrom .keys import TASKS\n'),
        (("translate", "chat"), '"""x"""\nfrom ..model import Ask\nfrom .wire import Wire\nimport urllib.parse\n'),
        (("policy", "route"), '"""x"""\nfrom urllib.parse import urlsplit\nimport fnmatch\n'),
        (("policy", "__init__"), ""),
    ],
)
def test_what_is_allowed_passes(place: tuple[str, ...], source: str) -> None:
    assert violations(source, place) == []
