"""How like the float32 graph's answers those of another graph are: what a step on the way to INT8 gains or costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecls_export.activations import ObservedGraph, preprocessed

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["Likeness"]


class Likeness:
    """Holds graphs against one on the same pictures.

    Args:
        reference: the float32 graph.
        images: the pictures; some dozens show what a step does to the mean.
        preprocess: what turns them into the input.
    """

    def __init__(
        self, reference: str | os.PathLike[str], images: Sequence[ImageSource], preprocess: Preprocess
    ) -> None:
        self.measure = f"mean cosine of the logits on {len(images)} pictures"
        self._images, self._preprocess = images, preprocess
        self._expected = self._answers(reference)

    def of(self, path: str | os.PathLike[str]) -> float:
        """Return the mean cosine similarity of a graph's logits with the reference's.

        Raises:
            ImageError: a picture cannot be read.
        """
        found = self._answers(path)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(self._expected, axis=1)
        return float(((found * self._expected).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).mean())

    def difference(self, path: str | os.PathLike[str]) -> float:
        """Return how far a graph's logits lie from the reference's: ``max |difference| / max |reference logit|``.

        Raises:
            ImageError: a picture cannot be read.
        """
        largest = np.abs(self._expected).max()
        return float(np.abs(self._answers(path) - self._expected).max() / max(largest, np.finfo(np.float64).tiny))

    def _answers(self, path: str | os.PathLike[str]) -> NDArray[np.float64]:
        model = onnx.load(path)
        (name,) = (info.name for info in model.graph.output)
        graph = ObservedGraph(model, [name])
        del model
        batches = preprocessed(self._images, self._preprocess, batch_size=graph.batch_size)
        return np.concatenate([graph.run(batch)[name] for batch in batches]).astype(np.float64)
