"""``edgecls evaluate``."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from edgecls_runtime.errors import DataError, OutputError

from .bars import picture_bar
from .options import (
    engine_options,
    labels_option,
    preprocess_option,
    provider_option,
    threads_option,
    training_packages,
)

if TYPE_CHECKING:
    from edgecls.devices import Device
    from edgecls.evaluation.figures import Evaluation
    from edgecls.evaluation.predictions import Predictions
    from edgecls.evaluation.predictor import Predictor
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["evaluate"]

_FOR_CHECKPOINTS = ("device",)
_FOR_ARTIFACTS = ("provider", "threads", "labels", "preprocess", "trust", "engine_cache")
_WRITTEN = ("evaluation.json", "confusion_matrix.png", "worst_mistakes.png")


@click.command()
@click.argument("model", metavar="CHECKPOINT|MODEL")
@click.argument("data", type=click.Path(readable=False, path_type=Path))
@click.option("--split", type=click.Choice(["val", "train"]), help="Of data that is split.  [default: val]")
@click.option(
    "--labels-from",
    type=click.Choice(["folder", "name"]),
    default="folder",
    show_default=True,
    help="Of folders: cat/1.jpg, or cat.1.jpg.",
)
@click.option("--class-map", metavar="FILE.json", help='Folders\' names in the model\'s: {"n01440764": "tench"}')
@click.option("--tta", type=click.IntRange(1, 10), default=1, show_default=True, help="Views a picture, averaged.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Inputs a run.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that decode.  [default: one a core, at most 8]")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "mps", "auto"]),
    default="cpu",
    show_default=True,
    help="For a checkpoint: where to run.",
)
@provider_option
@threads_option
@labels_option
@preprocess_option
@engine_options
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--predictions", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write every answer there.")
@click.option(
    "--output",
    "-o",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    help=f"Write {_WRITTEN[0]}, {_WRITTEN[1]} and {_WRITTEN[2]} there.",
)
@click.option("--strict", is_flag=True, help="Refuse data with unreadable pictures instead of leaving them out.")
@click.option("--force", is_flag=True, help="Overwrite files.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str,
    data: Path,
    split: Literal["val", "train"] | None,
    labels_from: Literal["folder", "name"],
    class_map: str | None,
    tta: int,
    batch_size: int,
    workers: int | None,
    device: Device,
    provider: str | None,
    threads: int | None,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    trust: bool,
    engine_cache: str | None,
    output_format: str,
    predictions: Path | None,
    output: Path | None,
    strict: bool,
    force: bool,
) -> None:
    """Measure a checkpoint or an exported model on labelled pictures.

    DATA is a folder with a folder for each class (or with train/ and val/), or a CSV or JSON list. The data's labels
    are matched to the model's by their names. Of pictures without labels, --predictions writes what the model says.
    """
    from PIL import Image

    from edgecls.evaluation.data import find_evaluation_data, read_class_map, unlabelled_pictures
    from edgecls.evaluation.predictions import predict
    from edgecls.evaluation.predictor import is_checkpoint_file, open_predictor

    is_checkpoint = is_checkpoint_file(model)
    _refuse_options(ctx, model, is_checkpoint=is_checkpoint)
    if data.is_file() and ctx.get_parameter_source("labels_from") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--labels-from is for folders, and {data} is a file.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it becomes an error that says more
    _check_targets(predictions, output, force=force)
    unlabelled = unlabelled_pictures(data, labels_from=labels_from)
    if unlabelled is not None:
        _check_unlabelled(data, len(unlabelled), predictions, split=split, class_map=class_map, output=output)
    opened = (
        open_predictor(model, device=device)
        if is_checkpoint
        else open_predictor(
            model,
            provider=provider,
            threads=threads,
            labels=labels,
            preprocess=preprocess,
            trust=trust,
            engine_cache=engine_cache,
        )
    )
    with contextlib.ExitStack() as stack:
        if is_checkpoint or unlabelled is None:
            stack.enter_context(training_packages())
        predictor = stack.enter_context(opened)
        if unlabelled is not None:
            progress = stack.enter_context(picture_bar("answering", len(unlabelled)))
            answers = predict(
                predictor,
                unlabelled,
                batch_size=batch_size,
                workers=workers,
                tta=tta,
                strict=strict,
                progress=progress,
            )
            done = None
        else:
            found = find_evaluation_data(
                data,
                predictor.labels,
                task=predictor.task,
                split=split,
                labels_from=labels_from,
                class_map=None if class_map is None else read_class_map(class_map, predictor.labels),
            )
            for note in found.notes:
                click.echo(f"note: {note}", err=True)
            from edgecls.evaluation import figures as evaluation

            with picture_bar("measuring", len(found.samples)) as progress:
                done = evaluation.evaluate(
                    predictor,
                    found.samples,
                    batch_size=batch_size,
                    workers=workers,
                    tta=tta,
                    strict=strict,
                    progress=progress,
                )
            answers = done.predictions
            about = {"data": str(data), "origin": found.origin}
            if output is not None:
                _write_output(done, predictor, about, output)
    for picture in answers.unreadable:
        click.echo(f"left out: {picture}", err=True)
    if predictions is not None:
        answers.write(predictions, root=data if data.is_dir() else data.parent, force=force)
    if done is not None:
        click.echo(json.dumps(about | done.to_document(), indent=2) if output_format == "json" else done)
    else:
        _say_unlabelled(answers, output_format)


def _refuse_options(ctx: click.Context, model: str, *, is_checkpoint: bool) -> None:
    """Refuse an option that is for the other kind of model: ignored, it would look as if it had been heeded."""
    for name in _FOR_ARTIFACTS if is_checkpoint else _FOR_CHECKPOINTS:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for exported models, and {model} is a checkpoint."
                if is_checkpoint
                else f"--{name} is for checkpoints (.pt, .pth), and {model} is none; it has --provider."
            )


def _check_targets(predictions: Path | None, output: Path | None, *, force: bool) -> None:
    """Refuse what cannot be written, before the model runs for an hour."""
    from edgecls_runtime.output import check_writable

    if predictions is not None:
        check_writable(predictions, force=force)
    if output is None:
        return
    if output.is_dir():
        for name in _WRITTEN:
            check_writable(output / name, force=force)
    elif output.exists():
        raise OutputError(f"{output}: is a file", "Name a folder: --output DIR")
    else:
        check_writable(output, force=force)


def _check_unlabelled(
    data: Path, count: int, predictions: Path | None, *, split: str | None, class_map: str | None, output: Path | None
) -> None:
    if predictions is None:
        raise DataError(
            f"{data}: {'its pictures have' if data.is_dir() else 'has'} no labels, so there is nothing to measure",
            "Give a folder for each class, or --labels-from name; or only ask what the model says: "
            "--predictions FILE.csv",
        )
    for name, value in (("split", split), ("class-map", class_map), ("output", output)):
        if value is not None:
            raise click.UsageError(f"--{name} is for labelled pictures, and the {count:,} of {data} have no labels.")


def _write_output(done: Evaluation, predictor: Predictor, about: dict[str, Any], folder: Path) -> None:
    from edgecls.evaluation.report import write_evaluation

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}", "Choose another --output.") from error
    written = write_evaluation(done, predictor.preprocess, folder, about=about)
    click.echo(f"written to {folder}: {', '.join(path.name for path in written)}", err=True)


def _say_unlabelled(answers: Predictions, output_format: str) -> None:
    click.echo("note: the pictures have no labels, so nothing is measured", err=True)
    if output_format == "json":
        unreadable = [{"path": str(item.path), "error": item.cause} for item in answers.unreadable]
        click.echo(json.dumps({"images": len(answers.paths), "unreadable": unreadable, "metrics": None}, indent=2))
    else:
        click.echo(answers)
