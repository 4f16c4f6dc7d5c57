"""Show how a training goes: a bar on a terminal, a line for each epoch everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgecls.training.progress import Progress

from .bars import new_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls.training.config import TrainingConfig
    from edgecls.training.run_folder import RunFolder

__all__ = ["make_progress"]

_PERCENT = ("train_acc@1", "acc@1", "acc@5", "mAP", "f1")
_LOSS = ("loss", "val_loss")


def make_progress(run: RunFolder, config: TrainingConfig) -> Progress:
    """Return what speaks to the person, and writes TensorBoard's files if asked to.

    Raises:
        MissingDependencyError: TensorBoard was asked for, and is not installed.
    """
    listeners: list[Progress] = [_Terminal(config.epochs)]
    if config.tensorboard:
        from edgecls.training.event_files import EventFiles

        listeners.append(EventFiles(run.path / "tensorboard"))
    return _Everyone(listeners)


class _Terminal(Progress):
    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._bar: Any = None

    def note(self, text: str) -> None:
        self._close()
        click.echo(text)

    def pictures(self, what: str, total: int) -> Callable[[int], object]:
        self._open(what, total)
        return lambda count: self._bar.update(count, "")

    def epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        self._open(f"epoch {epoch}/{epochs}", steps)
        self._bar.update(done, "")

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        shown = "" if accuracy is None else f", acc {accuracy:.1f} %"
        self._bar.update(1, f"loss {loss:.4f}{shown}, {images_per_second:.0f} images/s")

    def record(self, record: dict[str, Any]) -> None:
        self._close()
        parts = [f"{name} {record[name]:.4f}" for name in _LOSS if name in record]
        parts += [f"{name} {record[name]:.2f} %" for name in _PERCENT if name in record]
        rates = f"{record['images_per_second']:.0f} images/s (loader {record['loader_images_per_second']:.0f})"
        click.echo(f"epoch {record['epoch']}/{self._epochs}: {', '.join(parts)}, {rates}")

    def _open(self, label: str, total: int) -> None:
        self._close()
        self._bar = new_bar(label, total)
        self._bar.__enter__()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


class _Everyone(Progress):
    """Pass on to several listeners; the first one shows the bar."""

    def __init__(self, listeners: list[Progress]) -> None:
        self._listeners = listeners

    def note(self, text: str) -> None:
        for listener in self._listeners:
            listener.note(text)

    def pictures(self, what: str, total: int) -> Callable[[int], object]:
        return self._listeners[0].pictures(what, total)

    def epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        for listener in self._listeners:
            listener.epoch(epoch, epochs, steps, done)

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        for listener in self._listeners:
            listener.step(loss, accuracy, images_per_second)

    def record(self, record: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener.record(record)
