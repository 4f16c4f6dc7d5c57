"""The command line: one small module per command, imported when called, and importing what it needs when it runs."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import io
import logging
import os
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING

import click

from edgecls_runtime import __version__
from edgecls_runtime.errors import EdgeclsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["cli", "main"]

_COMMANDS = (
    *("bench", "calibrate", "compare", "completion", "data", "doctor", "evaluate", "export", "infer", "info"),
    *("models", "summary", "train", "tune", "verify"),
)

# What a write fails with. Files are written by their names, so an error without one is of standard output.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Commands(click.Group):
    """The commands, each in the module of its name. A device that infers need not read the others'."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click gives it
        """Return the names, sorted."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Return the command of a name; None if there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; Ctrl-C ends it with the status that shells know. Click's own would be a failure's, 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(128 + signal.SIGINT)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
    gc.set_threshold(100_000)  # while packages are imported there is no garbage, and each look for some takes its time
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text; stderr does so anyway
    once = logging.StreamHandler()
    once.addFilter(_new())
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[once])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # let `finally` remove temporary files
    try:
        cli.main(arguments, prog_name="edgecls")
    except EdgeclsError as error:
        _fail(error.cause, error.remedy, error.exit_status)
    except MemoryError as error:
        _fail(f"not enough memory: {str(error) or 'none is left'}", "Ask for less at once, say a smaller --batch-size.")
    except OSError as error:
        if error.filename is None and error.errno not in _WRITING:
            raise
        where, what, remedy = error.filename, error.strerror, "Check the path, its permissions too."
        if where is None:
            where = "standard output"
            _give_up_standard_output()
        if error.errno in _WRITING:
            remedy = "Free some space, or write elsewhere."
        if error.errno == errno.ENOSPC:
            what = "the disk is full"
        _fail(f"{where}: {what}", remedy)


def _fail(cause: str, remedy: str, exit_status: int = 1) -> NoReturn:
    click.echo(f"error: {cause}\n       {remedy}", err=True)
    sys.exit(exit_status)


def _give_up_standard_output() -> None:
    """Let go what it did not take: at exit Python would try again, and end with a status of its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # where it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
