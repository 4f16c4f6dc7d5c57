from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torchmetrics", reason="metrics need the training packages")

from edgecls.evaluation.metrics import (
    ClassMetrics,
    best_thresholds,
    confusion_matrix,
    multilabel_metrics,
    per_class_metrics,
    single_label_metrics,
)

# Four pictures, three classes. Predicted 0, 0, 1, 1; true 0, 1, 1, 0. Nobody is, or is taken for, class 2.
SCORES = np.array([[0.90, 0.05, 0.05], [0.70, 0.20, 0.10], [0.10, 0.70, 0.20], [0.05, 0.90, 0.05]], np.float32)
TARGETS = np.array([0, 1, 1, 0])


def test_single_label_by_hand() -> None:
    """acc: 2 of 4. Bins of 1/15: two of 0.70 (one right), two of 0.90 (one right).

    ece = 2/4 |0.5 - 0.7| + 2/4 |0.5 - 0.9| = 0.3. Classes 0 and 1: tp 1, fp 1, fn 1: F1 = 1/2; class 2 does not count.
    """
    metrics = single_label_metrics(SCORES, TARGETS)
    assert metrics == pytest.approx({"acc@1": 50.0, "ece": 30.0, "f1": 50.0}, abs=1e-4)


def test_a_confidence_of_one_lies_in_the_last_bin() -> None:
    """Guo et al.: the last bin is (14/15, 1]. It holds 1.0 (wrong) and 0.96 (right): |0.5 - 0.98| = 0.48.

    A bin of its own for 1.0 would give 1/2 |0 - 1| + 1/2 |1 - 0.96| = 0.52.
    """
    scores = np.array([[1.0, 0.0], [0.96, 0.04]], np.float32)
    assert single_label_metrics(scores, np.array([1, 0]))["ece"] == pytest.approx(48.0, abs=1e-3)


def test_top_five() -> None:
    """The true class comes first, fifth, sixth; equal scores go by index, so class 5 of six equal ones is sixth."""
    falling = np.array([0.30, 0.25, 0.20, 0.15, 0.07, 0.03], np.float32)
    scores = np.stack([falling, falling, falling, np.full(6, 1 / 6, np.float32), np.full(6, 1 / 6, np.float32)])
    metrics = single_label_metrics(scores, np.array([0, 4, 5, 5, 4]))
    assert metrics["acc@5"] == pytest.approx(60.0)
    assert metrics["acc@1"] == pytest.approx(20.0)
    assert "acc@5" not in single_label_metrics(scores[:, :5], np.array([0, 4, 4, 4, 4]))


def test_one_score_above_one_by_rounding_does_not_change_the_others() -> None:
    """torchmetrics would take the softmax of all of them."""
    scores = np.array([[1.0000001, 0.0], [1.0, 0.0]], np.float32)
    assert single_label_metrics(scores, np.array([0, 0]))["ece"] == pytest.approx(0.0, abs=1e-3)


def test_one_class() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32)
    metrics = single_label_metrics(scores, np.array([0, 0, 0]))
    assert metrics["acc@1"] == pytest.approx(200 / 3)
    assert metrics["f1"] == pytest.approx(80.0)  # class 0: tp 2, fn 1; class 1 does not occur


# Three pictures, three labels; the last label never occurs.
MANY_SCORES = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.6], [0.4, 0.3, 0.2]], np.float32)
MANY_TARGETS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])


def test_multilabel_by_hand() -> None:
    """At 0.5: label 0 tp 1 fp 1 fn 1 (F1 1/2), label 1 tp 1 fn 1 (2/3); label 2 does not occur.

    Average precision: label 0, ranked right, wrong, right: 1/2 * 1 + 1/2 * 2/3 = 5/6; label 1, right, right: 1.
    micro: tp 2, fp 2, fn 2: 1/2. Only the first picture is right altogether.
    """
    metrics = multilabel_metrics(MANY_SCORES, MANY_TARGETS, (0.5, 0.5, 0.5))
    expected = {"mAP": 100 * 11 / 12, "f1": 100 * 7 / 12, "f1_micro": 50.0, "exact_match": 100 / 3}
    assert metrics == pytest.approx(expected, abs=1e-4)
    assert multilabel_metrics(MANY_SCORES, MANY_TARGETS.astype(bool), (0.5, 0.5, 0.5)) == metrics


def test_multilabel_thresholds_count_from_their_value_on() -> None:
    at_threshold = multilabel_metrics(MANY_SCORES, MANY_TARGETS, (float(np.float32(0.4)), 0.25, 0.9))
    assert at_threshold["f1_micro"] == pytest.approx(100 * 8 / 9)  # tp 4, fp 1
    assert at_threshold["exact_match"] == pytest.approx(200 / 3)


