"""What edgecls costs over the engine: python benchmarks/overhead.py MODEL --images DIR

Everything is a ratio of two things measured in turn in one run, so that a machine whose speed drifts slows both.
Writes benchmarks/results/overhead.json and overhead.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import onnxruntime
import PIL
from PIL import Image

import edgecls_runtime
from edgecls_runtime import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
EDGECLS = str(Path(sys.executable).with_name("edgecls"))


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--processes", default=25, show_default=True, help="Pairs of whole processes.")
@click.option("--rounds", default=6, show_default=True, help="Times that each picture is measured, in turn.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "overhead.json")
def main(model: str, images: Path, processes: int, rounds: int, threads: int, output: Path) -> None:
    pictures = sorted(str(path) for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    bare = [sys.executable, str(HERE / "bare_infer.py"), model, pictures[0]]
    infer = [EDGECLS, "infer", "--engine", model, pictures[0]]
    bare_s, infer_s = in_turn([lambda: run(bare), lambda: run(infer)], processes)
    (help_s,) = in_turn([lambda: run([EDGECLS, "--help"])], processes)
    engine_s, predict_s = per_picture(model, pictures, rounds, threads)
    report = {
        "schema": "edgecls.overhead/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        "model": Path(model).name,
        "pictures": len(pictures),
        "threads": threads,
        "whole_process": {
            "pairs": processes,
            "bare_ms": 1e3 * statistics.median(bare_s),
            "edgecls_infer_ms": 1e3 * statistics.median(infer_s),
            "ratio": median_ratio(infer_s, bare_s),
            "allowed_ratio": 1.5,
        },
        "per_picture": {
            "measured": len(engine_s),
            "decode_resize_run_ms": 1e3 * statistics.median(engine_s),
            "predict_ms": 1e3 * statistics.median(predict_s),
            "ratio": median_ratio(predict_s, engine_s),
            "allowed_ratio": 1.1,
        },
        "help": {"runs": processes, "median_ms": 1e3 * statistics.median(help_s), "allowed_ms": 400},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def in_turn(tasks: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Time tasks one after the other, round by round, after one round that does not count."""
    times: list[list[float]] = [[] for _ in tasks]
    for number in range(rounds + 1):
        # The order turns too: what runs second finds warm caches.
        for position in range(len(tasks)):
            index = (position + number) % len(tasks)
            started = time.perf_counter()
            tasks[index]()
            if number:
                times[index].append(time.perf_counter() - started)
    return times


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def per_picture(model: str, pictures: list[str], rounds: int, threads: int) -> tuple[list[float], list[float]]:
    with Classifier.load(model, threads=threads) as classifier:
        # The classifier's own session: a second one would bring a second pool of threads, which spin for a while
        # after each run and slow down whatever comes next.
        session = classifier._model.backend._session
        name = session.get_inputs()[0].name
        size = classifier.preprocess.resize_size
        assert isinstance(size, int)
        batch = np.zeros((1, 3, *classifier.preprocess.crop_size), np.float32)

        def engine(path: str) -> None:
            """Pillow's decode and resize and the raw run: what nobody can do without."""
            image = Image.open(path).convert("RGB")
            short = min(image.size)
            image.resize((int(size * image.width / short), int(size * image.height / short)), Image.Resampling.BILINEAR)
            session.run(None, {name: batch})

        engine_s: list[float] = []
        predict_s: list[float] = []
        gc.disable()
        for path in pictures:
            first, second = in_turn([partial(engine, path), partial(classifier.predict, path)], rounds)
            engine_s += first
            predict_s += second
        gc.enable()
    return engine_s, predict_s


def median_ratio(contender: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(contender, baseline, strict=True))


def table(report: dict[str, dict[str, float]]) -> str:
    whole, single, usage = report["whole_process"], report["per_picture"], report["help"]
    machine = report["machine"]
    return (
        "| what | edgecls | held against | ratio | allowed |\n|---|---|---|---|---|\n"
        f"| whole process, one picture | `edgecls infer` {whole['edgecls_infer_ms']:.0f} ms "
        f"| 15-line script {whole['bare_ms']:.0f} ms | **{whole['ratio']:.2f}** | {whole['allowed_ratio']} |\n"
        f"| one picture in a running process | `Classifier.predict` {single['predict_ms']:.2f} ms "
        f"| Pillow decode + resize + raw `session.run` {single['decode_resize_run_ms']:.2f} ms "
        f"| **{single['ratio']:.3f}** | {single['allowed_ratio']} |\n"
        f"| `edgecls --help` | {usage['median_ms']:.0f} ms | | | {usage['allowed_ms']} ms |\n\n"
        f"{report['model']}, {report['pictures']} pictures, {report['threads']} threads; {machine['cpu']}, "
        f"{machine['logical_cores']} logical cores; {report['date']}; medians over {whole['pairs']:.0f} pairs of "
        f"processes and {single['measured']:.0f} pairs of pictures, measured in turn.\n"
    )


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
