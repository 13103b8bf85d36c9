"""The settings of what is kept for clients, and of the endpoints beside the models' own: declared as in `sections`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from .sections_help import LOWER, PLAIN, STAYS, help

__all__ = ["Batches", "Files", "Moderations", "Responses"]

MIB = 1024 * 1024


class Responses(Struct, frozen=True, kw_only=True):
    """Stored responses and chat completions."""

    keep: Annotated[int, help("Days they are kept; 0: for ever.", STAYS, ge=0)] = 30


class Files(Struct, frozen=True, kw_only=True):
    """Files that clients upload, and the results of batches."""

    folder: Annotated[str, help("Where they are; empty: in the data folder.", PLAIN, restart=True)] = ""
    max_size: Annotated[
        int, help("Largest file in one request; one that comes in parts may have 8GiB.", LOWER, size=True, ge=1)
    ] = 512 * MIB
    max_total: Annotated[
        int, help("Most that all files may take together; what goes beyond is refused.", LOWER, size=True, ge=1)
    ] = 10 * 1024 * MIB


class Batches(Struct, frozen=True, kw_only=True):
    """Batches, which run when nobody else waits."""

    concurrency: Annotated[
        int, help("Lines that are answered at once, of all batches together.", PLAIN, ge=1, le=1000)
    ] = 2
    patience: Annotated[
        float, help("Seconds a line lets others go first at most, so that a batch ends one day.", PLAIN, ge=0)
    ] = 60.0
    tries: Annotated[int, help("Times a line is tried when the backend fails.", PLAIN, ge=1, le=100)] = 3


class Moderations(Struct, frozen=True, kw_only=True):
    """Who judges texts."""

    method: Annotated[
        Literal["auto", "guard", "chat"],
        help(
            "guard: a model made for it; chat: any model, asked for a judgement; auto: the first if there is one.",
            PLAIN,
        ),
    ] = "auto"
    model: Annotated[str, help("The model to ask; empty: one that fits.", PLAIN)] = ""
