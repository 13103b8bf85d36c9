"""The ledger, summed: requests, tokens and money of a time, by model, key, day and so on. Only reads.

What whole hours there are comes from the roll-ups, with the rows that are not in them yet; hours that are cut, by the
time asked for or by a midnight of local clocks, come from the rows, as long as those are kept. One snapshot of the
database for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .fold import GROUPS, HOUR, SUMS, hour_of
from .reader import Reader, Value

__all__ = ["DIMENSIONS", "UTC", "Row", "Zone", "query"]

MINUTE = 60
DAY = 86400

# What can be kept apart: the columns as they are, `model` (the one asked for), `key` (the key's name as it is now, or
# whatever the caller without one sent) and pieces of time.
COLUMNS = {**{name: name for name in GROUPS}, "model": "asked", "key_id": "key"}
TIMES = ("minute", "hour", "day")
DIMENSIONS = (*COLUMNS, *TIMES)

# The key of a row, or the name of a caller without.
KEY = 'CASE WHEN "key" = \'\' THEN caller ELSE "key" END'

# From which second on local clocks are how many seconds ahead of UTC; the first holds for what is before it too.
Zone = Sequence[tuple[int, int]]
UTC: Zone = ((0, 0),)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Sums. `by` are the values that were asked for: text; status a number; `stream` 0 or 1; `hour` and `minute` the
    epoch seconds it begins at; `day` the days since 1970-01-01 on local calendars.

    Money is in nano-dollars; `unpriced` counts requests whose list price is not known, `inexact` those whose tokens
    are estimated. `first` and `total` are mean seconds, None where there is nothing to count.
    """

    by: tuple[str | int, ...] = ()
    requests: int = 0
    errors: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    inexact: int = 0
    cost: int = 0
    listed: int = 0
    unpriced: int = 0
    first: float | None = None
    total: float | None = None


class Span(NamedTuple):
    """A time, taken apart: hours from `whole.start` to `whole.stop` are in the roll-ups, with the rows beyond the
    watermark; of `parts` (begin, end) all rows are taken; of the hours `lost`, whose rows are pruned, the roll-ups.

    `cut` is the condition, in SQL, of hours in `whole` that a midnight cuts ("": none does): their rows are taken, but
    of the hours `kept`, whose rows are pruned, the roll-ups.
    """

    whole: range
    parts: tuple[tuple[float, float], ...]
    lost: tuple[int, ...] = ()
    cut: str = ""
    kept: tuple[int, ...] = ()


def query(
    reader: Reader,
    since: float,
    until: float,
    by: Sequence[str] = (),
    only: Mapping[str, Sequence[str]] | None = None,
    *,
    zone: Zone = UTC,
) -> list[Row]:
    """Return the sums from `since` up to, not including, `until` (epoch seconds), one row for each combination of
    `by` (of DIMENSIONS) that there is; without `by` one row or none.

    `only` has for a dimension the values that count; `*` and `?` stand for any letters. `model` means the asked or the
    served one, `key` a name or an id; `status` takes 429, 4xx, ok and error too. An hour that a local midnight cuts
    counts for the day it begins in once its rows are pruned.
    """
    params: dict[str, Value] = {"rolled": rolled(reader)}
    span = apart(reader, since, until, rows_only="minute" in by, rolled=params["rolled"])
    if "day" in by and span.whole and (condition := cut(zone)):
        span = span._replace(cut=condition, kept=pruned_of(reader, span.whole, condition, params["rolled"]))
    where = " AND ".join(["1 = 1", *(any_of(name, values, params) for name, values in (only or {}).items())])
    sql = statement(reader, span, by, where, zone, params)
    if sql is None:
        return []
    names = key_names(reader) if "key" in by else {}
    found = []
    for values in reader.rows(sql, params):
        head, caller, sums = values[: len(by)], values[len(by)], values[len(by) + 1 :]
        if sums[0]:
            found.append(row(by, head, caller, sums, names))
    return found


