"""Many pictures, against what the machine can do: python benchmarks/folder.py MODEL... --images DIR

The bound is the longest of three times, none of which anybody can beat: decoding and resizing alone on all cores,
inference alone on all cores, and both as measured on one core, divided by the cores. `Classifier.predict_stream` is
held against it, and so are other splits of threads, workers and batches. Each has a process of its own, over and over
the folder, and they take turns of a quarter of a second by signals, which POSIX has: a shared machine's speed changes
by more within seconds than is asked for here. Their order is drawn anew each time, for whoever comes after a process
that left a core idle is slower. A round makes new processes, for two of the same differ by 2 %. Writes
benchmarks/results/folder.json and folder.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import itertools
import json
import multiprocessing
import os
import platform
import signal
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnxruntime
import PIL
from overhead import EDGECLS, run

import edgecls_runtime
from edgecls.benchmark.intervals import median_of_ratios
from edgecls_runtime import Classifier
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.machine import cpu_name
from edgecls_runtime.parallel import bounded_map
from edgecls_runtime.preprocess import load
from edgecls_runtime.stream import default_batch_size

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event

HERE = Path(__file__).parent
CORES = usable_cpus()
DEFAULT = (1, CORES, 4)
TURN_S = 0.25
WARM_UP = 50  # pictures
# (threads of a run, workers, batch size)
SPLITS = [DEFAULT, (1, 1, 4), (1, 2 * CORES, 4), (1, CORES, 1), (1, CORES, 8), (CORES, 1, 4), (CORES, CORES, 4)]
# (threads of a run, workers) of each part of the bound
PARTS = {
    "decode_all_cores": (1, CORES),
    "infer_all_cores": (1, CORES),
    "infer_all_cores_one_run": (CORES, 1),
    "decode_one_core": (1, 1),
    "infer_one_core": (1, 1),
}


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--rounds", default=8, show_default=True, help="Times that all processes are made anew.")
@click.option("--turns", default=16, show_default=True, help="Of each process in a round, of a quarter of a second.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "folder.json")
def main(models: tuple[str, ...], images: Path, rounds: int, turns: int, output: Path) -> None:
    pictures = sorted(str(path) for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    report = {
        "schema": "edgecls.folder/3",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": CORES, "python": platform.python_version()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        "pictures": len(pictures),
        "rounds": rounds,
        "seconds_each": TURN_S * turns,
        "wanted_ratio": 0.9,
        "models": [measure(model, pictures, images, rounds, turns) for model in models],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def measure(model: str, pictures: list[str], folder: Path, rounds: int, turns: int) -> dict[str, Any]:
    with Classifier.load(model, threads=DEFAULT[0]) as classifier:
        assert default_batch_size(classifier) == DEFAULT[2]
    tasks = [*PARTS, *SPLITS]
    random = np.random.default_rng(0)
    ms: dict[Any, list[float]] = {task: [] for task in tasks}
    for _ in range(rounds):
        start = int(random.integers(len(pictures)))
        drawn = pictures[start:] + pictures[:start]
        for task, taken in zip(tasks, ms_per_picture(model, drawn, turns, random), strict=True):
            ms[task].append(taken)
    bounds = [
        max(decoding, min(running, running_one), (decode_core + infer_core) / CORES)
        for decoding, running, running_one, decode_core, infer_core in zip(*(ms[part] for part in PARTS), strict=True)
    ]
    streams = []
    for split in SPLITS:
        share = median_of_ratios([[time] for time in ms[split]], [[bound] for bound in bounds], error=0.025)
        streams.append(
            {
                "threads": split[0],
                "workers": split[1],
                "batch_size": split[2],
                "default": split == DEFAULT,
                "pictures_per_second": 1e3 / statistics.median(ms[split]),
                "ratio": statistics.median(bound / taken for bound, taken in zip(bounds, ms[split], strict=True)),
                "interval": None if share is None else (share.low, share.high),
                "ms_per_picture": ms[split],
            }
        )
    started = time.perf_counter()
    run([EDGECLS, "infer", "--engine", model, str(folder), "--format", "jsonl"])
    seconds = time.perf_counter() - started
    return {
        "model": Path(model).name,
        "ms_per_picture": {part: statistics.median(ms[part]) for part in PARTS},
        "ms_per_picture_by_round": {part: ms[part] for part in PARTS},
        "bound_pictures_per_second": 1e3 / statistics.median(bounds),
        "streams": streams,
        "whole_process": {
            "seconds": seconds,
            "pictures_per_second": len(pictures) / seconds,
            "ratio": statistics.median(bounds) / 1e3 * len(pictures) / seconds,
        },
    }


def ms_per_picture(model: str, pictures: list[str], turns: int, random: np.random.Generator) -> Iterator[float]:
    """Yield how long each part of the bound, then each split, takes for a picture, while it is not stopped."""
    context = multiprocessing.get_context("spawn")  # a fork would share the engine's threads
    with ExitStack() as stack:
        processes, counts = [], []
        for task in (*PARTS, *SPLITS):
            count, ready = context.Value("q", 0, lock=False), context.Event()
            process = context.Process(target=work, args=(task, model, pictures, count, ready), daemon=True)
            process.start()
            stack.callback(process.kill)  # stopped or not
            ready.wait()
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
            processes.append(process.pid)
            counts.append(count)
        before = [count.value for count in counts]
        seconds = [0.0] * len(processes)
        for number in itertools.chain.from_iterable(random.permutation(len(processes)) for _ in range(turns)):
            started = time.perf_counter()
            os.kill(processes[number], signal.SIGCONT)
            time.sleep(TURN_S)
            os.kill(processes[number], signal.SIGSTOP)
            seconds[number] += time.perf_counter() - started
        answered = [count.value - first for count, first in zip(counts, before, strict=True)]
    yield from (1e3 * taken / number for taken, number in zip(seconds, answered, strict=True))


def work(
    task: str | tuple[int, int, int], model: str, pictures: list[str], count: ctypes.c_longlong, ready: Event
) -> None:
    """Go over the pictures until killed, and count them, as one part of the bound or as a stream."""
    threads, workers, *batch_sizes = PARTS[task] if isinstance(task, str) else task
    classifier = Classifier.load(model, threads=threads)
    batch = np.stack([load(pictures[0], classifier.preprocess)])
    inputs = threading.local()

    def decode(path: str) -> None:
        if not hasattr(inputs, "batch"):
            inputs.batch = np.empty_like(batch[0])
        load(path, classifier.preprocess, out=inputs.batch)

    def infer(_: str) -> None:
        classifier.run(batch)

    done: Iterator[object]
    if isinstance(task, str):
        done = bounded_map(decode if "decode" in task else infer, itertools.cycle(pictures), workers=workers)
    else:
        done = classifier.predict_stream(itertools.cycle(pictures), workers=workers, batch_size=batch_sizes[0])
    for number, _ in enumerate(done):
        count.value = number
        if number == WARM_UP:
            ready.set()


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
        f"{report['pictures']} photos, {report['seconds_each']:g} s of each in turns, medians over {report['rounds']} "
        f"rounds (in brackets the 95 % interval); {machine['cpu']}, {machine['logical_cores']} logical cores; "
        f"onnxruntime {report['versions']['onnxruntime']}; {report['date']}.\n"
    )


if __name__ == "__main__":
    main()
