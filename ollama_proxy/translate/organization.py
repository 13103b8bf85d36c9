"""OpenAI's administration API over the ledger: what /v1/organization/usage and /costs are asked, and the pages they are
answered with; keys and rate limits as OpenAI lists them. Both directions, pure: the present comes in as a number.

There is one organization and one project, both this machine's. https://platform.openai.com/docs/api-reference/usage
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..account import NANO, Key
from ..errors import Invalid, NotFound
from . import query
from .shapes_queries import CompletionsUsageQuery, CostsQuery, Paging, ProjectKeysQuery, UsageQuery

__all__ = [
    "COSTS", "KINDS", "ORGANIZATION", "PROJECT", "Ask", "Kind", "Sums", "limit_rows", "narrowed_keys",
    "parse_usage", "project", "write_admin_key", "write_listing", "write_project_key", "write_usage",
]  # fmt: skip

ORGANIZATION = "org-oproxy"
PROJECT = "proj_oproxy"

Pairs = Iterable[tuple[str, str]]
Query = UsageQuery | CostsQuery
Record = dict[str, Any]


class Sums(Protocol):
    """A row of the ledger's sums, `by` in the order of `Ask.by`: the bucket first."""

    @property
    def by(self) -> Sequence[str | int]: ...
    @property
    def requests(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def prompt(self) -> int: ...
    @property
    def cached(self) -> int: ...
    @property
    def completion(self) -> int: ...
    @property
    def cost(self) -> int: ...


class Width(NamedTuple):
    """A width of buckets: its seconds, the ledger's word for it and how many seconds that counts in, and how many
    buckets a page has."""

    seconds: int
    name: str
    unit: int
    usual: int
    most: int


# https://platform.openai.com/docs/api-reference/usage/completions
WIDTHS = {
    "1m": Width(60, "minute", 1, 60, 1440),
    "1h": Width(3600, "hour", 1, 24, 168),
    "1d": Width(86400, "day", 86400, 7, 31),
}


class Kind(NamedTuple):
    """What is asked for: the name of its results, the endpoints that count (none: all), what it can be grouped by, the
    shape of its query, its widths, and what a result is made of."""

    result: str
    endpoints: tuple[str, ...]
    groups: tuple[str, ...]
    query: type[Query]
    widths: Mapping[str, Width]
    write: Callable[[Sums], Record]


def completions(row: Sums) -> Record:
    return {
        "input_tokens": row.prompt,
        "output_tokens": row.completion,
        "input_cached_tokens": row.cached,
        "input_uncached_tokens": row.prompt - row.cached,
        "input_text_tokens": row.prompt - row.cached,
        "input_cached_text_tokens": row.cached,
        "output_text_tokens": row.completion,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": row.requests - row.errors,
    }


def inputs(row: Sums) -> Record:
    return {"input_tokens": row.prompt, "num_model_requests": row.requests - row.errors}


def costs(row: Sums) -> Record:
    return {"amount": {"value": row.cost / NANO, "currency": "usd"}, "quantity": None}


MAIN = ("project_id", "user_id", "api_key_id", "model")
KINDS = {
    "completions": Kind(
        "organization.usage.completions.result",
        (
            *("/v1/chat/completions", "/v1/completions", "/v1/edits", "/v1/responses", "/v1/messages"),
            *("/api/chat", "/api/generate"),
        ),
        (*MAIN, "batch", "service_tier"),
        CompletionsUsageQuery,
        WIDTHS,
        completions,
    ),
    "embeddings": Kind(
        "organization.usage.embeddings.result",
        ("/v1/embeddings", "/api/embed", "/api/embeddings"),
        MAIN,
        UsageQuery,
        WIDTHS,
        inputs,
    ),
    "moderations": Kind(
        "organization.usage.moderations.result", ("/v1/moderations",), MAIN, UsageQuery, WIDTHS, inputs
    ),
}
COSTS = Kind(
    "organization.costs.result",
    (),
    ("project_id", "line_item", "api_key_id", "user_id"),
    CostsQuery,
    {"1d": Width(86400, "day", 86400, 7, 180)},
    costs,
)

# OpenAI's word: the ledger's.
COLUMNS = {"user_id": "caller", "api_key_id": "key_id", "model": "asked", "line_item": "asked"}
FILTERS = {"user_ids": "caller", "api_key_ids": "key_id", "models": "asked", "line_items": "asked"}
# What is the same for every request here.
CONSTANT: dict[str, Any] = {"project_id": PROJECT, "batch": False, "service_tier": "default"}


class Ask(NamedTuple):
    """A page of usage. Epoch seconds: what is looked at (`since` to `until`), where the page's buckets begin and end,
    and where the whole time ends. `by` and `only` are the ledger's words; `only` None: nothing can be meant."""

    kind: Kind
    width: Width
    since: int
    until: int
    begin: int
    end: int
    last: int
    groups: tuple[str, ...]
    by: tuple[str, ...]
    only: dict[str, tuple[str, ...]] | None


def parse_usage(kind: Kind, pairs: Pairs, now: float) -> Ask:
    """Read a query string. Raises errors.Invalid."""
    asked, _ = query.parse(pairs, kind.query)
    since = asked.start_time
    last = asked.end_time if asked.end_time is not None else int(now) + 1
    if last <= since:
        raise Invalid("Invalid 'end_time': it must be after 'start_time'.", param="end_time", code="invalid_value")
    width = kind.widths[asked.bucket_width]
    count = checked_count(asked.limit, width)
    begin = page_start(asked.page, width) if asked.page else since // width.seconds * width.seconds
    end = min(begin + count * width.seconds, -(-last // width.seconds) * width.seconds)
    groups = tuple(dict.fromkeys(asked.group_by))
    by = (width.name, *(COLUMNS[name] for name in groups if name in COLUMNS))
    return Ask(kind, width, max(since, begin), min(last, end), begin, end, last, groups, by, narrowed(kind, asked))


def checked_count(limit: int | None, width: Width) -> int:
    """Return how many buckets a page has. Raises errors.Invalid."""
    if limit is None:
        return width.usual
    if not 1 <= limit <= width.most:
        side, code, bound = (
            ("below minimum", "below_min", ">= 1") if limit < 1 else ("above maximum", "above_max", f"<= {width.most}")
        )
        raise Invalid(
            f"Invalid 'limit': integer {side} value. Expected a value {bound}, but got {limit} instead.",
            param="limit",
            code=f"integer_{code}_value",
        )
    return limit


def narrowed(kind: Kind, asked: Query) -> dict[str, tuple[str, ...]] | None:
    """Return what counts in the ledger's words; None if that is nothing."""
    if PROJECT not in (asked.project_ids or (PROJECT,)) or getattr(asked, "batch", False):
        return None
    only = {column: tuple(values) for name, column in FILTERS.items() if (values := getattr(asked, name, ()))}
    if kind.endpoints:
        only["endpoint"] = kind.endpoints
    return only


def page_start(token: str, width: Width) -> int:
    """Return where the buckets of a page begin."""
    text = token.removeprefix("page_")
    if token == text or not (text.isascii() and text.isdigit()) or int(text) % width.seconds or len(text) > 12:
        raise Invalid("Invalid 'page': it is no cursor of this list.", param="page", code="invalid_value")
    return int(text)


def write_usage(ask: Ask, rows: Iterable[Sums]) -> Record:
    """Return a page of buckets, those without results too."""
    results: dict[int, list[Record]] = {}
    for row in rows:
        if row.requests == row.errors and not (row.prompt or row.completion or row.cost):
            # Nothing was answered.
            continue
        values = dict(zip(ask.by, row.by, strict=True))
        start = int(values[ask.width.name]) * ask.width.unit
        results.setdefault(start, []).append({"object": ask.kind.result, **ask.kind.write(row), **group(ask, values)})
    starts = range(ask.begin, ask.end, ask.width.seconds)
    more = ask.end < ask.last
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": start,
                "end_time": start + ask.width.seconds,
                "results": results.get(start, []),
            }
            for start in starts
        ],
        "has_more": more,
        "next_page": f"page_{ask.end}" if more else None,
    }


