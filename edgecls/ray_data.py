"""Pictures on several machines, with Ray Data (pip install "ray[data]"); this module does not import it.

A data set's batches go through actors, each with a model of its own::

    import ray
    from edgecls.ray_data import BatchClassifier

    photos = ray.data.read_binary_files("s3://bucket/photos/", include_paths=True)
    answers = photos.map_batches(
        BatchClassifier,
        fn_constructor_args=["model.onnx"],
        batch_size=64,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=8),
    )
    answers.write_parquet("s3://bucket/answers/")

One CPU and one worker an actor keep all cores busy; so do fewer actors with ``num_cpus=4`` and ``workers=4``, which
share the model's memory. Leave a CPU of the cluster to what reads the pictures. The file must be where every machine
finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.classifier import Classifier

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["BatchClassifier"]


class BatchClassifier:
    """A callable for ``Dataset.map_batches``: a model, loaded where the actor runs.

    Args:
        path: of the model.
        column: of the batch that holds the pictures: ``bytes`` (from ``read_binary_files``), ``path``, or ``image``
            (uint8 arrays, from ``read_images``). It is not passed on, unless it is ``path``.
        top_k: classes a picture, at most.
        workers: pictures in work at a time; as many as the actor has CPUs.
        options: of `Classifier.load`.

    Raises:
        EdgeclsError: as `Classifier.load`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, column: str = "bytes", top_k: int = 5, workers: int = 1, **options: Any
    ) -> None:
        self._classifier = Classifier.load(path, **{"threads": 1} | options)
        self._column = column
        self._top_k = top_k
        self._workers = workers

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the batch with what is in its pictures in place of them.

        Returns:
            the other columns, and ``indices``, ``labels``, ``scores`` (a list a picture, best first), ``error`` (empty
            if the picture could be read).

        Raises:
            ModelError: the model failed, or returned a number that is none.
        """
        results = list(self._classifier.predict_stream(batch[self._column], top_k=self._top_k, workers=self._workers))
        answers = {name: column for name, column in batch.items() if name != self._column or name == "path"}
        predictions = [result.predictions for result in results]
        answers["indices"] = _lists([[item.index for item in items] for items in predictions])
        answers["labels"] = _lists([[item.label for item in items] for items in predictions])
        answers["scores"] = _lists([[item.score for item in items] for items in predictions])
        answers["error"] = np.array(["" if result.error is None else str(result.error) for result in results], object)
        return answers


def _lists(rows: list[list[Any]]) -> NDArray[Any]:
    """Return a column of lists; numpy alone would make a table of those that happen to have one length."""
    column = np.empty(len(rows), object)
    column[:] = rows
    return column
