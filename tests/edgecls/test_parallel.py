from __future__ import annotations

import itertools
import threading

import pytest

from edgecls.parallel import bounded_map


def test_results_come_in_the_items_order_and_from_several_threads():
    both = threading.Barrier(2, timeout=30)

    def work(number: int) -> tuple[int, int]:
        if number < 2:
            both.wait()  # passes only if two are in work at once
        return number, threading.get_ident()

    results = list(bounded_map(work, range(20), workers=2))
    assert [number for number, _ in results] == list(range(20))
    assert threading.get_ident() not in {thread for _, thread in results}


def test_a_later_item_that_is_ready_first_waits_for_its_turn():
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(30)
        else:
            later.set()
        return number

    assert list(bounded_map(work, [0, 1], workers=2)) == [0, 1]


def test_no_more_is_read_ahead_than_said():
    read = itertools.count()
    results = bounded_map(lambda item: item, read, workers=2, ahead=3)  # endless items
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    results.close()
    assert next(read) == 8  # three at once, and one more for each of five results


def test_what_a_function_raises_is_raised_in_its_turn_and_ends_the_work():
    done = []

    def work(number: int) -> int:
        if number == 2:
            raise KeyError("two")
        done.append(number)
        return number

    results = bounded_map(work, range(1000), workers=1, ahead=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert max(done) < 10


def test_nothing_to_do():
    assert list(bounded_map(str, [], workers=3)) == []
