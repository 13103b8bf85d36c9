"""Objects that clients keep with us, and their pieces.

Never edited once released: databases have it behind them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "objects",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("status", "parent", "data")),
    )
    op.create_index("objects_kind", "objects", ["kind", "owner", "seq"])
    op.create_index("objects_parent", "objects", ["parent"])
    op.create_index("objects_expires", "objects", ["expires"])
    op.create_table(
        "pieces",
        sa.Column("object", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("pieces_id", "pieces", ["id"])
