"""What the recorder keeps of a stream."""

from __future__ import annotations

from ollama_proxy.policy.memory import Hold, Memory
from ollama_proxy.recorder.chunks import MOST, STEP, Chunks


def test_a_stream_is_kept_whole_where_there_is_room() -> None:
    chunks = Chunks(Hold())
    for number in range(1000):
        chunks.append(float(number), b"x" * 100)
    assert (chunks.count, chunks.cut, len(chunks.all())) == (1000, False, 1000)


def test_of_an_endless_stream_the_beginning_and_the_last_piece_are_kept() -> None:
    memory = Memory(4 * MOST)
    hold = Hold(memory)
    chunks = Chunks(hold)
    for number in range(2000):
        chunks.append(float(number), b"%08d" % number * 1000)
    kept = chunks.all()
    assert chunks.cut
    assert chunks.count == 2000
    assert (kept[0], kept[-1]) == ((0.0, b"00000000" * 1000), (1999.0, b"00001999" * 1000))
    assert chunks.size <= MOST
    assert chunks.size <= hold.held <= MOST + STEP


def test_where_there_is_no_memory_only_the_last_piece_is_kept() -> None:
    memory = Memory(1000)
    chunks = Chunks(Hold(memory))
    chunks.append(0.0, b"a")
    chunks.append(1.0, b"b")
    assert (chunks.all(), chunks.cut, chunks.count, memory.held) == ([(1.0, b"b")], True, 2, 0)


def test_a_piece_that_is_longer_than_a_step_is_paid_for() -> None:
    hold = Hold(Memory(MOST))
    chunks = Chunks(hold)
    chunks.append(0.0, b"x" * 3 * STEP)
    assert not chunks.cut
    assert hold.held >= 3 * STEP


def test_the_pieces_give_way_to_the_answer_itself() -> None:
    hold = Hold(Memory(8 * STEP))
    chunks = Chunks(hold)
    chunks.append(0.0, b"a")
    hold.take_answer(7 * STEP)
    chunks.append(1.0, b"b")
    assert (chunks.all(), chunks.cut, chunks.count, hold.held) == ([(1.0, b"b")], True, 2, 7 * STEP)


def test_only_the_first_half_of_the_budget_is_for_the_recorder() -> None:
    memory = Memory(8 * STEP)
    other = Hold(memory)
    other.take(4 * STEP)
    chunks = Chunks(Hold(memory))
    chunks.append(0.0, b"a")
    assert chunks.cut
