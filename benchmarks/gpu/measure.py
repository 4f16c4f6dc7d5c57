"""What a GPU makes of the models: python benchmarks/gpu/measure.py --output DIR

Exports each architecture, holds the CUDA provider (and TensorRT engines, where TensorRT is installed) against PyTorch,
and lets all of them take turns with PyTorch eager and torch.compile on the same GPU. Writes gpu.json and gpu.md to DIR,
after each architecture anew; what cannot run says why in both. README.md beside this file says what is needed.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from edgecls import models
from edgecls.evaluation.predictor import full_precision
from edgecls_export import parity
from edgecls_export.drawn import draw_pictures
from edgecls_runtime import Classifier, EdgeclsError, verify
from edgecls_runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from edgecls_export.provenance import Parity

ROOT = Path(__file__).parents[2]
ARCHS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "alexnet", "vgg16")
PRECISIONS = ("fp32", "fp16", "int8")
ROUNDS = 5
WARMUP = 10
EAGER = "torch eager fp32"

Batch = NDArray[np.float32]
Run = Callable[[Batch], Batch]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and how thoroughly."""

    device: str
    batches: tuple[int, ...]
    images: int
    calibration_images: int
    seconds: float
    classes: int
    preprocess: Preprocess
    compile: bool
    precisions: tuple[str, ...]

    @property
    def provider(self) -> str:
        return self.device


@click.command(help=__doc__)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder to write to.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--only", multiple=True, type=click.Choice(ARCHS), help="These architectures; others stay as they were.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 8, 64), show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="For each contender and batch.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), help="These alone.")
@click.option("--no-compile", is_flag=True, help="Leave out torch.compile, which takes a minute an architecture.")
@click.option("--quick", is_flag=True, help="Small pictures, few of them, short runs: to try the script, not the GPU.")
def main(
    output: Path,
    device: str,
    only: tuple[str, ...],
    batches: tuple[int, ...],
    seconds: float,
    precisions: tuple[str, ...],
    no_compile: bool,
    quick: bool,
) -> None:
    plan = Plan(
        device=device,
        batches=(1, 2) if quick else batches,
        images=8 if quick else 64,
        calibration_images=2 if quick else 32,
        seconds=0.05 if quick else seconds,
        classes=10 if quick else 1000,
        preprocess=Preprocess(resize_size=64, crop_size=(64, 64)) if quick else Preprocess(resize_size=256),
        compile=not no_compile,
        precisions=precisions or PRECISIONS,
    )
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("PyTorch sees no CUDA GPU here; --quick --device cpu tries the script without one.")
    output.mkdir(parents=True, exist_ok=True)
    target = output / "gpu.json"
    document: dict[str, Any] = {"schema": "edgecls.gpu/1", "machine": machine(device), "archs": {}}
    if target.exists():
        known = json.loads(target.read_text("utf-8"))
        if known["machine"] != document["machine"]:  # numbers of two machines are not one table
            raise click.ClickException(
                f"{target}: was measured on another machine or with other versions; name another."
            )
        document = known
    with tempfile.TemporaryDirectory() as folder:
        for arch in only or ARCHS:
            started = time.monotonic()
            document["archs"][arch] = measure(arch, plan, Path(folder))
            document["archs"][arch] |= {
                "seconds": round(time.monotonic() - started, 1),
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "is_quick": quick,
            }
            target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
            target.with_suffix(".md").write_text(table(document), "utf-8")
            print(f"{arch}: {document['archs'][arch]['seconds']} s", file=sys.stderr)
    print(table(document))


