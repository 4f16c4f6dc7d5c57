"""Training on real pictures, at a size that fits a test; benchmarks/training/ has the whole sets."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from edgecls import checkpoint  # noqa: E402
from edgecls.data import find_samples  # noqa: E402
from edgecls.evaluation.figures import evaluate  # noqa: E402
from edgecls.evaluation.predictor import open_predictor  # noqa: E402
from edgecls.training.augmentation import PRESETS  # noqa: E402
from edgecls.training.config import TrainingConfig  # noqa: E402
from edgecls.training.loop import train  # noqa: E402
from edgecls.training.progress import Progress  # noqa: E402
from edgecls.training.run_folder import RunFolder  # noqa: E402
from edgecls_export.pipeline import ModelCard, export_onnx  # noqa: E402
from edgecls_runtime import Classifier  # noqa: E402
from edgecls_runtime.manifest import Source  # noqa: E402

pytestmark = pytest.mark.real_data


def listed(path: Path, splits: dict[str, Path], count: int, *, classes: int = 100, repeat: int = 1) -> Path:
    """Write a list of the first pictures of each class."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for split, folder in splits.items():
            for label in sorted(folder.iterdir())[:classes]:
                for picture in sorted(label.iterdir())[:count] * (repeat if split == "train" else 1):
                    rows.writerow([picture, label.name, split])
    return path


def export(run: RunFolder, target: Path) -> Path:
    best = checkpoint.load(run.best)
    card = ModelCard(
        labels=best.labels,
        preprocess=best.preprocess,
        arch=best.arch,
        source=Source(weights=best.weights, sha256=checkpoint.state_dict_sha256(best.state_dict)),
        metrics=best.metrics,
    )
    export_onnx(best.build(), target, card)
    return target


def accuracies(models: Sequence[Path], data: Path) -> list[float]:
    """Measure checkpoint and artifact by the same code."""
    found = []
    for path in models:
        with open_predictor(path) as predictor:
            samples = find_samples(data, labels=predictor.labels).val
            found.append(evaluate(predictor, samples, workers=2).metrics["acc@1"])
    return found


def test_cats_are_told_from_dogs(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "cats_dogs"
    data = listed(tmp_path / "list.csv", {"train": folder / "train", "val": folder / "test"}, 40)
    run = RunFolder(tmp_path / "run")
    config = TrainingConfig(
        data=str(data),
        arch="mobilenet_v2",
        weights=str(real_data / "weights" / "mobilenet_v2_imagenet.pth"),
        freeze="features",
        augmentation=PRESETS["none"],
        epochs=3,
        lr=3e-3,
        batch_size=20,
        workers=1,
        device="cpu",
    )
    train(config, run)
    measured = accuracies([run.best, export(run, tmp_path / "m.onnx")], data)
    assert measured[0] == measured[1] == pytest.approx(checkpoint.load(run.best).metrics["acc@1"])
    assert measured[0] >= 95


def test_small_grey_digits_go_the_whole_way(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "digits"
    data = listed(tmp_path / "list.csv", {"train": folder / "train", "val": folder / "test"}, 60)
    run = RunFolder(tmp_path / "run")
    config = TrainingConfig(
        data=str(data),
        arch="mobilenet_v2",
        weights="none",
        image_size=32,
        mean="auto",
        std="auto",
        augmentation=PRESETS["none"],
        epochs=8,
        lr=3e-3,
        backbone_lr_factor=1.0,
        batch_size=20,
        workers=0,
        device="cpu",
    )
    train(config, run)
    best = checkpoint.load(run.best)
    assert best.labels == tuple("0123456789")
    assert best.metrics["acc@1"] > 80
    artifact = export(run, tmp_path / "digits.onnx")
    right = 0
    with Classifier.load(artifact) as classifier:
        pictures = [path for label in sorted((folder / "test").iterdir()) for path in sorted(label.iterdir())[:60]]
        for path in pictures:
            right += classifier.predict(path, 1)[0].label == path.parent.name
    assert 100 * right / len(pictures) == pytest.approx(best.metrics["acc@1"], abs=1e-3)


@pytest.mark.parametrize("arch", ["alexnet", "vgg16"])
def test_the_large_networks_learn_a_tiny_set_by_heart(arch: str, real_data: Path, tmp_path: Path) -> None:
    """Eight photos of four classes; neither network has batch norm to help it."""
    folder = real_data / "imagenette" / "train"
    data = listed(tmp_path / "list.csv", {"train": folder, "val": folder}, 2, classes=4, repeat=80)
    run = RunFolder(tmp_path / "run")
    config = TrainingConfig(
        data=str(data),
        allow_duplicates=True,
        arch=arch,
        weights="none",
        image_size=64 if arch == "alexnet" else 32,  # AlexNet's layers leave nothing of 32
        augmentation=PRESETS["none"],
        dropout=0.0,
        epochs=1,
        warmup_epochs=0.0,
        schedule="constant",
        lr=1e-4 if arch == "alexnet" else 5e-5,
        backbone_lr_factor=1.0,
        clip_norm=1.0,
        batch_size=32,
        workers=0,
        device="cpu",
    )
    losses: list[float] = []

    class Listener(Progress):
        def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
            losses.append(loss)

    result = train(config, run, progress=Listener())
    record: dict[str, Any] = json.loads((run.path / "metrics.jsonl").read_text("utf-8"))
    assert losses[-1] < losses[0] * 0.75  # averages since the epoch began
    assert result.metrics["acc@1"] == record["acc@1"] == 100.0
