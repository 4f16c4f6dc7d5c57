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
        reference = Path(folder) / "fp32.onnx"
        export([], data, reference)
        for target in ("cpu", "tensorrt"):
            files, refused = {"fp32": reference}, {}
            for number, (name, options) in enumerate(STEPS.items()):
                int8 = ["--int8", "--target", target, "--calibration", str(data / "imagenette" / "train")]
                int8 += ["--calibration-images", str(CALIBRATION_IMAGES), "--calibration-cache", f"{folder}/ranges"]
                file = Path(folder) / f"{target}-{number}.onnx"
                reason = export([*int8, *options], data, file)
                if reason is None:
                    files[name] = file
                else:
                    refused[name] = {"refused": reason}
            pictures = [photos / name for name in truth]
            comparison = compare_files(
                list(files.values()), pictures, targets=list(truth.values()), origin="ImageNet photos"
            )
            measured = {
                name: {key: asdict(row)[key] for key in ("accuracy", "agreement", "mean_cosine")}
                for name, row in zip(files, comparison.rows, strict=True)
            }
            targets[target] = {name: (measured | refused)[name] for name in ("fp32", *STEPS)}
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


def export(options: list[str], data: Path, target: Path) -> str | None:
    """Export as a person would; return why the parity gate refused it, None if it did not."""
    photos = str(data / "imagenet_samples")
    command = [EDGECLS, "export", "mobilenet_v2", "--weights", str(data / WEIGHTS), "--parity-images", photos]
    command += [*options, "--output", str(target)]
    done = subprocess.run(command, check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return None
    cause = done.stderr.partition("error: ")[2].partition("\n")[0]
    if "does not agree with PyTorch" not in cause:
        raise SystemExit(done.stderr)
    return cause


def table(document: dict[str, Any]) -> str:
    lines = ["| MobileNetV2 | target | acc@1 | same top-1 | mean cosine |", "|---|---|---|---|---|"]
    for target, rows in document["targets"].items():
        for name, row in rows.items():
            if "refused" in row:
                lines.append(f"| {name} | {target} | the parity gate refuses it | - | - |")
                continue
            quality = f"{row['accuracy']:.1f} % | {row['agreement']:.1f} % | {row['mean_cosine']:.4f}"
            lines.append(f"| {name} | {target} | {quality} |")
    calibration = f"{document['calibration_images']} others to calibrate on"
    made = f"onnxruntime {document['versions']['onnxruntime']}, {document['date']}"
    lines += ["", f"{document['images']} ImageNet photos, {calibration}; {made}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
