"""Our OpenVINO backend against OpenVINO itself: python benchmarks/providers.py MODEL...

Three ways to run the same file with the same settings (float32, latency, as many threads): `Classifier.run`, a bare
loop of OpenVINO's Python API, and OpenVINO's own `benchmark_app`, each a process of its own, in turns. ONNX Runtime
runs along for comparison. Writes benchmarks/results/providers.json and providers.md.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

import edgecls_runtime
from edgecls_runtime import Classifier
from edgecls_runtime.backends.openvino import import_openvino
from edgecls_runtime.machine import cpu_name

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
BENCHMARK_APP = str(Path(sys.executable).with_name("benchmark_app"))
WAYS = ("edgecls", "bare", "benchmark_app", "onnxruntime")
ALLOWED = 1.05


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of runs, for each way in each round.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "providers.json")
@click.option("--child", type=click.Choice(WAYS), hidden=True)
def main(models: tuple[str, ...], rounds: int, seconds: float, threads: int, output: Path, child: str | None) -> None:
    if child is not None:
        click.echo(json.dumps(p50_ms(run_of(child, models[0], threads), seconds)))
        return
    rows = []
    for model in models:
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS if number % 2 else reversed(WAYS):
                times[way].append(in_a_process(way, model, threads, seconds))
        rows.append(
            {
                "model": Path(model).name,
                "p50_ms": {way: statistics.median(times[way]) for way in WAYS},
                "ratio_to_bare": median_ratio(times["edgecls"], times["bare"]),
                "ratio_to_benchmark_app": median_ratio(times["edgecls"], times["benchmark_app"]),
                "rounds_ms": times,
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


def in_a_process(way: str, model: str, threads: int, seconds: float) -> float:
    if way == "benchmark_app":
        command = [BENCHMARK_APP, "-m", model, "-d", "CPU", "-hint", "latency", "-api", "sync"]
        command += ["-infer_precision", "CPU:f32", "-data_shape", "[1,3,224,224]"]
        command += ["-t", str(max(1, round(seconds)))]
        # It reports its use to its makers, except in continuous integration.
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"CI": "true"})
        found = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
        assert found, done.stdout
        # It refuses to be told the number of threads along with the hint, so its own must be ours.
        assert f"INFERENCE_NUM_THREADS: {threads}" in done.stdout, done.stdout
        return float(found[1])
    command = [sys.executable, __file__, model, "--child", way, "--threads", str(threads), "--seconds", str(seconds)]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def run_of(way: str, model: str, threads: int) -> Callable[[], object]:
    batch = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    if way == "bare":
        openvino = import_openvino()
        core = openvino.Core()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
        return lambda: request.infer([batch], share_inputs=True)
    classifier = Classifier.load(model, provider="openvino" if way == "edgecls" else "cpu", threads=threads)
    return lambda: classifier.run(batch)


def p50_ms(run: Callable[[], object], seconds: float) -> float:
    for _ in range(5):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def median_ratio(contender: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(contender, baseline, strict=True))


def table(report: dict) -> str:
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
        f"{machine['logical_cores']} logical cores; {report['date']}; p50, and medians of ratios over "
        f"{report['rounds']} rounds of a process each, in turn."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
