"""``edgecls export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecls_runtime.errors import ImageError

from .options import labels_option, preprocess_option, training_packages
from .pictures import find_pictures

if TYPE_CHECKING:
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["export"]


@click.command()
@click.argument("source", metavar="ARCH|CHECKPOINT")
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
@click.option(
    "--parity-images",
    type=click.Path(path_type=Path),
    help="Folder of pictures to compare PyTorch and the artifact on.  [default: 64 drawn ones]",
)
def export(
    source: str,
    weights: str | None,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    output: Path | None,
    force: bool,
    batch_size: int | None,
    opset: int,
    parity_images: Path | None,
) -> None:
    """Make one ONNX file, proven against PyTorch.

    ARCH is a name from `edgecls models`, CHECKPOINT a file that training left. The file appears only if PyTorch
    and the artifact agree on every picture; otherwise the exit status is 1 and nothing is written.
    """
    from edgecls_runtime.output import check_writable

    is_checkpoint = Path(source).suffix in (".pt", ".pth") or Path(source).is_file()
    if is_checkpoint and weights is not None:
        raise click.UsageError("--weights goes with an ARCH; a checkpoint has its own.")
    target = output or Path(f"{Path(source).stem if is_checkpoint else source}.onnx")
    images = None
    if parity_images is not None:
        images = [(str(path), path) for path in find_pictures([str(parity_images)]).paths]
        if not images:
            raise ImageError(f"{parity_images}: holds no pictures", "Give a folder of JPEG, PNG or WebP files.")
    with training_packages():
        from edgecls import checkpoint
        from edgecls import weights as weight_files
        from edgecls.models import check_arch
        from edgecls_export.pipeline import ModelCard, export_onnx
        from edgecls_runtime.manifest import Source

    if not is_checkpoint:
        check_arch(source)
    check_writable(target, force=force)  # before anything is downloaded
    if is_checkpoint:
        loaded = checkpoint.load(source)
    else:
        loaded = weight_files.resolve(source, weights or "default", labels=labels, preprocess=preprocess)
    for assumption in loaded.assumptions:
        click.echo(f"note: {assumption}", err=True)
    report = export_onnx(
        loaded.build(),
        target,
        ModelCard(
            labels=loaded.labels if labels is None else labels,
            preprocess=loaded.preprocess if preprocess is None else preprocess,
            arch=loaded.arch,
            source=Source(weights=loaded.weights, sha256=checkpoint.state_dict_sha256(loaded.state_dict)),
            activation=loaded.activation,
            thresholds=loaded.thresholds,
            metrics=loaded.metrics,
        ),
        batch_size=batch_size,
        opset=opset,
        images=images,
        image_set=str(parity_images),
        force=force,
        progress=lambda step: click.echo(f"{step} ...", err=True),
    )
    click.echo(report)
