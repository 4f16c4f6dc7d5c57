"""Feed pictures to a training: which ones, in which order, from how many processes."""

from __future__ import annotations

import atexit
import contextlib
import signal
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils.data import DataLoader

from edgecls.data import with_path
from edgecls.training.augmentation import picture_transform
from edgecls.training.seeding import derive_seed
from edgecls_runtime.errors import EdgeclsError, ImageError, TrainingError
from edgecls_runtime.preprocess import decode

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from edgecls.data import Sample
    from edgecls.training.augmentation import Augmentation
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["Batch", "EpochBatches", "Key", "Pictures", "balancing_weights", "load_batches", "loader_death"]

Key: TypeAlias = "tuple[int, int, int]"
"""Epoch, place in the epoch, index of the sample."""

Batch: TypeAlias = "tuple[Tensor, Tensor, float]"
"""Pictures, float32 [N, 3, H, W]; targets, float32 [N, classes]; seconds that one process took to load them."""


@dataclass(frozen=True)
class Pictures(torch.utils.data.Dataset[Any]):
    """Pictures and their targets, by `Key`.

    Attributes:
        samples: the pictures.
        classes: number of classes.
        preprocess: the device's.
        augmentation: how pictures are varied.
        seed: of the variation.
    """

    samples: Sequence[Sample]
    classes: int
    preprocess: Preprocess
    augmentation: Augmentation
    seed: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor, float] | EdgeclsError:
        """Return float32 [3, H, W], float32 [classes] of ones and zeros, and the seconds it took.

        What is wrong with a picture is returned, not raised: torch would carry an exception's text alone from a
        loader process to the main one.
        """
        started = time.perf_counter()
        try:
            picture, target = self.load(key)
        except EdgeclsError as error:
            return error
        return picture, target, time.perf_counter() - started

    def load(self, key: Key) -> tuple[Tensor, Tensor]:
        """Return float32 [3, H, W] and float32 [classes] of ones and zeros.

        Raises:
            ImageError: the picture is unreadable.
        """
        epoch, place, index = key
        torch.default_generator.manual_seed(derive_seed("picture", self.seed, epoch, place))
        sample = self.samples[index]
        try:
            picture = picture_transform(self.augmentation, self.preprocess)(decode(sample.path, self.preprocess))
        except ImageError as error:
            raise with_path(sample.path, error) from error
        target = torch.zeros(self.classes)
        target[list(sample.targets)] = 1
        return picture, target


class EpochBatches(torch.utils.data.Sampler[list[Key]]):
    """Yield the keys of each batch of an epoch for one process out of several.

    The order depends on seed and epoch alone. Each global batch is cut into as many parts as there are processes
    times micro-batches, so any number of processes learns from the same batches in the same order. What is left
    over at an epoch's end, less than a batch, is left out (other pictures in every epoch).

    Attributes:
        epoch: which epoch the next iteration is.
        start: step in that epoch to begin with.
        batch_size: pictures of a global batch; fewer than asked for if there are not as many in all.
        steps: global batches of an epoch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        weights: Tensor | None = None,
    ) -> None:
        """Plan the epochs.

        Args:
            count: number of samples.
            batch_size: pictures of a global batch.
            parts: micro-batches of each process and batch.
            rank: of this process.
            world: number of processes.
            seed: of the order.
            weights: float [count]; draw ``count`` samples with replacement by these weights instead of each once.

        Raises:
            TrainingError: the batch cannot be cut into equal parts, or there are too few samples.
        """
        if batch_size % (world * parts):
            raise TrainingError(
                f"a batch of {batch_size} does not divide by {world} processes x {parts} micro-batches",
                "Choose a --batch-size that is a multiple of both together.",
            )
        self.batch_size = min(batch_size, count - count % (world * parts))
        if self.batch_size < 1:
            raise TrainingError(
                f"{count} pictures are too few for {world} processes x {parts} micro-batches",
                "Give more pictures, or use fewer processes and a smaller --accumulate.",
            )
        self.count, self.parts, self.rank, self.world = count, parts, rank, world
        self.seed, self.weights = seed, weights
        self.epoch = self.start = 0
        self.steps = count // self.batch_size

    def __len__(self) -> int:
        return (self.steps - self.start) * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(derive_seed("order", self.seed, self.epoch))
        if self.weights is None:
            order = torch.randperm(self.count, generator=generator).tolist()
        else:
            order = torch.multinomial(self.weights, self.count, replacement=True, generator=generator).tolist()
        size = self.batch_size // (self.world * self.parts)
        for step in range(self.start, self.steps):
            for part in range(self.parts):
                first = step * self.batch_size + (part * self.world + self.rank) * size
                yield [(self.epoch, place, order[place]) for place in range(first, first + size)]


def balancing_weights(samples: Sequence[Sample], classes: int) -> Tensor:
    """Return how often to draw each sample, [samples], so that every class is drawn equally often.

    A sample with several labels counts for the rarest of them.
    """
    counts = torch.zeros(classes)
    for sample in samples:
        counts[list(sample.targets)] += 1
    rarest = [min((counts[target].item() for target in sample.targets), default=len(samples)) for sample in samples]
    return 1 / torch.tensor(rarest, dtype=torch.float64)


def load_batches(
    pictures: Pictures, batches: EpochBatches | Sequence[list[Key]], *, workers: int, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches, loaded ahead by ``workers`` processes (0: by this one, when asked for).

    Raises:
        ImageError: a picture is unreadable, or is no longer there.
        TrainingError: a loader process died.
    """
    loading = _load_batches(pictures, batches, workers, pin_memory)
    _unfinished.add(loading)
    return loading


_unfinished: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _close_unfinished() -> None:
    """End the loader processes of an epoch that was left half way and is still referred to.

    At exit Python sends its processes a SIGTERM, which these ignore, and then waits for them.
    """
    for loading in list(_unfinished):
        loading.close()


def _load_batches(
    pictures: Pictures, batches: EpochBatches | Sequence[list[Key]], workers: int, pin_memory: bool
) -> Generator[Batch, None, None]:
    loader: DataLoader[Any] = DataLoader(
        pictures,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        collate_fn=_collate,
        worker_init_fn=_begin_worker,
    )
    with _signals_blocked():  # a process inherits that; it would obey what comes before it begins
        loading: Any = iter(loader)
    try:
        for batch in loading:
            if isinstance(batch, EdgeclsError):
                raise batch
            yield batch
    except RuntimeError as error:
        dead = loader_death(error)
        if dead is None:
            raise
        raise dead from error
    finally:
        # torch does so once nothing refers to the iterator, but an error's traceback does for as long as it lives.
        if workers:
            loading._shutdown_workers()  # there is no public way


def loader_death(error: RuntimeError) -> TrainingError | None:
    """Return what to say if torch reports that a loader process died: it does so wherever the main process is."""
    if "DataLoader worker (pid" not in str(error):  # what is raised in one names it otherwise
        return None
    return TrainingError(
        f"a process that loads pictures died: {str(error).splitlines()[0]}",
        "Memory may have run out (in a container, shared memory: --shm-size): use fewer --workers.",
    )


def _collate(items: list[tuple[Tensor, Tensor, float] | EdgeclsError]) -> Batch | EdgeclsError:
    loaded = []
    for item in items:
        if isinstance(item, EdgeclsError):
            return item
        loaded.append(item)
    pictures, targets, seconds = zip(*loaded, strict=True)
    return torch.stack(pictures), torch.stack(targets), sum(seconds)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(_: int) -> None:
    """Leave both signals to the main process, which ends this one: they may go to all processes at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
