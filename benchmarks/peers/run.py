"""edgecls beside its peers: python benchmarks/peers/run.py --model-fp32 F --model-int8 F --weights F --images DIR

One picture at a time, from its file to its five best classes, with two CPU threads. Each peer runs in a process and a
virtual environment of its own (made by the first run: minutes, and about 7 GB for PyTorch's), sleeps until it is asked,
and is asked in turns: every picture goes through all of them before the next one, each time from another one on. Before
its turn is over the last one's threads must sleep. Writes benchmarks/results/peers.json, peers.md and peers.png;
benchmarks/write_tables.py puts the table into the README. Wants a quiet machine.

Peers with the same weights must name the same classes: exit status 1 if one does not.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from catalogue import PEERS, Peer
from environments import ROOT, NotAvailableError, converted, python_of
from PIL import Image
from report import disagreements, plot, rows_of, table
from turns import Worker, cpu_seconds_of_others, start, take_turns

from edgecls_runtime import __version__, manifest
from edgecls_runtime.errors import EdgeclsError
from edgecls_runtime.machine import this_machine

RESULTS = Path(__file__).parents[1] / "results"
LARGE = (4000, 3000)
QUIET = 0.1  # CPUs that others may use meanwhile
# Of the versions, all of which are in the JSON, those that the table names.
NAMED = ("onnxruntime", "torch", "torchvision", "transformers", "optimum-onnx", "timm", "openvino", "ncnn")
NAMED += ("ai-edge-litert", "pillow")
TITLES = {"photos": "ImageNet photos", "large": "Photos of 12 megapixels"}
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--model-fp32", type=FILE, required=True, help="mobilenet_v2, exported by edgecls.")
@click.option("--model-int8", type=FILE, required=True, help="The same in INT8.")
@click.option("--weights", type=FILE, required=True, help="State dict that both were exported from.")
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--pictures", type=click.IntRange(2), default=100, show_default=True, help="Of --images, evenly drawn.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--large-pictures", type=click.IntRange(2), default=8, show_default=True, help="Of 12 megapixels.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--only", multiple=True, metavar="WORDS", help="Peers with these words in their names, and edgecls.")
@click.option("--environments", type=FOLDER, default=ROOT / ".venv-peers", show_default=".venv-peers")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "peers.json")
def main(
    model_fp32: Path,
    model_int8: Path,
    weights: Path,
    images: Path,
    pictures: int,
    rounds: int,
    large_pictures: int,
    threads: int,
    only: tuple[str, ...],
    environments: Path,
    output: Path,
) -> None:
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(found) < max(pictures, large_pictures):
        raise click.UsageError(f"{images}: {len(found)} pictures, {max(pictures, large_pictures)} wanted")
    files = {"fp32": str(model_fp32.resolve()), "int8": str(model_int8.resolve()), "weights": str(weights.resolve())}
    check_models(files)
    for words in only:
        if not any(words in peer.name for peer in PEERS):
            raise click.UsageError(f"--only {words}: none of {', '.join(dict.fromkeys(peer.name for peer in PEERS))}")
    peers = [peer for peer in PEERS if not only or peer.name.startswith("edgecls") or any(w in peer.name for w in only)]
    environments = environments.resolve()
    environments.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        workers, reasons = start_all(peers, environments, files, threads, str(found[0]))
        for worker in workers.values():
            stack.callback(worker.close)
        large = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sets = {
            "photos": evenly([str(path) for path in found], pictures),
            "large": enlarged(evenly(found, large_pictures), large),
        }
        seconds, sections, others = {}, {}, {}
        for section, paths in sets.items():
            present = [peer for peer in peers if section in peer.wanted and peer.key not in reasons]
            pids = [worker.pid for worker in workers.values()]
            began, spent = time.monotonic(), cpu_seconds_of_others(pids)
            with click.progressbar(length=rounds * len(paths), label=TITLES[section]) as bar:
                seconds[section], top5, dropped = take_turns(
                    {peer.key: workers[peer.key] for peer in present}, paths, rounds, lambda: bar.update(1)
                )
            if spent is not None:
                spent = cpu_seconds_of_others(pids) - spent
                others[section] = round(spent / (time.monotonic() - began), 3)
            sections[section] = rows_of(section, peers, seconds[section], top5, reasons | dropped)
            reasons |= dropped  # whoever failed may answer late: out of the next section, too
        versions = {peer.environment: workers[peer.key].versions for peer in peers if peer.key in workers}
        restless = {key: worker.restless for key, worker in workers.items() if worker.restless}
    report = {
        "schema": "edgecls.peers/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "edgecls": __version__,
        "models": {name: Path(path).name for name, path in files.items()},
        "threads": threads,
        "rounds": rounds,
        "pictures": {section: len(paths) for section, paths in sets.items()},
        "cpus_used_by_others": others,
        "turns_left_while_threads_still_ran": restless,
        "sections": sections,
        "versions": versions,
        "seconds": seconds,
    }
    write(report, output)
    click.echo(output.with_suffix(".md").read_text("utf-8"))
    if wrong := [line for rows in sections.values() for line in disagreements(rows)]:
        raise click.ClickException("not the same work:\n" + "\n".join(wrong))


def check_models(files: dict[str, str]) -> None:
    """Refuse models that are not what they are taken for: mobilenet_v2 of one source, in the precision named."""
    try:
        read = {precision: manifest.read(files[precision]) for precision in ("fp32", "int8")}
    except EdgeclsError as error:
        raise click.ClickException(str(error)) from error
    for precision, own in read.items():
        if own is None:
            raise click.UsageError(f"{files[precision]}: was not exported by edgecls")
        if (own.arch, own.precision) != ("mobilenet_v2", precision):
            raise click.UsageError(f"{files[precision]}: is {own.arch} {own.precision}, not mobilenet_v2 {precision}")
    if read["fp32"].source.sha256 != read["int8"].source.sha256:
        raise click.UsageError("--model-fp32 and --model-int8 were not exported from the same weights")


def start_all(
    peers: list[Peer], environments: Path, files: dict[str, str], threads: int, picture: str
) -> tuple[dict[str, Worker], dict[str, str]]:
    """Return the loaded peers, and why the others are not."""
    ready: dict[str, Worker] = {}
    reasons: dict[str, str] = {}
    prepared: dict[tuple[str, str], tuple[Path, dict[str, str]] | str] = {}
    ways = dict.fromkeys((peer.environment, peer.needs) for peer in peers)
    with click.progressbar(ways, label="Environments and conversions") as bar:
        for environment, target in bar:
            try:
                python = python_of(environments, environment)
                needed = {target: str(converted(environments, target, files))} if target else {}
                prepared[environment, target] = python, files | needed
            except NotAvailableError as reason:
                prepared[environment, target] = str(reason)

    def load(peer: Peer) -> Worker | str:
        found = prepared[peer.environment, peer.needs]
        if isinstance(found, str):
            return found
        try:
            return start(peer, *found, threads, environments, picture)
        except NotAvailableError as reason:
            return str(reason)

    with ThreadPoolExecutor(2) as pool, click.progressbar(length=len(peers), label="Loading") as bar:
        for peer, result in zip(peers, pool.map(load, peers), strict=True):
            if isinstance(result, str):
                reasons[peer.key] = result
            else:
                ready[peer.key] = result
            bar.update(1)
    return ready, reasons


def evenly(items: list, count: int) -> list:
    return [items[index * len(items) // count] for index in range(count)]


def enlarged(paths: list[Path], folder: Path) -> list[str]:
    """Write each photo at 12 megapixels, JPEG quality 90, as a phone or a camera would."""
    written = []
    for path in paths:
        with Image.open(path) as image:
            size = LARGE if image.width >= image.height else LARGE[::-1]
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(folder / f"{path.stem}.jpg", quality=90)
        written.append(str(folder / f"{path.stem}.jpg"))
    return written


def machine() -> dict[str, object]:
    here = this_machine()
    return {
        "cpu": here.cpu,
        "cpu_flags": list(here.cpu_flags),
        "usable_cpus": here.usable_cpus,
        "logical_cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def write(report: dict, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    # Raw seconds to the microsecond, a line for each peer.
    text = json.dumps({key: value for key, value in report.items() if key != "seconds"}, indent=2)
    lines = [
        f"    {json.dumps(section)}: {{\n"
        + ",\n".join(
            f"      {json.dumps(key)}: {json.dumps([[round(time, 6) for time in picture] for picture in times])}"
            for key, times in peers.items()
        )
        + "\n    }"
        for section, peers in report["seconds"].items()
    ]
    output.write_text(text[:-2] + ',\n  "seconds": {\n' + ",\n".join(lines) + "\n  }\n}\n", "utf-8")
    output.with_suffix(".md").write_text(markdown(report), "utf-8")
    plot(report["sections"], TITLES, output.with_suffix(".png"))


def markdown(report: dict) -> str:
    parts = []
    if (busy := max(report["cpus_used_by_others"].values(), default=0)) > QUIET:
        parts.append(f"**Not to be trusted**: other programs kept {busy:.1f} CPUs busy meanwhile.\n")
    for section, rows in report["sections"].items():
        parts.append(f"{TITLES[section]}, {report['pictures'][section]} of them:\n\n{table(section, rows)}")
    here = report["machine"]
    parts.append(
        f"{report['models']['fp32']} and {report['models']['int8']}, file to top-5, {report['threads']} threads, "
        f"rounds in turn: {report['rounds']}; {here['cpu']} ({', '.join(here['cpu_flags'])}), {here['logical_cores']} "
        f"logical cores; {report['date']}. Medians of paired ratios; in brackets the 95 % interval. {named(report)}.\n"
    )
    return "\n".join(parts)


def named(report: dict) -> str:
    """Return the versions that matter most, each once."""
    found = {name: version for own in report["versions"].values() for name, version in own.items()}
    return ", ".join(f"{name} {found[name]}" for name in NAMED if name in found)


if __name__ == "__main__":
    main()
