"""Does `edgecls bench` measure what others measure, and soon enough? python benchmarks/meters.py MODEL

Three times the same work by two meters that take turns:

* its latency of a query, against `Classifier.predict` under a clock, picture by picture in one process;
* its `--scenario engine` on ONNX Runtime, against a bare loop of `session.run`, as onnxruntime_perf_test is one;
* its `--scenario engine` on OpenVINO, against OpenVINO's own `benchmark_app`.

The meters take turns in processes of their own: the bare loop in short blocks, `benchmark_app` as a whole, for it can
be told no other way. That makes one pair a round, and what the machine does between its turns takes many rounds to
average out. A row is met only where the whole 95 % interval of its ratio lies within what is allowed. At the end
`edgecls bench --quick --baseline` is timed as a whole. Writes benchmarks/results/meters.json and meters.md; wants a
quiet machine.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from providers import benchmark_app_ms

import edgecls_runtime
from edgecls.benchmark.intervals import FEWEST_ROUNDS, median_of_ratios
from edgecls.benchmark.picture_sets import open_pictures
from edgecls.benchmark.queries import StagedQueries
from edgecls.benchmark.worker import Order, Worker
from edgecls_runtime import Classifier
from edgecls_runtime.backends.onnxruntime import import_onnxruntime
from edgecls_runtime.backends.openvino import import_openvino
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.machine import cpu_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

HERE = Path(__file__).parent
ALLOWED = 0.05
WARMUP_S = 1.0
BLOCK_S = 0.1

Round = list[tuple[float, float]]  # pairs of ours and theirs, milliseconds


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--rounds", default=60, show_default=True, type=click.IntRange(min=FEWEST_ROUNDS), help="Turns of each meter."
)
@click.option("--seconds", default=1.0, show_default=True, help="Of runs, for each meter in each round.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "meters.json")
@click.option("--child", is_flag=True, hidden=True)
def main(model: str, rounds: int, seconds: float, threads: int, output: Path, child: bool) -> None:
    if child:
        follow_orders(bare_run(model, threads))
        return
    with tempfile.TemporaryDirectory() as folder, open_pictures() as pictures:
        rows = [
            row(
                "a query",
                "edgecls bench",
                "Classifier.predict",
                predict_pairs(model, pictures.paths, rounds, seconds, threads),
            ),
            row(
                "a run, onnxruntime",
                "edgecls bench --scenario engine",
                "bare loop of session.run",
                bare_pairs(model, pictures.paths, rounds, seconds, threads),
            ),
            row(
                "a run, openvino",
                "edgecls bench --scenario engine",
                "benchmark_app",
                benchmark_app_pairs(model, pictures.paths, rounds, seconds, threads),
            ),
        ]
        quick = quick_verdict(model, threads, Path(folder))
    report = {
        "schema": "edgecls.meters/2",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": import_onnxruntime().__version__,
            "openvino": import_openvino().__version__,
        },
        "model": Path(model).name,
        "threads": threads,
        "rounds": rounds,
        "allowed_difference": ALLOWED,
        "quick_verdict": quick,
        "meters": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def row(work: str, ours: str, theirs: str, rounds_ms: list[Round]) -> dict:
    by_us, by_them = ([[pair[side] for pair in pairs] for pairs in rounds_ms] for side in (0, 1))
    interval = median_of_ratios(by_them, by_us, error=0.025)
    assert interval is not None, "there are enough rounds"
    return {
        "work": work,
        "ours": ours,
        "theirs": theirs,
        "ours_ms": statistics.median(itertools.chain(*by_us)),
        "theirs_ms": statistics.median(itertools.chain(*by_them)),
        "ratio": interval.ratio,
        "low": interval.low,
        "high": interval.high,
        "met": interval.low >= 1 - ALLOWED and interval.high <= 1 + ALLOWED,
        "pairs": sum(len(pairs) for pairs in rounds_ms),
        "rounds_ms": [[[round(time, 5) for time in pair] for pair in pairs] for pairs in rounds_ms],
    }


def predict_pairs(model: str, paths: tuple[str, ...], rounds: int, seconds: float, threads: int) -> list[Round]:
    rounds_ms: list[Round] = []
    numbers = itertools.count()
    with Classifier.load(model, threads=threads) as classifier, classifier.hold() as loaded:
        queries = StagedQueries(loaded, paths, batch_size=1, max_pixels=classifier.max_pixels)
        for duration in (WARMUP_S, *[seconds] * rounds):
            rounds_ms.append([])
            end = time.monotonic() + duration
            while time.monotonic() < end or not rounds_ms[-1]:
                number = next(numbers)
                path = paths[number % len(paths)]
                # The same picture for both; who comes second finds its bytes in the cache, so that turns, too.
                both = {}
                for meter in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    if meter == "ours":
                        both[meter] = sum(queries.answer()) / 1e6
                    else:
                        started = time.perf_counter_ns()
                        classifier.predict(path)
                        both[meter] = (time.perf_counter_ns() - started) / 1e6
                rounds_ms[-1].append((both["ours"], both["theirs"]))
    return rounds_ms[1:]


def bare_pairs(model: str, pictures: tuple[str, ...], rounds: int, seconds: float, threads: int) -> list[Round]:
    rounds_ms: list[Round] = []
    command = [sys.executable, __file__, model, "--child", "--threads", str(threads)]
    for _ in range(rounds):
        rounds_ms.append([])
        with (
            warm_worker(model, pictures, "cpu", threads) as worker,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare,
        ):
            ask(bare, WARMUP_S)
            for number in range(max(1, round(seconds / BLOCK_S))):
                both = {}
                for meter in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    both[meter] = run_ms(worker, BLOCK_S) if meter == "ours" else ask(bare, BLOCK_S)
                rounds_ms[-1].append((both["ours"], both["theirs"]))
            bare.communicate("")
    return rounds_ms


def benchmark_app_pairs(
    model: str, pictures: tuple[str, ...], rounds: int, seconds: float, threads: int
) -> list[Round]:
    rounds_ms: list[Round] = []
    for number in range(rounds):
        both = {}
        for meter in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
            if meter == "ours":
                with warm_worker(model, pictures, "openvino", threads) as worker:
                    both[meter] = run_ms(worker, seconds)
            else:
                both[meter] = benchmark_app_ms(model, threads, seconds)
        rounds_ms.append([(both["ours"], both["theirs"])])
    return rounds_ms


@contextlib.contextmanager
def warm_worker(model: str, pictures: tuple[str, ...], provider: str, threads: int) -> Iterator[Worker]:
    placement = Placement(provider=provider, threads=threads)
    order = Order(model=model, pictures=pictures, scenario="engine", placement=placement)
    with Worker(order) as worker:
        worker.load()
        worker.warm_up(limit_s=WARMUP_S)
        yield worker


def run_ms(worker: Worker, seconds: float) -> float:
    return statistics.median(worker.measure(duration_s=seconds).latency_ms)


def ask(bare: subprocess.Popen[str], seconds: float) -> float:
    assert bare.stdin is not None
    assert bare.stdout is not None
    bare.stdin.write(f"{seconds}\n")
    bare.stdin.flush()
    return float(bare.stdout.readline())


def follow_orders(run: Callable[[NDArray[np.float32]], object]) -> None:
    """Run for as many seconds as each line says, and answer with the median of the runs but the first."""
    batch = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    for line in sys.stdin:
        run(batch)
        times = []
        end = time.perf_counter() + float(line)
        while not times or time.perf_counter() < end:
            started = time.perf_counter_ns()
            run(batch)
            times.append((time.perf_counter_ns() - started) / 1e6)
        print(statistics.median(times), flush=True)


def bare_run(model: str, threads: int) -> Callable[[NDArray[np.float32]], object]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As edgecls sets it: how two meters measure is in question here, not what threads do between two runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def quick_verdict(model: str, threads: int, folder: Path) -> dict:
    """Time how long the verdict on a model takes that is held against itself."""
    edgecls = str(Path(sys.executable).with_name("edgecls"))
    command = [edgecls, "bench", model, "--threads", str(threads), "--quick"]
    baseline = folder / "base.json"
    subprocess.run([*command, "--json", baseline], check=True, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    done = subprocess.run([*command, "--baseline", baseline], capture_output=True, text=True, check=False)
    verdicts = {0: "pass", 1: "regression", 3: "inconclusive"}
    return {"seconds": time.monotonic() - started, "allowed_seconds": 20, "verdict": verdicts[done.returncode]}


def table(report: dict) -> str:
    lines = [
        "| the same work | by edgecls | | another meter | | ratio | 95 % interval | allowed | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    low, high = 1 - report["allowed_difference"], 1 + report["allowed_difference"]
    for item in report["meters"]:
        lines.append(
            f"| {item['work']} | `{item['ours']}` | {item['ours_ms']:.2f} ms | `{item['theirs']}` "
            f"| {item['theirs_ms']:.2f} ms "
            f"| **{item['ratio']:.3f}** | {item['low']:.3f} to {item['high']:.3f} | {low:.2f} to {high:.2f} "
            f"| {'yes' if item['met'] else 'not proven'} |"
        )
    machine, versions, quick = report["machine"], report["versions"], report["quick_verdict"]
    pairs = ", ".join(f"{item['pairs']:,}" for item in report["meters"])
    lines.append(
        f"\n{report['model']}, float32, {report['threads']} threads, onnxruntime {versions['onnxruntime']}, openvino "
        f"{versions['openvino'].partition('-')[0]}; {machine['cpu']}, {machine['logical_cores']} logical cores; "
        f"{report['date']}; p50, and medians of ratios over {pairs} pairs in "
        f"{report['rounds']} turns; the interval draws whole turns again.\n\n"
        f"`edgecls bench --quick --baseline` took {quick['seconds']:.0f} s from its start to its verdict "
        f"({quick['verdict']}; allowed {quick['allowed_seconds']} s)."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
