"""What edgecls costs over the engine: python benchmarks/overhead.py MODEL... --images DIR

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
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnxruntime
import PIL
from PIL import Image

import edgecls_runtime
from edgecls.benchmark.intervals import median_of_ratios
from edgecls_runtime import Classifier
from edgecls_runtime.machine import cpu_flags, cpu_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
EDGECLS = str(Path(sys.executable).with_name("edgecls"))


ALLOWED = {"whole_process": 1.15, "memory": 1.15, "per_picture": 1.1, "help_ms": 400}


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--processes", default=100, show_default=True, help="Rounds of whole processes.")
@click.option("--rounds", default=6, show_default=True, help="Times that each picture is measured, in turn.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "overhead.json")
def main(models: tuple[str, ...], images: Path, processes: int, rounds: int, threads: int, output: Path) -> None:
    pictures = sorted(str(path) for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    (help_s,) = in_turn([lambda: run([EDGECLS, "--help"])], processes)
    report = {
        "schema": "edgecls.overhead/3",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": cpu_name(),
            "cpu_flags": cpu_flags(),
            "logical_cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        "pictures": len(pictures),
        "threads": threads,
        "processes": processes,
        "rounds": rounds,
        "allowed": ALLOWED,
        "models": [
            {
                "model": Path(model).name,
                **whole_processes(model, pictures[0], processes),
                "per_picture": per_picture(model, pictures, rounds, threads),
            }
            for model in models
        ],
        "help_ms": 1e3 * statistics.median(help_s),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def in_turn(tasks: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
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


def run(command: list[str]) -> int:
    """Run a command without a word; return the largest resident memory that it had, in bytes."""
    quiet = subprocess.DEVNULL
    # As where it is installed: there pip has compiled every module, which an editable checkout does when it may.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def whole_processes(model: str, picture: str, rounds: int) -> dict[str, Any]:
    """Import, load, first result, exit: the bare script, `edgecls infer`, and a program that embeds edgecls.

    The script asks ONNX Runtime for exact sums, as edgecls does; what it would be without that is measured, too.
    """
    bare = [sys.executable, str(HERE / "bare_infer.py"), model, picture]
    commands = {
        "bare": bare,
        "bare_quick_sums": [*bare, "--quick-sums"],
        "infer": [EDGECLS, "infer", "--engine", model, picture],
        "embedded": [sys.executable, str(HERE / "embedded_infer.py"), model, picture],
    }
    memory: dict[str, list[int]] = {name: [] for name in commands}
    tasks = [partial(lambda name, command: memory[name].append(run(command)), *item) for item in commands.items()]
    seconds = dict(zip(commands, in_turn(tasks, rounds), strict=True))
    rounds_s = {name: [[time] for time in times] for name, times in seconds.items()}
    ratios = {name: median_of_ratios(rounds_s["bare"], rounds_s[name], error=0.025) for name in commands}
    return {
        name: {
            "ms": 1e3 * statistics.median(seconds[name]),
            "ratio": median_ratio(seconds[name], seconds["bare"]),
            "interval": None if (ratio := ratios[name]) is None else (ratio.low, ratio.high),
            "rss_bytes": statistics.median(memory[name]),
            "rss_ratio": statistics.median(memory[name]) / statistics.median(memory["bare"]),
        }
        for name in commands
    }


def per_picture(model: str, pictures: list[str], rounds: int, threads: int) -> dict[str, Any]:
    with Classifier.load(model, threads=threads) as classifier:
        # The classifier's own session: a second one would bring a second pool of threads, which spin for a while
        # after each run and slow down whatever comes next.
        session: Any = vars(classifier._model.backend)["_session"]
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
    return {
        "decode_resize_run_ms": 1e3 * statistics.median(engine_s),
        "predict_ms": 1e3 * statistics.median(predict_s),
        "ratio": median_ratio(predict_s, engine_s),
    }


def median_ratio(contender: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(contender, baseline, strict=True))


def table(report: dict[str, Any]) -> str:
    allowed, machine = report["allowed"], report["machine"]
    rows = [("model", "what", "edgecls", "held against", "ratio", "allowed"), ("---",) * 6]
    for entry in report["models"]:
        model, bare, picture = entry["model"], entry["bare"], entry["per_picture"]
        quick = entry["bare_quick_sums"]
        for name, what in (("infer", "`edgecls infer`"), ("embedded", "a program that embeds it")):
            found, limits = entry[name], (str(allowed["whole_process"]), str(allowed["memory"]))
            ours, theirs = f"{what} {found['ms']:.0f} ms", f"bare script {bare['ms']:.0f} ms"
            ratio = f"**{found['ratio']:.2f}**"
            if found["interval"]:
                ratio += " ({:.2f} to {:.2f})".format(*found["interval"])
            rows.append((model, "whole process, one picture", ours, theirs, ratio, limits[0]))
            theirs = f"the script without exact sums {quick['ms']:.0f} ms"
            rows.append((model, "", ours, theirs, f"{found['ratio'] / quick['ratio']:.2f}", ""))
            ours, theirs = (f"{who['rss_bytes'] / 1e6:.0f} MB" for who in (found, bare))
            rows.append((model, "its memory", ours, theirs, f"**{found['rss_ratio']:.2f}**", limits[1]))
        ours = f"`Classifier.predict` {picture['predict_ms']:.2f} ms"
        theirs = f"Pillow decode + resize + raw `session.run` {picture['decode_resize_run_ms']:.2f} ms"
        ratio = f"**{picture['ratio']:.3f}**"
        rows.append((model, "one picture in a running process", ours, theirs, ratio, str(allowed["per_picture"])))
    rows.append(("", "`edgecls --help`", f"{report['help_ms']:.0f} ms", "", "", f"{allowed['help_ms']} ms"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return (
        "\n".join(lines) + "\n\n"
        f"{report['pictures']} pictures, {report['threads']} threads; {machine['cpu']} "
        f"({', '.join(machine['cpu_flags'])}), {machine['logical_cores']} logical cores; {report['date']}; medians "
        f"over {report['processes']} rounds of processes (in brackets the ratio's 95 % interval) and "
        f"{report['pictures'] * report['rounds']} pairs of pictures, measured in turn. Sums of "
        "integers are exact where a CPU has VNNI; where it has not, they are if a "
        "session asks for it, which takes longer to load. edgecls always asks, and `benchmarks/bare_infer.py`, too.\n"
    )


if __name__ == "__main__":
    main()