def machine(device: str) -> dict[str, Any]:
    """Say what the numbers were measured on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "logical_cores": os.cpu_count(),
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
        "gpu": None,
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        driver = done(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
        found["gpu"] = {
            "name": card.name,
            "compute_capability": f"{card.major}.{card.minor}",
            "memory_mib": card.total_memory // 2**20,
            "driver": driver.stdout.strip() if driver else None,
            "cuda_of_torch": torch.version.cuda,
        }
    return found


PACKAGES = ("edgecls", "torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


def version_of(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def done(command: list[str], **environment: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command; None if there is no such program."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT, check=False
        )
    return None


def edgecls(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    found = done([sys.executable, "-m", "edgecls", *map(str, arguments)], **environment)
    assert found is not None
    return found


def measure(arch: str, plan: Plan, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    model = models.build(arch, num_classes=plan.classes, image_size=plan.preprocess.crop_size[0]).eval()
    files, not_run = export(arch, model, plan, folder)
    engines, why = build_engines(files, plan, folder)
    not_run |= why
    found: dict[str, Any] = {"weights": "random", "not_run": not_run}
    sections: dict[str, Callable[[], Any]] = {
        "parity": lambda: measure_parity(model, files, engines, plan, not_run),
        "strict": lambda: check_strictness(files["fp32"], plan),
        "speed": lambda: measure_speed(model, files, engines, plan, not_run),
    }
    for name, section in sections.items():
        try:
            found[name] = section()
        except Exception as error:  # noqa: BLE001 - one section that fails leaves the others their numbers
            not_run[name] = reason(error)
    for path in [*files.values(), *engines.values()]:
        path.unlink()
    return found


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:600] or type(error).__name__


def export(arch: str, model: torch.nn.Module, plan: Plan, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Export every precision as a person would; return the files, and why one is missing."""
    weights, preprocess, labels = folder / f"{arch}.pth", folder / "preprocess.json", folder / "labels.txt"
    torch.save(model.state_dict(), weights)
    preprocess.write_text(json.dumps(asdict(plan.preprocess)))
    labels.write_text("".join(f"class {number}\n" for number in range(plan.classes)))
    given = ["--weights", weights, "--labels", labels, "--preprocess", preprocess, "--force"]
    paths = {name: folder / (f"{arch}.onnx" if name == "fp32" else f"{arch}-{name}.onnx") for name in PRECISIONS}
    calibration = ["--calibration", ROOT / "calibration_data", "--calibration-images", plan.calibration_images]
    for_int8 = ["--target", "tensorrt", *calibration]

    def run(*precisions: str) -> str:
        """Return why it failed, if it did."""
        flags = ["--precision", ",".join(precisions), *(for_int8 if "int8" in precisions else [])]
        made = edgecls(
            "export", arch, *given, *flags, "--output", folder if len(precisions) > 1 else paths[precisions[0]]
        )
        return "" if made.returncode == 0 else " ".join(made.stderr.split())[-600:]

    not_run = {}
    if len(plan.precisions) == 1 or run(*plan.precisions):  # from one conversion; they appear together or not at all
        not_run = {f"export {name}": why for name in plan.precisions if (why := run(name))}
    weights.unlink()
    files = {name: path for name, path in paths.items() if path.exists()}
    if "fp32" not in files:
        raise click.ClickException(
            not_run.get("export fp32", "fp32 is what the others are held against: --precision fp32")
        )
    return files, not_run


