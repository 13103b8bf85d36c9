"""What the references of a JSON schema unfold to: the work it can make, known before it is made. Pure.

Only local references are followed, and nothing is ever fetched. Limits are there against harm, far above what real
schemas need (OpenAI's strict mode allows 10 levels and 5000 properties).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Path", "Unfolding", "Unsound"]

Json = Any
Path = tuple[str | int, ...]

DEPTH = 64
NODES = 20_000
UNFOLDED = 100_000
# Each subschema that is tried on the same value counts; more than so many only ever means "too many".
WIDE = 1000
CHAIN = 200

IN_PLACE_ONE = ("not", "if", "then", "else")
IN_PLACE_MANY = ("allOf", "anyOf", "oneOf")
ITEMS = ("items", "additionalItems", "contains", "unevaluatedItems", "prefixItems")
OTHERS = ("additionalProperties", "propertyNames", "unevaluatedProperties")
NAMED = ("properties", "patternProperties")
REFUSED = ("$dynamicRef", "$recursiveRef")


class Unsound(Exception):
    """What is wrong with a schema, and at which path."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


class _Edge:
    """From one subschema to another: `label` names the part of the value it is for, None for the value itself."""

    __slots__ = ("key", "label", "path")

    def __init__(self, key: int, label: str | None, path: Path) -> None:
        self.key, self.label, self.path = key, label, path


class Unfolding:
    """The subschemas that can be reached in a schema. Raises Unsound for what would never end, or is too much.

    `recursive` is whether the schema contains itself; `branches` then bounds how often one part of a value may be
    looked at for each look at the value around it.
    """

    def __init__(self, root: Mapping[str, Json]) -> None:
        _sized(root)
        self._root = root
        self._anchors = dict(_anchors(root))
        self._edges: dict[int, list[_Edge]] = {}
        self._collect()
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}
        self.recursive = False
        for key in self._edges:
            self._walk(key, (), same=True)
        self._sizes.clear()
        if self._walk(id(root), (), same=False) > UNFOLDED:
            raise Unsound((), "the schema's references unfold to too much.")
        self.branches = max(map(self._branches, self._edges)) if self.recursive else 1

    def _collect(self) -> None:
        todo: list[tuple[Mapping[str, Json], Path]] = [(self._root, ())]
        while todo:
            schema, path = todo.pop()
            if id(schema) in self._edges:
                continue
            edges = self._edges[id(schema)] = []
            for below, where, label in self._below(schema, path):
                if isinstance(below, dict):
                    edges.append(_Edge(id(below), label, where))
                    todo.append((below, where))

    def _walk(self, key: int, path: Path, *, same: bool) -> int:
        """Return what `key` unfolds to; a reference back counts as one. `same`: along the edges of one value only,
        where a reference back would never end."""
        if key in self._open:
            if same:
                raise Unsound(path, "the reference leads back to itself.")
            self.recursive = True
            return 1
        if key not in self._sizes:
            if len(self._open) > CHAIN:
                raise Unsound(path, f"references must not lead through more than {CHAIN} levels.")
            self._open.add(key)
            self._sizes[key] = 1 + sum(
                self._walk(edge.key, edge.path, same=same)
                for edge in self._edges[key]
                if edge.label is None or not same
            )
            self._open.discard(key)
        return self._sizes[key]

    def _branches(self, key: int) -> int:
        labels: Counter[str] = Counter()
        todo, seen = [key], 0
        while todo and seen < WIDE:
            seen += 1
            for edge in self._edges[todo.pop()]:
                if edge.label is None:
                    todo.append(edge.key)
                else:
                    labels[edge.label] += 1
        if todo:
            return WIDE
        # What is for any part may meet each of the named ones.
        return max((labels[name] for name in labels if name != "*"), default=0) + labels["*"]

    def _below(self, schema: Mapping[str, Json], path: Path) -> Iterator[tuple[Json, Path, str | None]]:
        """Yield each schema under `schema` with its path, and the part of the value it is for."""
        for key in REFUSED:
            if key in schema:
                raise Unsound(path, f"'{key}' is not permitted.")
        if isinstance(schema.get("$id"), str) and path:
            raise Unsound(path, "'$id' is not permitted below the root.")
        if isinstance(ref := schema.get("$ref"), str):
            yield self._target(ref, path), (*path, "$ref"), None
        for key in IN_PLACE_ONE:
            yield schema.get(key), (*path, key), None
        for key in IN_PLACE_MANY:
            for place, each in enumerate(_list(schema.get(key))):
                yield each, (*path, key, place), None
        for key in ("dependentSchemas", "dependencies"):
            for name, each in _dict(schema.get(key)).items():
                yield each, (*path, key, name), None
        for key in ITEMS:
            yield schema.get(key), (*path, key), "[]"
            for place, each in enumerate(_list(schema.get(key))):
                yield each, (*path, key, place), "[]"
        for key in OTHERS:
            yield schema.get(key), (*path, key), "*"
        for key in NAMED:
            for name, each in _dict(schema.get(key)).items():
                yield each, (*path, key, name), "*" if key == "patternProperties" else f".{name}"

    def _target(self, ref: str, path: Path) -> Json:
        if len(ref) > 1 and ref[0] == "#" and ref[1] != "/":
            if ref[1:] not in self._anchors:
                raise Unsound(path, f"reference '{ref[:100]}' points to nothing.")
            return self._anchors[ref[1:]]
        if ref != "#" and not ref.startswith("#/"):
            raise Unsound(path, f"reference can only point to definitions in the same schema, got '{ref[:100]}'.")
        here: Json = self._root
        for token in ref.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            if isinstance(here, dict) and token in here:
                here = here[token]
            elif isinstance(here, list) and token.isdecimal() and int(token) < len(here):
                here = here[int(token)]
            else:
                raise Unsound(path, f"reference '{ref[:100]}' points to nothing.")
        return here


def _sized(schema: Json) -> None:
    level: list[Json] = [schema]
    nodes = depth = 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if depth > DEPTH or nodes > NODES:
            raise Unsound((), f"the schema is too large (at most {DEPTH} levels and {NODES} values are allowed).")
        level = [
            each
            for value in level
            if isinstance(value, dict | list)
            for each in (value.values() if isinstance(value, dict) else value)
        ]


def _anchors(schema: Json) -> Iterator[tuple[str, Json]]:
    """Yield what `#name` points to, by name. The schema is not too deep (`_sized`)."""
    todo: list[Json] = [schema]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            if isinstance(name := here.get("$anchor"), str):
                yield name, here
            todo += here.values()
        elif isinstance(here, list):
            todo += here


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
