"""What normalizing in the graph costs: python benchmarks/embedding.py MODEL --images DIR

Two questions. Is a file with its preprocess embedded as quick as the plain one? And which form of the normalization is
quick on which engine: the arithmetic that the exporter puts there, or a table of the 256 values, as Gather or as
GatherElements? All are measured in turn, one thread a run. Writes benchmarks/results/embedding.json and embedding.md.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.embedding import Embedding, embed_file
from edgecls_runtime import Classifier, Preprocess
from edgecls_runtime.backends.openvino import import_openvino
from edgecls_runtime.machine import this_machine
from edgecls_runtime.preprocess import normalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HERE = Path(__file__).parent
PREPROCESS = Preprocess()


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--rounds", default=300, show_default=True, help="Times that each form runs.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "embedding.json")
def main(model: Path, images: Path, rounds: int, output: Path) -> None:
    pictures = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:200]
    machine = this_machine()
    report = {
        "schema": "edgecls.embedding/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": machine.cpu, "flags": list(machine.cpu_flags)},
        "versions": {
            "onnxruntime": onnxruntime.__version__,
            "openvino": import_openvino().__version__.partition("-")[0],
        },
        "model": model.name,
        "pictures": len(pictures),
        "rounds": rounds,
        "predict": whole_files(model, pictures),
        "normalize": forms(rounds),
    }
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def whole_files(model: Path, pictures: list[Path]) -> dict[str, dict[str, float]]:
    """Hold `predict` of embedded files against that of the plain one, picture by picture, on both engines."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files = {"plain": model}
        for name, top_k in (("pixels", None), ("pixels, top 5", 5)):
            files[name] = Path(folder) / f"{top_k}.onnx"
            sample = [(path.name, path) for path in pictures[:4]]
            embed_file(model, files[name], Embedding(top_k=top_k), sample)
        for provider in ("cpu", "openvino"):
            models = {
                name: stack.enter_context(Classifier.load(path, provider=provider, threads=1))
                for name, path in files.items()
            }
            times: dict[str, list[float]] = {name: [] for name in models}
            for number, picture in enumerate(pictures):
                for name in (*models, *models)[number % 3 : number % 3 + 3]:
                    ask = partial(models[name].predict, picture)
                    ask()  # warm: what ran before was another model
                    times[name].append(seconds(ask))
            found[provider] = {name: ratio(times[name], times["plain"]) for name in models if name != "plain"}
    return found


def run_onnxruntime(session: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(session.run(None, {"pixels": pixels[None]})[0][0])


def run_openvino(request: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(request.infer({"pixels": pixels[None]})[0][0])


def forms(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Hold each form against the arithmetic, on each engine; say how far its floats lie off the runtime's."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    expected = normalize(pixels, PREPROCESS)
    openvino = import_openvino()
    found: dict[str, dict[str, dict[str, float]]] = {}
    graphs = {name: graph(name) for name in ("arithmetic", "Gather", "GatherElements")}
    for engine in ("onnxruntime", "openvino"):
        runs: dict[str, Callable[[], NDArray[np.float32]]] = {}
        for name, content in graphs.items():
            if engine == "onnxruntime":
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
                runs[name] = partial(run_onnxruntime, session, pixels)
            else:
                core = openvino.Core()
                settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
                request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
                runs[name] = partial(run_openvino, request, pixels)
        largest = np.spacing(np.abs(expected).max())
        ulp = {name: float(np.abs(run() - expected).max() / largest) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(seconds(run))
        found[engine] = {name: {"ulp": ulp[name], "ratio": ratio(times[name], times["arithmetic"])} for name in graphs}
    return found


def graph(form: str) -> bytes:
    """Return a graph from uint8 [N, 224, 224, 3] to normalized float32 [N, 3, 224, 224]."""
    std, mean = (np.array(item, np.float32).reshape(3, 1, 1) for item in (PREPROCESS.std, PREPROCESS.mean))
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    constants = {
        "white": np.float32(255),
        "mean": mean,
        "std": std,
        "table": ((values - mean[:, 0]) / std[:, 0]).ravel(),
        "offsets": np.array([0, 256, 512], np.float32).reshape(3, 1, 1),
        "flat": np.array([-1]),
        "shape": np.array([-1, 3, 224, 224]),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    if form == "arithmetic":
        nodes += [
            helper.make_node("Div", ["planes", "white"], ["unit"]),
            helper.make_node("Sub", ["unit", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["result"]),
        ]
    else:
        nodes += [
            helper.make_node("Add", ["planes", "offsets"], ["places"]),
            helper.make_node("Cast", ["places"], ["indices"], to=TensorProto.INT32),
        ]
        if form == "Gather":
            nodes.append(helper.make_node("Gather", ["table", "indices"], ["result"]))
        else:
            nodes += [
                helper.make_node("Reshape", ["indices", "flat"], ["row"]),
                helper.make_node("GatherElements", ["table", "row"], ["found"]),
                helper.make_node("Reshape", ["found", "shape"], ["result"]),
            ]
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        form,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 224, 224, 3])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(contender: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(contender, baseline, strict=True))


def table(report: dict) -> str:  # type: ignore[type-arg]
    predict, engines = report["predict"], report["normalize"]

    def cell(result: dict[str, float]) -> str:
        return f"{result['ratio']:.2f}, {'{:.0f} ulp off'.format(result['ulp']) if result['ulp'] else 'exact'}"

    rows = [
        f"| {form} | {cell(engines['onnxruntime'][form])} | {cell(engines['openvino'][form])} |"
        for form in ("arithmetic", "Gather", "GatherElements")
    ]
    machine, versions = report["machine"], report["versions"]
    engines_here = f"onnxruntime {versions['onnxruntime']}, openvino {versions['openvino']}"
    where = f"{machine['cpu']} ({', '.join(machine['flags'])}); {engines_here}; {report['date']}"
    return "\n".join(
        [
            "| `predict`, time as a ratio to the plain file | ONNX Runtime | OpenVINO |",
            "|---|---|---|",
            *(f"| {name} | {predict['cpu'][name]:.3f} | {predict['openvino'][name]:.3f} |" for name in predict["cpu"]),
            "",
            "| form of the normalization alone | ONNX Runtime | OpenVINO |",
            "|---|---|---|",
            *rows,
            "",
            f"{report['model']}, {report['pictures']} pictures, one thread, in turn; {where}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