def build_engines(files: dict[str, Path], plan: Plan, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Build an engine of each file on this GPU; return them, and why one is missing."""
    engines, not_run = {}, {}
    for precision, path in files.items():
        engine = folder / f"{path.stem}.engine"
        profile = f"1,{max(plan.batches)},{max(plan.batches)}"
        made = edgecls("export", path, "--tensorrt", "--batch", profile, "--output", engine)
        if made.returncode == 0:
            engines[precision] = engine
        else:
            not_run[f"engine {precision}"] = " ".join(made.stderr.split())[-600:]
    return engines, not_run


def measure_parity(
    model: torch.nn.Module, files: dict[str, Path], engines: dict[str, Path], plan: Plan, not_run: dict[str, str]
) -> dict[str, Any]:
    """Hold what the GPU computes against PyTorch in float32 on the CPU, and against the golden outputs."""
    pictures = list(draw_pictures(plan.images))
    answers: dict[bytes, Batch] = {}

    def reference(batch: Batch) -> Batch:
        key = batch.tobytes()
        if key not in answers:
            with torch.inference_mode():
                answers[key] = model(torch.from_numpy(batch)).numpy()
        return answers[key]

    found: dict[str, Any] = {}
    contenders: dict[str, tuple[str, Callable[[], contextlib.AbstractContextManager[Any]]]] = {}
    for precision, path in files.items():
        contenders[f"{plan.provider} {precision}"] = (precision, lambda path=path: open_model(path, plan.provider))
        if plan.device == "cuda":
            # Its own options alone tell edgecls's session from this one.
            contenders[f"cuda {precision}, TF32 on"] = (precision, lambda path=path: open_with_tf32(path))
    for precision, path in engines.items():
        contenders[f"engine {precision}"] = (precision, lambda path=path: open_model(path, None))
    for name, (precision, opened) in contenders.items():
        try:
            with opened() as classifier:
                agreement = parity.compare(
                    reference, classifier, pictures, preprocess=plan.preprocess, image_set="drawn by edgecls"
                )
                found[name] = {
                    "provider": classifier.provider,
                    "max_relative_diff": agreement.max_relative_diff,
                    "min_cosine": agreement.min_cosine,
                    "top1_agreement": agreement.top1_agreement,
                    "is_within_tolerance": is_within_tolerance(agreement, precision),
                }
            if "TF32" not in name:
                path = engines[precision] if name.startswith("engine") else files[precision]
                checked = verify(path, provider=None if path.suffix == ".engine" else plan.provider)
                found[name]["golden"] = {check.name: [check.passed, check.found] for check in checked.checks}
        except Exception as error:  # noqa: BLE001 - says why, and the next one has its turn
            not_run[f"parity {name}"] = reason(error)
    return found


def is_within_tolerance(agreement: Parity, precision: str) -> bool:
    try:
        parity.require(agreement, precision)
    except EdgeclsError:
        return False
    return True


def open_model(path: Path, provider: str | None) -> Classifier:
    return Classifier.load(path, provider=provider)


@contextlib.contextmanager
def open_with_tf32(path: Path) -> Iterator[Any]:
    """Open a file as `Classifier` does, but with TF32 on, which edgecls never does."""
    import onnxruntime

    with Classifier.load(path) as classifier:
        labels, preprocess = classifier.labels, classifier.preprocess
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=[("CUDAExecutionProvider", {"use_tf32": "1"})], enable_fallback=0
    )
    dtype = np.float16 if "float16" in session.get_inputs()[0].type else np.float32

    class Bare:
        provider = f"{session.get_providers()[0]}, TF32 on"

        @staticmethod
        def run(batch: Batch) -> Batch:
            (logits,) = session.run(None, {session.get_inputs()[0].name: batch.astype(dtype, copy=False)})
            return np.asarray(logits, np.float32)

    bare: Any = Bare()
    bare.labels, bare.preprocess = labels, preprocess
    yield bare


def check_strictness(path: Path, plan: Plan) -> dict[str, Any]:
    """See that what was asked for runs, or nothing: never the CPU in the GPU's place."""
    picture = next((ROOT / "calibration_data").glob("*.jpg"))
    found: dict[str, Any] = {}
    cases = {
        "asked for": (["--provider", plan.provider], {}, True),
        "GPU hidden": (["--provider", "cuda"], {"CUDA_VISIBLE_DEVICES": "-1"}, False),
        "tensorrt, GPU hidden": (["--provider", "tensorrt"], {"CUDA_VISIBLE_DEVICES": "-1"}, False),
    }
    for name, (options, environment, runs) in cases.items():
        answer = edgecls("infer", "--engine", path, picture, *options, **environment)
        found[name] = {
            "exit_status": answer.returncode,
            "is_right": answer.returncode == (0 if runs else 1) and "Traceback" not in answer.stderr,
            "said": " ".join(answer.stderr.split())[-400:],
        }
    return found


def measure_speed(
    model: torch.nn.Module, files: dict[str, Path], engines: dict[str, Path], plan: Plan, not_run: dict[str, str]
) -> dict[str, Any]:
    """Let everyone take turns: preprocessed pictures in the machine's memory to logits in the machine's memory."""
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        contenders = torch_contenders(model, plan)
        opened = {f"edgecls {plan.provider} {precision}": (path, plan.provider) for precision, path in files.items()}
        opened |= {f"edgecls engine {precision}": (path, None) for precision, path in engines.items()}
        for name, (path, provider) in opened.items():
            try:
                contenders[name] = stack.enter_context(open_model(path, provider)).run
            except EdgeclsError as error:
                not_run[f"speed {name}"] = reason(error)
        for size in plan.batches:
            batch = np.random.default_rng(size).normal(size=(size, 3, *plan.preprocess.crop_size)).astype(np.float32)
            found[str(size)] = take_turns(contenders, batch, plan, not_run)
    return found


def torch_contenders(model: torch.nn.Module, plan: Plan) -> dict[str, Run]:
    import copy

    device = torch.device(plan.device)

    def runner(dtype: torch.dtype, *, compiled: bool, tf32: bool) -> Run:
        ours: Any = copy.deepcopy(model).to(device, dtype)
        if compiled:
            ours = torch.compile(ours, dynamic=False)

        def run(batch: Batch) -> Batch:
            with torch.inference_mode(), contextlib.nullcontext() if tf32 else full_precision(device):
                return ours(torch.from_numpy(batch).to(device, dtype)).float().cpu().numpy()  # type: ignore[no-any-return]

        return run

    found = {EAGER: runner(torch.float32, compiled=False, tf32=False)}
    if plan.device == "cuda":
        found["torch eager fp32, PyTorch's own TF32"] = runner(torch.float32, compiled=False, tf32=True)
        found["torch eager fp16"] = runner(torch.float16, compiled=False, tf32=True)
    if plan.compile:
        found["torch.compile fp32"] = runner(torch.float32, compiled=True, tf32=False)
        if plan.device == "cuda":
            found["torch.compile fp16"] = runner(torch.float16, compiled=True, tf32=True)
    return found


def take_turns(contenders: dict[str, Run], batch: Batch, plan: Plan, not_run: dict[str, str]) -> dict[str, Any]:
    """Return what each took for a batch; in rounds, so that a busy minute slows them all."""
    seconds: dict[str, list[float]] = {}
    answers: dict[str, Batch] = {}
    for name, run in contenders.items():
        try:
            for _ in range(WARMUP):
                answers[name] = run(batch)
            seconds[name] = []
        except Exception as error:  # noqa: BLE001 - says why, and the others go on
            not_run[f"speed {name}, batch {len(batch)}"] = reason(error)
    for turn in range(ROUNDS):
        names = list(seconds)
        for name in names if turn % 2 else reversed(names):
            run, end = contenders[name], time.perf_counter() + plan.seconds / ROUNDS
            for _ in range(2):  # whoever was here before left other things in the caches
                run(batch)
            while True:
                started = time.perf_counter()
                run(batch)
                seconds[name].append(time.perf_counter() - started)
                if time.perf_counter() >= end:
                    break
    right = answers[EAGER]
    eager = float(np.median(seconds[EAGER]))
    return {
        name: {
            "p50_ms": 1e3 * float(np.median(times)),
            "images_per_second": len(batch) / float(np.median(times)),
            "times_eager": eager / float(np.median(times)),
            "runs": len(times),
            "max_relative_diff": float(np.abs(answers[name] - right).max() / np.abs(right).max()),
        }
        for name, times in seconds.items()
    }


def table(document: dict[str, Any]) -> str:
    """Return the document as Markdown."""
    on = document["machine"]
    gpu = on["gpu"]
    title = (
        f"{gpu['name']} (compute capability {gpu['compute_capability']}, driver {gpu['driver']})" if gpu else "the CPU"
    )
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    lines = [f"On {title}; {versions}. Random weights.", ""]
    if any(item["is_quick"] for item in document["archs"].values()):
        lines = ["**Quick run: it tries the script; the numbers mean nothing.**", "", *lines]
    lines += ["| model | contender | batch | p50 | images/s | x eager fp32 |", "|---|---|---|---|---|---|"]
    for arch, item in document["archs"].items():
        for size, rows in item.get("speed", {}).items():
            lines += [
                f"| {arch} | {name} | {size} | {row['p50_ms']:.3f} ms | {row['images_per_second']:,.0f} "
                f"| **{row['times_eager']:.2f}** |"
                for name, row in rows.items()
            ]
    lines += ["", "| model | against PyTorch | max relative diff | min cosine | top-1 | golden outputs |"]
    lines += ["|---|---|---|---|---|---|"]
    for arch, item in document["archs"].items():
        for name, row in item.get("parity", {}).items():
            golden = row.get("golden")
            proof = "-" if golden is None else "pass" if all(passed for passed, _ in golden.values()) else "**fail**"
            mark = "" if row["is_within_tolerance"] else " (beyond the tolerance)"
            lines.append(
                f"| {arch} | {name} | {row['max_relative_diff']:.2g}{mark} | {row['min_cosine']:.6f} "
                f"| {row['top1_agreement']:.1%} | {proof} |"
            )
    lines += ["", "| model | strictness | exit status | right |", "|---|---|---|---|"]
    for arch, item in document["archs"].items():
        for name, row in item.get("strict", {}).items():
            lines.append(f"| {arch} | {name} | {row['exit_status']} | {'yes' if row['is_right'] else '**no**'} |")
    missing = [
        f"- {arch}, {name}: {why}" for arch, item in document["archs"].items() for name, why in item["not_run"].items()
    ]
    return "\n".join([*lines, *(["", "Not run:", "", *missing] if missing else [])]) + "\n"


if __name__ == "__main__":
    main()
