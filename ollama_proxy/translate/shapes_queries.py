"""The query strings of all routes, declared once: they are read by these shapes (`query`), and described by them.

https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .shapes_responses import Include

__all__ = [
    "AdminKeysQuery", "AnthropicModelsQuery", "ChatMessagesQuery", "ChatsQuery", "CompletionsUsageQuery", "CostsQuery",
    "FilesQuery", "ItemQuery", "ItemsQuery", "Paging", "ProjectKeysQuery", "RateLimitsQuery", "ResponseQuery",
    "UsageQuery",
]  # fmt: skip

After = Annotated[str, Meta(description="Only what comes behind the object with this id.")]
Before = Annotated[str, Meta(description="Only what comes in front of the object with this id.")]
Limit = Annotated[int, Meta(ge=1, le=100, description="How many objects a page has.")]
Unbounded = Annotated[int, Meta(ge=1, description="How many objects a page has.")]
Order = Annotated[Literal["asc", "desc"], Meta(description="By the time they were created.")]
Includes = Annotated[
    list[Include], Meta(description="Items always come with all they have. `include[]` means the same.")
]


class Paging(Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for: what comes behind the object `after` and in front of `before`, in the list's
    own order."""

    after: After = ""
    before: Before = ""
    limit: Limit = 20
    order: Order = "desc"

    @property
    def ascending(self) -> bool:
        return self.order == "asc"


class FilesQuery(Paging, frozen=True, kw_only=True):
    """The query of GET /v1/files."""

    limit: Annotated[int, Meta(ge=1, le=10000, description="How many files a page has.")] = 10000
    purpose: Annotated[str, Meta(description="Only files with this purpose.")] = ""


class ChatsQuery(Paging, frozen=True, kw_only=True):
    """The query of GET /v1/chat/completions."""

    # OpenAI names no maximum for these two lists.
    limit: Unbounded = 20
    order: Order = "asc"
    model: Annotated[str, Meta(description="Only completions of this model.")] = ""
    metadata: Annotated[
        dict[str, str], Meta(description="Only completions with this metadata: `metadata[topic]=demo`.")
    ] = {}


class ChatMessagesQuery(Paging, frozen=True, kw_only=True):
    """The query of GET /v1/chat/completions/{completion_id}/messages."""

    limit: Unbounded = 20
    order: Order = "asc"


class ItemQuery(Struct, frozen=True, kw_only=True):
    """The query of one item of a conversation."""

    include: Includes = []


class ItemsQuery(Paging, frozen=True, kw_only=True):
    """The query of a list of items."""

    include: Includes = []


class ResponseQuery(ItemQuery, frozen=True, kw_only=True):
    """The query of GET /v1/responses/{response_id}."""

    stream: Annotated[bool, Meta(description="Send the response as the events it was made of.")] = False
    starting_after: (
        Annotated[int, Meta(ge=0, description="With `stream`: only the events behind the one with this number.")] | None
    ) = None


class AnthropicModelsQuery(Struct, frozen=True, kw_only=True):
    """The query of GET /v1/models. Only clients of Anthropic get pages: OpenAI lists all models at once."""

    after_id: After = ""
    before_id: Before = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many models a page has, for Anthropic's clients.")] = 20


# --- administration -------------------------------------------------------------------------------------------------

Seconds = Annotated[int, Meta(ge=0, le=2**40, description="Seconds since 1970.")]
Ids = Annotated[list[str], Meta(description="Only what belongs to these. `name[]` means the same.")]
MAIN = Literal["project_id", "user_id", "api_key_id", "model"]


class BucketsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which time sums are asked for."""

    start_time: Seconds
    end_time: Annotated[Seconds | None, Meta(description="The first second that no more counts; now, if left out.")] = (
        None
    )
    project_ids: Ids = []
    user_ids: Ids = []
    api_key_ids: Ids = []
    page: Annotated[
        str, Meta(description="`next_page` of the page before.", extra_json_schema={"pattern": "^page_[0-9]{1,12}$"})
    ] = ""


class UsageQuery(BucketsQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/usage/embeddings and moderations."""

    models: Ids = []
    group_by: list[MAIN] = []
    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    limit: Annotated[
        int | None,
        Meta(
            description="How many buckets a page has: at most 1440 minutes (60 if left out), 168 hours (24) or 31 "
            "days (7)."
        ),
    ] = None


class CompletionsUsageQuery(UsageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/usage/completions."""

    batch: Annotated[bool, Meta(description="Batches are not told apart: none of what was used is of one.")] = False
    group_by: list[Literal[MAIN, "batch", "service_tier"]] = []  # type: ignore[assignment]


class CostsQuery(BucketsQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/costs."""

    line_items: Annotated[list[str], Meta(description="Only what these models cost.")] = []
    group_by: list[Literal["project_id", "line_item", "api_key_id", "user_id"]] = []
    bucket_width: Literal["1d"] = "1d"
    limit: Annotated[int | None, Meta(description="How many days a page has: at most 180, 7 if left out.")] = None


class AdminKeysQuery(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/admin_api_keys."""

    order: Order = "asc"


class RateLimitsQuery(AdminKeysQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/projects/{project_id}/rate_limits."""

    limit: Limit = 100


class ProjectKeysQuery(AdminKeysQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of GET /v1/organization/projects/{project_id}/api_keys."""

    owner_project_access: Annotated[
        Literal["active", "inactive", "any"],
        Meta(description="Only keys that are in force, or only those that are not."),
    ] = "any"
