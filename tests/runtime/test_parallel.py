from __future__ import annotations

import itertools
import threading
import weakref

import pytest

from edgecls_runtime.parallel import bounded_map


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
    assert next(read) == 7  # three at once, and one more after each of the first four results


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


def test_a_thread_that_waits_holds_no_item():
    class Item:
        pass

    gone = threading.Event()

    def items():
        item = Item()
        weakref.finalize(item, gone.set)
        yield item
        del item
        while not gone.wait(0.01) and next(tries) < 1000:
            pass  # the thread has nothing to do meanwhile
        yield None

    tries = itertools.count()
    list(bounded_map(lambda item: None, items(), workers=1, ahead=1))
    assert gone.is_set()
    assert next(tries) < 1000


def test_a_failure_to_read_comes_after_the_results_before_it():
    def items():
        yield from range(3)
        raise OSError("gone")

    results = bounded_map(str, items(), workers=2, ahead=50)
    assert [next(results), next(results), next(results)] == ["0", "1", "2"]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_one_ahead_answers_a_live_source_at_once():
    order = []

    def items():
        for number in range(3):
            order.append(f"read {number}")
            yield number

    for number in bounded_map(lambda item: item, items(), workers=2, ahead=1):
        order.append(f"got {number}")
    assert order == ["read 0", "got 0", "read 1", "got 1", "read 2", "got 2"]
