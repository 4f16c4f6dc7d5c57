"""What an evaluation leaves in a folder: its figures, the confusion matrix, pictures with what they were taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls.plots import ShownPicture, plot_confusion_matrix, plot_predictions
from edgecls_runtime.output import whole_file
from edgecls_runtime.preprocess import decode, resize_and_crop

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgecls.data import Sample
    from edgecls.evaluation.figures import Evaluation
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["DOCUMENT", "MATRIX", "MISTAKES", "PREDICTIONS", "draw_predictions", "write_evaluation"]

DOCUMENT, MATRIX, MISTAKES = "evaluation.json", "confusion_matrix.png", "worst_mistakes.png"
PREDICTIONS = "predictions.png"
_SHOWN = 24


def write_evaluation(
    evaluation: Evaluation,
    preprocess: Preprocess,
    folder: str | os.PathLike[str],
    *,
    about: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the figures, the confusion matrix and the worst mistakes, over those of an earlier evaluation.

    Args:
        evaluation: what was measured.
        preprocess: that the model sees pictures through.
        folder: where to write; it exists.
        about: more for the JSON document.

    Returns:
        The files: no matrix with several labels a picture, no mistakes where there are none.

    Raises:
        ImageError: a picture is no longer readable.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    for name in (MATRIX, MISTAKES):  # of an earlier model, this one may have none
        (folder / name).unlink(missing_ok=True)
    with whole_file(folder / DOCUMENT, force=True) as temporary:
        document = dict(about or {}) | evaluation.to_document()
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, "utf-8", "backslashreplace")  # names that are not UTF-8
    if evaluation.confusion is not None:
        plot_confusion_matrix(evaluation.confusion, evaluation.predictions.labels, folder / MATRIX)
    mistakes = [
        ShownPicture(
            resize_and_crop(decode(mistake.path, preprocess), preprocess),
            mistake.true,
            mistake.predicted,
            mistake.score,
        )
        for mistake in evaluation.mistakes
    ]
    if mistakes:
        plot_predictions(mistakes, folder / MISTAKES)
    return [folder / name for name in (DOCUMENT, MATRIX, MISTAKES) if (folder / name).is_file()]


def draw_predictions(
    evaluation: Evaluation, samples: Sequence[Sample], preprocess: Preprocess, folder: str | os.PathLike[str]
) -> None:
    """Draw up to 24 pictures, evenly spread over the samples, with what each is and what it was taken for.

    Raises:
        ImageError: a picture is no longer readable.
        OutputError: the file cannot be written.
    """
    answers, targets = evaluation.predictions, {sample.path: sample.targets for sample in samples}
    shown = []
    for row in range(0, len(answers.paths), -(-len(answers.paths) // _SHOWN)):
        path, said = answers.paths[row], answers.predicted(row)
        shown.append(
            ShownPicture(
                resize_and_crop(decode(path, preprocess), preprocess),
                tuple(answers.labels[index] for index in targets[path]),
                tuple(answers.labels[index] for index in said),
                float(answers.scores[row, said[0]]) if said else 0.0,
            )
        )
    plot_predictions(shown, Path(folder) / PREDICTIONS)
