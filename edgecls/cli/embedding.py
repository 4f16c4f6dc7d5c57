"""What `edgecls export` is told about embedding, and what it does to a finished file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from .options import training_packages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["asked_embedding", "embed_model_file", "embedding_options"]

Asked: TypeAlias = "dict[str, Any]"
"""Fields of `edgecls_export.embedding.Embedding`, which is not imported before it is needed: it brings onnx."""

_FOR_EMBEDDING = {"source", "output", "force", "embed_preprocess", "embed_top_k"}


def embedding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of embedding."""
    command = click.option(
        "--embed-top-k",
        type=click.IntRange(min=1),
        metavar="K",
        help="And scores and indices of the K best classes come out, beside the logits.",
    )(command)
    return click.option(
        "--embed-preprocess",
        is_flag=True,
        help="The file takes the crop's pixels, uint8 [N, H, W, 3], and normalizes them itself.",
    )(command)


def asked_embedding(ctx: click.Context) -> Asked | None:
    """Return what was asked for, None if nothing was; refuse what contradicts it."""
    options = ctx.params
    if not options["embed_preprocess"]:
        if options["embed_top_k"] is not None:
            raise click.UsageError("--embed-top-k goes with --embed-preprocess.")
        return None
    if options["io_fp16"]:
        raise click.UsageError("--io-fp16 makes the input float16, --embed-preprocess makes it uint8: give one.")
    if options["tensorrt"] and options["embed_top_k"] is not None:
        raise click.UsageError("--embed-top-k is for ONNX files: an engine has its logits alone.")
    return {"top_k": options["embed_top_k"]}


def embed_model_file(ctx: click.Context, source: Path, target: Path, asked: Asked) -> None:
    """Make a finished file into one that takes pixels, and print what was made."""
    given = {name for name in ctx.params if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE}
    for name in sorted(given - _FOR_EMBEDDING):
        step = "in a second step of the new file" if name in ("tensorrt", "triton") else "for an ARCH or CHECKPOINT"
        raise click.UsageError(f"--{name.replace('_', '-')} is {step}: --embed-preprocess only changes {source}.")
    with training_packages():
        from edgecls_export.drawn import draw_pictures
        from edgecls_export.embedding import Embedding, embed_file

    images = list(draw_pictures(64))
    click.echo(embed_file(source, target, Embedding(**asked), images, force=ctx.params["force"]))
