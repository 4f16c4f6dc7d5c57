"""What a device needs of disk and memory: python benchmarks/sizes.py MODEL --images DIR

Builds the wheel, fetches what it needs, installs all of it in a fresh environment *without* the index, as a device
without network would (docs/embedding.md), and measures there. Memory is that of a process that answers pictures, held
against a bare loop of Pillow, numpy and ONNX Runtime. Writes benchmarks/results/sizes.json and sizes.md;
benchmarks/write_tables.py puts the table into the guide.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]

INSTALLED = """
import importlib.metadata, json
sizes = {}
for item in importlib.metadata.distributions():
    files = [path.locate() for path in item.files or ()]
    sizes[item.name.lower()] = [item.version, sum(path.stat().st_size for path in files if path.is_file())]
print(json.dumps(sizes))
"""

MEASURE = """
import json, sys
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
stages = {"python": resident()}
"""

EDGECLS = """
from edgecls_runtime import Classifier
stages["imported"] = resident()
classifier = Classifier.load(sys.argv[1], threads=2)
stages["loaded"] = resident()
answer = classifier.predict
"""

BARE = """
import numpy, onnxruntime
from PIL import Image
stages["imported"] = resident()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
stages["loaded"] = resident()
mean, std = (numpy.array(x, numpy.float32) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
def answer(path):
    image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    batch = ((numpy.asarray(image, numpy.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]
    return session.run(None, {name: batch})[0][0].argsort()[:-6:-1]
"""

ANSWER = """
for path in sys.argv[2:]:
    answer(path)
    stages.setdefault("first picture", resident())
stages["all pictures"] = resident()
print(json.dumps(stages))
"""


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results" / "sizes.json")
def main(model: Path, images: Path, output: Path) -> None:
    pictures = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:200]
    with tempfile.TemporaryDirectory() as folder:
        wheels, environment = Path(folder) / "wheels", Path(folder) / "venv"
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT)
        (own,) = wheels.glob("*.whl")
        fetch = ["download", "--dest", wheels, "--only-binary", ":all:", "--constraint", ROOT / "constraints.txt"]
        run(sys.executable, "-m", "pip", *fetch, f"{own}[cpu]")
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        run(python, "-m", "pip", "install", "--no-index", "--find-links", wheels, "edgecls[cpu]")
        installed = json.loads(run(python, "-c", INSTALLED))
        downloads = {path.name.split("-")[0].lower(): path.stat().st_size for path in wheels.glob("*.whl")}
        memory = {
            name: json.loads(run(python, "-c", MEASURE + code + ANSWER, model.resolve(), *pictures))
            for name, code in (("edgecls", EDGECLS), ("bare", BARE))
        }
        with zipfile.ZipFile(own) as archive:
            runtime = sum(
                item.compress_size for item in archive.infolist() if item.filename.startswith("edgecls_runtime/")
            )
    report = {
        "schema": "edgecls.sizes/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": sys.version.split()[0],
        "platform": f"{sys.platform} {own_platform()}",
        "model": model.name,
        "model_bytes": model.stat().st_size,
        "pictures": len(pictures),
        "packages": {
            name: {"version": version, "download_bytes": downloads[name], "installed_bytes": size}
            for name, (version, size) in sorted(installed.items(), key=lambda item: -item[1][1])
            if name in downloads
        },
        "runtime_in_wheel_bytes": runtime,
        "resident_bytes": memory,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:6]))}: {done.stderr[-2000:]}")
    return done.stdout


def own_platform() -> str:
    import platform

    return platform.machine()


def table(report: dict) -> str:  # type: ignore[type-arg]
    def mb(size: float) -> str:
        return f"{size / 1e6:.1f} MB" if size >= 5e5 else f"{size / 1e3:.0f} kB"

    packages, memory = report["packages"], report["resident_bytes"]
    rows = [
        f"| {name} {item['version']} | {mb(item['download_bytes'])} | {mb(item['installed_bytes'])} |"
        for name, item in packages.items()
    ]
    totals = [sum(item[f"{what}_bytes"] for item in packages.values()) for what in ("download", "installed")]
    where = f"Python {report['python']}, {report['platform']}; {report['date']}"
    stages = [
        f"| {stage} | {mb(memory['edgecls'][stage])} | {mb(memory['bare'][stage])} "
        f"| {memory['edgecls'][stage] / memory['bare'][stage]:.2f} |"
        for stage in memory["edgecls"]
    ]
    return "\n".join(
        [
            "| package | wheel | installed |",
            "|---|---|---|",
            *rows,
            f"| **together** | **{mb(totals[0])}** | **{mb(totals[1])}** |",
            "",
            f"Of edgecls's wheel the runtime is {mb(report['runtime_in_wheel_bytes'])}; the rest trains and exports.",
            "",
            "| memory after | edgecls | bare loop | ratio |",
            "|---|---|---|---|",
            *stages,
            "",
            f"{report['model']} ({mb(report['model_bytes'])}), {report['pictures']} pictures, 2 threads; {where}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
