"""``edgecls tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from .bars import new_bar
from .options import INFERENCE_PRECISIONS, PROVIDERS, THREADS

if TYPE_CHECKING:
    from edgecls_runtime.backends.settings import InferencePrecision

__all__ = ["tune"]


@click.command()
@click.argument("model")
@click.option("--provider", "providers", multiple=True, type=click.Choice(PROVIDERS), help="To try.  [default: all]")
@click.option("--threads", multiple=True, type=THREADS, help="Counts to try.  [default: 1, 2, 4 ... usable CPUs]")
@click.option(
    "--batch-size", "batch_sizes", multiple=True, type=click.IntRange(min=1), help="Pictures a run.  [default: 1]"
)
@click.option(
    "--inference-precision",
    "precisions",
    multiple=True,
    type=click.Choice([name for name in INFERENCE_PRECISIONS if name != "f32"]),
    help="Let openvino round, besides f32.",
)
@click.option("--rounds", type=click.IntRange(min=3), default=5, show_default=True, help="Turns of each.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Profile to write.  [default: MODEL.profile.json]"
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def tune(
    model: str,
    providers: tuple[str, ...],
    threads: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    precisions: tuple[str, ...],
    rounds: int,
    output: Path | None,
    force: bool,
) -> None:
    """Find how this machine runs a model best, and write it down for infer --profile.

    Every provider, number of threads, batch size and way of waiting is verified by the golden outputs, then measured
    in turns. Options that name what to try may be given several times. Say --batch-size 1 --batch-size 8 to trade
    latency for pictures a second.
    """
    from edgecls.tuning import tune as tune_model
    from edgecls_runtime.output import check_writable

    output = output or Path(f"{model}.profile.json")
    check_writable(output, force=force)
    with new_bar("tuning", 1) as bar:

        def advance(count: int, total: int) -> None:
            bar.length = total
            bar.update(count, "")

        tuning = tune_model(
            model,
            providers=providers or PROVIDERS,
            threads=threads or None,
            batch_sizes=batch_sizes or None,
            inference_precisions=cast("tuple[InferencePrecision, ...]", precisions),
            rounds=rounds,
            progress=advance,
        )
    tuning.write(output, force=force)
    click.echo(tuning)
    click.echo(f"{output}: written; use it with: edgecls infer --engine {model} --profile {output} IMAGE...")
