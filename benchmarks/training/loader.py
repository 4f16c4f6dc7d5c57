"""How quickly pictures reach a training: python benchmarks/training/loader.py --pictures DIR

The same pictures (a folder for each class) through edgecls's loader and through torchvision's ImageFolder with the
same transforms, in turn, epoch by epoch, so that a machine whose speed drifts slows both.
Writes benchmarks/results/loader.json and loader.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from edgecls.data import find_samples
from edgecls.training.augmentation import PRESETS
from edgecls.training.loading import EpochBatches, Pictures, load_batches
from edgecls_runtime import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parent))
from recipes import cpu_name

RESULTS = Path(__file__).parents[1] / "results"
BATCH = 32


@click.command()
@click.option("--pictures", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--rounds", default=9, show_default=True)
def main(pictures: Path, rounds: int) -> None:
    torch.set_num_threads(1)
    rows = [
        compare(pictures, rounds, workers=workers, preset=preset)
        for preset in ("none", "light", "standard")
        for workers in (0, 2)
    ]
    document = {
        "schema": "edgecls.loader/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count()},
        "pictures": len(find_samples(pictures).train),
        "rounds": rounds,
        "rows": rows,
    }
    (RESULTS / "loader.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (RESULTS / "loader.md").write_text(table(document), "utf-8")
    print(table(document))


def compare(pictures: Path, rounds: int, *, workers: int, preset: str) -> dict[str, Any]:
    """Return the median rates of both, images per second, and the median ratio of neighbouring epochs."""
    preprocess, augmentation = Preprocess(), PRESETS[preset]
    dataset = find_samples(pictures)
    batches = EpochBatches(len(dataset.train), batch_size=BATCH)
    ours = Pictures(dataset.train, len(dataset.labels), preprocess, augmentation)
    varied: list[v2.Transform]
    if augmentation.crop_scale is None:
        varied = [v2.Resize(preprocess.resize_size), v2.CenterCrop(preprocess.crop_size)]
    else:
        varied = [v2.RandomResizedCrop(preprocess.crop_size, scale=(augmentation.crop_scale, 1.0))]
        varied.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.jitter:
        varied.append(v2.ColorJitter(augmentation.jitter, augmentation.jitter, augmentation.jitter))
    scale = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocess.mean, preprocess.std)]
    theirs = DataLoader(
        ImageFolder(pictures, v2.Compose(varied + scale)),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )

    def ours_epoch() -> int:
        return sum(len(batch[0]) for batch in load_batches(ours, batches, workers=workers))

    def theirs_epoch() -> int:
        return sum(len(batch[0]) for batch in theirs)

    rates: dict[str, list[float]] = {"edgecls": [], "torchvision": []}
    for number in range(rounds + 1):  # the first fills the page cache
        order = [("edgecls", ours_epoch), ("torchvision", theirs_epoch)]
        for name, epoch in order if number % 2 else reversed(order):
            rate = images_per_second(epoch)
            if number:
                rates[name].append(rate)
    ratios = [ours / theirs for ours, theirs in zip(rates["edgecls"], rates["torchvision"], strict=True)]
    return {
        "augment": preset,
        "workers": workers,
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def images_per_second(epoch: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = epoch()
    return count / (time.perf_counter() - started)


def table(document: dict[str, Any]) -> str:
    lines = [
        "| `--augment` | loader processes | edgecls | torchvision | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        ours, theirs = (row["images_per_second"][name] for name in ("edgecls", "torchvision"))
        lines.append(
            f"| {row['augment']} | {row['workers']} | {ours:.0f} images/s | {theirs:.0f} images/s "
            f"| **{row['ratio']:.2f}** |"
        )
    machine = document["machine"]
    lines += [
        "",
        f"{document['pictures']} pictures, batches of {BATCH}, medians over {document['rounds']} epochs each, in turn;",
        f"{machine['cpu']}, {machine['logical_cores']} logical cores; {document['date']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
