"""``edgecls verify``."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from .options import engine_options, provider_option, session_options, session_settings, threads_option

if TYPE_CHECKING:
    from edgecls_runtime.backends.settings import InferencePrecision

__all__ = ["verify"]


@click.command()
@click.argument("model")
@provider_option
@threads_option
@session_options
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def verify(
    model: str,
    provider: str | None,
    threads: int | None,
    spinning: bool | None,
    inference_precision: InferencePrecision | None,
    trust: bool,
    engine_cache: str | None,
    as_json: bool,
) -> None:
    """Prove that this machine computes the model as it was exported.

    Checks the digest of the graph or engine, the labels and preprocess, this machine's resize, and the golden outputs
    that PyTorch gave at export; needs no torch. The exit status is 1 if any check fails.
    """
    from edgecls_runtime import golden

    result = golden.verify(
        model,
        provider=provider,
        threads=threads,
        settings=session_settings(spinning, inference_precision),
        trust=trust,
        engine_cache=engine_cache,
    )
    if as_json:
        click.echo(json.dumps({"passed": bool(result), **dataclasses.asdict(result)}, indent=2))
    else:
        click.echo(result)
    result.require()