def group(ask: Ask, values: Mapping[str, str | int]) -> Record:
    """Return what a result is of: null for what it is not grouped by."""
    found: Record = dict.fromkeys(ask.kind.groups)
    for name in ask.groups:
        found[name] = CONSTANT[name] if name in CONSTANT else str(values[COLUMNS[name]]) or None
    return found


# --- lists --------------------------------------------------------------------------------------------------------


def write_listing(items: Sequence[Record], ask: Paging) -> Record:
    """Return a part of a list of objects with ids, which come oldest first."""
    found = list(items) if ask.ascending else list(reversed(items))
    ids = [item["id"] for item in found]
    low = place(ids, ask.after, "after") + 1 if ask.after else 0
    high = place(ids, ask.before, "before") if ask.before else len(found)
    # Without `after`, what is before something is the part that ends there.
    part = found[max(low, high - ask.limit) : high] if ask.before and not ask.after else found[low:high][: ask.limit]
    return {
        "object": "list",
        "data": part,
        "first_id": part[0]["id"] if part else None,
        "last_id": part[-1]["id"] if part else None,
        "has_more": len(part) < high - low,
    }


def place(ids: Sequence[str], id: str, name: str) -> int:
    if id not in ids:
        raise Invalid(f"Invalid '{name}': there is no '{id}' in this list.", param=name, code="invalid_value")
    return ids.index(id)


