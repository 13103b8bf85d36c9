"""A response names the one that it goes on from in `parent`, so that a conversation is one query.

Never edited once released: databases have it behind them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    after = "data::json ->> 'after'" if op.get_bind().dialect.name == "postgresql" else "json_extract(data, '$.after')"
    op.execute(sa.text(f"UPDATE objects SET parent = coalesce({after}, '') WHERE kind = 'response' AND parent = ''"))
