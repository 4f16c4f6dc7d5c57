from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from edgecls.training.augmentation import PRESETS, Augmentation, mixer, picture_transform
from edgecls_runtime.preprocess import Preprocess, decode, load

SMALL = Preprocess(resize_size=18, crop_size=(16, 14))


@pytest.fixture
def picture(tmp_path, draw) -> Image.Image:
    return decode(draw(tmp_path / "a.png", size=(40, 30)), SMALL)


def vary(augmentation: Augmentation, picture: Image.Image, *, seed: int = 0, preprocess: Preprocess = SMALL):
    torch.manual_seed(seed)
    return picture_transform(augmentation, preprocess)(picture)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        SMALL,
        SMALL.replace(color="BGR", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="bicubic"),
        SMALL.replace(resize_size=(20, 10), crop_size=(24, 24)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P", "RGBA"])
def test_none_is_the_devices_own_preprocess(tmp_path, draw, preprocess, mode):
    path = draw(tmp_path / "a.png", size=(40, 30), mode=mode)
    tensor = vary(PRESETS["none"], decode(path, preprocess), preprocess=preprocess)
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor.numpy(), load(path, preprocess))


KNOBS = {
    "crop_scale": 0.3,
    "flip": 1.0,
    "jitter": 0.4,
    "randaugment": "randaugment",
    "trivialaugment": "trivialaugment",
    "erasing": 1.0,
}


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_changes_pictures_and_depends_on_the_seed_alone(picture, knob):
    field = "policy" if knob.endswith("augment") else knob
    augmentation = Augmentation(**{field: KNOBS[knob]})
    plain = vary(Augmentation(), picture)
    first = [vary(augmentation, picture, seed=seed) for seed in range(6)]
    again = [vary(augmentation, picture, seed=seed) for seed in range(6)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(tensor.shape == (3, 16, 14) and tensor.dtype == torch.float32 for tensor in first)
    assert sum(not torch.equal(tensor, plain) for tensor in first) >= 4  # a policy may draw the identity
    if knob != "flip":
        assert len({tensor.numpy().tobytes() for tensor in first}) >= 4


def test_a_flip_is_the_mirror_image_as_often_as_said(picture):
    preprocess = SMALL.replace(resize_size=(16, 14))
    plain = vary(Augmentation(), picture, preprocess=preprocess)
    assert torch.equal(vary(Augmentation(flip=1.0), picture, preprocess=preprocess), plain.flip(2))
    mirrored = sum(
        torch.equal(vary(Augmentation(flip=0.25), picture, seed=seed, preprocess=preprocess), plain.flip(2))
        for seed in range(200)
    )
    assert 30 <= mirrored <= 70  # 50 +- 3.3 standard deviations


@pytest.mark.parametrize("name", ["light", "standard"])
def test_without_flip_nothing_is_mirrored(name):
    """A picture dark on the left stays so, however it is cropped and coloured."""
    slope = np.broadcast_to(np.linspace(40, 210, 48, dtype=np.uint8)[None, :, None], (32, 48, 3))
    rising = {
        flip: [
            bool(tensor[:, :, -1].mean() > tensor[:, :, 0].mean())
            for seed in range(40)
            for tensor in [vary(dataclasses.replace(PRESETS[name], flip=flip), Image.fromarray(slope), seed=seed)]
        ]
        for flip in (0.0, 0.5)
    }
    assert all(rising[0.0])
    assert 8 <= sum(rising[0.5]) <= 32


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_presets_respect_colour_order_and_normalization(picture, name):
    """Blanked rectangles apart: they get the value 0, the mean."""
    augmentation = dataclasses.replace(PRESETS[name], erasing=0.0)
    unit = SMALL.replace(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    other = SMALL.replace(color="BGR", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    pixels = vary(augmentation, picture, seed=5, preprocess=unit)
    expected = (pixels[[2, 1, 0]] - torch.tensor(other.mean)[:, None, None]) / torch.tensor(other.std)[:, None, None]
    assert torch.allclose(vary(augmentation, picture, seed=5, preprocess=other), expected, atol=1e-6)


def test_a_crop_keeps_at_least_the_share_that_was_said():
    """On a picture whose red says the column and green the row, a crop's extremes give its size."""
    columns, rows = np.meshgrid(np.arange(200, dtype=np.uint8), np.arange(200, dtype=np.uint8))
    image = Image.fromarray(np.dstack([columns, rows, rows]))
    unit = SMALL.replace(crop_size=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="nearest")
    shares = []
    for seed in range(60):
        tensor = vary(Augmentation(crop_scale=0.5), image, seed=seed, preprocess=unit) * 255
        width, height = (float(tensor[channel].max() - tensor[channel].min()) * 64 / 63 for channel in (0, 1))
        shares.append(width * height / 200**2)
    assert 0.47 < min(shares) < 0.6
    assert max(shares) > 0.9


def test_erasing_blanks_a_rectangle_with_the_mean(picture):
    plain, erased = vary(Augmentation(), picture), vary(Augmentation(erasing=1.0), picture, seed=3)
    changed = (plain != erased).any(0)
    rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
    box = erased[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert box.numel() >= 3 * 0.02 * 16 * 14 * 0.5
    assert (box == 0).all()


def test_presets_are_known_by_their_names():
    assert list(PRESETS) == ["none", "light", "standard", "strong"]
    assert all(preset.name == name for name, preset in PRESETS.items())
    assert Augmentation() == PRESETS["none"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_scale": 0.0},
        {"crop_scale": 1.1},
        {"flip": -0.1},
        {"flip": 1.1},
        {"jitter": 1.0},
        {"erasing": 2.0},
        {"mixup": -1.0},
        {"cutmix": -0.1},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


# --- MixUp and CutMix ---


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four pictures, each of one value, and their classes."""
    pictures = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16).clone()
    return pictures, torch.eye(4)


def test_there_is_no_mixer_where_none_is_asked_for():
    assert [name for name, preset in PRESETS.items() if mixer(preset) is not None] == ["strong"]


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_targets_are_mixed_as_the_pictures_are(options):
    mix = mixer(Augmentation(**options))
    mixed = 0
    for seed in range(10):
        torch.manual_seed(seed)
        pictures, targets = mix(*batch())
        assert pictures.shape == (4, 3, 16, 16)
        assert torch.allclose(targets.sum(1), torch.ones(4))
        # A picture's mean is the mean of the values it is made of, in the shares of its targets.
        assert torch.allclose(pictures.mean((1, 2, 3)), targets @ torch.arange(4.0), atol=1e-5)
        mixed += not torch.equal(targets, torch.eye(4))
        torch.manual_seed(seed)
        assert torch.equal(mix(*batch())[0], pictures)
    assert mixed >= 8


def test_mixup_blends_and_cutmix_cuts_and_both_do_one_of_the_two():
    def kinds(**options: float) -> set[bool]:
        """Return whether pictures stay of whole values, over some batches."""
        mix, found = mixer(Augmentation(**options)), set()
        for seed in range(30):
            torch.manual_seed(seed)
            pictures, targets = mix(*batch())
            if 0.05 < targets.max(1).values.min() < 0.95:
                found.add(bool((pictures == pictures.round()).all()))
        return found

    assert kinds(mixup=1.0) == {False}
    assert kinds(cutmix=1.0) == {True}
    assert kinds(mixup=1.0, cutmix=1.0) == {False, True}
