"""``edgecls compare``: needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from .bars import picture_bar
from .options import engine_options, provider_option, threads_option
from .param_types import NumberRange

__all__ = ["compare"]


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Pictures; with class folders, acc@1 too.")
@click.option("--labels-from", type=click.Choice(["folder", "name"]), default="folder", show_default=True)
@click.option("--class-map", metavar="FILE.json", help="Folders' names in the models'.")
@click.option("--max-drop", type=NumberRange(0, 100), default=1.0, show_default=True, help="Points it may lose.")
@provider_option
@threads_option
@engine_options
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
def compare(
    models: tuple[str, ...],
    data: Path,
    labels_from: Literal["folder", "name"],
    class_map: str | None,
    max_drop: float,
    provider: str | None,
    threads: int | None,
    trust: bool,
    engine_cache: str | None,
    output_format: str,
) -> None:
    """Hold files of one model against the first of them, and say which suits this machine."""
    from edgecls.evaluation.comparison import compare_files
    from edgecls.evaluation.data import find_evaluation_data, read_class_map, unlabelled_pictures
    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.engine_file import is_engine

    images = unlabelled_pictures(data, labels_from=labels_from)
    targets = None
    if images is None:
        of_engine = is_engine(models[0])
        with Classifier.load(models[0], provider=None if of_engine else provider, trust=trust and of_engine) as first:
            labels = first.labels
        named = None if class_map is None else read_class_map(class_map, labels)
        found = find_evaluation_data(data, labels, labels_from=labels_from, class_map=named)
        images = tuple(sample.path for sample in found.samples)
        targets = [sample.targets[0] for sample in found.samples]
    with picture_bar("comparing", len(images)) as advance:
        comparison = compare_files(
            models,
            images,
            origin=str(data),
            targets=targets,
            provider=provider,
            threads=threads,
            trust=trust,
            engine_cache=engine_cache,
            max_drop=max_drop,
            progress=advance,
        )
    click.echo(comparison if output_format == "table" else json.dumps(comparison.to_document(), indent=2))
