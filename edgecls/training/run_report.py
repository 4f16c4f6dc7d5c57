"""The pictures that a training leaves, and the last measurement of its best checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgecls import checkpoint
from edgecls.evaluation.figures import Evaluation, evaluate
from edgecls.evaluation.predictor import full_precision, predictor_from_module
from edgecls.evaluation.report import draw_predictions, write_evaluation
from edgecls.plots import plot_batch, plot_curves
from edgecls.training.seeding import derive_seed

if TYPE_CHECKING:
    from edgecls.training.run_folder import RunFolder
    from edgecls.training.setup import Setup

__all__ = ["write_first_batch", "write_report"]

_BATCH_PICTURES = 16


def write_first_batch(run: RunFolder, setup: Setup) -> None:
    """Draw the first pictures of the training as the network sees them: cut, turned, mixed.

    Raises:
        ImageError: a picture is unreadable.
        OutputError: the file cannot be written.
    """
    labels, keys = setup.dataset.labels, next(iter(setup.batches))[:_BATCH_PICTURES]
    items = [setup.pictures.load(key) for key in keys]
    pictures, targets = torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])
    if setup.mix is not None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed("first batch", setup.pictures.seed))
            pictures, targets = setup.mix(pictures, targets)
    titles = [
        ", ".join(
            labels[index] if share > 0.995 else f"{share:.0%} {labels[index]}"
            for index, share in enumerate(target.tolist())
            if share > 0.005
        )
        for target in targets
    ]
    plot_batch(pictures.numpy(), setup.preprocess, titles, run.path / "first_batch.png")


def write_report(run: RunFolder, setup: Setup, history: list[dict[str, float]]) -> Evaluation:
    """Measure the best checkpoint as ``edgecls evaluate`` does, and draw what was found.

    Raises:
        CheckpointError: the checkpoint cannot be read back.
        OutputError: a file cannot be written.
    """
    best = checkpoint.load(run.best)
    device = next(setup.model.parameters()).device
    with full_precision(device):
        predictor = predictor_from_module(best.build().to(device), best, name=str(run.best))
        evaluation = evaluate(predictor, setup.dataset.val)
    write_evaluation(evaluation, best.preprocess, run.path)
    draw_predictions(evaluation, setup.dataset.val, best.preprocess, run.path)
    plot_curves(history, run.path / "curves.png")
    return evaluation
