"""Does `edgecls bench` measure what others measure, and soon enough? python benchmarks/meters.py MODEL

Three times the same work by two meters that take turns:

* its latency of a query, against `Classifier.predict` under a clock, picture by picture in one process;
* its `--scenario engine` on ONNX Runtime, against a bare loop of `session.run`, as onnxruntime_perf_test is one;
* its `--scenario engine` on OpenVINO, against OpenVINO's own `benchmark_app`.

Each meter has a process of its own, with the same pictures, more of them than a cache holds. They take turns of a
fraction of a second, for a shared machine's speed changes by more within seconds than meters differ: by signals, which
POSIX has, one is stopped while the other goes on. A round makes one pair of the medians that the two tell, and one of
all their time that they were not stopped, over their runs, each the geometric mean of two: once the one meter is
started first, and once the other, for `benchmark_app` against itself was found 3 % slower where it was started first.
Its median is by OpenVINO's own clock, from the start of a run to its end, and what it takes Python to get there shows
in its throughput alone. A row is met only where the whole 95 % interval of its ratio lies within what is allowed. At
the end `edgecls bench --quick --baseline` is timed as a whole. Writes benchmarks/results/meters.json and meters.md;
wants a quiet machine.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from providers import BENCHMARK_APP_ENVIRONMENT, benchmark_app_command, benchmark_app_median, said_number

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
from edgecls_runtime.preprocess import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

HERE = Path(__file__).parent
ALLOWED = 0.05
WARMUP_S = 1.0
TURN_S = 0.2  # the run that is cut by the end of a turn counts, one of twenty
BEGINS = "First inference took"  # as benchmark_app says it, before the first that counts
INPUTS = 64  # as many as --scenario engine prepares

START_S = 3.0  # what a worker takes to start and to warm up

Command = Callable[[float], list[str]]
"""Of another meter, by the seconds that it measures."""
Round = list[tuple[float, float]]  # pairs of ours and theirs, milliseconds


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--rounds", default=36, show_default=True, type=click.IntRange(min=FEWEST_ROUNDS), help="Turns of each meter."
)
@click.option("--seconds", default=1.0, show_default=True, help="Of runs, for each meter in each round.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "meters.json")
@click.option("--inputs", type=click.Path(path_type=Path), hidden=True, help="The bare loop's.")
def main(model: str, rounds: int, seconds: float, threads: int, output: Path, inputs: Path | None) -> None:
    if inputs is not None:
        measure_bare(bare_run(model, threads), inputs, seconds, threads)
        return
    with tempfile.TemporaryDirectory() as temporary, open_pictures() as pictures:
        folder = Path(temporary)
        inputs = folder / "inputs"
        write_inputs(model, pictures.paths, inputs)

        def bare(seconds: float) -> list[str]:
            options = ["--inputs", str(inputs), "--seconds", str(seconds), "--threads", str(threads)]
            return [sys.executable, __file__, model, *options]

        def app(seconds: float) -> list[str]:
            return [*benchmark_app_command(model, seconds), "-i", str(inputs), "-inference_only", "false"]

        queries = predict_pairs(model, pictures.paths, rounds, seconds, threads)
        rows = [row("a query, median", "edgecls bench", "Classifier.predict", queries)]
        for provider, name, command in (("cpu", "bare loop of session.run", bare), ("openvino", "benchmark_app", app)):
            medians, means = pairs_in_turns(model, pictures.paths, provider, command, rounds, seconds, threads)
            ours = f"edgecls bench --scenario engine --provider {provider}"
            rows.append(row("a run, time over runs", ours, name, means))
            rows.append(row("a run, median", ours, name, medians))
        quick = quick_verdict(model, threads, folder)
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


def row(work: str, ours: str, theirs: str, rounds_ms: list[Round]) -> dict[str, Any]:
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


def write_inputs(model: str, paths: tuple[str, ...], folder: Path) -> None:
    """Write the other meters the pictures that `--scenario engine` prepares, float32 [1, 3, H, W] each."""
    folder.mkdir()
    with Classifier.load(model) as classifier:
        for number, path in zip(range(INPUTS), itertools.cycle(paths), strict=False):
            batch = classifier.preprocess.new_batch(1)
            load(path, classifier.preprocess, out=batch[0])
            np.save(folder / f"{number:02}.npy", batch)


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


def pairs_in_turns(
    model: str,
    pictures: tuple[str, ...],
    provider: str,
    other: Command,
    rounds: int,
    seconds: float,
    threads: int,
) -> tuple[list[Round], list[Round]]:
    """Measure with a worker and with another meter, which says what `benchmark_app` does.

    Returns:
        Medians of a run's time, as each meter takes it; and all of the time that a meter was not stopped, over its
        runs.
    """
    worker = partial(warm_worker, model, pictures, provider, threads)
    found: tuple[list[Round], list[Round]] = [], []
    for _ in range(rounds):
        orders = [pair_in_turns(worker, other, seconds, threads, ours_first=first) for first in (True, False)]
        for rounds_ms, pairs in zip(found, zip(*orders, strict=True), strict=True):
            ours, theirs = map(statistics.geometric_mean, zip(*pairs, strict=True))
            rounds_ms.append([(ours, theirs)])
    return found


def pair_in_turns(
    open_worker: Callable[[], contextlib.AbstractContextManager[Worker]],
    other: Command,
    seconds: float,
    threads: int,
    *,
    ours_first: bool,
) -> tuple[tuple[float, float], tuple[float, float]]:
    with contextlib.ExitStack() as stack:
        if ours_first:
            worker = stack.enter_context(open_worker())
        # Time that it is stopped counts for what it was told.
        command = other(2 * seconds + (0 if ours_first else START_S))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=BENCHMARK_APP_ENVIRONMENT)
        stack.enter_context(process)
        stack.callback(process.kill)  # if it has not ended by itself
        assert process.stdout is not None
        said = ""
        while BEGINS not in said:
            line = process.stdout.readline()
            assert line, f"the other meter ended before it measured anything: {said}"
            said += line
        their_begin = time.perf_counter()
        process.send_signal(signal.SIGSTOP)
        if not ours_first:
            worker = stack.enter_context(open_worker())
        our_begin = time.perf_counter()
        measured = stack.enter_context(ThreadPoolExecutor(1)).submit(worker.measure, duration_s=2 * seconds)
        ended = [measured.done, lambda: process.poll() is not None]
        turns = take_turns([worker._process, process], ended, [our_begin, their_begin])
        samples = measured.result()
        said += process.stdout.read()
    medians = statistics.median(samples.latency_ms), benchmark_app_median(said, threads)
    ours, theirs = samples.seconds, said_number("Duration", said) / 1e3
    means = (
        1e3 * (ours - stopped(turns[0], our_begin, our_begin + ours)) / samples.pictures,
        1e3 * (theirs - stopped(turns[1], their_begin, their_begin + theirs)) / said_number("Count", said),
    )
    return medians, means


def take_turns(
    processes: list[subprocess.Popen[str]], ended: list[Callable[[], bool]], since: list[float]
) -> list[list[tuple[float, float]]]:
    """Let one process go on at a time, until all have ended. Return when each was stopped, and continued.

    Args:
        processes: to stop and to continue; which of them are stopped already does not matter.
        ended: whether a process has done what it was to do.
        since: when each was stopped.
    """
    times: list[list[tuple[float, float]]] = [[] for _ in processes]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    while not all(has_ended() for has_ended in ended):
        for number, process in enumerate(processes):
            process.send_signal(signal.SIGCONT)
            times[number].append((since[number], time.perf_counter()))
            time.sleep(TURN_S)
            process.send_signal(signal.SIGSTOP)
            since[number] = time.perf_counter()
    for process in processes:
        process.send_signal(signal.SIGCONT)
    return times


def stopped(turns: list[tuple[float, float]], begin: float, end: float) -> float:
    """Return for how many seconds of an interval a process was stopped."""
    return sum(max(0.0, min(until, end) - max(since, begin)) for since, until in turns)


@contextlib.contextmanager
def warm_worker(model: str, pictures: tuple[str, ...], provider: str, threads: int) -> Iterator[Worker]:
    placement = Placement(provider=provider, threads=threads)
    order = Order(model=model, pictures=pictures, scenario="engine", placement=placement)
    with Worker(order) as worker:
        worker.load()
        worker.warm_up(limit_s=WARMUP_S)
        yield worker


def measure_bare(run: Callable[[NDArray[np.float32]], object], inputs: Path, seconds: float, threads: int) -> None:
    """Run for as long, and print what `benchmark_app` would."""
    inputs_of_pictures = [np.load(path) for path in sorted(inputs.iterdir())]
    batches = itertools.cycle(inputs_of_pictures)
    batch = np.empty_like(inputs_of_pictures[0])
    times: list[float] = []
    for duration in (WARMUP_S, seconds):
        print(BEGINS if times else "Warming up", flush=True)
        times.clear()
        begin = time.perf_counter()
        while time.perf_counter() < begin + duration:
            batch[...] = next(batches)  # in one place, as --scenario engine has it
            started = time.perf_counter_ns()
            run(batch)
            times.append((time.perf_counter_ns() - started) / 1e6)
    duration = 1e3 * (time.perf_counter() - begin)
    print(f"INFERENCE_NUM_THREADS: {threads}\nMedian: {statistics.median(times)} ms")
    print(f"Count: {len(times)} iterations\nDuration: {duration} ms")


def bare_run(model: str, threads: int) -> Callable[[NDArray[np.float32]], object]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As edgecls sets it: how two meters measure is in question here, not what threads do between two runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def quick_verdict(model: str, threads: int, folder: Path) -> dict[str, Any]:
    """Time how long the verdict on a model takes that is held against itself."""
    edgecls = str(Path(sys.executable).with_name("edgecls"))
    command = [edgecls, "bench", model, "--threads", str(threads), "--quick"]
    baseline = folder / "base.json"
    subprocess.run([*command, "--json", baseline], check=True, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    done = subprocess.run([*command, "--baseline", baseline], capture_output=True, text=True, check=False)
    verdicts = {0: "pass", 1: "regression", 3: "inconclusive"}
    return {"seconds": time.monotonic() - started, "allowed_seconds": 20, "verdict": verdicts[done.returncode]}


def table(report: dict[str, Any]) -> str:
    lines = [
        "| the same work | by edgecls | | another meter | | ratio | 95 % interval | allowed | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    low, high = 1 - report["allowed_difference"], 1 + report["allowed_difference"]
    for item in report["meters"]:
        beyond = item["low"] > high or item["high"] < low
        met = "yes" if item["met"] else "**no**" if beyond else "not proven"
        lines.append(
            f"| {item['work']} | `{item['ours']}` | {item['ours_ms']:.2f} ms | `{item['theirs']}` "
            f"| {item['theirs_ms']:.2f} ms "
            f"| **{item['ratio']:.3f}** | {item['low']:.3f} to {item['high']:.3f} "
            f"| {low:.2f} to {high:.2f} | {met} |"
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
