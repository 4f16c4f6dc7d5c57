"""One face for a checkpoint and for any exported artifact, so that the same code measures both and the numbers compare.

>>> with open_predictor("run/best.pt") as predictor:                             # doctest: +SKIP
...     scores = predictor.scores(batch)
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecls_runtime.classifier import Classifier, scores_from_logits
from edgecls_runtime.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import nn

    from edgecls.checkpoint import Checkpoint
    from edgecls.data import Task
    from edgecls.devices import Device
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["Predictor", "full_precision", "is_checkpoint_file", "open_predictor", "predictor_from_module"]


@dataclass(frozen=True)
class Predictor:
    """A model of whatever kind: preprocessed pictures in, logits out.

    Attributes:
        name: of the model, for people; usually its path.
        labels: the classes' names, in the order of the outputs.
        preprocess: what turns a picture into the input.
        activation: ``softmax``, ``sigmoid``, or ``identity`` where the outputs are scores already.
        thresholds: for ``sigmoid``, the score from which each label counts; None otherwise.
        run: from float32 [N, 3, H, W] to logits, float32 [N, C]; one call at a time.
        provider: what really runs it, in the engine's own words.
    """

    name: str
    labels: tuple[str, ...] = field(repr=False)
    preprocess: Preprocess
    activation: str
    thresholds: tuple[float, ...] | None
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)
    provider: str = "cpu"

    def __str__(self) -> str:
        return f"{self.name}: {len(self.labels)} labels, {self.activation}, on {self.provider}"

    @property
    def task(self) -> Task:
        """What the model was made for: one label a picture, or any number of them."""
        return "multilabel" if self.activation == "sigmoid" else "single"

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores between 0 and 1, float32 [N, C], of preprocessed pictures, float32 [N, 3, H, W].

        Raises:
            ModelError: the model failed, or returned a number that is none.
        """
        return scores_from_logits(self.run(batch), self.activation)


@contextlib.contextmanager
def open_predictor(
    path: str | os.PathLike[str],
    *,
    device: Device = "cpu",
    provider: str | None = None,
    threads: int | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    trust: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
) -> Iterator[Predictor]:
    """Open a checkpoint (``.pt``, ``.pth``) in PyTorch, anything else in the engine that a device would use.

    Args:
        path: of the file.
        device: for a checkpoint; ``auto`` takes CUDA, else MPS, else the CPU.
        provider: for an artifact: ``cpu``, ``cuda``, ``openvino`` or ``tensorrt``; None as in `Classifier.load`.
        threads: for an artifact: of one run; None leaves it to the engine.
        labels: for an artifact that is not edgecls's own.
        preprocess: likewise.
        trust: for a TensorRT engine, as in `Classifier.load`.
        engine_cache: for TensorRT, likewise.

    Raises:
        ModelError: the file cannot be used.
        CheckpointError: likewise, for a checkpoint.
        ProviderError: the device or provider is not there.
        ValueError: an argument is given that is for the other kind of file.
    """
    if not is_checkpoint_file(path):
        if device != "cpu":
            raise ValueError(f"device {device!r} is for checkpoints; an artifact has a provider")
        with Classifier.load(
            path,
            provider=provider,
            threads=threads,
            labels=labels,
            preprocess=preprocess,
            trust=trust,
            engine_cache=engine_cache,
        ) as classifier:
            yield Predictor(
                name=os.fspath(path),
                labels=classifier.labels,
                preprocess=classifier.preprocess,
                activation=classifier.activation,
                thresholds=classifier.thresholds,
                run=classifier.run,
                provider=f"{classifier.provider} ({classifier.engine})",
            )
        return
    if trust or any(value is not None for value in (provider, threads, labels, preprocess, engine_cache)):
        raise ValueError(
            "provider, threads, labels, preprocess, trust and engine_cache are for artifacts, not for checkpoints"
        )
    import torch

    from edgecls import checkpoint
    from edgecls.devices import choose_device

    chosen = choose_device(device)  # before the weights are read
    loaded = checkpoint.load(path)
    with full_precision(chosen):
        model = loaded.build().to(chosen).to(memory_format=torch.channels_last)
        yield predictor_from_module(model, loaded, name=os.fspath(path))


def predictor_from_module(model: nn.Module, checkpoint: Checkpoint, *, name: str) -> Predictor:
    """Lend a PyTorch model as a predictor, without changing it; it runs on the device where its parameters are.

    Args:
        model: in eval mode; it takes float32 [N, 3, H, W], channels_last, and returns logits [N, C].
        checkpoint: for labels, preprocess, activation and thresholds; its weights are not read.
        name: of the model, for people.
    """
    import torch

    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pictures = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
            logits: NDArray[np.float32] = model(pictures).float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{name}: returned {logits[~np.isfinite(logits)][0]} on {device}",
                "The weights are broken, or the training diverged: take an earlier checkpoint.",
            )
        return logits

    return Predictor(
        name=name,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        activation=checkpoint.activation,
        thresholds=checkpoint.thresholds,
        run=run,
        provider=f"{device} (torch {torch.__version__})",
    )


def is_checkpoint_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a checkpoint by its name."""
    return Path(path).suffix.lower() in (".pt", ".pth")


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch TF32 off on a GPU, as the artifacts' sessions do, and leave the switch as it was."""
    import torch

    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
