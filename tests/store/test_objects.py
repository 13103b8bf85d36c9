"""Objects and their pieces: kept for their owner, listed by pages, gone when their time is over."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from ollama_proxy.store import Store, StoreError
from ollama_proxy.store.objects import Objects
from ollama_proxy.stored import Link, Piece, Stored
from tests.conftest import Clock
from tests.store import databases

opened, server, store = databases.opened, databases.server, databases.store


@pytest.fixture
def kept(store: Store, clock: Clock) -> Objects:
    return Objects(store.engine, store.writing, clock)


def thing(id: str, **more: object) -> Stored:
    fields = {"kind": "file", "owner": "me", "created": 1000.0, "data": b"{}", **more}
    return Stored(id=id, **fields)  # type: ignore[arg-type]


def ids(page: object) -> list[str]:
    return [each.id for each in page.data]  # type: ignore[attr-defined]


def test_what_is_put_is_found(kept: Objects) -> None:
    made = thing("a", data='{"text":"ä\\u0000"}'.encode(), expires=2000.0, status="new", parent="p")
    kept.add(made)

    assert kept.get("a", kind="file", owner="me") == made
    assert kept.get("a", kind="file", owner=None) == made
    assert kept.get("b", kind="file", owner="me") is None


def test_anothers_and_another_kinds_are_not_there(kept: Objects) -> None:
    kept.add(thing("a"))

    assert kept.get("a", kind="file", owner="you") is None
    assert kept.get("a", kind="batch", owner="me") is None
    assert not kept.remove("a", kind="file", owner="you")
    assert not kept.change("a", kind="file", owner="you", status="mine")
    assert kept.get("a", kind="file", owner="me") == thing("a")


def test_an_id_is_given_once(kept: Objects) -> None:
    kept.add(thing("a"))

    with pytest.raises(StoreError) as caught:
        kept.add(thing("a"))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_what_has_expired_is_not_there_and_can_be_swept(kept: Objects, clock: Clock) -> None:
    kept.add(thing("a", expires=1010.0), thing("b"))
    clock.forward(10)

    assert kept.get("a", kind="file", owner="me") is None
    assert ids(kept.page("file", owner="me")) == ["b"]
    assert [each.id for each in kept.expired()] == ["a"]
    kept.forget(["a"])
    assert kept.expired() == []


def test_pages_go_through_a_list_once_in_either_order(kept: Objects) -> None:
    for name in "abcde":
        kept.add(thing(name), thing(f"other-{name}", owner="you"))

    first = kept.page("file", owner="me", limit=2)
    assert first is not None
    assert (ids(first), first.more) == (["e", "d"], True)
    second = kept.page("file", owner="me", limit=3, after="d")
    assert second is not None
    assert (ids(second), second.more) == (["c", "b", "a"], False)
    assert ids(kept.page("file", owner="me", ascending=True, after="b", limit=2)) == ["c", "d"]
    assert ids(kept.page("file", owner="me", before="c")) == ["e", "d"]
    assert kept.page("file", owner="me", after="nothing") is None


def test_a_list_is_narrowed_by_status_and_parent(kept: Objects) -> None:
    kept.add(thing("a", status="done", parent="p"), thing("b", status="new"), thing("c", status="done"))

    assert ids(kept.page("file", owner="me", statuses=["done"])) == ["c", "a"]
    assert ids(kept.page("file", owner="me", parent="p")) == ["a"]


def test_of_two_who_change_a_status_one_wins(kept: Objects) -> None:
    kept.add(thing("a", status="queued"))
    won: list[bool] = []

    def change() -> None:
        won.append(kept.change("a", kind="file", owner="me", only=["queued"], status="running"))

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_pieces_are_in_order_and_a_gap_is_left_alone(kept: Objects) -> None:
    kept.add(thing("a"), pieces=[Piece("1", b"{}"), Piece("2", b"[2]")])
    assert kept.change("a", kind="file", owner="me", pieces=[Piece("3", b"3")])
    assert kept.remove_piece("a", "2")
    assert not kept.remove_piece("a", "2")
    kept.change("a", kind="file", owner="me", pieces=[Piece("4", b"4")])

    assert [piece.id for piece in kept.pieces("a")] == ["1", "3", "4"]
    assert kept.piece("a", "3") == Piece("3", b"3")
    assert kept.piece("a", "2") is None
    assert ids(kept.pieces_page("a", limit=2)) == ["4", "3"]
    assert ids(kept.pieces_page("a", after="1", ascending=True)) == ["3", "4"]
    assert kept.pieces_page("a", after="2") is None
    assert kept.remove("a", kind="file", owner="me")
    assert kept.pieces("a") == []


def test_many_who_append_at_once_lose_nothing(kept: Objects) -> None:
    kept.add(thing("a"))

    def append(name: str) -> None:
        for number in range(5):
            kept.change("a", kind="file", owner="me", pieces=[Piece(f"{name}{number}", b"0")])

    threads = [threading.Thread(target=append, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(piece.id for piece in kept.pieces("a")) == [f"{name}{n}" for name in "xyz" for n in range(5)]


def test_sums_count_objects_and_their_bytes(kept: Objects) -> None:
    kept.add(thing("a", data=b"12"), thing("b", data=b"1", owner="you"))

    assert kept.sum_of("file") == (2, 3)
    assert kept.sum_of("file", owner="me") == (1, 2)


def test_a_piece_is_found_by_its_id_alone_by_its_owner(kept: Objects) -> None:
    kept.add(thing("a"), pieces=[Piece("x", b"1"), Piece("y", b"2")])
    kept.add(thing("b"), pieces=[Piece("x", b"3")])

    assert kept.find_piece("x", kind="file", owner="me") == Piece("x", b"3")
    assert kept.find_piece("y", kind="file", owner=None) == Piece("y", b"2")
    assert kept.find_piece("y", kind="file", owner="you") is None
    assert kept.find_piece("y", kind="batch", owner="me") is None


def test_only_the_first_pieces_can_be_listed(kept: Objects) -> None:
    kept.add(thing("a"), pieces=[Piece(name, b"1") for name in "xyz"])

    assert ids(kept.pieces_page("a", first=2)) == ["y", "x"]


def test_pieces_are_joined_once(kept: Objects) -> None:
    one, two, three = (Piece(id, b"{}") for id in ("1", "2", "3"))
    kept.add(thing("a"), pieces=[one])

    assert kept.join("a", kind="file", owner="me", pieces=[two, three]) == []
    assert kept.join("a", kind="file", owner="me", pieces=[Piece("4", b"{}"), three, one]) == ["3", "1"]
    assert kept.pieces("a") == [one, two, three]
    again = [Piece("1", b"[]"), Piece("4", b"{}"), Piece("4", b"[]")]
    assert kept.join("a", kind="file", owner="me", pieces=again, skip=True) == ["1"]
    assert kept.pieces("a") == [one, two, three, Piece("4", b"{}")]
    assert kept.join("a", kind="file", owner="me", pieces=[]) == []
    assert kept.join("a", kind="file", owner="you", pieces=[two]) is None
    assert kept.join("b", kind="file", owner="me", pieces=[two]) is None


def test_of_those_who_join_the_same_piece_at_once_one_wins(kept: Objects) -> None:
    kept.add(thing("a"))
    done: list[list[str] | None] = []
    threads = [
        threading.Thread(
            target=lambda: done.append(kept.join("a", kind="file", owner="me", pieces=[Piece("1", b"{}")]))
        )
        for _ in range(6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(map(str, done)) == sorted(["[]", *["['1']"] * 5])
    assert kept.pieces("a") == [Piece("1", b"{}")]


def test_a_cursor_of_another_owner_is_none(kept: Objects) -> None:
    kept.add(thing("a"), thing("b", owner="you"), thing("c"))

    assert kept.page("file", owner="me", after="b") is None
    assert kept.page("file", owner="me", after="x") is None
    assert ids(kept.page("file", owner=None, after="b")) == ["a"]


def test_an_id_that_no_database_takes_is_not_there(kept: Objects) -> None:
    kept.add(thing("a"), pieces=[Piece("1", b"{}")])
    odd = "a\0b"

    assert kept.get(odd, kind="file", owner="me") is None
    assert not kept.remove(odd, kind="file", owner="me")
    assert kept.page("file", owner="me", after=odd) is None
    assert ids(kept.page("file", owner="me", parent=odd)) == []
    assert kept.piece("a", odd) is None
    assert kept.pieces_page("a", after=odd) is None
    assert not kept.remove_piece("a", odd)
    assert kept.find_piece(odd, kind="file", owner="me") is None


def test_a_line_is_read_from_its_beginning_with_what_each_holds(kept: Objects) -> None:
    kept.add(thing("a", status="done"), pieces=[Piece("a1", b"1"), Piece("a2", b"2")])
    kept.add(thing("b", parent="a"))
    kept.add(thing("c", parent="b"), pieces=[Piece("c1", b'"\xc3\xa4"')])
    kept.add(thing("d", parent="a"), pieces=[Piece("d1", b"4")])

    assert kept.line("c", kind="file", owner="me", longest=9) == [
        Link("a", "", "done", (Piece("a1", b"1"), Piece("a2", b"2"))),
        Link("b", "a", "", ()),
        Link("c", "b", "", (Piece("c1", b'"\xc3\xa4"'),)),
    ]
    assert [link.id for link in kept.line("d", kind="file", owner=None, longest=9)] == ["a", "d"]
    assert [link.id for link in kept.line("c", kind="file", owner="me", longest=2)] == ["b", "c"]
    assert kept.line("x", kind="file", owner="me", longest=9) == []
    assert kept.line("c\0", kind="file", owner="me", longest=9) == []


def test_a_line_ends_at_what_is_gone_anothers_or_of_another_kind(kept: Objects, clock: Clock) -> None:
    kept.add(thing("old", expires=1500.0), thing("yours", owner="you"), thing("other", kind="batch"))
    for name in ("old", "yours", "other", "gone"):
        kept.add(thing(f"after-{name}", parent=name))
    clock.now = 1500.0

    for name in ("old", "yours", "other", "gone"):
        (link,) = kept.line(f"after-{name}", kind="file", owner="me", longest=9)
        assert (link.id, link.parent) == (f"after-{name}", name)


def test_a_line_that_goes_round_ends(kept: Objects) -> None:
    kept.add(thing("a", parent="b"))
    kept.add(thing("b", parent="a"))

    assert len(kept.line("a", kind="file", owner="me", longest=9)) == 9


def test_a_long_line_is_one_question(kept: Objects, store: Store) -> None:
    for number in range(300):
        kept.add(thing(f"n{number}", parent=f"n{number - 1}" if number else ""), pieces=[Piece(f"p{number}", b"0")])
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement != "BEGIN":
            asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        links = kept.line("n299", kind="file", owner="me", longest=10_000)
    finally:
        event.remove(store.engine, "before_cursor_execute", note)

    assert [piece.id for link in links for piece in link.pieces] == [f"p{number}" for number in range(300)]
    assert len(asked) == 1
