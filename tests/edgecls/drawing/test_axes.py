from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.drawing.axes import Nines, Scale, legend, number, scale_for
from edgecls.drawing.figure import WIDTH, Label, text_width

values = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=30)


@given(values, st.booleans(), st.booleans())
def test_scales_hold_their_values_and_have_ticks_within(found: list[float], from_zero: bool, may_be_log: bool) -> None:
    scale = scale_for(found, 300, 20, from_zero=from_zero, may_be_log=may_be_log)
    places = [scale(value) for value in sorted(found)]
    assert all(20 <= place <= 300 for place in places)
    assert places == sorted(places, reverse=True)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(scale.low * (1 - 1e-9) - 1e-12 <= value <= scale.high * (1 + 1e-9) for value, _ in ticks)
    if from_zero and not scale.is_log:
        assert scale(0) == 300


@pytest.mark.parametrize("is_log", [True, False])
def test_what_lies_beyond_a_scale_is_at_its_end(is_log: bool) -> None:
    scale = Scale(1, 100, 20, 300, is_log)
    assert (scale(0.1), scale(1), scale(100), scale(1e4)) == (20, 20, 300, 300)


def test_a_long_tail_makes_a_logarithmic_scale() -> None:
    assert scale_for([7.0] * 99 + [70.0], 0, 1, may_be_log=True).is_log
    assert not scale_for([7.0] * 99 + [70.0], 0, 1).is_log
    assert not scale_for([7.0] * 99 + [14.0], 0, 1, may_be_log=True).is_log
    assert not scale_for([0.0, 1.0, 70.0], 0, 1, may_be_log=True).is_log


def test_ticks_are_round() -> None:
    assert Scale(0, 9.3, 0, 1).ticks() == [(float(tick), str(tick)) for tick in (0, 2, 4, 6, 8)]
    assert [text for _, text in Scale(6.91, 7.12, 0, 1).ticks()] == ["6.95", "7.00", "7.05", "7.10"]
    assert [text for _, text in Scale(0.8, 130, 0, 1, is_log=True).ticks()] == ["1", "10", "100"]
    assert [text for _, text in Scale(5, 60, 0, 1, is_log=True).ticks()] == ["5", "10", "20", "50"]


def test_nines() -> None:
    axis = Nines(0.9999, 0, 400)
    assert [axis(share) for share in (0, 0.9, 0.99, 0.999, 0.9999)] == pytest.approx([0, 100, 200, 300, 400])
    assert [text for _, text in axis.ticks()] == ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7.00"), (6.996, "7.00"), (0.01234, "0.0123"), (12.34, "12.3"), (99.96, "100"), (12345.6, "12,346")],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert number(value) == text
    assert number(-value) == (f"-{text}" if value else text)


def test_legends_stay_within_the_figure() -> None:
    entries = [("s0", f"entry {'x' * length}") for length in range(0, 200, 17)]
    shapes, end = legend(entries, 10)
    labels = [shape for shape in shapes if isinstance(shape, Label)]
    assert len(labels) == len(entries)
    assert all(label.x + text_width(label.text, label.size) <= WIDTH for label in labels)
    assert end > labels[-1].y
