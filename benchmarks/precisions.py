"""What half precision and integers gain and cost: python benchmarks/precisions.py --data DIR

DIR holds the weights of MobileNetV2, labelled ImageNet photos and photos to calibrate on. MobileNetV2 has trained
weights, so its accuracy means something; the other architectures are measured with random weights, for size and speed
alone. The files of one architecture take turns with a tenth of the photos each. What is wanted of them stands below
(`WANTED`); the exit status is 1 if something is missed.

Writes benchmarks/results/precisions.json, which keeps what other machines measured, and precisions.md;
benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls import checkpoint
from edgecls.evaluation.comparison import compare_files
from edgecls.weights import resolve
from edgecls_export import Fp16, Fp32, Int8, ModelCard, export_all, pick_images
from edgecls_runtime.machine import cpu_flags, cpu_name
from edgecls_runtime.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"
EDGECLS = str(Path(sys.executable).with_name("edgecls"))
WEIGHTS = "weights/mobilenet_v2_imagenet.pth"
ARCHS = {"mobilenet_v2": 300, "mobilenet_v3_large": 64, "alexnet": 64, "vgg16": 32}
"""By architecture: pictures to calibrate on; few where the weights are random, for they do not change the speed."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a file must come to.

    Attributes:
        arch: of the file.
        file: name of its row.
        what: in words, the bound included.
        figure: of its row and of float32's, as text.
        met: whether it does, of the same.
        vnni: whether it is about CPUs that have VNNI (True), about those that have not (False), or both (None).
    """

    arch: str
    file: str
    what: str
    figure: Callable[[Row, Row], str]
    met: Callable[[Row, Row], bool]
    vnni: bool | None = None


def at_least(arch: str, file: str, times: float, *, vnni: bool) -> Wanted:
    return Wanted(
        arch,
        file,
        f"at least {times:g} x as quick as fp32",
        lambda row, fp32: f"{speed(row, fp32):.2f} x",
        lambda row, fp32: speed(row, fp32) >= times,
        vnni,
    )


def share(arch: str, file: str, most: float) -> Wanted:
    return Wanted(
        arch,
        file,
        f"at most {most:.0%} of fp32's size",
        lambda row, fp32: f"{row['size_bytes'] / fp32['size_bytes']:.1%}",
        lambda row, fp32: row["size_bytes"] <= most * fp32["size_bytes"],
    )


def agrees(file: str, least: float) -> Wanted:
    return Wanted(
        "mobilenet_v2",
        file,
        f"same top-1 as fp32 on at least {least:g} %",
        lambda row, _: f"{row['agreement']:.1f} %",
        lambda row, _: row["agreement"] >= least,
    )


def alike(file: str, least: float) -> Wanted:
    return Wanted(
        "mobilenet_v2",
        file,
        f"mean cosine at least {least:g}",
        lambda row, _: f"{row['mean_cosine']:.4f}",
        lambda row, _: row["mean_cosine"] >= least,
    )


def speed(row: Row, fp32: Row) -> float:
    return float(fp32["p50_ms"] / row["p50_ms"])


WANTED = (
    Wanted(
        "mobilenet_v2",
        "cpu",
        "acc@1 at most 0.5 points under fp32's",
        lambda row, fp32: f"{row['accuracy'] - fp32['accuracy']:+.1f}",
        lambda row, fp32: row["accuracy"] >= fp32["accuracy"] - 0.5,
    ),
    agrees("cpu", 96),
    alike("cpu", 0.996),
    share("mobilenet_v2", "cpu", 0.28),
    at_least("mobilenet_v2", "cpu", 1.5, vnni=True),
    agrees("tensorrt", 94.5),
    alike("tensorrt", 0.988),
    agrees("fp16", 99.5),
    *(share(arch, "fp16", 0.51) for arch in ("mobilenet_v2", "alexnet", "vgg16")),
    at_least("mobilenet_v3_large", "cpu", 1, vnni=True),
    at_least("mobilenet_v3_large", "cpu-any", 1, vnni=False),
    at_least("alexnet", "cpu", 4, vnni=True),
    at_least("vgg16", "cpu", 3.2, vnni=True),
    Wanted(
        "vgg16",
        "cpu",
        "under 140 MB",
        lambda row, _: f"{row['size_bytes'] / 1e6:.1f} MB",
        lambda row, _: row["size_bytes"] < 140e6,
    ),
)


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
    machines = json.loads(target.read_text("utf-8"))["machines"] if target.exists() else {}
    here = machines.setdefault(cpu_name(), {"vnni": has_vnni(), "archs": {}})
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) if files is None else files
        kept.mkdir(exist_ok=True)
        for arch, calibration in ARCHS.items():
            if not only or arch in only:
                here["archs"][arch] = measure(arch, calibration, data.resolve(), kept, threads)
    here["archs"] = {arch: here["archs"][arch] for arch in ARCHS if arch in here["archs"]}
    document = {"schema": "edgecls.precisions/2", "machines": machines}
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    target.with_suffix(".md").write_text(table(document), "utf-8")
    print(table(document))
    sys.exit(not all(met for *_, met in verdicts(here)))


def has_vnni() -> bool:
    """Return whether the CPU adds products of 8-bit integers in 32 bits at full speed: VNNI, and its like on ARM."""
    return not {"avx_vnni", "avx512_vnni", "asimddp", "i8mm"}.isdisjoint(cpu_flags())


def measure(arch: str, calibration: int, data: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Export all precisions from one conversion, and run them in turn on the photos."""
    photos = data / "imagenet_samples"
    truth: dict[str, int] = json.loads((photos / "labels.json").read_text("utf-8"))
    trained = arch == "mobilenet_v2"
    images = pick_images(data / "imagenette" / "train", calibration, evaluation=[photos])
    cache = folder / "ranges"
    precisions: dict[str, Fp32 | Fp16 | Int8] = {
        "fp32": Fp32(),
        "fp16": Fp16(images=images),
        **{target: Int8(images=images, target=target, cache=cache) for target in ("cpu", "cpu-any", "tensorrt")},
    }
    paths = {name: folder / f"{arch}-{name}.onnx" for name in precisions}
    if not all(path.exists() for path in paths.values()):
        loaded = resolve(arch, str(data / WEIGHTS) if trained else "none")
        source = Source(weights=loaded.weights, sha256=checkpoint.state_dict_sha256(loaded.state_dict))
        reports = export_all(
            loaded.build(),
            [(paths[name], precision) for name, precision in precisions.items()],
            ModelCard(labels=loaded.labels, preprocess=loaded.preprocess, arch=arch, source=source),
            force=True,
            progress=lambda step: print(f"{arch}: {step}", file=sys.stderr),
        )
        print(*reports, sep="\n", file=sys.stderr)
    comparison = compare_files(
        list(paths.values()),
        [photos / name for name in truth],
        targets=list(truth.values()) if trained else None,
        origin="ImageNet photos",
        threads=threads,
    )
    rows = {name: asdict(row) | {"path": Path(row.path).name} for name, row in zip(paths, comparison.rows, strict=True)}
    return {
        "weights": "trained" if trained else "random",
        "calibration_images": calibration,
        "images": comparison.images,
        "provider": comparison.provider,
        "threads": threads,
        "rows": rows,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count(), "architecture": platform.machine()},
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "torch")},
    }


