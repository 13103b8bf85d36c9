"""JSON Schemas for backends that turn them into llama.cpp's grammars: Ollama and llama.cpp itself. Pure.

llama.cpp reads part of JSON Schema, refuses some of the rest (or, worse, constrains nothing then) and takes the first
of several keywords for the only one (`visit` in
https://github.com/ggml-org/llama.cpp/blob/master/common/json-schema-to-grammar.cpp). `write` puts a schema in the part
that it reads right: references to `$defs` with nothing beside them, `anyOf` with nothing beside it, one `type` with
the keywords of that type. What no grammar says is returned in words: the model is told, and the answer is checked
afterwards against the client's own schema (`schema.py`), which is never changed.

The form may take more than the client's schema does, and leaves out some of what it takes (members that a schema
merely does not forbid). Its schema must be sound (`unfold.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from . import regex

__all__ = ["Bound", "short", "target", "write"]

Json = Any

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
ANYTHING: Mapping[str, Json] = {"type": ["object", "array", "string", "number", "boolean", "null"]}
# These say nothing of a value's form, and stay where they are.
NOTES = ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly")
# What tells the type, where `type` does not.
IMPLIED: Mapping[str, tuple[str, ...]] = {
    "object": (
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
        *("maxProperties", "unevaluatedProperties", "dependentRequired", "dependentSchemas"),
    ),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
# No grammar says these of any type.
UNSAID = ("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies")
# The formats that llama.cpp knows, and patterns for others that leave a model no other choice.
FORMATS = ("date", "time", "date-time", "uuid")
PATTERNS: Mapping[str, str] = {
    "email": r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
    "ipv4": r"^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$",
    "ipv6": r"^[0-9A-Fa-f:.]{2,45}$",
    "hostname": r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    "duration": r"^P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?)$",
}
# llama.cpp refuses more repetitions than 2000.
COPIES = 1000
# A schema that contains itself in ever new mixtures of `allOf` is written down to this level.
DEPTH = 24
# So many multiples of a number are listed.
LISTED = 200
# Alternatives are multiplied out up to so many, more than which are told only.
ALTERNATIVES = 64
# A tuple's further items, where a schema names them.
FURTHER = 8
BUDGET = 5000
# So many subschemas are brought together from `allOf` and references, and so many of them for one member.
MERGES = 5000
CONDITIONS = 64
# Agents send the same tools with every request; a schema of at most so many bytes is remembered.
REMEMBERED = 1 << 14
# Numbers of llama.cpp's integers.
INTEGER = 1 << 53


class Bound(NamedTuple):
    """A schema for a grammar, and in words what it leaves out: ("items[].price", "multipleOf: 5")."""

    schema: Mapping[str, Json]
    untold: tuple[tuple[str, str], ...] = ()


def write(schema: Mapping[str, Json], *, inline: bool = False) -> Bound:
    """Return `schema` for a grammar of llama.cpp. `inline` says what it leaves out in the descriptions as well, for a
    model that reads the schema itself."""
    if not schema:
        return Bound(schema)
    text = msgspec.json.encode(schema)
    return _write_again(text, inline) if len(text) <= REMEMBERED else _write(schema, inline=inline)


@lru_cache(maxsize=256)
def _write_again(text: bytes, inline: bool) -> Bound:
    return _write(msgspec.json.decode(text), inline=inline)


def _write(schema: Mapping[str, Json], *, inline: bool) -> Bound:
    writer = _Writer(schema, inline=inline)
    written = writer.write(schema, "")
    if written is None:
        return Bound({"type": "object"}, tuple(dict.fromkeys(writer.untold)))
    if writer.defs:
        written = {**written, "$defs": {name: each for name, each in writer.defs.items() if each is not None}}
    if "$schema" in schema:
        written = {"$schema": schema["$schema"], **written}
    return Bound(written, tuple(dict.fromkeys(writer.untold)))


def short(value: Json, longest: int = 200) -> str:
    """Return a keyword's value as text, cut where it is long."""
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else value
    return text if len(text) <= longest else f"{text[:longest]}…"


class _Flat:
    """A schema without references and `allOf`: `said` its keywords, `unions` its `anyOf` and `oneOf`."""

    def __init__(self) -> None:
        self.said: dict[str, Json] = {}
        self.unions: list[Sequence[Json]] = []
        self.rest: list[tuple[str, Json]] = []
        self.never = False


