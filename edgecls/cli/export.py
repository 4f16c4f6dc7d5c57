"""``edgecls export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls_runtime.errors import ExportError, ImageError, OutputError

from .bars import Steps, picture_bar
from .embedding import asked_embedding, embed_model_file, embedding_options
from .engines import asked_serving, check_model_file, tensorrt_options
from .options import labels_option, preprocess_option, training_packages
from .pictures import Pictures
from .precisions import asked_precisions, calibration_pictures, evaluation_pictures, make_precision, precision_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls.evaluation.comparison import Comparison
    from edgecls_export.calibration_images import CalibrationImages
    from edgecls_runtime.preprocess import ImageSource, Preprocess

    from .precisions import EvaluationPictures

__all__ = ["export"]

_COMPARED_ON = 64


@click.command()
@click.argument("source", metavar="ARCH|CHECKPOINT|MODEL.onnx")
@click.option(
    "--weights",
    metavar="FILE|default|none",
    help="For an ARCH: a state dict or checkpoint; torchvision's published weights (the default); random ones.",
)
@labels_option
@preprocess_option
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write.  [default: NAME.onnx]")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Fix the number of pictures a run.  [default: free]")
@click.option("--opset", type=click.IntRange(min=11), default=18, show_default=True, help="ONNX operator set.")
@precision_options
@embedding_options
@tensorrt_options
@click.option(
    "--parity-images",
    type=click.Path(path_type=Path),
    help="Folder of pictures to compare PyTorch and the artifact on.  [default: 64 of --calibration, or drawn]",
)
@click.pass_context
def export(
    ctx: click.Context,
    /,
    source: str,
    weights: str | None,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    output: Path | None,
    force: bool,
    batch_size: int | None,
    opset: int,
    parity_images: Path | None,
    **options: Any,
) -> None:
    """Make ONNX files, each proven against PyTorch, and TensorRT engines of them.

    ARCH is a name from `edgecls models`, CHECKPOINT a file that training left. A file appears only if PyTorch and the
    artifact agree on the pictures; otherwise the exit status is 1 and nothing is written. Several precisions share one
    conversion, and end with a table that compares them.

    MODEL.onnx is such a file: --embed-preprocess makes another of it, in the types that it has. --tensorrt builds an
    engine of it, and of a foreign one, too.
    """
    from edgecls_runtime.engine_file import is_engine
    from edgecls_runtime.output import check_writable

    embedding = asked_embedding(ctx)
    serving = asked_serving(ctx)
    if is_engine(source):
        raise ExportError(
            f"{source}: is an engine already",
            f"Give the ONNX file that it was built from; edgecls info {source} names it.",
        )
    if Path(source).suffix == ".onnx" and embedding is not None:
        embed_model_file(ctx, Path(source), output or Path(f"{Path(source).stem}-embedded.onnx"), embedding)
        return
    if Path(source).suffix == ".onnx":
        check_model_file(ctx, Path(source), asked_precisions(ctx))
        engine = output or Path(f"{Path(source).stem}.engine")
        serving.check([engine])
        serving.make(Path(source), engine)
        return
    is_checkpoint = Path(source).suffix in (".pt", ".pth") or Path(source).is_file()
    if is_checkpoint and weights is not None:
        raise click.UsageError("--weights goes with an ARCH; a checkpoint has its own.")
    precisions = asked_precisions(ctx)
    targets = _targets(Path(source).stem if is_checkpoint else source, precisions, output, embedded=bool(embedding))
    engines = (
        [output] if output is not None and len(targets) == 1 else [path.with_suffix(".engine") for path in targets]
    )
    serving.check(engines, with_onnx=True)
    if serving.engine is not None:
        options["target"] = "tensorrt"
        targets = [path.with_suffix(".onnx") for path in engines]
    images = None
    if parity_images is not None:
        images = [(str(path), path) for path in Pictures([str(parity_images)])]
        if not images:
            raise ImageError(f"{parity_images}: holds no pictures", "Give a folder of JPEG, PNG or WebP files.")
    with training_packages():
        from edgecls import checkpoint
        from edgecls import weights as weight_files
        from edgecls.models import check_arch
        from edgecls_export.embedding import Embedding
        from edgecls_export.pipeline import ModelCard, export_all
        from edgecls_runtime.manifest import Source

    if not is_checkpoint:
        check_arch(source)
    for target in targets:
        check_writable(target, force=force)  # before anything is downloaded
    if is_checkpoint:
        loaded = checkpoint.load(source)
    else:
        loaded = weight_files.resolve(source, weights or "default", labels=labels, preprocess=preprocess)
    for assumption in loaded.assumptions:
        click.echo(f"note: {assumption}", err=True)
    labels = loaded.labels if labels is None else labels
    measured = evaluation_pictures(options, labels, "multilabel" if loaded.activation == "sigmoid" else "single")
    calibration = calibration_pictures(options, measured)
    model = loaded.build()
    card = ModelCard(
        labels=labels,
        preprocess=loaded.preprocess if preprocess is None else preprocess,
        arch=loaded.arch,
        source=Source(weights=loaded.weights, sha256=checkpoint.state_dict_sha256(loaded.state_dict)),
        activation=loaded.activation,
        thresholds=loaded.thresholds,
        metrics=loaded.metrics,
    )
    del loaded  # the model has the weights, and VGG-16's are 550 MB
    with Steps() as steps:
        reports = export_all(
            model,
            [
                (target, make_precision(name, options, calibration, measured))
                for target, name in zip(targets, precisions, strict=True)
            ],
            card,
            embedding=Embedding(**embedding) if embedding else None,
            batch_size=batch_size,
            opset=opset,
            images=images,
            image_set=str(parity_images),
            force=force,
            progress=steps.begin,
            counted=steps.count,
        )
    for report in reports:
        click.echo(report)
    if len(reports) > 1 and serving.engine is None:  # this CPU is not what engines are for
        click.echo(_compared(targets, measured, images, calibration))
    for target, engine in zip(targets, engines, strict=True):
        serving.make(target, engine)


def _targets(name: str, precisions: tuple[str, ...], output: Path | None, *, embedded: bool) -> list[Path]:
    """Return a file for each precision: ``vgg16.onnx``, ``vgg16-fp16.onnx``, ``vgg16-int8-embedded.onnx``."""
    end = "-embedded.onnx" if embedded else ".onnx"
    files = [f"{name}{end}" if precision == "fp32" else f"{name}-{precision}{end}" for precision in precisions]
    if len(files) == 1:
        return [output or Path(files[0])]
    if output is not None and not output.is_dir():
        raise OutputError(
            f"{output}: is no folder, and {len(files)} files are asked for",
            f"Name a folder, or ask for one precision. To make this one: mkdir -p {output}",
        )
    return [(output or Path()) / file for file in files]


def _compared(
    targets: list[Path],
    measured: EvaluationPictures | None,
    images: list[tuple[str, str]] | None,
    calibration: CalibrationImages | None,
) -> Comparison:
    """Find out which file suits this machine, on the pictures at hand."""
    from edgecls.evaluation.comparison import compare_files
    from edgecls_export.drawn import draw_pictures

    pictures: Sequence[ImageSource]
    if measured is not None:
        pictures, origin = measured.images, measured.origin
    elif images is not None:
        pictures, origin = [path for _, path in images], "those of --parity-images"
    elif calibration is not None:
        pictures, origin = calibration.sources[:_COMPARED_ON], f"{calibration.origin}, to calibrate on"
    else:
        pictures, origin = [pixels for _, pixels in draw_pictures(_COMPARED_ON)], "drawn by edgecls"
    classes = None if measured is None else measured.targets
    with picture_bar("comparing", len(pictures)) as advance:
        return compare_files(targets, pictures, targets=classes, origin=origin, progress=advance)
