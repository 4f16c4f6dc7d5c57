"""Show how a training goes: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from edgecls.progress import Progress

if TYPE_CHECKING:
    from edgecls.run_folder import RunFolder
    from edgecls.training_config import TrainingConfig

__all__ = ["make_progress"]

_PERCENT = ("train_acc@1", "acc@1", "acc@5", "mAP", "f1")
_LOSS = ("loss", "val_loss")


def make_progress(run: RunFolder, config: TrainingConfig) -> Progress:
    """Return what speaks to the person, and writes TensorBoard's files if asked to.

    Raises:
        MissingDependencyError: TensorBoard was asked for, and is not installed.
    """
    if not config.tensorboard:
        return _Terminal(config.epochs)
    from edgecls.event_files import EventFiles

    return _Both(_Terminal(config.epochs), EventFiles(run.path / "tensorboard"))


class _Terminal(Progress):
    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._bar: tqdm[Any] | None = None
        self._hidden = not sys.stderr.isatty()

    def note(self, text: str) -> None:
        self._close()
        click.echo(text)

    def pictures(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(total=total, desc=what, unit="picture", disable=self._hidden, leave=False)
        self._bar.update(done - self._bar.n if not self._hidden else 0)
        if done == total:
            self._close()

    def epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        self._close()
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=f"epoch {epoch}/{epochs}",
            unit="step",
            disable=self._hidden,
            leave=False,
            dynamic_ncols="COLUMNS" not in os.environ,
        )

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        if self._bar is not None:
            shown = "" if accuracy is None else f", acc {accuracy:.1f} %"
            self._bar.set_postfix_str(f"loss {loss:.4f}{shown}, {images_per_second:.0f} images/s", refresh=False)
            self._bar.update()

    def record(self, record: dict[str, Any]) -> None:
        self._close()
        parts = [f"{name} {record[name]:.4f}" for name in _LOSS if name in record]
        parts += [f"{name} {record[name]:.2f} %" for name in _PERCENT if name in record]
        rates = f"{record['images_per_second']:.0f} images/s (loader {record['loader_images_per_second']:.0f})"
        click.echo(f"epoch {record['epoch']}/{self._epochs}: {', '.join(parts)}, {rates}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Both(Progress):
    def __init__(self, *listeners: Progress) -> None:
        self._listeners = listeners

    def note(self, text: str) -> None:
        for listener in self._listeners:
            listener.note(text)

    def pictures(self, what: str, done: int, total: int) -> None:
        for listener in self._listeners:
            listener.pictures(what, done, total)

    def epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        for listener in self._listeners:
            listener.epoch(epoch, epochs, steps, done)

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        for listener in self._listeners:
            listener.step(loss, accuracy, images_per_second)

    def record(self, record: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener.record(record)
