"""The options that say which setups a benchmark measures, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from .options import PROVIDERS, THREADS, CommaList, engine_options, session_options, session_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls_runtime.backends.settings import InferencePrecision

__all__ = ["asked_setups", "given_options", "setup_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_SCENARIOS = ("singlestream", "multistream", "offline", "engine")
_LARGEST_BATCH = 4096  # of 224x224 pixels 2.5 GB of input alone: more is rather a slip of the finger
_OPTIONS = (
    click.option(
        "--provider",
        "providers",
        type=CommaList(click.Choice(PROVIDERS)),
        help=f"Where to run, strictly: {', '.join(PROVIDERS)}.  [default: cpu; tensorrt for an engine]",
    ),
    click.option(
        "--threads",
        type=CommaList(THREADS),
        help="CPU threads of one run, say 1,2.  [default: one a usable physical core]",
    ),
    click.option(
        "--scenario",
        "scenarios",
        type=CommaList(click.Choice(_SCENARIOS)),
        help=f"{', '.join(_SCENARIOS)}.  [default: singlestream; multistream for batches of several]",
    ),
    click.option(
        "--batch",
        "batch_sizes",
        type=CommaList(click.IntRange(1, _LARGEST_BATCH)),
        help="Pictures a run, say 1,8.  [default: 1; multistream 8, offline as for infer FOLDER]",
    ),
    session_options,
    click.option("--images", type=click.Path(path_type=Path), metavar="DIR", help="Pictures.  [default: drawn ones]"),
    engine_options,
)


def setup_options(command: _Command) -> _Command:
    """Add ``images`` and the options that `asked_setups` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_setups(
    *,
    providers: tuple[str, ...] | None,
    threads: tuple[int, ...] | None,
    scenarios: tuple[str, ...] | None,
    batch_sizes: tuple[int, ...] | None,
    spinning: bool | None,
    inference_precision: InferencePrecision | None,
    trust: bool,
    engine_cache: str | None,
) -> dict[str, Any]:
    """Return the arguments of `edgecls.benchmark.setups.orders_for`.

    Raises:
        UsageError: the options contradict each other.
    """
    if scenarios == ("singlestream",) and batch_sizes not in (None, (1,)):
        raise click.UsageError("--scenario singlestream answers picture after picture: leave out --batch.")
    return {
        "providers": providers or (),
        "threads": threads or (),
        "scenarios": scenarios or (),
        "batch_sizes": batch_sizes or (),
        "settings": session_settings(spinning, inference_precision),
        "trust": trust,
        "engine_cache": engine_cache,
    }


def given_options(ctx: click.Context, *, besides: frozenset[str]) -> dict[str, str]:
    """Return the options that were given, by their names without dashes, as one would type them again.

    Args:
        ctx: of the command.
        besides: names of parameters that say nothing about how it is measured.
    """
    given = {}
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if name in besides or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        option = (parameter.secondary_opts if value is False else parameter.opts)[0].removeprefix("--")
        given[option] = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if isinstance(value, bool):
            given[option] = "true"
    return given