class _Writer:
    """Writes subschemas. `defs` are the definitions that were needed, `untold` is what no grammar says."""

    def __init__(self, root: Mapping[str, Json], *, inline: bool) -> None:
        self._root = root
        self._inline = inline
        self._names: dict[str, str] = {}
        self._left = BUDGET
        self._merges = MERGES
        self._depth = 0
        self.defs: dict[str, Json] = {}
        self.untold: list[tuple[str, str]] = []

    def write(self, schema: Json, path: str) -> dict[str, Json] | None:
        """Return `schema` for a grammar, None for one that nothing fits."""
        if schema is False:
            return None
        self._left -= 1
        if not isinstance(schema, dict) or self._left < 0 or self._depth >= DEPTH:
            return dict(ANYTHING)
        notes = {key: schema[key] for key in NOTES if key in schema}
        rules = [key for key in schema if (key not in NOTES and not key.startswith("$")) or key == "$ref"]
        if (ref := _only_reference(schema, rules)) is not None:
            return {"$ref": f"#/$defs/{self._define(ref, path)}", **notes}
        flat = _Flat()
        self._flatten(schema, flat, ())
        before = len(self.untold)
        for key, value in flat.rest:
            self._tell(path, key, value)
        self._depth += 1
        written = self._union(flat, path)
        self._depth -= 1
        if written is None:
            return None
        if self._inline and (own := [words for place, words in self.untold[before:] if place == path]):
            about = f"{notes.get('description') or ''} ({', '.join(dict.fromkeys(own))})"
            notes["description"] = about.strip()
        return {**notes, **written}

    def _define(self, ref: str, path: str) -> str:
        """Return the name of what a reference points to, written once however often it is used."""
        if ref in self._names:
            return self._names[ref]
        name = ref.rpartition("/")[2] if ref.startswith(("#/$defs/", "#/definitions/")) else ""
        if not name or name in self.defs or not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            name = f"ref{len(self.defs)}"
        self._names[ref] = name
        self.defs[name] = None
        written = self.write(target(self._root, ref), path)
        self.defs[name] = dict(ANYTHING) if written is None else written
        return name

    def _tell(self, path: str, key: str, value: Json) -> None:
        self.untold.append((path, f"{key}: {short(value)}"))

    # --- one schema out of many -----------------------------------------------------------------------------------

    def _flatten(self, schema: Json, flat: _Flat, open: tuple[str, ...]) -> None:
        """Add to `flat` what `schema` says itself, and by its `$ref` and `allOf`."""
        if schema is False:
            flat.never = True
        if not isinstance(schema, dict):
            return
        if isinstance(ref := schema.get("$ref"), str) and ref not in open and self._merges > 0:
            self._merges -= 1
            self._flatten(target(self._root, ref), flat, (*open, ref))
        for each in schema.get("allOf") or ():
            if self._merges > 0:
                self._merges -= 1
                self._flatten(each, flat, open)
        for key, value in schema.items():
            if key in ("anyOf", "oneOf"):
                if isinstance(value, list) and value:
                    flat.unions.append(value)
            elif key in UNSAID:
                flat.rest.append((key, value))
            elif key not in NOTES and key != "allOf" and not key.startswith("$"):
                self._merge(key, value, flat)

    def _merge(self, key: str, value: Json, flat: _Flat) -> None:
        said = flat.said
        if key == "const":
            key, value = "enum", [value]
        if key not in said:
            said[key] = value
            return
        before = said[key]
        match key:
            case "type":
                said[key] = _common(before, value)
                flat.never = flat.never or not said[key]
            case "enum":
                said[key] = [each for each in before if _in(each, value)]
                flat.never = flat.never or not said[key]
            case "properties" | "patternProperties":
                both = {name: _all_of(before[name], each) for name, each in value.items() if name in before}
                said[key] = {**before, **value, **both}
            case "required":
                said[key] = list(dict.fromkeys([*before, *value]))
            case "items" | "additionalProperties" | "propertyNames":
                if isinstance(before, list) or isinstance(value, list):
                    flat.rest.append((key, value))
                else:
                    said[key] = False if False in (before, value) else _all_of(before, value)
            case "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties":
                said[key] = max(before, value)
            case "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties":
                said[key] = min(before, value)
            case _ if before != value:
                flat.rest.append((key, value))

    def _union(self, flat: _Flat, path: str) -> dict[str, Json] | None:
        """Return the alternatives of a schema, each with what is said beside them."""
        if flat.never:
            return None
        unions = [union for union in flat.unions if not any(each is True or each == {} for each in union)]
        if not unions:
            return self._typed(flat.said, path)
        chosen, count = unions[0], len(unions[0])
        base: dict[str, Json] = dict(flat.said)
        more: list[Json] = []
        for union in unions[1:]:
            count *= len(union)
            if count <= ALTERNATIVES:
                more.append({"anyOf": union})
            else:
                self._tell(path, "anyOf", union)
        choices = []
        for each in chosen:
            alone = not base and not more
            written = self.write(each if alone else {"allOf": [base, *more, each]}, path)
            if written is not None and written not in choices:
                choices.append(written)
        if not choices:
            return None
        return {"anyOf": choices} if len(choices) > 1 else choices[0]

    # --- one type -------------------------------------------------------------------------------------------------

    def _typed(self, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        kinds = said.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if isinstance(values := said.get("enum"), list):
            fitting = [each for each in values if not kinds or any(_is(each, kind) for kind in kinds)]
            self._tell_beside(said, path)
            return _enum(fitting, kinds) if fitting else None
        if not kinds:
            kinds = [kind for kind, keys in IMPLIED.items() if any(key in said for key in keys)]
        if not kinds:
            return dict(ANYTHING)
        if len(kinds) > 1 and not any(key in said for keys in IMPLIED.values() for key in keys):
            return {"type": list(kinds)}
        choices = [choice for kind in kinds if (choice := self._one(kind, said, path)) is not None]
        if not choices:
            return None
        return {"anyOf": choices} if len(choices) > 1 else choices[0]

    def _tell_beside(self, said: Mapping[str, Json], path: str) -> None:
        """Tell what else is said of values that are listed."""
        self._tell_all(path, {key: said[key] for keys in IMPLIED.values() for key in keys if key in said})

    def _one(self, kind: str, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        match kind:
            case "object":
                return self._object(said, path)
            case "array":
                return self._array(said, path)
            case "string":
                return self._string(said, path)
            case "integer" | "number":
                return self._number(kind, said, path)
        return {"type": kind}

    def _object(self, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        properties: dict[str, Json] = {}
        more = _first(said, "additionalProperties", "unevaluatedProperties")
        patterns = _mapping(said.get("patternProperties"))
        required = [name for name in said.get("required") or () if isinstance(name, str)]
        for name, each in _mapping(said.get("properties")).items():
            written = self.write(each, f"{path}.{name}")
            if written is not None:
                properties[name] = written
            elif name in required:
                return None
            elif more not in (None, False):
                # Left out, it would be one of the members without a name.
                self._tell(f"{path}.{name}", "not allowed", True)
        names = _names(said.get("propertyNames"))
        for name in (*required, *(names or ())):
            if name not in properties:
                written = self.write(_other(name, more, patterns), f"{path}.{name}")
                if written is not None:
                    properties[name] = written
                elif name in required:
                    return None
        out: dict[str, Json] = {"type": "object"}
        if properties or "properties" in said:
            out["properties"] = properties
        if required:
            out["required"] = required
        self._add_others(out, said, names=names, path=path)
        self._tell_counts(out, said, path)
        return out

    def _add_others(
        self, out: dict[str, Json], said: Mapping[str, Json], *, names: Sequence[str] | None, path: str
    ) -> None:
        """Add what the members may be that have no name."""
        more = _first(said, "additionalProperties", "unevaluatedProperties")
        patterns = _mapping(said.get("patternProperties"))
        if names is not None:
            out["additionalProperties"] = False
            return
        if "propertyNames" in said:
            self._tell(path, "propertyNames", said["propertyNames"])
        if patterns:
            self._tell(path, "names of members", list(patterns) if more is False else f"like {short(list(patterns))}")
            others = [each for each in patterns.values() if each is not False]
            if isinstance(more, dict) and more:
                others.append(more)
            written = self.write({"anyOf": others} if others else False, f"{path}.*")
            out["additionalProperties"] = False if written is None else written
        elif isinstance(more, dict) and more:
            written = self.write(more, f"{path}.*")
            out["additionalProperties"] = False if written is None else written
        elif more is not None:
            out["additionalProperties"] = True if more == {} else more

    def _tell_counts(self, out: Mapping[str, Json], said: Mapping[str, Json], path: str) -> None:
        if said.get("minProperties", 0) > len(out.get("required", ())):
            self._tell(path, "minProperties", said["minProperties"])
        closed = out.get("additionalProperties", False) is False and "properties" in out
        if "maxProperties" in said and not (closed and len(out["properties"]) <= said["maxProperties"]):
            self._tell(path, "maxProperties", said["maxProperties"])

    def _array(self, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        first, rest = said.get("prefixItems"), _first(said, "items", "unevaluatedItems")
        if isinstance(said.get("items"), list):
            first, rest = said["items"], _first(said, "additionalItems", "unevaluatedItems")
        for key in ("contains", "minContains", "maxContains"):
            if key in said:
                self._tell(path, key, said[key])
        if said.get("uniqueItems") is True and said.get("maxItems") != 1:
            self._tell(path, "uniqueItems", True)
        least, most = int(said.get("minItems", 0)), said.get("maxItems")
        most = None if most is None else int(most)
        if isinstance(first, list) and first:
            return self._tuple(first, rest, least, most, path)
        written = self.write(True if rest is None else rest, f"{path}[]")
        if written is None:
            most, written = 0, dict(ANYTHING)
        if most is not None and most < least:
            return None
        out: dict[str, Json] = {"type": "array"}
        if rest is not None or least or most is not None:
            out["items"] = written
        for key, value in (("minItems", least), ("maxItems", most)):
            if value and value > COPIES:
                self._tell(path, key, value)
            elif value is not None and (value or key == "maxItems"):
                out[key] = value
        return out

    def _tuple(
        self, first: Sequence[Json], rest: Json, least: int, most: int | None, path: str
    ) -> dict[str, Json] | None:
        """Return an array of a schema for each place: whole, and with some of the further items that it may have."""
        places = list(first)
        longest = len(places) if most is None else min(most, len(places))
        items = [self.write(each, f"{path}[{place}]") for place, each in enumerate(places[:longest])]
        while None in items:
            items = items[: items.index(None)]
        if least > len(places) + FURTHER or (len(items) < least and len(items) < len(places)):
            self._tell(path, "minItems", least)
        further = self.write(rest, f"{path}[]") if isinstance(rest, dict) or least > len(places) else None
        lengths = [len(items)]
        if further is not None and len(items) == len(places):
            end = len(items) + FURTHER if most is None else min(most, len(items) + FURTHER)
            lengths = list(range(min(max(len(items), least), end), end + 1))
        if lengths == [0]:
            return {"type": "array", "items": dict(ANYTHING), "maxItems": 0}
        tuples = [
            {"type": "array", "prefixItems": [*items, *[further] * (length - len(items))]}
            if length
            else {"type": "array", "items": dict(ANYTHING), "maxItems": 0}
            for length in lengths
        ]
        return {"anyOf": tuples} if len(tuples) > 1 else tuples[0]

    def _string(self, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        least, most = int(said.get("minLength", 0)), said.get("maxLength")
        most = None if most is None else int(most)
        if most is not None and most < least:
            return None
        sizes = {key: said[key] for key in ("minLength", "maxLength") if key in said}
        pattern, form = said.get("pattern"), said.get("format")
        if isinstance(pattern, str):
            if isinstance(form, str):
                self._tell(path, "format", form)
            written = regex.write(pattern, shortest=least, longest=most)
            if self._inline or not written.exact:
                self._tell(path, "pattern", pattern)
            if written.pattern == "":
                return {"type": "string", "const": ""}
            if written.pattern is not None:
                if not written.sized:
                    self._tell_all(path, sizes)
                return {"type": "string", "pattern": written.pattern}
        elif isinstance(form, str):
            known = PATTERNS.get(form)
            if known is not None or form in FORMATS:
                self._tell_all(path, sizes)
                if known is None:
                    return {"type": "string", "format": form}
                return {"type": "string", "format": form, "pattern": regex.write(known).pattern}
            self._tell(path, "format", form)
        for key in [key for key, value in sizes.items() if value > COPIES]:
            self._tell(path, key, sizes.pop(key))
        return {"type": "string", **sizes}

    def _tell_all(self, path: str, said: Mapping[str, Json]) -> None:
        for key, value in said.items():
            self._tell(path, key, value)

    def _number(self, kind: str, said: Mapping[str, Json], path: str) -> dict[str, Json] | None:
        low, high = _bounds(said)
        if kind == "number" or (low is not None and abs(low) > INTEGER) or (high is not None and abs(high) > INTEGER):
            for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
                if key in said:
                    self._tell(path, key, said[key])
            low = high = None
        step = said.get("multipleOf")
        if kind == "integer" and isinstance(step, int) and step > 1 and low is not None and high is not None:
            # A few multiples are listed.
            first = -(-low // step) * step
            if first <= high and (high - first) // step < LISTED:
                return {"type": "integer", "enum": list(range(first, high + 1, step))}
        if "multipleOf" in said and not (kind == "integer" and said["multipleOf"] == 1):
            self._tell(path, "multipleOf", said["multipleOf"])
        if low is not None and high is not None and high < low:
            return None
        bounds = {"minimum": low, "maximum": high}
        return {"type": kind, **{key: value for key, value in bounds.items() if value is not None}}


# --- small questions --------------------------------------------------------------------------------------------------


def target(root: Mapping[str, Json], ref: str) -> Json:
    """Return what a local reference points to: `#`, `#/$defs/x`, `#anchor`."""
    if len(ref) > 1 and not ref.startswith("#/"):
        return _anchored(root, ref[1:])
    here: Json = root
    for token in ref.split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict):
            here = here.get(token)
        elif isinstance(here, list) and token.isdecimal() and int(token) < len(here):
            here = here[int(token)]
        else:
            return None
    return here


def _anchored(root: Json, name: str) -> Json:
    todo = [root]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            if here.get("$anchor") == name:
                return here
            todo += here.values()
        elif isinstance(here, list):
            todo += here
    return None


def _all_of(first: Json, second: Json) -> Json:
    """Return what fits both; a row of them stays flat, and ends where nobody means it to go on."""
    if first == second:
        return first
    row = first["allOf"] if isinstance(first, dict) and first.keys() == {"allOf"} else [first]
    return first if second in row or len(row) >= CONDITIONS else {"allOf": [*row, second]}


def _only_reference(schema: Mapping[str, Json], rules: Sequence[str]) -> str | None:
    """Return the reference of a schema that says nothing else: `$ref`, or `allOf` of one."""
    if rules == ["allOf"] and len(schema["allOf"]) == 1 and isinstance(schema["allOf"][0], dict):
        inner = schema["allOf"][0]
        return _only_reference(inner, [key for key in inner if key not in NOTES])
    ref = schema.get("$ref")
    return ref if rules == ["$ref"] and isinstance(ref, str) else None


def _first(said: Mapping[str, Json], *keys: str) -> Json:
    return next((said[key] for key in keys if key in said), None)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _names(schema: Json) -> list[str] | None:
    """Return the names that `propertyNames` lists, None where it does not."""
    values = _mapping(schema).get("enum")
    if values is None and "const" in _mapping(schema):
        values = [schema["const"]]
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else None


def _other(name: str, more: Json, patterns: Mapping[str, Json]) -> Json:
    """Return the schema of a member that `properties` does not name."""
    if len(patterns) == 1:
        return next(iter(patterns.values()))
    if patterns or more is None:
        return True
    return more


def _enum(values: Sequence[Json], kinds: Sequence[str] | None) -> dict[str, Json]:
    # The type is no news to a grammar, but to a reader of tools it may be.
    kind: dict[str, Json] = {"type": kinds[0]} if kinds and len(kinds) == 1 else {}
    return {**kind, "const": values[0]} if len(values) == 1 else {**kind, "enum": list(values)}


def _in(value: Json, values: Iterable[Json]) -> bool:
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


def _common(first: Json, second: Json) -> Json:
    one = [first] if isinstance(first, str) else list(first)
    other = [second] if isinstance(second, str) else list(second)
    both = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    both += [kind for kind in other if kind == "integer" and "number" in one and kind not in both]
    return both[0] if len(both) == 1 else both


def _is(value: Json, kind: str) -> bool:
    match value:
        case bool():
            return kind == "boolean"
        case None:
            return kind == "null"
        case str():
            return kind == "string"
        case int() | float():
            return kind == "number" or (kind == "integer" and float(value).is_integer())
        case list():
            return kind == "array"
    return kind == "object"


def _bounds(said: Mapping[str, Json]) -> tuple[int | None, int | None]:
    """Return the least and the greatest integer; draft 4 says `exclusiveMinimum: true`."""
    lows, highs = [], []
    if "minimum" in said:
        low = said["minimum"]
        lows.append(math.floor(low) + 1 if said.get("exclusiveMinimum") is True else math.ceil(low))
    if "maximum" in said:
        high = said["maximum"]
        highs.append(math.ceil(high) - 1 if said.get("exclusiveMaximum") is True else math.floor(high))
    if _numeric(said.get("exclusiveMinimum")):
        lows.append(math.floor(said["exclusiveMinimum"]) + 1)
    if _numeric(said.get("exclusiveMaximum")):
        highs.append(math.ceil(said["exclusiveMaximum"]) - 1)
    return (max(lows) if lows else None), (min(highs) if highs else None)


def _numeric(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