def test_multilabel_with_one_label_and_with_none_that_occurs() -> None:
    metrics = multilabel_metrics(MANY_SCORES[:, :1], MANY_TARGETS[:, :1], (0.5,))
    assert metrics["mAP"] == pytest.approx(500 / 6)
    assert metrics["f1"] == pytest.approx(50.0)
    none = multilabel_metrics(MANY_SCORES, np.zeros((3, 3)), (0.5, 0.5, 0.5))
    assert none == pytest.approx({"f1_micro": 0.0, "exact_match": 100 / 3}, abs=1e-3)


def test_best_thresholds_by_hand() -> None:
    """Label 0, ranked 0.9 right, 0.6 wrong, 0.4 right: F1 2/3, 1/2, 4/5: all three, so halfway from 0.4 to 0.

    Label 1: 0.8 and 0.3 right, 0.2 wrong: F1 2/3, 1, 4/5: between 0.3 and 0.2. Label 2 never occurs.
    """
    assert best_thresholds(MANY_SCORES, MANY_TARGETS) == pytest.approx((0.2, 0.25, 0.5))


def test_equally_good_thresholds_the_nearest_to_a_half() -> None:
    """Right, wrong, wrong, right: F1 is 2/3 for the first alone (threshold 0.85) and for all four (0.3)."""
    scores = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    assert best_thresholds(scores, np.array([[1], [0], [0], [1]])) == pytest.approx((0.3,))


def test_best_thresholds_do_not_part_equal_scores() -> None:
    """The two of 0.7 go together: F1 of {0.9} is 2/3 (tp 1, fn 1), of {0.9, 0.7, 0.7} 4/5."""
    scores = np.array([[0.7], [0.9], [0.7], [0.1]], np.float32)
    assert best_thresholds(scores, np.array([[1], [1], [0], [0]])) == pytest.approx((0.4,))


def test_no_other_threshold_is_better() -> None:
    rng = np.random.default_rng(3)
    scores = (rng.integers(0, 20, (40, 6)) / 20).astype(np.float32)
    targets = rng.random((40, 6)) < scores

    def f1(label: int, threshold: float) -> float:
        predicted = scores[:, label] >= threshold
        return 2 * (predicted & targets[:, label]).sum() / (predicted.sum() + targets[:, label].sum())

    for label, threshold in enumerate(best_thresholds(scores, targets)):
        assert f1(label, threshold) == max(f1(label, other) for other in np.linspace(0, 1, 201))


def test_per_class_by_hand() -> None:
    assert per_class_metrics(SCORES, TARGETS, ("ant", "bee", "cat")) == (
        ClassMetrics("ant", 2, 50.0, 50.0, 50.0),
        ClassMetrics("bee", 2, 50.0, 50.0, 50.0),
        ClassMetrics("cat", 0, None, None, None),
    )
    assert per_class_metrics(MANY_SCORES, MANY_TARGETS, ("ant", "bee", "cat"), (0.5, 0.5, 0.5)) == (
        ClassMetrics("ant", 2, 50.0, 50.0, 50.0),
        ClassMetrics("bee", 2, 100.0, 50.0, pytest.approx(200 / 3)),
        ClassMetrics("cat", 0, 0.0, None, 0.0),
    )
    assert str(ClassMetrics("cat", 1200, 0.0, None, 99.5)) == "  1,200    0.00       -   99.50  cat"


def test_confusion_matrix_has_the_true_class_in_the_row() -> None:
    matrix = confusion_matrix(SCORES[:3], TARGETS[:3], 3)
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert matrix.dtype == np.int64


@pytest.mark.parametrize(
    ("scores", "targets", "said"),
    [
        (np.zeros((0, 3)), np.zeros(0), "at least one picture"),
        (np.zeros(3), np.zeros(3), r"shape \[3\]"),
        (np.full((2, 3), np.nan), np.zeros(2), "between nan and nan"),
        (np.full((2, 3), 2.0), np.zeros(2), "probabilities lie between 0 and 1"),
        (np.zeros((2, 3)), np.zeros(3), r"targets: have the shape \[3\]"),
        (np.zeros((2, 3)), np.zeros((2, 3)), r"targets: have the shape \[2, 3\]"),
        (np.zeros((2, 3)), np.array([0, 3]), "not between 0 and 2"),
        (np.zeros((2, 3)), np.array([0, -1]), "lie between -1 and 0"),
    ],
)
def test_what_is_no_scores_is_refused(scores: np.ndarray, targets: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        single_label_metrics(scores, targets)


def test_the_wrong_number_of_thresholds_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 3 labels"):
        multilabel_metrics(MANY_SCORES, MANY_TARGETS, (0.5, 0.5))
