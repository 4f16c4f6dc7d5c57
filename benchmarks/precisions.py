"""What half precision and integers gain and cost: python benchmarks/precisions.py --data DIR

DIR holds the weights of MobileNetV2, labelled ImageNet photos and photos to calibrate on. MobileNetV2 has trained
weights, so its accuracy means something; the other architectures are measured with random weights, for size and speed
alone. The files of one architecture take turns with a tenth of the photos each.
Writes benchmarks/results/precisions.json and precisions.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecls.evaluation.comparison import compare_files

sys.path.insert(0, str(Path(__file__).parent / "training"))
from recipes import cpu_name

RESULTS = Path(__file__).parent / "results"
EDGECLS = str(Path(sys.executable).with_name("edgecls"))
WEIGHTS = "weights/mobilenet_v2_imagenet.pth"
ARCHS = {"mobilenet_v2": 300, "mobilenet_v3_large": 64, "alexnet": 64, "vgg16": 32}
"""By architecture: pictures to calibrate on; few where the weights are random, for they do not change the speed."""


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", multiple=True, type=click.Choice(list(ARCHS)))
@click.option("--threads", default=2, show_default=True)
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the exported files there; those that are there already are measured as they are.",
)
def main(data: Path, only: tuple[str, ...], threads: int, files: Path | None) -> None:
    target = RESULTS / "precisions.json"
    known = json.loads(target.read_text("utf-8"))["archs"] if target.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) if files is None else files
        kept.mkdir(exist_ok=True)
        for arch, calibration in ARCHS.items():
            if not only or arch in only:
                known[arch] = measure(arch, calibration, data.resolve(), kept, threads)
    document = {"schema": "edgecls.precisions/1", "archs": {arch: known[arch] for arch in ARCHS if arch in known}}
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    target.with_suffix(".md").write_text(table(document), "utf-8")
    print(table(document))


def measure(arch: str, calibration: int, data: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Export all precisions as a person would, and run them in turn on the photos."""
    trained = arch == "mobilenet_v2"
    files = {"fp32": [], "fp16": ["--fp16"], "cpu": ["--int8"], "tensorrt": ["--int8", "--target", "tensorrt"]}
    photos = data / "imagenet_samples"
    for name, options in files.items():
        if "--int8" in options:
            options += ["--calibration", str(data / "imagenette" / "train"), "--calibration-images", str(calibration)]
        weights = str(data / WEIGHTS) if trained else "none"
        target = folder / f"{arch}-{name}.onnx"
        if target.exists():
            continue
        command = [EDGECLS, "export", arch, "--weights", weights, *options, "--output", str(target)]
        if trained:
            command += ["--parity-images", str(photos)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    truth: dict[str, int] = json.loads((photos / "labels.json").read_text("utf-8"))
    comparison = compare_files(
        [folder / f"{arch}-{name}.onnx" for name in files],
        [photos / name for name in truth],
        targets=list(truth.values()) if trained else None,
        origin="ImageNet photos",
        threads=threads,
    )
    rows = {name: asdict(row) | {"path": Path(row.path).name} for name, row in zip(files, comparison.rows, strict=True)}
    return {
        "weights": "trained" if trained else "random",
        "calibration_images": calibration,
        "images": comparison.images,
        "provider": comparison.provider,
        "threads": threads,
        "rows": rows,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count()},
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "torch")},
    }


def table(document: dict[str, Any]) -> str:
    lines = [
        "| model | file | size | p50, batch 1 | faster than fp32 | acc@1 | same top-1 | mean cosine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arch, item in document["archs"].items():
        first = item["rows"]["fp32"]
        for name, row in item["rows"].items():
            title = name if name.startswith("fp") else f"int8, {name}"
            size = f"{row['size_bytes'] / 1e6:.1f} MB ({row['size_bytes'] / first['size_bytes']:.0%})"
            quality = "| - | - | - |"
            if item["weights"] == "trained":
                quality = f"| {row['accuracy']:.1f} % | {row['agreement']:.1f} % | {row['mean_cosine']:.4f} |"
            speed = f"{row['p50_ms']:.2f} ms | **{first['p50_ms'] / row['p50_ms']:.2f}**"
            lines.append(f"| {arch} | {title} | {size} | {speed} {quality}")
    items = list(document["archs"].values())
    about = {
        f"{item['machine']['cpu']}, {item['machine']['logical_cores']} logical cores, {item['threads']} threads, "
        f"onnxruntime {item['versions']['onnxruntime']}, {item['date']}"
        for item in items
    }
    lines += [
        "",
        f"{items[0]['images']} ImageNet photos; {'; '.join(sorted(about))}.",
        "MobileNetV2 with trained weights, the others with random ones. The CPU provider computes fp16 in float32, and",
        "has no fast kernels for the symmetric integers that `tensorrt` wants: those files are for GPUs. With random",
        "weights a picture fades in MobileNetV3 below what half can hold, so most of its FP16 file stays in float32;",
        "with trained ones it is half the size, as the others.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