def project(id: str) -> None:
    """Raise NotFound for any other project than ours."""
    if id != PROJECT:
        raise NotFound(f"Project with ID '{id}' not found. The only one here is '{PROJECT}'.")


def narrowed_keys(rows: Iterable[Record], asked: ProjectKeysQuery) -> list[Record]:
    """Return the keys of a project that are asked for."""
    access = asked.owner_project_access
    return [row for row in rows if access in ("any", row["owner_project_access"])]


def write_project_key(key: Key, now: float) -> Record:
    """Return a key as OpenAI lists those of a project. Ours belong to nobody, so each is its own service account."""
    ended = key.revoked is not None or (key.expires is not None and key.expires <= now)
    return {
        "object": "organization.project.api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": key.shown,
        "created_at": int(key.created),
        "last_used_at": None,
        "owner_project_access": "inactive" if ended else "active",
        "owner": {
            "type": "service_account",
            "service_account": {
                "object": "organization.project.service_account",
                "id": f"svc_{key.id}",
                "name": key.name,
                "role": "owner" if key.admin else "member",
                "created_at": int(key.created),
            },
        },
    }


def write_admin_key(key: Key, *, value: str = "") -> Record:
    """Return an administrator's key; `value` is the key itself, told once."""
    record: Record = {
        "object": "organization.admin_api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": key.shown,
        "created_at": int(key.created),
        "expires_at": int(key.expires) if key.expires is not None else None,
        "last_used_at": None,
        "owner": {
            "type": "service_account",
            "object": "organization.service_account",
            "id": f"svc_{key.id}",
            "name": key.name,
            "created_at": int(key.created),
            "role": "owner",
        },
    }
    return {**record, "value": value} if value else record


# OpenAI's lists know no "unlimited": the largest number of 32 bits stands for it.
UNLIMITED = 2**31 - 1


def limit_rows(limits: Iterable[tuple[str, int | None, int | None, int | None]]) -> list[Record]:
    """Return rate limits as OpenAI lists them, of (model or glob, requests a minute, tokens a minute, requests a
    day)."""
    return [
        {
            "object": "project.rate_limit",
            "id": f"rl-{model}",
            "model": model,
            "max_requests_per_1_minute": requests if requests is not None else UNLIMITED,
            "max_tokens_per_1_minute": tokens if tokens is not None else UNLIMITED,
            **({"max_requests_per_1_day": daily} if daily is not None else {}),
        }
        for model, requests, tokens, daily in limits
    ]
