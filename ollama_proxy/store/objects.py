"""The tables of objects and their pieces: put, found, changed, listed by pages, forgotten.

Knows nothing of what an object is. Blocks: an event loop calls it in a thread. An object of another owner is as if it
were not there; an owner of None sees all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from ..stored import Link, Page, Piece, Stored
from . import schema
from .fault import gate

__all__ = ["Objects"]

THINGS, PIECES = schema.objects.c, schema.pieces.c
FIELDS = Stored.__struct_fields__
COLUMNS = [THINGS[name] for name in FIELDS]
# SQLite takes 32766 parameters a statement.
CHUNK = 500


class Objects:
    """All objects. Every method raises StoreError when the database fails. `wall` gives epoch seconds: what has expired
    is not there any more, whether it has been swept or not."""

    def __init__(
        self,
        engine: Engine,
        writing: Callable[[], AbstractContextManager[Connection]],
        wall: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._wall = wall

    def add(self, *things: Stored, pieces: Sequence[Piece] = ()) -> None:
        """Keep new objects; `pieces` are those of the first. StoreError (IntegrityError its cause) if one is there."""
        with self._writing() as connection:
            connection.execute(insert(schema.objects), [row_of(thing) for thing in things])
            put(connection, things[0].id, pieces, first=0)

    def get(self, id: str, *, kind: str, owner: str | None) -> Stored | None:
        """Return an object, or None."""
        with gate(), self._engine.connect() as connection:
            row = connection.execute(select(*COLUMNS).where(self._mine(id, kind, owner))).first()
        return thing_of(row) if row is not None else None

    def change(
        self,
        id: str,
        *,
        kind: str,
        owner: str | None,
        only: Collection[str] = (),
        pieces: Sequence[Piece] = (),
        **fields: Any,
    ) -> bool:
        """Change fields of `stored.Stored` by name and append pieces; returns whether it was done. `only`: the statuses
        it must have now, so that of two who want to change it one wins."""
        values = {**fields, "data": fields["data"].decode()} if "data" in fields else fields
        where = self._mine(id, kind, owner)
        if only:
            where = and_(where, THINGS.status.in_(only))
        with self._writing() as connection:
            # Also where nothing changes: on PostgreSQL this row's lock puts those who append in a row.
            done = connection.execute(update(schema.objects).where(where).values(values or {"id": id})).rowcount > 0
            if done:
                append(connection, id, pieces)
        return done

    def join(
        self, id: str, *, kind: str, owner: str | None, pieces: Sequence[Piece], skip: bool = False
    ) -> list[str] | None:
        """Append pieces, each of which may be there once. Returns the ids of those that are there already: nothing is
        appended then, unless `skip`, which leaves them out. None if there is no such object."""
        fresh: dict[str, Piece] = {}
        for piece in pieces:
            fresh.setdefault(piece.id, piece)
        ids, there = list(fresh), set[str]()
        with self._writing() as connection:
            # Locks the object, so that of two who append the second one sees what the first one did.
            found = update(schema.objects).where(self._mine(id, kind, owner)).values(id=id)
            if connection.execute(found).rowcount == 0:
                return None
            for start in range(0, len(ids), CHUNK):
                some = PIECES.id.in_(ids[start : start + CHUNK])
                there.update(connection.scalars(select(PIECES.id).where(PIECES.object == id, some)))
            if skip or not there:
                append(connection, id, [piece for piece in fresh.values() if piece.id not in there])
        return [each for each in ids if each in there]

    def remove(self, id: str, *, kind: str, owner: str | None) -> bool:
        """Forget an object and its pieces; returns whether it was there."""
        with self._writing() as connection:
            if connection.execute(delete(schema.objects).where(self._mine(id, kind, owner))).rowcount == 0:
                return False
            connection.execute(delete(schema.pieces).where(PIECES.object == id))
        return True

    def page(
        self,
        kind: str,
        *,
        owner: str | None,
        after: str = "",
        before: str = "",
        limit: int = 20,
        ascending: bool = False,
        statuses: Collection[str] = (),
        parent: str | None = None,
    ) -> Page[Stored] | None:
        """Return objects in the order they were made (newest first unless `ascending`); those behind `after` and in
        front of `before`. None if there is no object `after` or `before`."""
        query = select(*COLUMNS).where(THINGS.kind == kind, self._alive())
        if owner is not None:
            query = query.where(THINGS.owner == owner)
        if statuses:
            query = query.where(THINGS.status.in_(statuses))
        if parent is not None:
            query = query.where(THINGS.parent == sought(parent))
        with gate(), self._engine.connect() as connection:
            for cursor, forward in ((after, ascending), (before, not ascending)):
                if cursor:
                    place = select(THINGS.seq).where(THINGS.id == sought(cursor), THINGS.kind == kind)
                    # Nobody learns of another's by asking for what comes behind it.
                    place = place if owner is None else place.where(THINGS.owner == owner)
                    seq = connection.scalar(place)
                    if seq is None:
                        return None
                    query = query.where(THINGS.seq > seq if forward else THINGS.seq < seq)
            rows = connection.execute(ordered(query, THINGS.seq, ascending).limit(limit + 1)).all()
        return Page([thing_of(row) for row in rows[:limit]], len(rows) > limit)

    def sum_of(self, kind: str, *, owner: str | None = None) -> tuple[int, int]:
        """Return how many objects of a kind there are, and the bytes of their JSON."""
        query = select(func.count(), func.coalesce(func.sum(func.length(THINGS.data)), 0)).where(THINGS.kind == kind)
        if owner is not None:
            query = query.where(THINGS.owner == owner)
        with gate(), self._engine.connect() as connection:
            count, size = connection.execute(query).one()
        return int(count), int(size)

    def expired(self, limit: int = 500) -> list[Stored]:
        """Return objects whose time is over and which are still kept, of every kind: what hangs on them goes first."""
        query = select(*COLUMNS).where(THINGS.expires <= self._wall()).order_by(THINGS.seq).limit(limit)
        with gate(), self._engine.connect() as connection:
            return [thing_of(row) for row in connection.execute(query)]

    def forget(self, ids: Sequence[str]) -> None:
        """Remove objects of any kind and owner with their pieces."""
        with self._writing() as connection:
            for start in range(0, len(ids), CHUNK):
                some = list(ids[start : start + CHUNK])
                connection.execute(delete(schema.pieces).where(PIECES.object.in_(some)))
                connection.execute(delete(schema.objects).where(THINGS.id.in_(some)))

    # --- pieces -------------------------------------------------------------------------------------------------

    def pieces(self, id: str) -> list[Piece]:
        """Return all that an object holds, in order. Whose it is was asked for before."""
        query = select(PIECES.id, PIECES.data).where(PIECES.object == id).order_by(PIECES.number)
        with gate(), self._engine.connect() as connection:
            return [piece_of(row) for row in connection.execute(query)]

    def line(self, last: str, *, kind: str, owner: str | None, longest: int) -> list[Link]:
        """Return an object, the one that it names as its `parent`, and so on, oldest first, with what they hold. The
        line ends where an object is not there (any more); at most `longest` objects are followed."""
        steps = (
            select(THINGS.id, THINGS.parent, THINGS.status, literal(0).label("depth"))
            .where(self._mine(last, kind, owner))
            .cte("line", recursive=True)
        )
        older = select(THINGS.id, THINGS.parent, THINGS.status, steps.c.depth + 1).where(
            THINGS.id == steps.c.parent, THINGS.kind == kind, self._alive(), steps.c.depth < longest - 1
        )
        if owner is not None:
            older = older.where(THINGS.owner == owner)
        steps = steps.union_all(older)
        query = (
            select(steps.c.id, steps.c.parent, steps.c.status, PIECES.id.label("piece"), PIECES.data)
            .select_from(steps.outerjoin(schema.pieces, PIECES.object == steps.c.id))
            .order_by(steps.c.depth.desc(), PIECES.number)
        )
        with gate(), self._engine.connect() as connection:
            found = connection.execute(query).all()
        return [
            Link(
                id, parent, status, tuple(Piece(row.piece, row.data.encode()) for row in rows if row.piece is not None)
            )
            for (id, parent, status), rows in groupby(found, key=lambda row: (row.id, row.parent, row.status))
        ]

    def piece(self, id: str, piece: str) -> Piece | None:
        """Return one of them."""
        query = (
            select(PIECES.id, PIECES.data)
            .where(PIECES.object == id, PIECES.id == sought(piece))
            .order_by(PIECES.number)
            .limit(1)
        )
        with gate(), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return piece_of(row) if row is not None else None

    def find_piece(self, piece: str, *, kind: str, owner: str | None) -> Piece | None:
        """Return a piece of whichever object of a kind; the latest, if several hold it."""
        query = select(PIECES.id, PIECES.data).join(schema.objects, THINGS.id == PIECES.object)
        query = query.where(PIECES.id == sought(piece), THINGS.kind == kind, self._alive())
        if owner is not None:
            query = query.where(THINGS.owner == owner)
        with gate(), self._engine.connect() as connection:
            row = connection.execute(query.order_by(THINGS.seq.desc()).limit(1)).first()
        return piece_of(row) if row is not None else None

    def pieces_page(
        self,
        id: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 20,
        ascending: bool = False,
        first: int | None = None,
    ) -> Page[Piece] | None:
        """Return a part of them, newest first unless `ascending`; of the `first` so many only. None if there is no
        piece `after` or `before`."""
        query = select(PIECES.id, PIECES.data).where(PIECES.object == id)
        if first is not None:
            query = query.where(PIECES.number < first)
        with gate(), self._engine.connect() as connection:
            for cursor, forward in ((after, ascending), (before, not ascending)):
                if cursor:
                    place = select(PIECES.number).where(PIECES.object == id, PIECES.id == sought(cursor))
                    number = connection.scalar(place)
                    if number is None:
                        return None
                    query = query.where(PIECES.number > number if forward else PIECES.number < number)
            rows = connection.execute(ordered(query, PIECES.number, ascending).limit(limit + 1)).all()
        return Page([piece_of(row) for row in rows[:limit]], len(rows) > limit)

    def remove_piece(self, id: str, piece: str) -> bool:
        """Take one out; returns whether it was there."""
        found = delete(schema.pieces).where(PIECES.object == id, PIECES.id == sought(piece))
        with self._writing() as connection:
            return connection.execute(found).rowcount > 0

    # --- what is asked for ----------------------------------------------------------------------------------------

    def _alive(self) -> ColumnElement[bool]:
        return or_(THINGS.expires.is_(None), THINGS.expires > self._wall())

    def _mine(self, id: str, kind: str, owner: str | None) -> ColumnElement[bool]:
        where = and_(THINGS.id == sought(id), THINGS.kind == kind, self._alive())
        return where if owner is None else and_(where, THINGS.owner == owner)


def sought(id: str) -> str:
    """Return an id as it can be asked for: PostgreSQL takes no NUL in a text, and no id has one."""
    return id.replace("\0", "\ufffd")


def append(connection: Connection, id: str, pieces: Sequence[Piece]) -> None:
    """Put pieces behind those that are there."""
    if pieces:
        last = connection.scalar(select(func.max(PIECES.number)).where(PIECES.object == id))
        put(connection, id, pieces, first=0 if last is None else last + 1)


def put(connection: Connection, id: str, pieces: Sequence[Piece], *, first: int) -> None:
    """Put pieces where none are, from the number `first` on."""
    rows = [
        {"object": id, "number": first + place, "id": piece.id, "data": piece.data.decode()}
        for place, piece in enumerate(pieces)
    ]
    if rows:
        connection.execute(insert(schema.pieces), rows)


def ordered(query: Select[Any], column: ColumnElement[Any], ascending: bool) -> Select[Any]:
    return query.order_by(column.asc() if ascending else column.desc())


def row_of(thing: Stored) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in FIELDS} | {"data": thing.data.decode()}


def thing_of(row: Row[Any]) -> Stored:
    fields = dict(zip(FIELDS, row, strict=True))
    return Stored(**{**fields, "data": fields["data"].encode()})


def piece_of(row: Any) -> Piece:
    return Piece(row.id, row.data.encode())
