"""Does the gate find a slow-down, and only that? python benchmarks/gate.py MODEL [--images DIR]

The same model against itself, and against itself slowed down by a tenth of each query's own time, many times over:
with `edgecls bench --ab`, in turn, and beside it with files of `edgecls bench --json`, measured minutes apart.
`--load N` keeps N CPUs busy now and then, as neighbours on a build server do. Writes benchmarks/results/gate.json and
gate.md (with --load gate_load.json and gate_load.md); benchmarks/write_tables.py puts the tables into the README.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.benchmark import ab, measurement
from edgecls.benchmark.comparison import compare
from edgecls.benchmark.fingerprint import this_fingerprint
from edgecls.benchmark.picture_sets import PictureSet, open_pictures
from edgecls.benchmark.setups import orders_for
from edgecls.benchmark.worker import COMMAND
from edgecls_runtime import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document

HERE = Path(__file__).parent
SLOWDOWN = 0.10
MAX_REGRESSION = 0.05
SLOWED = (sys.executable, "-P", str(HERE / "slowed_worker.py"), str(SLOWDOWN))
QUICK_WANTED_S = 20
BURN = """
import random, time
while True:
    end = time.monotonic() + random.uniform(0.02, 0.5)
    while time.monotonic() < end:
        pass
    time.sleep(random.uniform(0.02, 0.5))
