"""Train a small classifier of drawn shapes on the CPU, in about a minute and without any download.

    python examples/drawn_shapes.py --output demo-output
    edgecls export demo-output/shapes.pt --output demo-output/shapes.onnx
    edgecls infer --engine demo-output/shapes.onnx demo-output/pictures

The script shows what edgecls asks of a training of your own: one `Preprocess` from the first picture to the device,
and a `Checkpoint` at the end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from edgecls import models
from edgecls.checkpoint import Checkpoint, save
from edgecls_runtime.preprocess import Preprocess, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARCH = "mobilenet_v3_small"
# Small pictures, for the CPU's sake. Training, evaluation, export and device all share this one object.
PREPROCESS = Preprocess(resize_size=72, crop_size=(64, 64))
TRAIN_PICTURES, HELD_OUT_PICTURES = 5000, 1000
EPOCHS, BATCH = 7, 50


def disk(radius: float = 1, x: float = 0) -> NDArray[np.float64]:
    """Return a circle's outline, its centre `x` to the right."""
    angles = np.linspace(0, 2 * np.pi, 60)
    return np.stack([x + radius * np.cos(angles), radius * np.sin(angles)], 1)


def corners(count: int, inner: float = 1) -> NDArray[np.float64]:
    """Return a regular polygon; every other corner is `inner` away from the centre."""
    angles = 2 * np.pi * np.arange(count) / count
    radii = np.where(np.arange(count) % 2, inner, 1)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Return an upright rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def heart() -> NDArray[np.float64]:
    """Return a heart, point down (MathWorld, "Heart Curve")."""
    t = np.linspace(0, 2 * np.pi, 60)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1) / 16


CELLS = np.linspace(-0.9, 0.9, 5)
# A shape is a list of polygons in a disk of radius 1: (corners, True to fill or False to cut out).
SHAPES = {
    "checkerboard": [
        (box(CELLS[i], CELLS[j], CELLS[i + 1], CELLS[j + 1]), True) for i in range(4) for j in range(4) if (i + j) % 2
    ],
    "circle": [(disk(), True)],
    "crescent": [(disk(), True), (disk(0.85, 0.5), False)],
    "cross": [(box(-1, -0.3, 1, 0.3), True), (box(-0.3, -1, 0.3, 1), True)],
    "heart": [(heart(), True)],
    "ring": [(disk(), True), (disk(0.6), False)],
    "square": [(corners(4), True)],
    "star": [(corners(10, 0.45), True)],
    "stripes": [(box(-0.9, y, 0.9, y + 0.25), True) for y in (-0.9, -0.38, 0.13, 0.65)],
    "triangle": [(corners(3), True)],
}
LABELS = tuple(sorted(SHAPES))


def texture(random: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Draw cloudy noise, [size, size, 3] around 0: coarse grids of noise, each finer and fainter than the last."""
    total = np.zeros((size, size, 3), np.float32)
    for cells in (2, 5, 14, 40):
        gray, colour = random.normal(0, 40, (cells, cells, 1)), random.normal(0, 20, (cells, cells, 3))
        grid = Image.fromarray((128 + (gray + colour) / cells**0.5).clip(0, 255).astype(np.uint8))
        total += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), np.float32) - 128
    return total


def draw(label: str, random: np.random.Generator, size: int = 96) -> Image.Image:
    """Draw one shape of random size, place, angle and colour on a random ground, size x size pixels."""
    scale = 4  # draw large and average: soft edges
    radius = random.uniform(0.2, 0.38) * size
    centre = size * random.uniform(0.43, 0.57, 2)
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([1, random.uniform(0.8, 1)])  # seen a little from the side
    mask = Image.new("L", (size * scale, size * scale))
    for polygon, filled in SHAPES[label]:
        placed = (polygon @ squeeze @ turn * radius + centre) * scale
        ImageDraw.Draw(mask).polygon([(x, y) for x, y in placed.tolist()], fill=255 * filled)
    coverage = np.asarray(mask.reduce(scale), np.float32)[:, :, None] / 255
    ground, ink = random.uniform(0, 255, (2, 3))
    while abs(ground.mean() - ink.mean()) < 80:  # one must be able to see it
        ink = random.uniform(0, 255, 3)
    clouds = texture(random, size)
    pixels = (1 - coverage) * (ground + clouds) + coverage * (ink + 0.4 * clouds[::-1])
    pixels += random.normal(0, random.uniform(0, 12), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_set(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw pictures of all classes in turn, preprocessed as on the device: [count, 3, 64, 64] and classes."""
    random = np.random.default_rng(seed)
    classes = torch.arange(count) % len(LABELS)
    pictures = [load(draw(LABELS[index], random), PREPROCESS) for index in classes.tolist()]
    return torch.from_numpy(np.stack(pictures)), classes


def accuracy(model: nn.Module, pictures: Tensor, classes: Tensor) -> float:
    """Return acc@1 in percent."""
    model.eval()
    with torch.inference_mode():
        best = torch.cat([model(batch).argmax(1) for batch in pictures.split(200)])
    return 100 * (best == classes).double().mean().item()


@click.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default="demo-output", show_default=True)
def main(output: Path) -> None:
    """Train a classifier of drawn shapes."""
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)

    pictures, classes = draw_set(TRAIN_PICTURES, seed=1)
    held_out = draw_set(HELD_OUT_PICTURES, seed=2)
    elapsed = time.perf_counter() - started
    print(f"drew {TRAIN_PICTURES} pictures to train on and {HELD_OUT_PICTURES} to test on in {elapsed:.0f} s")

    torch.manual_seed(0)
    # Layers this small gain nothing from a second thread on an idle machine, and lose minutes to it on a busy one.
    torch.set_num_threads(1)
    model = models.build(ARCH, num_classes=len(LABELS), seed=0)
    model.to(memory_format=torch.channels_last)  # twice as quick for depthwise convolutions on a CPU
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # MobileNetV3's 0.01 is for long trainings: here its averages would lag behind
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = EPOCHS * (TRAIN_PICTURES // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    acc = 0.0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses = []
        for chosen in torch.randperm(TRAIN_PICTURES).split(BATCH):
            batch = pictures[chosen]
            # A shape stays what it is in a mirror and on its side.
            batch = batch.flip([dim for dim in (2, 3) if torch.rand(()) < 0.5])
            batch = batch.transpose(2, 3) if torch.rand(()) < 0.5 else batch
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits, classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        acc = accuracy(model, *held_out)
        elapsed = time.perf_counter() - started
        mean_loss = sum(losses) / len(losses)
        print(f"epoch {epoch}/{EPOCHS}: loss {mean_loss:.3f}, held-out acc@1 {acc:.1f} %, {elapsed:.0f} s", flush=True)

    checkpoint = Checkpoint(
        arch=ARCH,
        labels=LABELS,
        preprocess=PREPROCESS,
        state_dict=model.state_dict(),
        weights="drawn shapes demo",
        metrics={"acc@1": acc},
    )
    save(checkpoint, output / "shapes.pt")

    # For `edgecls infer`: pictures of neither set, and larger, as a camera's would be.
    (output / "pictures").mkdir(exist_ok=True)
    random = np.random.default_rng(3)
    for label in LABELS:
        draw(label, random, size=256).save(output / "pictures" / f"{label}.jpg", quality=92)
    print(f"wrote {output / 'shapes.pt'} and {len(LABELS)} pictures in {output / 'pictures'}")


if __name__ == "__main__":
    main()
