"""What each step of the way to INT8 gains: python benchmarks/int8_steps.py --data DIR

MobileNetV2 with trained weights, quantized with and without each step, on labelled ImageNet photos. DIR is that of
benchmarks/precisions.py. Nothing here is timed, so the machine may do other things.
Writes benchmarks/results/int8_steps.json and int8_steps.md; benchmarks/write_tables.py puts the table into the README.
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
from precisions import EDGECLS, RESULTS, WEIGHTS

from edgecls.evaluation.comparison import compare_files

CALIBRATION_IMAGES = 300
STEPS = {
    "plain: ranges from min and max": ["--method", "minmax", "--no-bias-correction"],
    "ranges from a percentile": ["--no-bias-correction"],
    "+ weights equalized": ["--no-bias-correction", "--equalize"],
    "+ biases corrected (the default)": [],
    "+ both": ["--equalize"],
}


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
def main(data: Path) -> None:
    data = data.resolve()
    photos = data / "imagenet_samples"
    truth: dict[str, int] = json.loads((photos / "labels.json").read_text("utf-8"))
    targets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = export([], data, Path(folder) / "fp32.onnx")
        for target in ("cpu", "tensorrt"):
            files = [reference]
            for number, options in enumerate(STEPS.values()):
                int8 = ["--int8", "--target", target, "--calibration", str(data / "imagenette" / "train")]
                int8 += ["--calibration-images", str(CALIBRATION_IMAGES), "--calibration-cache", f"{folder}/ranges"]
                files.append(export([*int8, *options], data, Path(folder) / f"{target}-{number}.onnx"))
            comparison = compare_files(
                files, [photos / name for name in truth], targets=list(truth.values()), origin="ImageNet photos"
            )
            names = ["fp32", *STEPS]
            targets[target] = {
                name: {key: asdict(row)[key] for key in ("accuracy", "agreement", "mean_cosine")}
                for name, row in zip(names, comparison.rows, strict=True)
            }
    document = {
        "schema": "edgecls.int8_steps/1",
        "arch": "mobilenet_v2",
        "calibration_images": CALIBRATION_IMAGES,
        "images": len(truth),
        "targets": targets,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "torch")},
    }
    (RESULTS / "int8_steps.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (RESULTS / "int8_steps.md").write_text(table(document), "utf-8")
    print(table(document))


def export(options: list[str], data: Path, target: Path) -> Path:
    command = [EDGECLS, "export", "mobilenet_v2", "--weights", str(data / WEIGHTS), *options, "--output", str(target)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return target


def table(document: dict[str, Any]) -> str:
    lines = ["| MobileNetV2 | target | acc@1 | same top-1 | mean cosine |", "|---|---|---|---|---|"]
    for target, rows in document["targets"].items():
        for name, row in rows.items():
            quality = f"{row['accuracy']:.1f} % | {row['agreement']:.1f} % | {row['mean_cosine']:.4f}"
            lines.append(f"| {name} | {target} | {quality} |")
    calibration = f"{document['calibration_images']} others to calibrate on"
    made = f"onnxruntime {document['versions']['onnxruntime']}, {document['date']}"
    lines += ["", f"{document['images']} ImageNet photos, {calibration}; {made}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
