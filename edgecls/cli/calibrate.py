"""``edgecls calibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import training_packages

__all__ = ["calibrate"]


@click.command()
@click.argument("folder", type=click.Path(readable=False, path_type=Path), metavar="DIR")
@click.option(
    "--from", "source", type=click.Path(readable=False, path_type=Path), required=True, help="Pictures to draw from."
)
@click.option("--calibration-images", type=click.IntRange(min=1), default=512, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another one draws others.")
@click.option(
    "--eval-data",
    type=click.Path(readable=False, path_type=Path),
    multiple=True,
    help="Pictures that must not be among them.",
)
def calibrate(folder: Path, source: Path, calibration_images: int, seed: int, eval_data: tuple[Path, ...]) -> None:
    """Fill a folder with pictures for INT8: the same ones every time, spread evenly over the classes.

    DIR gets copies and a manifest.json that says where they came from. `edgecls export --int8 --calibration DIR`.
    """
    with training_packages():
        from edgecls_export.calibration_images import copy_images, pick_images

    picked = pick_images(source, calibration_images, evaluation=eval_data, seed=seed)
    copy_images(picked, source, folder, seed=seed)
    click.echo(f"{folder}: {picked}")
