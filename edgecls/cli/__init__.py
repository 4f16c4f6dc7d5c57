"""The command line: one small module per command, each importing what it needs when it runs."""

from __future__ import annotations

import io
import logging
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING

import click

from edgecls_runtime import __version__
from edgecls_runtime.errors import EdgeclsError

from .calibrate import calibrate
from .compare import compare
from .completion import completion
from .data import data
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .infer import infer
from .info import info
from .models import models
from .summary import summary
from .train import train
from .tune import tune
from .verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgecls")
def cli() -> None:
    """Picture classifiers from PyTorch to the device.

    \b
    edgecls train DATA --arch mobilenet_v2           a folder of pictures to a checkpoint
    edgecls export vgg16                             one ONNX file, proven against PyTorch
    edgecls infer --engine vgg16.onnx photo.jpg      its top-5, without torch
    edgecls verify vgg16.onnx                        does this machine compute that model?
    edgecls evaluate vgg16.onnx photos/              how often is it right?
    """


for command in (
    data,
    train,
    export,
    calibrate,
    infer,
    verify,
    tune,
    evaluate,
    compare,
    info,
    models,
    summary,
    doctor,
    completion,
):
    cli.add_command(command)


def _new() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that lets nothing through twice: `compare` opens a file many times, which warns each time."""
    said: deque[str] = deque(maxlen=100)

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in said
        said.append(message)
        return not known

    return is_new


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the user's world is at fault, 2 wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text; stderr does so anyway
    once = logging.StreamHandler()
    once.addFilter(_new())
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[once])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # let `finally` remove temporary files
    try:
        cli.main(arguments, prog_name="edgecls")
    except EdgeclsError as error:
        click.echo(f"error: {error.cause}\n       {error.remedy}", err=True)
        sys.exit(1)
