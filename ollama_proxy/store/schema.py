"""The tables. Money is in nano-dollars, times of day in epoch seconds, durations in seconds.

What is declared here is what the migrations arrive at; a change here is a change there: one new migration, appended.
Runs nothing but the making of them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Double, Index, Integer, MetaData, String, Table, Text

from ..account import Entry

__all__ = [
    "APPLICATION_ID",
    "BEGINNING",
    "ENTRY_COLUMNS",
    "KEYS_VERSION",
    "OWNER",
    "REVISIONS",
    "ROLLED",
    "VERSION_TABLE",
    "begin",
    "keys",
    "meta",
    "metadata",
    "objects",
    "pieces",
    "requests",
    "rollups",
]

# Every version of the schema there has been, oldest first; the last one is what is declared below.
REVISIONS = ("0001", "0002", "0003", "0004")
# Where the version is written down. Not Alembic's own name: a PostgreSQL database may hold another program's.
VERSION_TABLE = "oproxy_version"
# "oprx", in the header of an SQLite file (https://www.sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x6F707278

# Names in `meta`: whose database this is; how often keys were changed; the `seq` up to which requests are in `rollups`.
OWNER = "owner"
KEYS_VERSION = "keys_version"
ROLLED = "rolled"

metadata = MetaData()

# SQLite counts by itself only in a column that is called INTEGER; it holds 64 bits all the same.
BIG = BigInteger().with_variant(Integer, "sqlite")


def text(name: str, **more: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **more)


def big(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


# One row a key, `account.Key`. Tuples and structs are JSON.
keys = Table(
    "keys",
    metadata,
    text("id", primary_key=True),
    text("name"),
    text("digest", unique=True),
    text("shown"),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    text("models"),
    text("endpoints"),
    text("tier"),
    text("rates"),
    text("budget"),
    text("tags"),
    Column("model", Text, nullable=False),
    Column("admin", Boolean, nullable=False),
)

# One row a request, `account.Entry`, in its order. `seq` grows with every row and is never given twice:
# pruning leaves the last row, since SQLite goes on from the highest number there is (its AUTOINCREMENT would cost each
# row a page more). For the same reason it has no index: a row is one page of the log, and the roll-ups tell between
# which numbers the rows of an hour are. Ids are ours and random; `writer` sees to it that none is written twice.
requests = Table(
    "requests",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=True),
    text("id"),
    Column("at", Double, nullable=False),
    text("endpoint"),
    Column("status", Integer, nullable=False),
    text("key"),
    text("caller"),
    text("tag"),
    text("address"),
    text("client"),
    text("asked"),
    text("served"),
    text("backend"),
    Column("code", Text),
    Column("stream", Boolean, nullable=False),
    Column("queued", Double),
    Column("first", Double),
    Column("total", Double, nullable=False),
    big("prompt"),
    big("cached"),
    big("completion"),
    big("reasoning"),
    Column("exact", Boolean, nullable=False),
    big("cost", nullable=True),
    big("listed", nullable=True),
    Column("tries", Integer, nullable=False),
)

# The same by the hour, summed; kept for ever. `hour` = floor(at / 3600). `errors` counts statuses from 400 on,
# `inexact` requests with estimated tokens, `unpriced` those without a list price; `first_sum` is over the `first_n`
# that have it. `low` and `high` are the first and the last `seq` of its rows.
rollups = Table(
    "rollups",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    *(text(name, primary_key=True) for name in ("key", "caller", "tag", "backend", "endpoint", "client")),
    *(text(name, primary_key=True) for name in ("asked", "served")),
    Column("status", Integer, primary_key=True, autoincrement=False),
    Column("stream", Boolean, primary_key=True),
    *(big(name) for name in ("requests", "errors", "prompt", "cached", "completion", "reasoning", "inexact")),
    *(big(name) for name in ("cost", "listed", "unpriced")),
    Column("first_sum", Double, nullable=False),
    big("first_n"),
    Column("total_sum", Double, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in ("low", "high")),
)

meta = Table("meta", metadata, text("name", primary_key=True), text("value"))
# What a new database holds in it.
BEGINNING = {OWNER: "oproxy", KEYS_VERSION: "0", ROLLED: "0"}

# One row an object, `stored.Stored`; `seq` grows in the order they are made, which is the order of their lists.
objects = Table(
    "objects",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=True),
    text("id", unique=True),
    text("kind"),
    text("owner"),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    text("status"),
    text("parent"),
    text("data"),
    Index("objects_kind", "kind", "owner", "seq"),
    Index("objects_parent", "parent"),
    Index("objects_expires", "expires"),
)

# What an object holds in order, `stored.Piece`. Numbers grow; one that was taken out leaves a gap.
pieces = Table(
    "pieces",
    metadata,
    text("object", primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    text("id"),
    text("data"),
    Index("pieces_id", "id"),
)

# Alembic's own table under our name, as it makes it.
version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), nullable=False, primary_key=True))


def begin(connection: Connection) -> None:
    """Make the tables of a new database as they are today. It needs no Alembic, which takes longer to be imported than
    all of this; a test holds that the migrations arrive at the same."""
    metadata.create_all(connection)
    version.create(connection)
    connection.execute(version.insert(), {"version_num": REVISIONS[-1]})
    connection.execute(meta.insert(), [{"name": name, "value": value} for name, value in BEGINNING.items()])


ENTRY_COLUMNS: tuple[str, ...] = Entry.__struct_fields__