def verdicts(machine: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Return what is wanted of the files measured on a machine, what was seen, and whether it is met."""
    found = []
    for item in WANTED:
        rows = machine["archs"].get(item.arch, {"rows": {}})["rows"]
        if item.file in rows and item.vnni in (None, machine["vnni"]):
            row, fp32 = rows[item.file], rows["fp32"]
            found.append((f"{item.arch}, {title(item.file)}", item.what, item.figure(row, fp32), item.met(row, fp32)))
    return found


def title(file: str) -> str:
    return file if file.startswith("fp") else f"int8, {file}"


def table(document: dict[str, Any]) -> str:
    lines = []
    for cpu, machine in sorted(document["machines"].items(), key=lambda item: not item[1]["vnni"]):
        lines += [f"On {cpu}, {'with' if machine['vnni'] else 'without'} VNNI:", ""]
        lines += machine_table(machine)
        lines += ["", "| of | wanted | seen | |", "|---|---|---|---|"]
        lines += [
            f"| {file} | {what} | {seen} | {'met' if met else '**missed**'} |"
            for file, what, seen, met in verdicts(machine)
        ]
        lines += [""]
    lines += [
        "MobileNetV2 with trained weights, the others with random ones. The CPU provider computes fp16 in float32, and",
        "has no fast kernels for the symmetric integers that `tensorrt` wants: those files are for GPUs. With random",
        "weights a picture fades in MobileNetV3 below what half can hold, so most of its FP16 file stays in float32;",
        "with trained ones it is half the size, as the others. Without VNNI a `cpu` file takes slower kernels, which",
        "do not saturate; `cpu-any` is for such CPUs.",
    ]
    return "\n".join(lines) + "\n"


def machine_table(machine: dict[str, Any]) -> list[str]:
    lines = [
        "| model | file | size | p50, batch 1 | faster than fp32 | acc@1 | same top-1 | mean cosine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arch, item in machine["archs"].items():
        first = item["rows"]["fp32"]
        for name, row in item["rows"].items():
            size = f"{row['size_bytes'] / 1e6:.1f} MB ({row['size_bytes'] / first['size_bytes']:.0%})"
            quality = "| - | - | - |"
            if item["weights"] == "trained":
                quality = f"| {row['accuracy']:.1f} % | {row['agreement']:.1f} % | {row['mean_cosine']:.4f} |"
            lines.append(
                f"| {arch} | {title(name)} | {size} | {row['p50_ms']:.2f} ms | **{speed(row, first):.2f}** {quality}"
            )
    items = list(machine["archs"].values())
    about = {
        f"{item['images']} ImageNet photos; {item['machine']['logical_cores']} logical cores, {item['threads']} "
        f"threads, onnxruntime {item['versions']['onnxruntime']}, {item['date']}"
        for item in items
    }
    return [*lines, "", f"{'; '.join(sorted(about))}."]


if __name__ == "__main__":
    main()
