"""``edgecls summary``."""

from __future__ import annotations

import click

from .options import training_packages

__all__ = ["summary"]


@click.command()
@click.argument("arch")
def summary(arch: str) -> None:
    """Print layers, shapes, parameters and multiply-adds."""
    with training_packages():
        from edgecls.layer_table import summarize

    click.echo(summarize(arch))