"""


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Else drawn ones.")
@click.option("--comparisons", default=20, show_default=True, help="Of each kind.")
@click.option("--threads", type=int, help="Of a run.")
@click.option("--load", default=0, show_default=True, help="Programs that keep a CPU busy now and then.")
@click.option("--output", type=click.Path(path_type=Path))
def main(
    model: str, images: Path | None, comparisons: int, threads: int | None, load: int, output: Path | None
) -> None:
    output = output or HERE / "results" / ("gate_load.json" if load else "gate.json")
    began = time.monotonic()
    with busy(load), open_pictures(images) as pictures:
        modes = experiment(model, pictures, comparisons, threads)
        quick = quick_seconds(model, images, threads)
    machine = this_fingerprint()
    report = {
        "schema": "edgecls.gate/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": machine.cpu, "logical_cores": machine.logical_cores, "cpu_flags": machine.cpu_flags},
        "versions": modes.pop("versions"),
        "model": Path(model).name,
        "pictures": {"source": pictures.description.source, "count": pictures.description.count},
        "threads": threads,
        "load": load,
        "load_average": os.getloadavg(),
        "slowdown": SLOWDOWN,
        "max_regression": MAX_REGRESSION,
        "minutes": (time.monotonic() - began) / 60,
        "quick": {"seconds": quick, "wanted_s": QUICK_WANTED_S},
        "comparisons": modes,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def experiment(model: str, pictures: PictureSet, count: int, threads: int | None) -> dict[str, Any]:
    """Everything takes turns, so that no kind of comparison gets the quiet hour; files lie minutes apart."""
    results: dict[str, list[dict[str, Any]]] = {"in_turn_same": [], "in_turn_slowed": []}
    files: dict[str, list[Document]] = {"same": [], "slowed": []}
    # So many documents that there are `count` pairs of them.
    wanted = {"same": next(n for n in itertools.count(2) if n * (n - 1) // 2 >= count)}
    wanted["slowed"] = -(-count // wanted["same"])
    for number in range(count):
        for kind, command in (("same", COMMAND), ("slowed", SLOWED)):
            results[f"in_turn_{kind}"].append(in_turn(model, pictures, threads, command))
            click.echo(f"{number + 1:3} {kind:6} in turn: {said(results[f'in_turn_{kind}'][-1])}", err=True)
            if len(files[kind]) * count <= number * wanted[kind]:
                files[kind].append(document(model, pictures, threads, command))
    same, slowed = files["same"], files["slowed"]
    pairs = list(itertools.combinations(same, 2))[:count]
    results["apart_same"] = [told(held(earlier, later), None) for earlier, later in pairs]
    results["apart_slowed"] = [told(held(*pair), None) for pair in itertools.product(same, slowed)][:count]
    return {**results, "versions": {"edgecls": __version__, **same[0].versions}}


def in_turn(model: str, pictures: PictureSet, threads: int | None, command: tuple[str, ...]) -> dict[str, Any]:
    orders = orders_for(model, pictures.paths, threads=() if threads is None else (threads,))
    began = time.monotonic()
    pair = ab.PairMeasurement(
        [(order, order) for order in orders],
        models=(measurement.describe_model(model),) * 2,
        pictures=pictures.description,
        options={},
        max_regression=MAX_REGRESSION,
        commands=(COMMAND, command),
    )
    pair.run()
    return told(pair.result().comparison, time.monotonic() - began)


def document(model: str, pictures: PictureSet, threads: int | None, command: tuple[str, ...]) -> Document:
    orders = orders_for(model, pictures.paths, threads=() if threads is None else (threads,))
    effort = dataclasses.replace(measurement.QUICK, cold_starts=0)
    measured = measurement.Measurement(orders, effort, command=command)
    measured.run()
    return measured.to_document(measurement.describe_model(model), pictures.description, {})


def held(earlier: Document, later: Document) -> Comparison:
    return compare(earlier, later, max_regression=MAX_REGRESSION)


def told(comparison: Comparison, seconds: float | None) -> dict[str, Any]:
    (row,) = comparison.rows
    return {
        "verdict": row.verdict,
        "ratio": row.ratio,
        "low": row.low,
        "high": row.high,
        "baseline_ms": row.baseline_ms,
        "contender_ms": row.contender_ms,
        "queries": row.contender_queries,
        "seconds": seconds,
        "warnings": comparison.warnings,
    }


def said(result: dict[str, Any]) -> str:
    interval = f"{result['ratio']:.3f} ({result['low']:.3f} to {result['high']:.3f})"
    return f"{result['verdict']} {interval} {result['seconds']:.0f} s"


def quick_seconds(model: str, images: Path | None, threads: int | None) -> list[float]:
    """Time the command itself, start of Python and all."""
    command = [str(Path(sys.executable).with_name("edgecls")), "bench", "--ab", model, model, "--quick"]
    command += ["--images", str(images)] if images else []
    command += ["--threads", str(threads)] if threads else []
    taken = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        taken.append(time.monotonic() - began)
        if done.returncode not in (0, 1, 3) or "error: " in done.stderr:
            raise click.ClickException(done.stderr)
    return taken


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def table(report: dict[str, Any]) -> str:
    heads = [
        "how",
        "true slow-down",
        "comparisons",
        "pass",
        "regression",
        "inconclusive",
        "ratios",
        "interval",
        "time each",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    hows = {"in_turn": "`bench --ab`, in turn", "apart": "files, measured minutes apart"}
    for how, kind in itertools.product(hows, ("same", "slowed")):
        results = report["comparisons"][f"{how}_{kind}"]
        verdicts = Counter(result["verdict"] for result in results)
        ratios = sorted(result["ratio"] for result in results)
        width = statistics.median((result["high"] - result["low"]) / 2 for result in results)
        seconds = [result["seconds"] for result in results if result["seconds"] is not None]
        cells = [
            hows[how],
            "none" if kind == "same" else f"{100 * report['slowdown']:.0f} %",
            str(len(results)),
            str(verdicts["pass"]),
            str(verdicts["regression"]),
            str(verdicts["inconclusive"]),
            f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
            f"± {100 * width:.1f} %",
            f"{statistics.median(seconds):.0f} s" if seconds else "",
        ]
        if how == "in_turn" and not report["load"]:
            wanted = f"at most {len(results) // 20}" if kind == "same" else f"at least {9 * len(results) // 10}"
            cells[4] = f"**{cells[4]}** (wanted: {wanted})"
        lines.append(f"| {' | '.join(cells)} |")
    machine, quick = report["machine"], report["quick"]
    load = f", {report['load']} of which other programs kept busy now and then" if report["load"] else ""
    threads = f"{report['threads']} threads" if report["threads"] else "the default number of threads"
    notes = [
        f"{report['model']}, {threads}, {report['pictures']['count']} pictures",
        f"up to {100 * report['max_regression']:.0f} % slower is allowed",
        "intervals: median of their half widths",
        f"{machine['cpu']} ({', '.join(machine['cpu_flags'])}), {machine['logical_cores']} logical cores{load}",
        f"onnxruntime {report['versions']['onnxruntime']}",
        report["date"],
    ]
    median_s = statistics.median(quick["seconds"])
    took = f"`bench --ab --quick`, start and all: {median_s:.0f} s (wanted: less than {quick['wanted_s']})."
    return "\n".join([*lines, "", f"{'; '.join(notes)}. {took}"]) + "\n"


if __name__ == "__main__":
    main()
