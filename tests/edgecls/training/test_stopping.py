from __future__ import annotations

import signal
import threading

import pytest

from edgecls.training.stopping import StopRequest


@pytest.fixture(autouse=True)
def own_handlers():
    """What the signals did before is put back, whatever a test does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_has_its_effect(number):
    obeyed = []
    signal.signal(number, lambda *_: obeyed.append(number))
    with StopRequest() as stop:
        assert stop.signal is None
        signal.raise_signal(number)
        assert stop.signal is number
        assert obeyed == []
        signal.raise_signal(number)
        assert obeyed == [number]


def test_a_second_signal_of_the_other_kind_has_its_effect_too():
    obeyed = []
    signal.signal(signal.SIGTERM, lambda *_: obeyed.append("SIGTERM"))
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal is signal.SIGINT
        assert obeyed == ["SIGTERM"]


def test_a_second_ctrl_c_interrupts():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("signalled", [False, True])
def test_the_handlers_of_before_come_back(signalled):
    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: signal.SIG_IGN}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    with pytest.raises(ZeroDivisionError), StopRequest():
        assert all(signal.getsignal(number) is not handler for number, handler in handlers.items())
        if signalled:
            signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_in_another_thread_signals_are_left_alone():
    """Python allows handlers in the main thread alone; a training in another one is stopped by others."""
    found = []

    def train() -> None:
        with StopRequest() as stop:
            found.append((stop.signal, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join(30)
    assert found == [(None, before)]
