"""Train, export and measure on real pictures: python benchmarks/training/recipes.py --data DIR

DIR holds the folders that the recipes below name, and the weights to begin with. Every recipe is what a person would
type: edgecls train, edgecls export, and edgecls evaluate on the checkpoint and on the exported file.
Writes benchmarks/results/training.json and training.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

RESULTS = Path(__file__).parents[1] / "results"
EDGECLS = str(Path(sys.executable).with_name("edgecls"))
PRETRAINED = "--weights {data}/weights/mobilenet_v2_imagenet.pth"


@dataclass(frozen=True)
class Recipe:
    """What to type after ``edgecls train``, and what must come of it (percent, gigabytes)."""

    name: str
    data: str
    options: str
    least_acc1: float | None = None
    most_gb: float | None = None


RECIPES = (
    Recipe("cats and dogs, fine-tuned", "cats_dogs", f"{PRETRAINED} --augment light --epochs 5 --batch-size 32", 97.33),
    Recipe(
        "imagenette, frozen features",
        "imagenette",
        f"{PRETRAINED} --freeze features --augment light --epochs 5",
    ),
    Recipe("imagenette, fine-tuned", "imagenette", f"{PRETRAINED} --augment light --epochs 5"),
    Recipe(
        "digits, from scratch",
        "digits",
        "--weights none --image-size 32 --mean auto --std auto --augment light --no-flip --backbone-lr-factor 1 "
        "--lr 3e-3 --epochs 12 --batch-size 64",
    ),
    Recipe(
        "AlexNet, imagenette, from scratch",
        "imagenette",
        "--arch alexnet --weights none --lr 1e-4 --backbone-lr-factor 1 --augment light --epochs 2",
        most_gb=8,
    ),
    Recipe(
        "VGG-16, imagenette, from scratch",
        "imagenette",
        "--arch vgg16 --weights none --lr 5e-5 --backbone-lr-factor 1 --clip-norm 1 --amp bf16 --accumulate 2 "
        "--augment light --epochs 2",
        most_gb=8,
    ),
)


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", multiple=True, help="Names of recipes, or a part of them.")
@click.option("--threads", type=click.IntRange(min=1), help="Of torch.  [default: its own choice]")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the run folders.  [default: temporary]")
def main(data: Path, only: tuple[str, ...], threads: int | None, keep: Path | None) -> None:
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    target = RESULTS / "training.json"
    known = {item["name"]: item for item in json.loads(target.read_text("utf-8"))["recipes"]} if target.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, recipe in enumerate(RECIPES):
            if not only or any(part in recipe.name for part in only):
                known[recipe.name] = follow(recipe, data.resolve(), (keep or Path(temporary)) / f"{number}")
                write(target, known)  # after each: together they take half an hour
    document = write(target, known)
    target.with_suffix(".md").write_text(table(document), "utf-8")
    print(table(document))
    sys.exit(any(not item["met"] for item in document["recipes"]))


def write(target: Path, known: dict[str, Any]) -> dict[str, Any]:
    document = {
        "schema": "edgecls.training.loop-recipes/1",
        "recipes": [known[recipe.name] for recipe in RECIPES if recipe.name in known],
    }
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return document


def follow(recipe: Recipe, data: Path, run: Path) -> dict[str, Any]:
    """Train, export, evaluate; return the figures."""
    pictures = data / recipe.data
    options = recipe.options.format(data=data).split()
    print(f"{recipe.name}: edgecls train {recipe.data} {recipe.options}", flush=True)
    started = time.monotonic()
    peak_gb = run_measured([EDGECLS, "train", str(pictures), *options, "--output", str(run)])
    seconds = time.monotonic() - started
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    report = json.loads((run / "data.json").read_text("utf-8"))
    onnx = run / "best.onnx"
    subprocess.run([EDGECLS, "export", run / "best.pt", "--output", onnx], check=True, stdout=sys.stderr)
    checkpoint, exported = (evaluate(path, pictures) for path in (run / "best.pt", onnx))
    met = (
        (recipe.least_acc1 is None or checkpoint["acc@1"] >= recipe.least_acc1)
        and (recipe.most_gb is None or peak_gb < recipe.most_gb)
        and history[-1]["loss"] < history[0]["loss"]
        and checkpoint["acc@1"] == exported["acc@1"]
    )
    return {
        "name": recipe.name,
        "options": recipe.options,
        "pictures": {split: sum(report[split].values()) for split in ("train", "val")},
        "least_acc1": recipe.least_acc1,
        "most_gb": recipe.most_gb,
        "met": met,
        "checkpoint": checkpoint,
        "exported": exported,
        "seconds": seconds,
        "peak_gb": peak_gb,
        "images_per_second": max(record["images_per_second"] for record in history),
        "loader_images_per_second": max(record["loader_images_per_second"] for record in history),
        "history": history,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count()},
        "threads": os.environ.get("OMP_NUM_THREADS", "torch's choice"),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in ("torch", "torchvision", "onnxruntime")},
    }


def evaluate(model: Path, pictures: Path) -> dict[str, float]:
    command = [EDGECLS, "evaluate", model, pictures, "--format", "json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    metrics: dict[str, float] = json.loads(done.stdout)["metrics"]
    return metrics


def run_measured(command: list[str]) -> float:
    """Run a command; return the most memory, in GB, that it and its children shared in at once (PSS, sampled)."""
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(2):
            peak = max(peak, group_memory_gb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"exit status {code}: {' '.join(command)}")
    return peak


def group_memory_gb(group: int) -> float:
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text()
                total += int(rollup.partition("Pss:")[2].split()[0])
        except (OSError, IndexError):  # it has just ended
            continue
    return total * 1024 / 1e9


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(document: dict[str, Any]) -> str:
    lines = [
        "| training | pictures (train + val) | acc@1 checkpoint / exported | images/s | memory | time |",
        "|---|---|---|---|---|---|",
    ]
    for item in document["recipes"]:
        wanted = "" if item["least_acc1"] is None else f" (wanted {item['least_acc1']})"
        limit = "" if item["most_gb"] is None else f" (allowed {item['most_gb']})"
        minutes = item["seconds"] / 60
        lines.append(
            f"| {item['name']} | {item['pictures']['train']} + {item['pictures']['val']} "
            f"| **{item['checkpoint']['acc@1']:.2f}** / {item['exported']['acc@1']:.2f} %{wanted} "
            f"| {item['images_per_second']:.0f} | {item['peak_gb']:.1f} GB{limit} | {minutes:.0f} min |"
        )
    threads = ", ".join(sorted({item["threads"] for item in document["recipes"]}))
    machines = {
        f"{item['machine']['cpu']}, {item['machine']['logical_cores']} logical cores" for item in document["recipes"]
    }
    dates = sorted({item["date"] for item in document["recipes"]})
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    lines += ["", f"{'; '.join(sorted(machines))}; torch threads: {threads}; {days}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
