"""Options that several commands share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecls_runtime.backends import PROVIDERS
from edgecls_runtime.errors import ManifestError, MissingDependencyError

from .param_types import ParamType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgecls_runtime.backends.settings import InferencePrecision, SessionSettings
    from edgecls_runtime.preprocess import Preprocess

__all__ = [
    "INFERENCE_PRECISIONS",
    "PROVIDERS",
    "THREADS",
    "CommaList",
    "engine_options",
    "labels_option",
    "preprocess_option",
    "provider_option",
    "session_options",
    "session_settings",
    "threads_option",
    "training_packages",
]

_Command = TypeVar("_Command", bound="Callable[..., Any]")

# Resize sizes of torchvision's two generations of ImageNet weights; all else is `Preprocess`'s default.
_PRESETS = {"imagenet": 256, "imagenet-232": 232}
INFERENCE_PRECISIONS = ("f32", "bf16", "f16")
_SESSION_OPTIONS = (
    click.option(
        "--spinning/--no-spinning",
        default=None,
        help="cpu: threads wait busily between runs too, or never.  [default: within a run]",
    ),
    click.option(
        "--inference-precision",
        type=click.Choice(INFERENCE_PRECISIONS),
        help="openvino: what to compute in; less than f32 rounds.  [default: f32]",
    ),
)


class _Labels(ParamType[tuple[str, ...]]):
    name = "FILE"

    def convert(self, value: Any, *_: object) -> tuple[str, ...]:
        """Read one label a line, or a JSON list."""
        import json
        from pathlib import Path

        try:
            text = Path(value).read_text("utf-8")
            labels = json.loads(text) if value.endswith(".json") else text.splitlines()
        except OSError as error:
            raise ManifestError(f"{value}: cannot be read: {error.strerror}", "Check the path of --labels.") from error
        except ValueError as error:
            raise ManifestError(f"{value}: {error}", "Give UTF-8 text, one label a line, or a JSON list.") from error
        if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
            raise ManifestError(f"{value}: is not a list of texts", 'Give one label a line, or JSON: ["cat", "dog"].')
        for number, label in enumerate(labels, start=1):
            if not label or not label.isprintable():
                raise ManifestError(
                    f"{value}: label {number} is {label!r}", "Labels are printed: no empty ones, no control characters."
                )
        return tuple(labels)


class _Preprocess(ParamType["Preprocess"]):
    name = "|".join([*_PRESETS, "FILE.json"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Preprocess:
        """Take a preset by name, or read the fields of `Preprocess` from a JSON file."""
        import json
        from pathlib import Path

        from edgecls_runtime.manifest import from_document
        from edgecls_runtime.preprocess import Preprocess

        if value in _PRESETS:
            return Preprocess(resize_size=_PRESETS[value])
        if not value.endswith(".json"):
            self.fail(f"{value!r} is not one of {', '.join(_PRESETS)}, nor a .json file", param, ctx)
        try:
            document = json.loads(Path(value).read_text("utf-8"))
        except OSError as error:
            raise ManifestError(
                f"{value}: cannot be read: {error.strerror}", "Check the path of --preprocess."
            ) from error
        except ValueError as error:
            raise ManifestError(f"{value}: is not valid JSON: {error}", 'Give, say: {"resize_size": 256}') from error
        preprocess: Preprocess = from_document(Preprocess, document, value)
        return preprocess


class CommaList(ParamType[tuple[Any, ...]]):
    """Values of one type separated by commas, each of them once."""

    name = "LIST"

    def __init__(self, item: ParamType[Any]) -> None:
        self._item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Convert each."""
        if isinstance(value, tuple):
            return value
        items = tuple(self._item.convert(part.strip(), param, ctx) for part in str(value).split(","))
        if len(set(items)) < len(items):
            self.fail(f"{value!r} names one twice", param, ctx)
        return items


class _ThreadCount(click.IntRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuse a slip of the pen: the engine would take gigabytes for the threads' stacks, and could not be ended."""
        from edgecls_runtime.cpus import usable_cpus

        threads, cpus = int(super().convert(value, param, ctx)), usable_cpus()
        most = max(64, 8 * cpus)
        if threads > most:
            self.fail(f"{threads} is more than {most}, and this process may use {cpus} CPUs.", param, ctx)
        return threads


THREADS = _ThreadCount(min=1)

labels_option = click.option("--labels", type=_Labels(), help="Class names: one a line, or a JSON list.")
preprocess_option = click.option(
    "--preprocess",
    metavar=_Preprocess.name,
    type=_Preprocess(),
    help="What turns a picture into the input: resize, crop, mean, std, ...",
)
provider_option = click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    help="Where to run, strictly.  [default: cpu; tensorrt for an engine]",
)
threads_option = click.option(
    "--threads", type=THREADS, help="CPU threads of one run.  [default: one a usable physical core]"
)


def engine_options(command: _Command) -> _Command:
    """Add what TensorRT alone asks for: ``trust`` and ``engine_cache``."""
    command = click.option(
        "--engine-cache",
        type=click.Path(),
        metavar="DIR",
        help="For provider tensorrt: keep there what it compiles for this GPU.",
    )(command)
    return click.option(
        "--trust",
        is_flag=True,
        help="Run an engine, which is executable code, without a sidecar that vouches for it.",
    )(command)


def session_options(command: _Command) -> _Command:
    """Add the options that `session_settings` takes: what an engine lets one choose beyond its threads."""
    for option in reversed(_SESSION_OPTIONS):
        command = option(command)
    return command


def session_settings(spinning: bool | None, inference_precision: InferencePrecision | None) -> SessionSettings:
    """Return what was chosen; None leaves it to the default."""
    from edgecls_runtime.backends.settings import SessionSettings

    return SessionSettings(spinning=spinning, inference_precision=inference_precision)


@contextlib.contextmanager
def training_packages() -> Iterator[None]:
    """Say how to install what a command needs beyond the runtime, instead of an ImportError."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs the package {error.name}, which cannot be imported ({error})",
            "Install it with: pip install 'edgecls[train,cpu]'",
        ) from error
