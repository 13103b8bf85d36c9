"""Only two modules of the command line write to stdout and stderr, so that no command can forget what they take out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CLI = Path(__file__).parents[2] / "ollama_proxy" / "cli"
# They write, and set up what is written to.
WRITERS = {"plain", "output", "stdio"}
# Write by themselves, or with what rich would read as markup.
CALLS = {
    *("print", "input", "Console", "Rule", "Panel", "Progress", "TextColumn", "SpinnerColumn", "Prompt", "Confirm"),
    *("echo_via_pager", "secho", "prompt", "from_markup", "from_ansi", "render_markup"),
}
TYPER = {"echo", "confirm"}
# A failure's message (cleaned there), a log with its own format, a child that a person talks to.
ALLOWED = {("app", "print"), ("app", "sys.stderr"), ("cert", "sys.stderr"), ("serve", "sys.stderr")}


def raw(source: str) -> Iterator[tuple[str, int]]:
    """Yield what writes to a terminal without going through the printing functions, and its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name, node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="typer"), attr=name)) if name in TYPER:
                yield f"typer.{name}", node.lineno
            case ast.Call(func=ast.Attribute(attr=name)) if name in CALLS - {"print", "prompt"}:
                yield name, node.lineno
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr" as name):
                yield f"sys.{name}", node.lineno
            case ast.keyword(arg="markup", value=ast.Constant(value=True)):
                yield "markup=True", node.value.lineno


def test_commands_print_by_the_functions_that_clean() -> None:
    found = []
    for path in sorted(CLI.glob("*.py")):
        if path.stem in WRITERS:
            continue
        source = path.read_text(encoding="utf-8")
        # Whether a person looks is no writing.
        asked = source.count("sys.stdout.isatty()")
        for name, line in raw(source):
            if name == "sys.stdout" and asked:
                asked -= 1
            elif (path.stem, name) not in ALLOWED:
                found.append(f"{path.name}:{line}: {name}")
    assert not found, "use cli/plain.py or cli/output.py:\n" + "\n".join(found)


def test_the_rule_sees_what_it_is_for() -> None:
    source = "print(x)\nsys.stdout.write(x)\ntyper.echo(x)\nText.from_markup(x)\nscreen.print(x, markup=True)\n"
    assert {name for name, _ in raw(source)} == {"print", "typer.echo", "from_markup", "sys.stdout", "markup=True"}
