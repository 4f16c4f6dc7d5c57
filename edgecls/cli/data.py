"""``edgecls data check`` and ``edgecls data stats``: neither needs torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .bars import picture_bar
from .options import labels_option, preprocess_option
from .param_types import NumberRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls.data import Dataset
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["data"]

_format_option = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)


def _data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how the pictures are labelled and split, as for `edgecls train`."""
    for option in (
        labels_option,
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --val-split."),
        click.option(
            "--val-split",
            type=NumberRange(0, 1, min_open=True, max_open=True),
            help="Share of each class to hold out.",
        ),
        click.option("--labels-from", type=click.Choice(["folder", "name"]), default="folder", show_default=True),
        click.option("--task", type=click.Choice(["single", "multilabel"]), default="single", show_default=True),
        click.argument("folder", metavar="DATA"),
    ):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Look at labelled pictures before training on them."""


@data.command()
@_data_options
@_format_option
@preprocess_option
@click.option("--strict", is_flag=True, help="Exit with 1 if a picture is unreadable.")
@click.option("--allow-duplicates", is_flag=True, help="Accept the same picture in both splits.")
def check(
    output_format: str, preprocess: Preprocess | None, strict: bool, allow_duplicates: bool, **options: Any
) -> None:
    """Say what was found: classes, unreadable pictures, duplicates, imbalance.

    The exit status is 1 if `edgecls train` would refuse the pictures.
    """
    from edgecls.inspection import inspect_data

    dataset = _find(options)
    with picture_bar("looking at pictures", len(dataset.train) + len(dataset.val)) as advance:
        report = inspect_data(dataset, preprocess=preprocess, progress=advance)
    click.echo(report if output_format == "table" else json.dumps(report.to_document(), ensure_ascii=False, indent=2))
    report.require(strict=strict, allow_duplicates=allow_duplicates)


@data.command()
@_data_options
@_format_option
@preprocess_option
def stats(output_format: str, preprocess: Preprocess | None, **options: Any) -> None:
    """Measure mean and standard deviation of each channel, over the pictures to learn from."""
    from edgecls.inspection import measure_channels

    dataset = _find(options)
    with picture_bar("measuring pictures", len(dataset.train)) as advance:
        found = measure_channels(dataset.train, preprocess=preprocess, progress=advance)
    document = {"pictures": found.pictures, "mean": list(found.mean), "std": list(found.std)}
    click.echo(found if output_format == "table" else json.dumps(document))


def _find(options: dict[str, Any]) -> Dataset:
    from edgecls.data import find_samples

    return find_samples(options.pop("folder"), **options)
