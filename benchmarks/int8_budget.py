"""What a budget of accuracy does for MobileNetV3-large: python benchmarks/int8_budget.py --data DIR

There are no published weights of a MobileNetV3 in DIR, so one learns digits from scratch, in some minutes (or is given:
--checkpoint FILE, which must have learnt from the same pictures). The layers that stay in float are chosen on pictures
that it did not learn from, and every file is measured on yet others. Nothing here is timed, so the machine may do
other things. Writes benchmarks/results/int8_budget.json and int8_budget.md; benchmarks/write_tables.py puts the table
into the README. The exit status is 1 if a file with a budget loses more than a point, or FP16 is not half the size.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from precisions import EDGECLS, RESULTS

from edgecls.evaluation.comparison import compare_files
from edgecls_export.provenance import AccuracyBudget, calibration_of
from edgecls_runtime import manifest

RECIPE = (
    "--arch mobilenet_v3_large --weights none --image-size 64 --mean auto --std auto --augment light --no-flip "
    "--backbone-lr-factor 1 --batchnorm-momentum 0.1 --lr 3e-3 --epochs 8 --batch-size 64"
)
MAX_DROP, LARGEST_DROP = 0.5, 1.0
PLAIN = ["--int8", "--method", "minmax", "--no-bias-correction"]
ROWS = {
    "fp32": [],
    "fp16": ["--fp16"],
    "int8, cpu, plain (min and max)": PLAIN,
    "int8, cpu, plain, with a budget": [*PLAIN, "--max-drop", str(MAX_DROP)],
    "int8, cpu": ["--int8"],
    "int8, cpu, with a budget": ["--int8", "--max-drop", str(MAX_DROP)],
    "int8, tensorrt": ["--int8", "--target", "tensorrt"],
    "int8, tensorrt, with a budget": ["--int8", "--target", "tensorrt", "--max-drop", str(MAX_DROP)],
}


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead of training.")
@click.option("--keep", type=click.Path(path_type=Path), help="Copy the trained checkpoint there.")
def main(data: Path, checkpoint: Path | None, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        split(data.resolve() / "digits" / "train", folder / "digits")
        trained = checkpoint or train(folder)
        if keep is not None:
            keep.write_bytes(trained.read_bytes())
        document = measure(trained, folder, data.resolve() / "digits" / "test")
    target = RESULTS / "int8_budget.json"
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    target.with_suffix(".md").write_text(table(document), "utf-8")
    print(table(document))
    sys.exit(not document["met"])


def split(source: Path, target: Path) -> None:
    """Make folders of links: every fifth picture of each class is for choosing layers, the rest for learning."""
    for number, path in enumerate(sorted(source.rglob("*.png"))):
        link = target / ("val" if number % 5 == 4 else "train") / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


def train(folder: Path) -> Path:
    command = [EDGECLS, "train", str(folder / "digits"), *RECIPE.split(), "--output", str(folder / "run")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / "run" / "best.pt"


def measure(checkpoint: Path, folder: Path, test: Path) -> dict[str, Any]:
    """Export as a person would, and measure on the test pictures."""
    files: dict[str, Path] = {}
    for number, (name, options) in enumerate(ROWS.items()):
        files[name] = folder / f"{number}.onnx"
        command = [EDGECLS, "export", str(checkpoint), *options, "--output", str(files[name])]
        if options:
            command += ["--calibration", str(folder / "digits" / "train")]
        if "--int8" in options:
            command += ["--calibration-cache", str(folder / "ranges")]
        if "--max-drop" in options:
            command += ["--eval-data", str(folder / "digits" / "val")]
        subprocess.run(command, check=True, stdout=sys.stderr)
    first = manifest.read(files["fp32"])
    if first is None:
        raise SystemExit(f"{files['fp32']}: has no manifest")
    pictures = sorted(test.rglob("*.png"))
    truth = [first.labels.index(path.parent.name) for path in pictures]
    comparison = compare_files(list(files.values()), pictures, targets=truth, origin="test pictures")
    rows: dict[str, Any] = {}
    for name, row in zip(files, comparison.rows, strict=True):
        described = manifest.read(files[name])
        calibration = None if described is None else calibration_of(described)
        budget = None if calibration is None else calibration.budget
        rows[name] = {key: asdict(row)[key] for key in ("size_bytes", "accuracy", "agreement", "mean_cosine")} | {
            "drop": rows["fp32"]["accuracy"] - row.accuracy if rows else 0.0,
            "layers_in_integers": 0 if calibration is None else calibration.quantized_layers,
            "layers_for_the_budget": None if budget is None else _chosen(budget),
            "budget_images": None if budget is None else budget.images,
            "tried": [] if budget is None else [str(trial) for trial in budget.tried],
        }
    return {
        "schema": "edgecls.int8_budget/1",
        "recipe": RECIPE,
        "max_drop": MAX_DROP,
        "met": all(row["drop"] <= LARGEST_DROP for name, row in rows.items() if "budget" in name)
        and rows["fp16"]["size_bytes"] <= 0.51 * rows["fp32"]["size_bytes"]
        and rows["fp16"]["agreement"] >= 99.5,
        "images": comparison.images,
        "rows": rows,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "torch")},
    }


def _chosen(budget: AccuracyBudget) -> int:
    """Return how many layers the budget left in float: the fewest that met it."""
    return min(len(trial.float_layers) for trial in budget.tried if trial.drop <= budget.max_drop + 1e-9)


def table(document: dict[str, Any]) -> str:
    lines = [
        "| V3-large, digits | size | acc@1 | drop | same top-1 | mean cosine | integer layers | float for it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in document["rows"].items():
        kept = row["layers_for_the_budget"]
        wanted = f" (wanted {LARGEST_DROP:g} at most)" if kept is not None else ""
        lines.append(
            f"| {name} | {row['size_bytes'] / 1e6:.1f} MB | {row['accuracy']:.2f} % | {row['drop']:+.2f}{wanted} "
            f"| {row['agreement']:.2f} % | {row['mean_cosine']:.4f} | {row['layers_in_integers']} "
            f"| {'-' if kept is None else kept} |"
        )
    made = f"onnxruntime {document['versions']['onnxruntime']}, {document['date']}"
    (others,) = {row["budget_images"] for row in document["rows"].values()} - {None}
    budget = f"the budget is {document['max_drop']:g} points on {others} others"
    lines += ["", f"{document['images']} test pictures; {budget}; {made}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
