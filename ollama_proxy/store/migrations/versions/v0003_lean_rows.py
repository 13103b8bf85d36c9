"""A row of the ledger is one page: its indexes go, and the roll-ups tell where the rows of an hour are.

Never edited once released: databases have it behind them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

HOURS = """
    SELECT {hour} AS hour, min(seq), max(seq) FROM requests
    WHERE seq <= (SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'rolled') GROUP BY 1
"""


def upgrade() -> None:
    server = op.get_bind().dialect.name == "postgresql"
    for name in ("low", "high"):
        op.add_column("rollups", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    hour = "CAST(floor(at / 3600) AS BIGINT)" if server else "CAST(at / 3600 AS INTEGER)"
    places = [
        {"hour": hour, "low": low, "high": high}
        for hour, low, high in op.get_bind().execute(sa.text(HOURS.format(hour=hour)))
    ]
    if places:
        op.get_bind().execute(sa.text("UPDATE rollups SET low = :low, high = :high WHERE hour = :hour"), places)
    op.drop_index("requests_at", "requests")
    if server:
        op.drop_constraint("requests_id_key", "requests", type_="unique")
    else:
        rebuild()


def rebuild() -> None:
    """SQLite drops no constraint: the rows move to a table without it."""
    op.rename_table("requests", "requests_before")
    op.create_table(
        "requests",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
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
    op.execute("INSERT INTO requests SELECT * FROM requests_before ORDER BY seq")
    op.drop_table("requests_before")
