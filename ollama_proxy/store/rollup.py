"""The roll-ups: the ledger's rows summed by the hour, so that a year is read as fast as a day and outlives its rows.

Each row is in the roll-ups if its `seq` is not beyond the watermark in `meta`, and not yet if it is; both move in one
transaction, so readers who sum the roll-ups and the rows beyond see every row once, whenever they look. Blocks: an
event loop calls it in a thread.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text, update

from . import schema
from .fold import GROUPS, SUMS, hour_of
from .store import Store

__all__ = ["roll_up"]

# Rows folded in one transaction: 20 ms or so, in which no request's row can be written.
BATCH = 2000


def roll_up(store: Store, *, batch: int = BATCH) -> int:
    """Fold every row that is not in the roll-ups yet; returns how many. Raises StoreError.

    Any number of processes may call it at the same time.
    """
    settled = store.settled()
    folded = 0
    while True:
        with store.writing() as connection:
            low = watermark(connection)
            high = last(connection, low, settled, batch)
            if high is None:
                return folded
            params = {"low": low, "high": high}
            connection.execute(FOLDS[connection.dialect.name], params)
            rows = connection.scalar(COUNT, params)
            connection.execute(update(schema.meta).where(schema.meta.c.name == schema.ROLLED).values(value=str(high)))
        folded += rows or 0


def watermark(connection: Connection) -> int:
    """Return the watermark, and keep it ours until the transaction ends: on PostgreSQL by locking its row, on SQLite
    there is one writer at a time anyhow."""
    wanted = select(schema.meta.c.value).where(schema.meta.c.name == schema.ROLLED).with_for_update()
    return int(connection.scalar(wanted) or 0)


def last(connection: Connection, low: int, settled: int, batch: int) -> int | None:
    """Return the `seq` up to which the next batch goes; None if there is nothing left."""
    seq = schema.requests.c.seq
    wanted = select(seq).where(seq > low, seq <= settled).order_by(seq).limit(batch).subquery()
    found = connection.scalars(select(wanted.c.seq).order_by(wanted.c.seq.desc()).limit(1)).first()
    return int(found) if found is not None else None


def statement(*, server: bool) -> str:
    """Return the SQL that adds the rows of one batch to their hours."""
    groups = [f'"{name}"' for name in GROUPS]
    sums = [f'"{name}"' for name in SUMS]
    return (
        f"INSERT INTO rollups (hour, {', '.join([*groups, *sums])}, low, high) "
        f"SELECT {hour_of(server=server)}, {', '.join([*groups, *SUMS.values()])}, min(seq), max(seq) "
        "FROM requests WHERE seq > :low AND seq <= :high "
        f"GROUP BY {', '.join(str(place) for place in range(1, len(groups) + 2))} "
        f"ON CONFLICT (hour, {', '.join(groups)}) DO UPDATE SET "
        + ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in sums)
        # Numbers grow: what comes later lies beyond what was there.
        + ", high = excluded.high"
    )


FOLDS = {"sqlite": text(statement(server=False)), "postgresql": text(statement(server=True))}
COUNT = text("SELECT count(*) FROM requests WHERE seq > :low AND seq <= :high")
