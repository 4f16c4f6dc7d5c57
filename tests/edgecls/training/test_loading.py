from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgecls.data import Sample
from edgecls.training.augmentation import PRESETS
from edgecls.training.loading import EpochBatches, Pictures, balancing_weights, load_batches
from edgecls.training.seeding import derive_seed
from edgecls_runtime.errors import ImageError, TrainingError
from edgecls_runtime.preprocess import Preprocess, load

SMALL = Preprocess(resize_size=18, crop_size=(16, 16))


@pytest.fixture
def pictures(tmp_path, draw) -> Pictures:
    samples = [Sample(draw(tmp_path / f"{number}.png", size=(24, 20)), (number % 3,)) for number in range(12)]
    return Pictures(samples, 3, SMALL, PRESETS["standard"], seed=5)


def keys_of(batches: EpochBatches, epoch: int = 0) -> list[list[tuple[int, int, int]]]:
    batches.epoch = epoch
    return list(batches)


# --- one picture ---


def test_a_picture_without_augmentation_is_the_devices(pictures):
    plain = dataclasses.replace(pictures, augmentation=PRESETS["none"])
    picture, target, seconds = plain[0, 0, 4]
    assert np.array_equal(picture.numpy(), load(plain.samples[4].path, SMALL))
    assert (picture.dtype, target.dtype) == (torch.float32, torch.float32)
    assert target.tolist() == [0, 1, 0]
    assert 0 < seconds < 60
    assert len(plain) == 12


def test_targets_of_several_labels_and_of_none(pictures):
    samples = [Sample(pictures.samples[0].path, targets) for targets in ((0, 2), ())]
    several = dataclasses.replace(pictures, samples=samples)
    assert [several[0, 0, index][1].tolist() for index in (0, 1)] == [[1, 0, 1], [0, 0, 0]]


def test_a_picture_depends_on_seed_epoch_and_place_alone(pictures):
    first = pictures[2, 7, 3][0]
    torch.manual_seed(99)
    pictures[1, 1, 1]
    assert torch.equal(pictures[2, 7, 3][0], first)
    assert not torch.equal(pictures[3, 7, 3][0], first)
    assert not torch.equal(pictures[2, 8, 3][0], first)
    assert not torch.equal(dataclasses.replace(pictures, seed=6)[2, 7, 3][0], first)


