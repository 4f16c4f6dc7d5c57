"""``edgecls infer``: never imports torch, and asks little more of a machine than the engine does."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecls_runtime.errors import ImageError

from .options import (
    labels_option,
    preprocess_option,
    provider_option,
    session_options,
    session_settings,
    threads_option,
)
from .pictures import STDIN, find_pictures

if TYPE_CHECKING:
    from collections.abc import Generator

    from edgecls_runtime.backends.settings import InferencePrecision
    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["infer"]


@click.command()
@click.option("--engine", required=True, metavar="MODEL", help="The model file.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Classes a picture, at most.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="json: one list; jsonl: a record a line, as they come.",
)
@provider_option
@threads_option
@session_options
@click.option("--profile", metavar="FILE", help="Of edgecls tune, in place of the provider and all that.")
@labels_option
@preprocess_option
@click.option("--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures.  [default: 89478485]")
@click.pass_context
def infer(
    ctx: click.Context,
    engine: str,
    images: tuple[str, ...],
    top_k: int,
    output_format: str,
    provider: str,
    threads: int | None,
    spinning: bool | None,
    inference_precision: InferencePrecision | None,
    profile: str | None,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    max_pixels: int | None,
) -> None:
    """Name what is in pictures.

    IMAGE is a file, a folder, a glob, or - for one picture on standard input.

    --labels and --preprocess are for ONNX files of other makers; those of edgecls carry their own. The exit status
    is 1 if any picture failed; the others are answered all the same.
    """
    from PIL import Image

    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.preprocess import MAX_PIXELS

    if profile is not None:
        for name in ("provider", "threads", "spinning", "inference_precision"):
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                option = name.replace("_", "-")
                raise click.UsageError(f"--profile says it all: leave out --{option}.", ctx)
    max_pixels = max_pixels or MAX_PIXELS
    # Pillow's own guards (of frames and tiles) are one global; this process is ours, so they rise with ours.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, MAX_PIXELS)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it becomes an error that says more
    pictures = find_pictures(images)
    if pictures.passed_over:
        click.echo(f"note: {pictures.passed_over} files passed over: no pictures by their suffix", err=True)
    if not pictures.paths:
        raise ImageError(
            f"{' '.join(images)}: no pictures there", "Give files, or folders with JPEG, PNG or WebP files."
        )
    failed = 0
    write = _WRITERS[output_format]()
    next(write)  # to its first yield
    with Classifier.load(
        engine,
        provider=provider,
        threads=threads,
        settings=session_settings(spinning, inference_precision),
        profile=profile,
        labels=labels,
        preprocess=preprocess,
        max_pixels=max_pixels,
    ) as classifier:
        for path in pictures.paths:
            record = _record(classifier, path, top_k)
            failed += record["error"] is not None
            write.send(record)
    write.close()
    if failed:
        click.echo(f"error: {failed} of {len(pictures.paths)} pictures failed", err=True)
        ctx.exit(1)


def _record(classifier: Classifier, path: str, top_k: int) -> dict[str, Any]:
    try:
        predictions = classifier.predict(sys.stdin.buffer if path == STDIN else path, top_k)
    except ImageError as error:
        return {"image": path, "predictions": [], "error": str(error)}
    return {"image": path, "predictions": [dataclasses.asdict(item) for item in predictions], "error": None}


# A writer takes records one by one and closes what it opened: each is a generator, fed with send().


def _write_table() -> Generator[None, dict[str, Any], None]:
    while True:
        record = yield
        if record["error"] is not None:
            click.echo(record["error"].replace("\n", "\n    "), err=True)
            continue
        click.echo(record["image"])
        for item in record["predictions"]:
            click.echo(f"  {item['score']:8.2%}  {item['label']}")
        if not record["predictions"]:
            click.echo("  no label over its threshold")


def _write_json() -> Generator[None, dict[str, Any], None]:
    separator = "[\n"
    try:
        while True:
            record = yield
            click.echo(separator + json.dumps(record, ensure_ascii=False), nl=False)
            separator = ",\n"
    finally:
        click.echo("\n]")


def _write_jsonl() -> Generator[None, dict[str, Any], None]:
    while True:
        click.echo(json.dumps((yield), ensure_ascii=False))


def _write_csv() -> Generator[None, dict[str, Any], None]:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["image", "rank", "index", "label", "score", "error"])
    while True:
        record = yield
        if record["error"] is not None:
            rows.writerow([record["image"], "", "", "", "", record["error"].replace("\n", " ")])
        for rank, item in enumerate(record["predictions"], start=1):
            rows.writerow([record["image"], rank, item["index"], item["label"], item["score"], ""])


_WRITERS = {"table": _write_table, "json": _write_json, "jsonl": _write_jsonl, "csv": _write_csv}
