"""Many pictures, against what the machine can do: python benchmarks/folder.py MODEL... --images DIR

The bound is the longest of three times, none of which anybody can beat: decoding and resizing alone on all cores,
inference alone on all cores, and both as measured on one core, divided by the cores. `Classifier.predict_stream` is
held against it, and so are other splits of threads, workers and batches: all in turn in one run, each over every part
of the folder. Writes benchmarks/results/folder.json and folder.md; benchmarks/write_tables.py puts the table into the
README.
"""

from __future__ import annotations

import datetime
import itertools
import json
import platform
import statistics
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnxruntime
import PIL
from overhead import EDGECLS, in_turn, run

import edgecls_runtime
from edgecls.benchmark.intervals import median_of_ratios
from edgecls_runtime import Classifier
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.machine import cpu_name
from edgecls_runtime.parallel import bounded_map
from edgecls_runtime.preprocess import load

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CORES = usable_cpus()
DEFAULT = (1, CORES, 1)
# (threads of a run, workers, batch size)
SPLITS = [DEFAULT, (1, 1, 1), (1, 2 * CORES, 1), (1, CORES, 8), (CORES, 1, 1), (CORES, CORES, 1)]


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--parts", default=10, show_default=True, help="Parts of the folder, each measured in turn.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "folder.json")
def main(models: tuple[str, ...], images: Path, parts: int, output: Path) -> None:
    pictures = sorted(str(path) for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    report = {
        "schema": "edgecls.folder/2",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": CORES, "python": platform.python_version()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        "pictures": len(pictures),
        "parts": parts,
        "wanted_ratio": 0.9,
        "models": [measure(model, pictures, images, parts) for model in models],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def measure(model: str, pictures: list[str], folder: Path, parts: int) -> dict[str, Any]:
    with ExitStack() as stack:
        one, all_cores = (stack.enter_context(Classifier.load(model, threads=threads)) for threads in (1, CORES))
        inputs = threading.local()

        def decode(path: str) -> None:
            if not hasattr(inputs, "batch"):
                inputs.batch = np.empty((3, *one.preprocess.crop_size), np.float32)
            load(path, one.preprocess, out=inputs.batch)

        batch = np.stack([load(pictures[0], one.preprocess)])
        rounds: Counter[str] = Counter()  # of each task: every round has its own part of the pictures

        def each(name: str, function: Callable[[str], object], workers: int) -> None:
            deque(bounded_map(function, part(name), workers=workers), maxlen=0)

        def stream(name: str, threads: int, workers: int, batch_size: int) -> None:
            classifier = one if threads == 1 else all_cores
            deque(classifier.predict_stream(part(name), workers=workers, batch_size=batch_size), maxlen=0)

        def part(name: str) -> list[str]:
            rounds[name] += 1
            return pictures[rounds[name] % parts :: parts]

        tasks: dict[str, Callable[[], object]] = {
            "decode_all_cores": partial(each, "decode_all_cores", decode, CORES),
            "infer_all_cores": partial(each, "infer_all_cores", lambda _: one.run(batch), CORES),
            "infer_all_cores_one_run": partial(each, "infer_all_cores_one_run", lambda _: all_cores.run(batch), 1),
            "decode_one_core": partial(each, "decode_one_core", decode, 1),
            "infer_one_core": partial(each, "infer_one_core", lambda _: one.run(batch), 1),
            **{f"stream {split}": partial(stream, f"stream {split}", *split) for split in SPLITS},
        }
        seconds_each = in_turn(list(tasks.values()), parts)
    count = len(pictures) / parts
    ms = {name: [1e3 * seconds / count for seconds in times] for name, times in zip(tasks, seconds_each, strict=True)}
    bounds = [
        max(decoding, min(running, running_one), (decode_core + infer_core) / CORES)
        for decoding, running, running_one, decode_core, infer_core in zip(
            *itertools.islice(ms.values(), 5), strict=True
        )
    ]
    rounds_of = {name: [[time] for time in times] for name, times in {**ms, "bound": bounds}.items()}
    shares = {
        split: median_of_ratios(rounds_of[f"stream {split}"], rounds_of["bound"], error=0.025) for split in SPLITS
    }
    streams = [
        {
            "threads": split[0],
            "workers": split[1],
            "batch_size": split[2],
            "default": split == DEFAULT,
            "pictures_per_second": 1e3 / statistics.median(ms[f"stream {split}"]),
            "ratio": statistics.median(
                bound / taken for bound, taken in zip(bounds, ms[f"stream {split}"], strict=True)
            ),
            "interval": None if (share := shares[split]) is None else (share.low, share.high),
        }
        for split in SPLITS
    ]
    started = time.perf_counter()
    run([EDGECLS, "infer", "--engine", model, str(folder), "--format", "jsonl"])
    seconds = time.perf_counter() - started
    return {
        "model": Path(model).name,
        "ms_per_picture": {name: statistics.median(times) for name, times in ms.items() if "stream" not in name},
        "bound_pictures_per_second": 1e3 / statistics.median(bounds),
        "streams": streams,
        "whole_process": {
            "seconds": seconds,
            "pictures_per_second": len(pictures) / seconds,
            "ratio": statistics.median(bounds) / 1e3 * len(pictures) / seconds,
        },
    }


def table(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = ["| model | how | pictures/s | share of the bound |", "|---|---|---|---|"]
    for entry in report["models"]:
        lines.append(f"| {entry['model']} | the bound | {entry['bound_pictures_per_second']:.0f} | 1 |")
        for row in entry["streams"]:
            plural = "s" if row["threads"] > 1 else ""
            how = f"{row['threads']} thread{plural} a run, workers {row['workers']}, batch size {row['batch_size']}"
            ratio = f"{row['ratio']:.2f}"
            if row["default"]:
                how, ratio = f"`predict_stream`, as it comes: {how}", f"**{ratio}**"
            if row["interval"]:
                ratio += " ({:.2f} to {:.2f})".format(*row["interval"])
            if row["default"]:
                ratio += f"; wanted {report['wanted_ratio']}"
            lines.append(f"| {entry['model']} | {how} | {row['pictures_per_second']:.0f} | {ratio} |")
        whole = entry["whole_process"]
        lines.append(
            f"| {entry['model']} | `edgecls infer FOLDER`, start and all | {whole['pictures_per_second']:.0f} "
            f"| {whole['ratio']:.2f} |"
        )
    return (
        "\n".join(lines) + "\n\n"
        f"{report['pictures']} photos, medians over {report['parts']} parts (in brackets the 95 % interval), in turn "
        f"with what the bound is made of; {machine['cpu']}, {machine['logical_cores']} logical cores; "
        f"onnxruntime {report['versions']['onnxruntime']}; {report['date']}.\n"
    )


if __name__ == "__main__":
    main()
