"""``edgecls models``."""

from __future__ import annotations

import click

from .options import training_packages

__all__ = ["models"]


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Every classifier of torchvision, not only the first-class five.")
def models(show_all: bool) -> None:
    """List architectures and torchvision's published weights."""
    with training_packages():
        from edgecls.models import FIRST_CLASS, arch_names
        from edgecls.published import default_pretrained, pretrained

    click.echo(f"{'arch':<20} {'weights':<20} {'parameters':>12} {'resize':>7} {'crop':>5} {'acc@1':>7} {'acc@5':>7}")
    for arch in arch_names() if show_all else FIRST_CLASS:
        for weights in pretrained(arch):
            resize, crop = weights.preprocess.resize_size, weights.preprocess.crop_size[0]
            default = " (default)" if weights == default_pretrained(arch) else ""
            click.echo(
                f"{arch:<20} {weights.name.rpartition('.')[2]:<20} {weights.num_params:>12,} {resize!s:>7} {crop:>5} "
                f"{weights.metrics['acc@1']:>7.3f} {weights.metrics['acc@5']:>7.3f}{default}"
            )
    if not show_all:
        click.echo(f"\n{len(arch_names())} in all: edgecls models --all")
