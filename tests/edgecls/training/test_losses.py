from __future__ import annotations

import math

import pytest
import torch

from edgecls.data import Sample
from edgecls.training.losses import Criterion, balanced_class_weights

LOGITS = [[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]]
TARGETS = [[1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]
TEACHER = [[1.0, 0.0, -1.0], [3.0, 0.5, 0.0]]
SEVERAL = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def cross_entropy(*, weights: list[float] | None = None, smoothing: float = 0.0) -> float:
    """The definition, term by term; a mean over pictures, whatever the weights."""
    total = 0.0
    for logits, targets in zip(LOGITS, TARGETS, strict=True):
        for index, target in enumerate(targets):
            smoothed = target * (1 - smoothing) + smoothing / 3
            total -= (weights or [1, 1, 1])[index] * smoothed * math.log(softmax(logits)[index])
    return total / 2


def binary(targets: list[list[float]], *, weights: tuple[float, ...] = (1, 1, 1), smoothing: float = 0.0) -> float:
    total = 0.0
    for row, wanted in zip(LOGITS, targets, strict=True):
        for value, target, weight in zip(row, wanted, weights, strict=True):
            smoothed = target * (1 - smoothing) + smoothing / 2
            total -= weight * smoothed * math.log(sigmoid(value)) + (1 - smoothed) * math.log(1 - sigmoid(value))
    return total / 6


def loss(criterion: Criterion, targets: list[list[float]], teacher: list[list[float]] | None = None) -> float:
    return criterion(
        torch.tensor(LOGITS), torch.tensor(targets), None if teacher is None else torch.tensor(teacher)
    ).item()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 4.0]])
def test_cross_entropy(smoothing, weights):
    class_weights = None if weights is None else torch.tensor(weights)
    criterion = Criterion("single", label_smoothing=smoothing, class_weights=class_weights)
    assert loss(criterion, TARGETS) == pytest.approx(cross_entropy(weights=weights, smoothing=smoothing), rel=1e-5)


def test_one_label_against_figures_by_hand():
    criterion = Criterion("single")
    assert criterion(torch.zeros(5, 4), torch.eye(4)[[0, 1, 2, 3, 0]]).item() == pytest.approx(math.log(4))
    assert criterion(torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(
        -math.log(3 / 4)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 4.0)])
def test_several_labels(smoothing, weights):
    class_weights = None if weights is None else torch.tensor(weights)
    criterion = Criterion("multilabel", label_smoothing=smoothing, class_weights=class_weights)
    expected = binary(SEVERAL, weights=weights or (1, 1, 1), smoothing=smoothing)
    assert loss(criterion, SEVERAL) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("share", "temperature"), [(0.3, 1.0), (0.5, 4.0), (1.0, 2.0)])
def test_distillation(share, temperature):
    distance = 0.0
    for logits, teacher in zip(LOGITS, TEACHER, strict=True):
        soft, wanted = (softmax([value / temperature for value in row]) for row in (logits, teacher))
        distance += sum(p * math.log(p / q) for p, q in zip(wanted, soft, strict=True))
    expected = (1 - share) * cross_entropy() + share * temperature**2 * distance / 2
    criterion = Criterion("single", distillation=share, temperature=temperature)
    assert loss(criterion, TARGETS, TEACHER) == pytest.approx(expected, rel=1e-5)


def test_distillation_of_several_labels():
    distance = 0.0
    for logits, teacher in zip(LOGITS, TEACHER, strict=True):
        for value, wanted in zip(logits, teacher, strict=True):
            p, q = sigmoid(wanted / 2), sigmoid(value / 2)
            distance -= (p * math.log(q) + (1 - p) * math.log(1 - q)) * 4 / 6
    criterion = Criterion("multilabel", distillation=0.25, temperature=2.0)
    expected = 0.75 * binary(SEVERAL) + 0.25 * distance
    assert loss(criterion, SEVERAL, TEACHER) == pytest.approx(expected, rel=1e-5)


def test_a_student_that_answers_as_its_teacher_is_at_no_distance():
    criterion = Criterion("single", distillation=1.0, temperature=3.0)
    assert loss(criterion, TARGETS, LOGITS) == pytest.approx(0, abs=1e-6)


def test_without_a_teacher_the_share_of_distillation_does_not_count():
    assert loss(Criterion("single", distillation=0.5), TARGETS) == pytest.approx(cross_entropy(), rel=1e-5)


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_the_loss_of_half_precision_logits_is_computed_in_float32(task):
    logits = (torch.tensor(LOGITS) * 3.1).bfloat16()
    teacher = torch.tensor(TEACHER).bfloat16()
    criterion = Criterion(task, distillation=0.5, temperature=2.0)
    found = criterion(logits, torch.tensor(TARGETS), teacher)
    assert found.dtype == torch.float32
    assert torch.equal(found, criterion(logits.float(), torch.tensor(TARGETS), teacher.float()))


# --- class weights ---


def samples(*targets: tuple[int, ...]) -> list[Sample]:
    return [Sample(f"{number}.jpg", target) for number, target in enumerate(targets)]


def test_balanced_weights_are_scikit_learns():
    found = balanced_class_weights(samples((0,), (0,), (0,), (1,), (2,), (2,)), 3, "single")
    assert found.tolist() == pytest.approx([6 / 9, 6 / 3, 6 / 6])
    assert found.dtype == torch.float32


def test_balanced_weights_of_several_labels_are_negatives_per_positive():
    found = balanced_class_weights(samples((0, 1), (0,), (0,), (0, 2), ()), 4, "multilabel")
    assert found.tolist() == pytest.approx([1 / 4, 4, 4, 100])  # a label that no picture has: no division by zero
    everywhere = balanced_class_weights(samples((0,), (0,)), 1, "multilabel")
    assert everywhere.tolist() == pytest.approx([0.01])
