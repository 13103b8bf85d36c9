"""The first tables: keys, requests, rollups, meta.

Never edited once released: databases have it behind them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("revoked", sa.Double),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("endpoints", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("rates", sa.Text, nullable=False),
        sa.Column("budget", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
    )
    create_requests()
    create_rollups()
    meta = op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    rows = {"owner": "oproxy", "keys_version": "0", "rolled": "0"}
    op.bulk_insert(meta, [{"name": name, "value": value} for name, value in rows.items()])


def create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("key", "caller", "tag", "address", "client")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("asked", "served", "backend")),
        sa.Column("code", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("queued", sa.Double),
        sa.Column("first", sa.Double),
        sa.Column("total", sa.Double, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("prompt", "cached", "completion", "reasoning")),
        sa.Column("exact", sa.Boolean, nullable=False),
        sa.Column("cost", sa.BigInteger),
        sa.Column("listed", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    op.create_index("requests_at", "requests", ["at"])


def create_rollups() -> None:
    words = ("key", "caller", "tag", "backend", "endpoint", "client", "asked", "served")
    sums = ("requests", "errors", "prompt", "cached", "completion", "reasoning", "inexact", "cost", "listed")
    op.create_table(
        "rollups",
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, primary_key=True) for name in words),
        sa.Column("status", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.Boolean, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in (*sums, "unpriced")),
        sa.Column("first_sum", sa.Double, nullable=False),
        sa.Column("first_n", sa.BigInteger, nullable=False),
        sa.Column("total_sum", sa.Double, nullable=False),
    )
