"""Does edgecls stay as it is? python benchmarks/soak.py MODEL --images DIR

A hundred thousand predictions, two hundred reloads, and 64 threads at once. The predictions and reloads are of a tiny
model (tests/models), so that they take minutes; a share of both is of MODEL on photos. Memory is the process's own
(resident set), read at even distances after a warm-up, with the garbage collector run and the allocator told to give
back what is free, where it can (glibc's ``malloc_trim``): else the pages that it keeps for later come and go by
megabytes. Held against a bound are the growth that a straight line through the readings makes (Theil-Sen: the median of
the slopes of all pairs, which a single reading cannot tilt) and the difference between the medians of the last and of
the first quarter. Writes benchmarks/results/soak.json and soak.md; benchmarks/write_tables.py puts the table into the
README.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import itertools
import json
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnxruntime
from PIL import Image

import edgecls_runtime
from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.machine import cpu_flags, cpu_name

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "models"
THREADS = 64
READINGS = 40
ALLOWED_GROWTH_BYTES = 4e6
"""Over all of a row: what the allocator's own noise comes to. A leak of 40 bytes a prediction would be as much."""


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--predictions", default=100_000, show_default=True, help="Of the tiny model.")
@click.option("--reloads", default=200, show_default=True, help="Of the tiny model.")
@click.option("--real-predictions", default=3_000, show_default=True, help="Of MODEL.")
@click.option("--real-reloads", default=40, show_default=True, help="Of MODEL.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "soak.json")
def main(
    model: str,
    images: Path,
    predictions: int,
    reloads: int,
    real_predictions: int,
    real_reloads: int,
    output: Path,
) -> None:
    if memory() is None:
        raise click.UsageError("no /proc/self/statm here: this measures on Linux alone")
    photos = [path.read_bytes() for path in sorted(images.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")][:200]
    small = [np.asarray(Image.fromarray(draw_picture(number)).resize((48, 40))) for number in range(7)]
    name = Path(model).name
    tiny, other = str(TINY / "tiny.onnx"), str(TINY / "multilabel.onnx")
    rows = [
        soak("predictions, tiny model", tiny, predict(small), predictions),
        soak("reloads, tiny model, a prediction after each", tiny, reload([tiny, other], small), reloads),
        soak(f"predictions, {name}", model, predict(photos), real_predictions),
        soak(f"reloads, {name}, a prediction after each", model, reload([model], photos), real_reloads),
    ]
    threads = [identical(tiny, small * 20), identical(model, photos[:32])]
    report = {
        "schema": "edgecls.soak/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "cpu_flags": cpu_flags(), "logical_cores": os.cpu_count()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "allowed_growth_bytes": ALLOWED_GROWTH_BYTES,
        "memory": rows,
        "threads": threads,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())
    if not all(row["passed"] for row in rows) or not all(row["identical"] for row in threads):
        sys.exit(1)


def predict(pictures: list[Any]) -> Callable[[Classifier, int], object]:
    return lambda classifier, number: classifier.predict(pictures[number % len(pictures)])


def reload(files: list[str], pictures: list[Any]) -> Callable[[Classifier, int], object]:
    def once(classifier: Classifier, number: int) -> None:
        classifier.reload(files[number % len(files)])
        classifier.predict(pictures[number % len(pictures)])

    return once


def soak(what: str, model: str, step: Callable[[Classifier, int], object], count: int) -> dict[str, Any]:
    """Take a step ``count`` times, after a tenth of that to warm up; read the memory as it goes."""
    started = time.monotonic()
    readings: list[int] = []
    marks = {round((number + 1) * count / READINGS) for number in range(READINGS)}
    with Classifier.load(model, threads=1) as classifier:
        for number in range(max(count // 10, 2)):
            step(classifier, number)
        for number in range(1, count + 1):
            step(classifier, number)
            if number in marks:
                readings.append(settled_memory())
    quarter = len(readings) // 4
    growth = slope(readings) * (len(readings) - 1)
    shift = statistics.median(readings[-quarter:]) - statistics.median(readings[:quarter])
    return {
        "what": what,
        "count": count,
        "readings_bytes": readings,
        "median_bytes": statistics.median(readings),
        "growth_bytes": growth,
        "shift_bytes": shift,
        "passed": max(growth, shift) <= ALLOWED_GROWTH_BYTES,
        "seconds": time.monotonic() - started,
    }


def slope(values: list[int]) -> float:
    """Return the median of the slopes of all pairs (Theil-Sen), in bytes from one reading to the next."""
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((later - sooner) / (j - i) for (i, sooner), (j, later) in pairs)


def identical(model: str, pictures: list[Any]) -> dict[str, Any]:
    """Answer pictures in one thread, then in many that begin together: every bit must be the same."""
    with Classifier.load(model, threads=1) as classifier:
        logits = [classifier.logits(picture) for picture in pictures]
        answers = [classifier.predict(picture) for picture in pictures]

        def again(shift: int) -> int:
            different = 0
            for number in range(len(pictures)):
                place = (number + shift) % len(pictures)
                same = np.array_equal(classifier.logits(pictures[place]), logits[place])
                different += not same or classifier.predict(pictures[place]) != answers[place]
            return different

        with ThreadPoolExecutor(THREADS) as pool:
            different = sum(pool.map(again, range(THREADS)))
    total = THREADS * len(pictures)
    return {"model": Path(model).name, "threads": THREADS, "answers": total, "identical": different == 0}


def memory() -> int | None:
    """Return the resident memory of this process, in bytes; None where the kernel does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def settled_memory() -> int:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # musl has none
        ctypes.CDLL(None).malloc_trim(0)
    return memory() or 0


def table(report: dict[str, Any]) -> str:
    lines = ["| what | times | resident | growth | last quarter - first | allowed |", "|---|---|---|---|---|---|"]
    for row in report["memory"]:
        lines.append(
            f"| {row['what']} | {row['count']:,} | {row['median_bytes'] / 1e6:.1f} MB "
            f"| **{row['growth_bytes'] / 1e6:+.2f} MB** | {row['shift_bytes'] / 1e6:+.2f} MB "
            f"| {report['allowed_growth_bytes'] / 1e6:.0f} MB |"
        )
    for row in report["threads"]:
        verdict = "**identical** to one thread's" if row["identical"] else "**NOT identical** to one thread's"
        lines.append(f"| {row['threads']} threads, {row['model']} | {row['answers']:,} | {verdict} | | | identical |")
    machine = report["machine"]
    return (
        "\n".join(lines) + "\n\n"
        f"{machine['cpu']} ({', '.join(machine['cpu_flags'])}), {machine['logical_cores']} logical cores; onnxruntime "
        f"{report['versions']['onnxruntime']}, Python {report['versions']['python']}; {report['date']}.\n"
    )


if __name__ == "__main__":
    main()