def row(
    by: Sequence[str], head: Sequence[Value], caller: Value, sums: Sequence[Value], names: Mapping[str, str]
) -> Row:
    counted = dict(zip(SUMS, sums, strict=True))
    first_sum, first_n, total = float(counted.pop("first_sum")), int(counted.pop("first_n")), counted.pop("total_sum")
    whole = {name: int(value) for name, value in counted.items()}
    told: list[str | int] = []
    for name, value in zip(by, head, strict=True):
        match name:
            case "hour":
                told.append(int(value) * HOUR)
            case "minute":
                told.append(int(value) * MINUTE)
            case "key":
                told.append(names.get(str(value)) or str(caller) or str(value))
            case "day" | "status" | "stream":
                told.append(int(value))
            case _:
                told.append(str(value))
    return Row(
        by=tuple(told),
        first=first_sum / first_n if first_n else None,
        total=float(total) / whole["requests"],
        **whole,
    )


# --- the time -----------------------------------------------------------------------------------------------------


def rolled(reader: Reader) -> int:
    """Return the `seq` up to which rows are in the roll-ups."""
    found = reader.rows("SELECT value FROM meta WHERE name = 'rolled'", {})
    return int(found[0][0]) if found else 0


def apart(reader: Reader, since: float, until: float, *, rows_only: bool, rolled: Value) -> Span:
    """Take a time apart into whole hours and the rest."""
    if since >= until:
        return Span(range(0), ())
    if rows_only:
        return Span(range(0), ((since, until),))
    low, high = int(since // HOUR), int(until // HOUR)
    if low == high:
        edges, whole = [(low, since, until)], range(0)
    else:
        edges = [(low, since, (low + 1.0) * HOUR)] if since > low * HOUR else []
        edges += [(high, high * float(HOUR), until)] if until > high * HOUR else []
        whole = range(low + (since > low * HOUR), high)
    lost = tuple(hour for hour, _, _ in edges if pruned(reader, hour, rolled))
    return Span(whole, tuple((begin, end) for hour, begin, end in edges), lost)


def cut(zone: Zone) -> str:
    """Return the condition that a local day begins within an hour, "" where none does."""
    odd = sorted({begin // HOUR for begin, _ in zone[1:] if begin % HOUR})
    if not odd and all(ahead % HOUR == 0 for _, ahead in zone):
        return ""
    begins = f"CAST(hour AS BIGINT) * {HOUR}"

    def ends_late(ahead: int) -> str:
        # How much of the day is gone when the hour begins; without the sign of the remainder, which drivers read.
        wall = f"({begins} + ({ahead}))"
        return f"{wall} - {wall} / {DAY} * {DAY} > {DAY - HOUR}"

    inside = by_zone(zone, begins, ends_late, "1 = 0")
    return f"(({inside}) OR hour IN ({', '.join(map(str, odd))}))" if odd else f"({inside})"


def pruned_of(reader: Reader, whole: range, condition: str, rolled: Value) -> tuple[int, ...]:
    """Return which of the cut hours have rows in the roll-ups alone."""
    there = (
        "SELECT count(*) FROM requests AS r WHERE r.seq >= c.low AND r.seq <= c.high AND r.seq <= :rolled"
        f" AND r.at >= CAST(c.cut_hour AS BIGINT) * {HOUR} AND r.at < (CAST(c.cut_hour AS BIGINT) + 1) * {HOUR}"
    )
    sql = f"SELECT c.cut_hour FROM ({CUTS.format(condition)}) AS c WHERE c.summed > ({there})"
    found = reader.rows(sql, {"from_hour": whole.start, "to_hour": whole.stop, "rolled": rolled})
    return tuple(sorted(int(hour) for (hour,) in found))


def pruned(reader: Reader, hour: int, rolled: Value) -> bool:
    """Return whether rows of an hour are in the roll-ups alone."""
    summed = reader.rows("SELECT coalesce(sum(requests), 0) FROM rollups WHERE hour = :hour", {"hour": hour})
    sql = f"SELECT count(*) FROM requests WHERE {PLACED.format('')} AND at >= :begin AND at < :end AND seq <= :rolled"
    there = reader.rows(sql, {"begin": hour * HOUR, "end": (hour + 1) * HOUR, "rolled": rolled, **hours(hour, hour)})
    return int(there[0][0]) < int(summed[0][0])


# --- SQL ----------------------------------------------------------------------------------------------------------

# The rows of some hours that are in the roll-ups lie between these numbers.
PLACED = (
    "seq >= (SELECT min(low) FROM rollups WHERE hour >= :first{0} AND hour <= :last{0})"
    " AND seq <= (SELECT max(high) FROM rollups WHERE hour >= :first{0} AND hour <= :last{0})"
)
# The cut hours, and between which numbers their rows lie.
CUTS = (
    "SELECT hour AS cut_hour, sum(requests) AS summed, min(low) AS low, max(high) AS high FROM rollups"
    " WHERE hour >= :from_hour AND hour < :to_hour AND {0} GROUP BY hour"
)


def hours(first: int, last: int, name: str = "") -> dict[str, Value]:
    """Return the parameters of PLACED."""
    return {f"first{name}": first, f"last{name}": last}


def statement(
    reader: Reader, span: Span, by: Sequence[str], where: str, zone: Zone, params: dict[str, Value]
) -> str | None:
    """Return the whole query, and put what it needs into `params`; None if there is no time to look at."""
    pieces = list(sources(reader, span, Heads(by, zone, server=reader.server), where, params))
    if not pieces:
        return None
    names = [f"d{place}" for place in range(len(by))]
    outer = ", ".join([*names, "max(caller)", *(f'sum("{name}")' for name in SUMS)])
    return f"SELECT {outer} FROM ({' UNION ALL '.join(pieces)}) AS summed{grouped(len(by))}"


class Heads:
    """The dimensions that are asked for, as columns of a query."""

    def __init__(self, by: Sequence[str], zone: Zone, *, server: bool) -> None:
        self.count = len(by)
        self._by, self._zone, self._server = by, zone, server

    def over(self, at: str, sums: Mapping[str, str]) -> str:
        """Return the columns over a table of rows or roll-ups, whose time is `at` in SQL."""
        values = [expression(name, self._zone, at, server=self._server) for name in self._by]
        named = [f"{value} AS d{place}" for place, value in enumerate(values)]
        return ", ".join([*named, "max(caller) AS caller", *(f'{value} AS "{name}"' for name, value in sums.items())])


def sources(reader: Reader, span: Span, heads: Heads, where: str, params: dict[str, Value]) -> Iterable[str]:
    """Yield a query for each place that the sums come from."""
    summed = {name: f'sum("{name}")' for name in SUMS}
    whole, rows = heads.over(f"(CAST(hour AS BIGINT) * {HOUR})", summed), heads.over("at", SUMS)
    # The columns of a roll-up over rows; `hour` and `minute` are what the heads speak of.
    minute = f"{hour_of(server=reader.server, seconds=MINUTE)} AS minute"
    columns = f"SELECT requests.*, {hour_of(server=reader.server)} AS hour, {minute}"
    ledger = f"({columns} FROM requests WHERE %s) AS r"
    group = grouped(heads.count)
    if span.whole:
        params |= {"from_hour": span.whole.start, "to_hour": span.whole.stop}
        params |= {"begin": span.whole.start * float(HOUR), "end": span.whole.stop * float(HOUR)}
        summed_hours = "hour >= :from_hour AND hour < :to_hour"
        if span.cut:
            kept = f"hour IN ({', '.join(map(str, span.kept))})" if span.kept else "1 = 0"
            summed_hours += f" AND (NOT {span.cut} OR {kept})"
            yield f"SELECT {rows} FROM ({columns} FROM {within(span.cut, kept)}) AS r WHERE {where}{group}"
        yield f"SELECT {whole} FROM rollups WHERE {summed_hours} AND {where}{group}"
        fresh = "seq > :rolled AND at >= :begin AND at < :end"
        yield f"SELECT {rows} FROM {ledger % fresh} WHERE {where}{group}"
    for place, hour in enumerate(span.lost):
        params[f"lost{place}"] = hour
        begin = next(begin for begin, _ in span.parts if int(begin // HOUR) == hour)
        columns_of_lost = heads.over(str(int(begin)), summed)
        yield f"SELECT {columns_of_lost} FROM rollups WHERE hour = :lost{place} AND {where}{group}"
    for number, (begin, end) in enumerate(span.parts):
        params |= {f"begin{number}": begin, f"end{number}": end}
        condition = f"at >= :begin{number} AND at < :end{number}"
        fresh = f"seq > :rolled AND {condition}"
        yield f"SELECT {rows} FROM {ledger % fresh} WHERE {where}{group}"
        if int(begin // HOUR) not in span.lost:
            params |= hours(int(begin // HOUR), int(end // HOUR), f"_{number}")
            known = f"{PLACED.format(f'_{number}')} AND seq <= :rolled AND {condition}"
            yield f"SELECT {rows} FROM {ledger % known} WHERE {where}{group}"


def within(condition: str, kept: str) -> str:
    """Return the rows of the cut hours, but of those whose rows are pruned, as what comes after FROM."""
    begin = f"CAST(c.cut_hour AS BIGINT) * {HOUR}"
    return (
        f"({CUTS.format(f'{condition} AND NOT {kept}')}) AS c JOIN requests ON requests.seq >= c.low"
        f" AND requests.seq <= c.high AND requests.seq <= :rolled AND at >= {begin} AND at < {begin} + {HOUR}"
    )


def grouped(count: int) -> str:
    return f" GROUP BY {', '.join(str(place + 1) for place in range(count))}" if count else ""


def expression(name: str, zone: Zone, at: str, *, server: bool) -> str:
    """Return a dimension in SQL, over the columns of a roll-up (and `minute`), or over rows; `at` is the time."""
    match name:
        case "key":
            return KEY
        case "hour" | "minute":
            return name
        case "day":
            return day(zone, at, server=server)
        case "stream":
            return "CASE WHEN stream THEN 1 ELSE 0 END"
    return f'"{COLUMNS[name]}"'


def day(zone: Zone, at: str, *, server: bool) -> str:
    """Return the local day of a time."""

    def days(ahead: int) -> str:
        moment = f"({at} + ({ahead})) / {DAY}"
        return f"CAST(floor({moment}) AS BIGINT)" if server else f"CAST({moment} AS INTEGER)"

    return by_zone(zone, at, days)


def by_zone(zone: Zone, at: str, of: Callable[[int], str], whole: str = "") -> str:
    """Return `of` how far local clocks are ahead at a time, in SQL. `whole`: what it is instead for whole hours."""
    values = [whole if whole and ahead % HOUR == 0 else of(ahead) for _, ahead in zone]
    # The last change that has happened counts.
    changes = [f"WHEN {at} >= {begin} THEN {sql}" for (begin, _), sql in zip(zone, values, strict=True)][:0:-1]
    return f"CASE {' '.join(changes)} ELSE {values[0]} END" if changes else values[0]


# --- filters ------------------------------------------------------------------------------------------------------


def any_of(name: str, values: Sequence[str], params: dict[str, Value]) -> str:
    """Return the condition that a dimension has one of the values."""
    found = [condition(name, value, params) for value in values]
    return f"({' OR '.join(found)})" if found else "1 = 0"


def condition(name: str, value: str, params: dict[str, Value]) -> str:
    match name:
        case "model":
            return f"({like('asked', value, params)} OR {like('served', value, params)})"
        case "key":
            known = f'"key" IN (SELECT id FROM keys WHERE {like("name", value, params)})'
            return f"({like('key', value, params)} OR {like('caller', value, params)} OR {known})"
        case "status":
            return status(value, params)
    return like(COLUMNS[name], value, params)


def status(value: str, params: dict[str, Value]) -> str:
    match value.lower():
        case "ok":
            return "status < 400"
        case "error" | "errors":
            return "status >= 400"
        case word if len(word) == 3 and word[0].isdigit() and word.endswith("xx"):
            return f"(status >= {word[0]}00 AND status <= {word[0]}99)"
    return f"status = {bound(int(value), params)}"


def like(column: str, value: str, params: dict[str, Value]) -> str:
    """Return the condition that a column is `value`, or is like it where that has * or ?."""
    if "*" not in value and "?" not in value:
        return f'"{column}" = {bound(value, params)}'
    for sign, other in (("!", "!!"), ("%", "!%"), ("_", "!_"), ("*", "%"), ("?", "_")):
        value = value.replace(sign, other)
    return f"lower(\"{column}\") LIKE {bound(value.lower(), params)} ESCAPE '!'"


def bound(value: Value, params: dict[str, Value]) -> str:
    name = f"v{len(params)}"
    params[name] = value
    return f":{name}"


def key_names(reader: Reader) -> dict[str, str]:
    return {str(id): str(name) for id, name in reader.rows("SELECT id, name FROM keys", {})}
