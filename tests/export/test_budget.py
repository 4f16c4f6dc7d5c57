from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls_export.budget import Budget, Judge, spend
from edgecls_runtime import Classifier, Preprocess
from edgecls_runtime.errors import CalibrationError

costs_of_layers = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(costs=costs_of_layers, max_drop=st.integers(0, 60))
def test_no_layer_of_the_result_can_go_back_to_integers(costs: list[int], max_drop: int) -> None:
    """Each layer in integers costs so many points, whatever the order of the ranking."""
    layers = [f"layer {index}" for index in range(len(costs))]
    cost = dict(zip(layers, costs, strict=True))

    def score_with(kept: tuple[str, ...]) -> float:
        return 100 - sum(cost[layer] for layer in layers if layer not in kept)

    search = spend(layers, score_with, baseline=100, max_drop=max_drop, most=len(layers))
    assert search.met
    kept = search.best.float_layers
    assert 100 - score_with(kept) <= max_drop
    for size in range(len(kept)):
        if size == len(kept) - 1:
            assert all(100 - score_with(fewer) > max_drop for fewer in itertools.combinations(kept, size))
    tried = [trial.float_layers for trial in search.trials]
    assert len(tried) == len(set(tried))  # none twice: a trial takes seconds
    assert search == spend(layers, score_with, baseline=100, max_drop=max_drop, most=len(layers))


def test_the_noisiest_layers_alone_stay_in_float() -> None:
    cost = {"worst": 5.0, "bad": 2.0, "fine": 0.1, "good": 0.0, "best": 0.0}
    search = spend(
        list(cost),
        lambda kept: 90 - sum(points for layer, points in cost.items() if layer not in kept),
        baseline=90,
        max_drop=0.5,
        most=4,
    )
    assert search.best.float_layers == ("worst", "bad")
    assert search.best.drop == pytest.approx(0.1)
    assert search.trials[0].float_layers == ()
    assert "2 layers in float: 89.90 % (drop +0.10)" in str(search)


def test_nothing_is_tried_beyond_a_model_that_meets_the_budget_as_it_is() -> None:
    search = spend(["a", "b"], lambda _: 91, baseline=90, max_drop=0, most=1)
    assert (search.met, search.best.float_layers, len(search.trials)) == (True, (), 1)


def test_what_cannot_be_met_names_the_nearest() -> None:
    score = {(): 50.0, ("a",): 70.0, ("a", "b"): 65.0}
    search = spend(["a", "b", "c", "d"], lambda kept: score[kept], baseline=90, max_drop=1, most=2)
    assert not search.met
    assert search.best.float_layers == ("a",)
    assert len(search.trials) == 3


@pytest.fixture
def budget_pictures() -> list[np.ndarray]:
    from edgecls_runtime.golden import draw_picture

    return [draw_picture(number) for number in range(6)]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_judge_scores_as_the_runtime_answers(models: Path, budget_pictures: list[np.ndarray], labelled: bool) -> None:
    path = models / "tiny.onnx"
    with Classifier.load(path) as classifier:
        preprocess = classifier.preprocess
        answers = [int(classifier.logits(picture).argmax()) for picture in budget_pictures]
    targets = [answers[0], *(index + 1 for index in answers[1:])] if labelled else None
    judge = Judge(Budget(max_drop=1, images=budget_pictures, targets=targets, origin="drawn"), preprocess)
    assert judge.measure == ("acc@1" if labelled else "agreement")
    assert judge.score(path) == pytest.approx(100 / 6 if labelled else 100)


def test_a_judge_needs_readable_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(CalibrationError, match=r"a\.jpg: is not a picture"):
        Judge(Budget(max_drop=1, images=[tmp_path / "a.jpg"], targets=None, origin="x"), Preprocess())
    with pytest.raises(CalibrationError, match="x: holds no pictures to measure on"):
        Judge(Budget(max_drop=1, images=[], targets=None, origin="x"), Preprocess())
    with pytest.raises(CalibrationError, match="x: has 1 pictures and 2 targets"):
        Judge(Budget(max_drop=1, images=[tmp_path / "a.jpg"], targets=[0, 1], origin="x"), Preprocess())
