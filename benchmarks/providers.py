"""Our OpenVINO backend against OpenVINO itself: python benchmarks/providers.py MODEL...

Three ways to run the same file with the same settings (float32, latency, as many threads): `Classifier.run`, a bare
loop of OpenVINO's Python API, and OpenVINO's own `benchmark_app`. The first two take turns run by run in one process,
so that a machine whose speed drifts slows both; the third is a process of its own, in turns with one of the first alone
(two models in one process take the cache from each other), as is ONNX Runtime for comparison. Writes
benchmarks/results/providers.json and providers.md; wants a quiet machine.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import edgecls_runtime
from edgecls_runtime import Classifier
from edgecls_runtime.backends.openvino import import_openvino
from edgecls_runtime.machine import cpu_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HERE = Path(__file__).parent
BENCHMARK_APP = str(Path(sys.executable).with_name("benchmark_app"))
# It reports its use to its makers, except in continuous integration; and says where it is as it goes.
BENCHMARK_APP_ENVIRONMENT = os.environ | {"CI": "true", "PYTHONUNBUFFERED": "1"}
PROCESSES = ("pair", "edgecls", "benchmark_app", "onnxruntime")
ALLOWED = 1.05


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of runs, for each way in each round.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "providers.json")
@click.option("--child", type=click.Choice(PROCESSES), hidden=True)
def main(models: tuple[str, ...], rounds: int, seconds: float, threads: int, output: Path, child: str | None) -> None:
    if child is not None:
        runs = [classifier_run(models[0], "cpu" if child == "onnxruntime" else "openvino", threads)]
        if child == "pair":
            runs.append(bare_run(models[0], threads))
        click.echo(json.dumps(times_ms(runs, seconds)))
        return
    rows = []
    for model in models:
        rounds_ms: dict[str, list[float]] = {way: [] for way in ("edgecls", "bare", "benchmark_app", "onnxruntime")}
        pairs: list[float] = []
        for number in range(rounds):
            for process in PROCESSES if number % 2 else reversed(PROCESSES):
                if process == "benchmark_app":
                    rounds_ms[process].append(benchmark_app_ms(model, threads, seconds))
                    continue
                found = in_a_process(process, model, threads, seconds)
                if process == "pair":
                    rounds_ms["bare"].append(statistics.median(found[1]))
                    pairs += [ours / theirs for ours, theirs in zip(*found, strict=True)]
                else:
                    rounds_ms[process].append(statistics.median(found[0]))
        rows.append(
            {
                "model": Path(model).name,
                "p50_ms": {way: statistics.median(times) for way, times in rounds_ms.items()},
                "ratio_to_bare": statistics.median(pairs),
                "pairs": len(pairs),
                "ratio_to_benchmark_app": statistics.median(
                    ours / theirs for ours, theirs in zip(rounds_ms["edgecls"], rounds_ms["benchmark_app"], strict=True)
                ),
                "rounds_ms": rounds_ms,
            }
        )
    report = {
        "schema": "edgecls.providers/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {"edgecls": edgecls_runtime.__version__, "openvino": import_openvino().__version__},
        "threads": threads,
        "rounds": rounds,
        "allowed_ratio": ALLOWED,
        "models": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def in_a_process(process: str, model: str, threads: int, seconds: float) -> list[list[float]]:
    command = [sys.executable, __file__, model, "--child", process]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    times: list[list[float]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return times


def benchmark_app_ms(model: str, threads: int, seconds: float) -> float:
    command = benchmark_app_command(model, seconds)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=BENCHMARK_APP_ENVIRONMENT)
    return benchmark_app_median(done.stdout, threads)


def benchmark_app_command(model: str, seconds: float) -> list[str]:
    command = [BENCHMARK_APP, "-m", model, "-d", "CPU", "-hint", "latency", "-api", "sync"]
    # Left alone, it takes a picture's input for uint8, and puts a conversion before the model.
    command += ["-infer_precision", "CPU:f32", "-data_shape", "[1,3,224,224]", "-ip", "f32"]
    return [*command, "-t", str(max(1, round(seconds)))]


def benchmark_app_median(said: str, threads: int) -> float:
    """Return milliseconds a run, from what `benchmark_app` printed."""
    # It refuses to be told the number of threads along with the hint, so its own must be ours.
    assert f"INFERENCE_NUM_THREADS: {threads}" in said, said
    return said_number("Median", said)


def said_number(name: str, said: str) -> float:
    found = re.search(rf"{name}:\s+([\d.]+) ", said)
    assert found, said
    return float(found[1])


def classifier_run(model: str, provider: str, threads: int) -> Callable[[NDArray[np.float32]], object]:
    return Classifier.load(model, provider=provider, threads=threads).run


def bare_run(model: str, threads: int) -> Callable[[NDArray[np.float32]], object]:
    openvino = import_openvino()
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda batch: request.infer([batch], share_inputs=True)


def times_ms(runs: list[Callable[[NDArray[np.float32]], object]], seconds: float) -> list[list[float]]:
    """Time the runs one after the other, turn by turn, after a few that do not count."""
    batch = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    times: list[list[float]] = [[] for _ in runs]
    end = float("inf")
    for number in itertools.count():
        if number == 5:
            times = [[] for _ in runs]
            end = time.perf_counter() + seconds * len(runs)
        for position in range(len(runs)):  # who runs second finds warm caches: the order turns too
            index = (position + number) % len(runs)
            started = time.perf_counter()
            runs[index](batch)
            times[index].append(1e3 * (time.perf_counter() - started))
        if number >= 10 and time.perf_counter() > end:
            break
    return times


def table(report: dict[str, Any]) -> str:
    lines = [
        "| model | edgecls, openvino | bare loop | ratio | `benchmark_app` | ratio | allowed | edgecls, onnxruntime |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["models"]:
        p50 = row["p50_ms"]
        lines.append(
            f"| {row['model']} | {p50['edgecls']:.2f} ms | {p50['bare']:.2f} ms | **{row['ratio_to_bare']:.3f}** "
            f"| {p50['benchmark_app']:.2f} ms | **{row['ratio_to_benchmark_app']:.3f}** | {report['allowed_ratio']} "
            f"| {p50['onnxruntime']:.2f} ms |"
        )
    machine, version = report["machine"], report["versions"]["openvino"].partition("-")[0]
    lines.append(
        f"\nOne picture a run, float32, {report['threads']} threads, openvino {version}; {machine['cpu']}, "
        f"{machine['logical_cores']} logical cores; {report['date']}; p50; medians of ratios over "
        f"{', '.join(str(row['pairs']) for row in report['models'])} pairs of runs in turn with the bare loop, and "
        f"over {report['rounds']} rounds in turn with `benchmark_app`."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