def test_seeds_are_fixed_figures_and_differ_by_purpose_and_place():
    """They are part of what makes a training repeatable: a new number here is another training."""
    assert derive_seed("order", 0, 0) == 377804691233278531
    places = [(purpose, *numbers) for purpose in "ab" for numbers in [(), (0,), (1,), (0, 1), (1, 0), (1, 10), (11, 0)]]
    seeds = {derive_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- batches of pictures ---


def load_all(
    pictures: Pictures, workers: int, epoch: int = 1, start: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches = EpochBatches(len(pictures), batch_size=4, seed=5)
    batches.epoch, batches.start = epoch, start
    return [(images, targets) for images, targets, _ in load_batches(pictures, batches, workers=workers)]


def same(one: list[tuple[torch.Tensor, ...]], other: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True)
    )


def test_batches_are_the_same_whoever_loads_them(pictures):
    alone = load_all(pictures, 0)
    assert [tuple(images.shape) for images, _ in alone] == [(4, 3, 16, 16)] * 3
    assert same(load_all(pictures, 1), alone)
    assert same(load_all(pictures, 2), alone)
    assert not same(load_all(pictures, 0, epoch=2), alone)


def test_images_and_targets_belong_together(pictures):
    plain = dataclasses.replace(pictures, augmentation=PRESETS["none"])
    by_pixels = {load(sample.path, SMALL).tobytes(): sample.targets[0] for sample in plain.samples}
    loaded = load_all(plain, 2)
    found = [
        (by_pixels.pop(image.numpy().tobytes()), row)
        for images, rows in loaded
        for image, row in zip(images, rows, strict=True)
    ]
    assert not by_pixels
    assert all(row.tolist() == [float(target == index) for index in range(3)] for target, row in found)


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_within_an_epoch_yields_exactly_its_tail(pictures, workers):
    assert same(load_all(pictures, workers, start=1), load_all(pictures, 0)[1:])


def test_an_epoch_that_is_left_early_leaves_no_process(pictures):
    batches = EpochBatches(12, batch_size=2)
    loaded = load_batches(pictures, batches, workers=2)
    next(loaded)
    assert len(multiprocessing.active_children()) == 2
    loaded.close()
    assert multiprocessing.active_children() == []


def test_a_program_that_ends_within_an_epoch_ends():
    """As one does whose error keeps the generator: Python would wait for processes that ignore its SIGTERM."""
    program = """
import torch
from edgecls.training.loading import load_batches

class Blank(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return torch.zeros(3), torch.zeros(2), 0.0

loaded = load_batches(Blank(), [[number] for number in range(100)], workers=2)
next(loaded)
print("begun")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("begun\n", 0), done.stderr


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["text", "gone"])
def test_an_unreadable_picture_is_an_error_of_its_own(pictures, workers, damage):
    path = pictures.samples[6].path
    path.unlink() if damage == "gone" else path.write_text("not a picture")
    with pytest.raises(ImageError) as caught:
        load_all(pictures, workers)
    assert type(caught.value) is ImageError
    cause = (
        "no such file" if damage == "gone" else "is not a picture of a kind that is read (starts with b'not a pictur')"
    )
    assert caught.value.cause == f"{path}: {cause}"
    assert caught.value.remedy == (
        "Check the path."
        if damage == "gone"
        else "Give one of: JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, MPO, AVIF, JPEG2000."
    )
    assert multiprocessing.active_children() == []


def test_a_picture_whose_resize_is_refused_is_named(pictures, draw, tmp_path):
    strip = draw(tmp_path / "strip.png", size=(1, 4000))
    wide = dataclasses.replace(pictures.preprocess, resize_size=512)
    strips = Pictures([Sample(strip, (0,))], 1, wide, PRESETS["none"])
    with pytest.raises(ImageError) as caught:
        strips.load((0, 0, 0))
    assert caught.value.cause.startswith(f"{strip}: 1x4000 picture, resized: ")


class Dying(Pictures):
    def __getitem__(self, key):
        if key[1] == 5:
            os._exit(3)
        return super().__getitem__(key)


class Killed(Pictures):
    def __getitem__(self, key):
        if key[1] == 5:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        return super().__getitem__(key)


@pytest.mark.parametrize("kind", [Dying, Killed])
def test_a_loader_process_that_dies_is_said_in_words(pictures, kind):
    dying = kind(*(getattr(pictures, item.name) for item in dataclasses.fields(pictures)))
    with pytest.raises(TrainingError, match=r"a process that loads pictures died: DataLoader worker \(pid") as caught:
        load_all(dying, 2)
    assert "--workers" in caught.value.remedy
    assert "\n" not in caught.value.cause
    assert multiprocessing.active_children() == [], "though the error is still here, and all it refers to"


class Broken(Pictures):
    def __getitem__(self, key):
        raise RuntimeError("a defect of ours")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_defect_is_not_taken_for_a_process_that_died(pictures, workers):
    broken = Broken(pictures.samples, 3, SMALL, PRESETS["none"])
    with pytest.raises(RuntimeError, match="a defect of ours"):
        load_all(broken, workers)


class Asking(Pictures):
    """Returns whether a loader process ignores Ctrl-C and SIGTERM, and did so from its birth, instead of pictures."""

    def __getitem__(self, key):
        numbers = (signal.SIGINT, signal.SIGTERM)
        ignored = [signal.getsignal(number) is signal.SIG_IGN for number in numbers]
        born_with = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return torch.tensor(ignored), torch.tensor([number in born_with for number in numbers]), 0.0


def test_loader_processes_leave_ctrl_c_and_sigterm_to_the_main_one(pictures):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        (ignored, blocked), *_ = load_all(Asking(pictures.samples, 3, SMALL, PRESETS["none"]), 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ignored.all()
    assert blocked.all()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


# --- which pictures, in which order ---


def test_every_picture_comes_once_in_an_epoch_in_another_order_in_each():
    batches = EpochBatches(12, batch_size=4, seed=1)
    epochs = [keys_of(batches, epoch) for epoch in range(3)]
    orders = [[index for batch in epoch for _, _, index in batch] for epoch in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert keys_of(batches, 1) == epochs[1]
    assert [key[:2] for batch in epochs[2] for key in batch] == [(2, place) for place in range(12)]
    assert keys_of(EpochBatches(12, batch_size=4, seed=2)) != epochs[0]


def test_what_is_left_over_is_less_than_a_batch_and_another_in_every_epoch():
    batches = EpochBatches(14, batch_size=4)
    assert (batches.steps, len(batches)) == (3, 3)
    left_out = [set(range(14)) - {key[2] for batch in keys_of(batches, epoch) for key in batch} for epoch in range(6)]
    assert all(len(left) == 2 for left in left_out)
    assert len(set().union(*left_out)) > 4


@settings(deadline=None)
@given(
    share=st.integers(1, 4), parts=st.integers(1, 3), world=st.integers(1, 4), extra=st.integers(0, 60),
    epoch=st.integers(0, 3), start=st.integers(0, 2),
)  # fmt: skip
def test_processes_together_learn_from_the_batches_of_one(share, parts, world, extra, epoch, start):
    size = share * parts * world
    count = size + extra
    assume(start <= count // size)

    def steps(parts: int, world: int) -> list[list[list[list[tuple[int, int, int]]]]]:
        """Return [step][part][rank] batches."""
        ranks = []
        for rank in range(world):
            batches = EpochBatches(count, batch_size=size, parts=parts, rank=rank, world=world, seed=3)
            batches.epoch, batches.start = epoch, start
            ranks.append(list(batches))
            assert len(ranks[-1]) == len(batches) == (batches.steps - start) * parts
            assert all(len(batch) == size // world // parts for batch in ranks[-1])
        return [
            [[rank[step * parts + part] for rank in ranks] for part in range(parts)]
            for step in range(len(ranks[0]) // parts)
        ]

    def joined(batches: list[list[tuple[int, int, int]]]) -> list[tuple[int, int, int]]:
        return [key for batch in batches for key in batch]

    cut, one_process, whole = steps(parts, world), steps(parts, 1), steps(1, 1)
    assert [[joined(part) for part in step] for step in cut] == [
        [joined(part) for part in step] for step in one_process
    ]
    assert [joined([joined(part) for part in step]) for step in cut] == [joined(step[0]) for step in whole]


def test_going_on_at_a_step_skips_whole_steps_of_every_part():
    batches = EpochBatches(24, batch_size=8, parts=2, rank=1, world=2)
    whole = keys_of(batches)
    batches.start = 2
    assert (list(batches), len(batches)) == (whole[4:], 2)


@pytest.mark.parametrize(("count", "world", "parts", "size"), [(3, 1, 1, 3), (7, 2, 1, 6), (5, 2, 2, 4), (1, 1, 1, 1)])
def test_few_pictures_make_one_smaller_batch(count, world, parts, size):
    batches = EpochBatches(count, batch_size=32, world=world, parts=parts)
    assert (batches.batch_size, batches.steps) == (size, 1)
    assert sum(map(len, keys_of(batches))) * world == size


def test_a_batch_that_cannot_be_cut_evenly_is_refused():
    with pytest.raises(TrainingError, match="a batch of 10 does not divide by 2 processes x 2 micro-batches") as caught:
        EpochBatches(100, batch_size=10, world=2, parts=2)
    assert "--batch-size" in caught.value.remedy


def test_too_few_pictures_are_refused():
    with pytest.raises(TrainingError, match="3 pictures are too few for 2 processes x 2 micro-batches"):
        EpochBatches(3, batch_size=8, world=2, parts=2)
    with pytest.raises(TrainingError, match="0 pictures are too few"):
        EpochBatches(0, batch_size=8)


# --- balanced sampling ---


def samples(*targets: tuple[int, ...]) -> list[Sample]:
    return [Sample(Path(f"{number}.jpg"), target) for number, target in enumerate(targets)]


def test_balancing_weights():
    found = balancing_weights(samples((0,), (0,), (0,), (1,)), 3)
    assert found.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    several = balancing_weights(samples((0, 1), (0,), (0,), ()), 2)
    assert several.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 4])  # by the rarest; without any: as it comes


def test_balanced_sampling_draws_every_class_equally_often():
    unequal = samples(*[(0,)] * 900, *[(1,)] * 90, *[(2,)] * 10)
    batches = EpochBatches(1000, batch_size=50, seed=4, weights=balancing_weights(unequal, 3))
    keys = [key for epoch in range(3) for batch in keys_of(batches, epoch) for key in batch]
    drawn = Counter(unequal[index].targets[0] for _, _, index in keys)
    assert sum(drawn.values()) == 3000
    assert all(900 < drawn[target] < 1100 for target in range(3))  # 1000 +- 26
    rare = Counter(index for _, _, index in keys if index >= 990)
    assert len(rare) == 10
    assert all(60 < count < 145 for count in rare.values())  # 100 +- 10


def test_balanced_sampling_gives_all_processes_the_same_draw():
    weights = torch.tensor([1.0, 1.0, 10.0, 1.0])
    whole = keys_of(EpochBatches(4, batch_size=4, weights=weights))
    halves = [keys_of(EpochBatches(4, batch_size=4, rank=rank, world=2, weights=weights)) for rank in range(2)]
    assert halves[0][0] + halves[1][0] == whole[0]
