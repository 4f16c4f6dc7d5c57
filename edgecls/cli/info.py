"""``edgecls info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgecls_runtime.engine_file import EngineSidecar
    from edgecls_runtime.manifest import Manifest

__all__ = ["info"]

_LAYERS_SHOWN = 12


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print everything, the labels and golden outputs included.")
def info(model: str, as_json: bool) -> None:
    """Print what a model file says about itself; of an engine, what its sidecar says (no TensorRT needed)."""
    from edgecls_runtime import engine_file, manifest, onnx_file

    if engine_file.is_engine(model):
        _print_engine(Path(model), engine_file.read(model), as_json=as_json)
        return
    header = onnx_file.read_header(model)
    document = manifest.read(model)
    size = Path(model).stat().st_size
    if as_json:
        facts = {"path": model, "size_bytes": size, **header._asdict()}
        facts |= {name: [tensor._asdict() for tensor in facts[name]] for name in ("inputs", "outputs")}
        del facts["metadata"]
        facts["manifest"] = None if document is None else json.loads(document.to_json())
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    rows = {
        "file": f"{model}, {size / 1e6:.1f} MB",
        "made by": header.producer or "unknown",
        "inputs": "; ".join(map(str, header.inputs)),
        "outputs": "; ".join(map(str, header.outputs)),
        "opset": str(header.opset),
    }
    rows |= {"manifest": "none (not exported by edgecls)"} if document is None else _manifest_rows(document)
    _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> None:
    for name, text in rows.items():
        first, *more = text.splitlines() or [""]
        click.echo("\n".join([f"{name:<11} {first}", *(f"{'':<11} {line}" for line in more)]))


def _print_engine(engine: Path, sidecar: EngineSidecar, *, as_json: bool) -> None:
    plan = _plan_state(engine, sidecar)
    if as_json:
        facts = {"path": str(engine), "plan": plan, **json.loads(sidecar.to_json())}
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    made_for = f"compute capability {', '.join(sidecar.compute_capabilities)}, {sidecar.platform}"
    rows = {
        "file": f"{engine}, {sidecar.plan_bytes / 1e6:.1f} MB",
        "plan": plan,
        "made by": f"{sidecar.flavour} {sidecar.version}"
        + (f" on {sidecar.gpu}" if sidecar.gpu else ", ahead of time"),
        "runs on": made_for,
        "profile": str(sidecar.profile),
        "types": f"{sidecar.input_dtype} in, {sidecar.output_dtype} out",
        "options": ", ".join(f"{name} {text}" for name, text in sidecar.options.items() if text not in ("", "false")),
        "layers": ", ".join(f"{count} {name}" for name, count in sidecar.layers.items()) or "not recorded",
        "made from": f"{sidecar.onnx} (SHA-256 {sidecar.onnx_sha256[:12]})",
        "rebuild": sidecar.rebuild,
    }
    document = sidecar.manifest
    rows |= {"manifest": "none (of a foreign ONNX file)"} if document is None else _manifest_rows(document)
    _print_rows(rows)


def _plan_state(engine: Path, sidecar: EngineSidecar) -> str:
    import hashlib

    try:
        with engine.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "as it was built" if digest == sidecar.plan_sha256 else "NOT as it was built: do not run it"


def _manifest_rows(document: Manifest) -> dict[str, str]:
    from edgecls_export.provenance import parity_of

    labels, top_k = document.labels, document.top_k
    shown = ", ".join(labels[:5]) + (f", ... {labels[-1]}" if len(labels) > 5 else "")
    return {
        "arch": document.arch,
        "precision": f"{document.precision}, for {document.target}",
        "labels": f"{len(labels)}: {shown}",
        "activation": document.activation,
        "preprocess": str(document.preprocess),
        **({} if top_k is None else {"top-k": f"the best {top_k.k} in {top_k.scores_name} and {top_k.indices_name}"}),
        "batch": "free" if document.batch_size is None else f"fixed, {document.batch_size}",
        "weights": f"{document.source.weights} (SHA-256 {document.source.sha256[:12]})",
        "metrics": ", ".join(f"{name} {value:g}" for name, value in document.metrics.items()) or "none recorded",
        **_quantized_rows(document),
        "parity": str(parity_of(document) or "not recorded"),
        "golden": "none"
        if document.golden is None
        else f"{len(document.golden.pixels_sha256)} pictures: edgecls verify",
        "tools": ", ".join(f"{name} {version}" for name, version in document.tools.items()),
    }


def _quantized_rows(document: Manifest) -> dict[str, str]:
    from edgecls_export.provenance import calibration_of

    rows = {}
    calibration = calibration_of(document)
    if calibration is not None:
        rows["calibration"], *budget = str(calibration).splitlines()
        if calibration.budget is not None:
            tried = map(str, calibration.budget.tried)
            rows["budget"] = "\n".join([budget[0].removeprefix("budget: "), *(f"tried {trial}" for trial in tried)])
    if document.float_layers:
        shown = document.float_layers[:_LAYERS_SHOWN]
        more = len(document.float_layers) - len(shown)
        rest = [f"... and {more} more: --json"] if more else []
        rows["in float32"] = "\n".join([f"{len(document.float_layers)} nodes", *shown, *rest])
    return rows
