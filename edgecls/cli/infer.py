"""``edgecls infer``: never imports torch, and asks little more of a machine than the engine does."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import sys
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecls_runtime.errors import ImageError

from .options import (
    engine_options,
    labels_option,
    preprocess_option,
    provider_option,
    session_options,
    session_settings,
    threads_option,
)
from .param_types import ParamType
from .pictures import STDIN, Pictures
from .records import WRITERS, new_record

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Literal

    from edgecls_runtime.backends.settings import InferencePrecision
    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.preprocess import ImageSource, Preprocess

    from .records import Record
    from .results_file import ResultsFile

__all__ = ["infer"]

_CTRL_C = 130  # the exit status that shells give a process that SIGINT ended: 128 + 2


class _Shard(ParamType[tuple[int, int]]):
    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read ``3/16`` as the third of sixteen."""
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", value)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not K/N with K from 1 to N, like 3/16", param, ctx)
        return int(match[1]), int(match[2])


@click.command()
@click.option("--engine", required=True, metavar="MODEL", help="The model file: ONNX, or a TensorRT engine.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Classes a picture, at most.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(list(WRITERS)),
    help="json: one list; jsonl: a record a line, as they come.  [default: table; with --output its suffix]",
)
@click.option(
    "--output",
    type=click.Path(),
    help="Append the records to a .jsonl or .csv file instead, each as it comes.",
)
@click.option("--resume", is_flag=True, help="Go on with the .jsonl file of --output: answer what it does not.")
@click.option("--force", is_flag=True, help="Overwrite the file of --output.")
@click.option("--shard", type=_Shard(), metavar=_Shard.name, help="Only the K-th of N parts of the pictures.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures a run.  [default: 4 on a CPU, else 16]")
@click.option("--workers", type=click.IntRange(min=1), help="Pictures in work at a time.  [default: CPUs / --threads]")
@provider_option
@threads_option
@session_options
@click.option("--profile", metavar="FILE", help="Of edgecls tune, in place of the provider and all that.")
@labels_option
@preprocess_option
@engine_options
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="fast: large JPEG files at a part of their size; other scores.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures.  [default: 89478485]")
@click.pass_context
def infer(
    ctx: click.Context,
    engine: str,
    images: tuple[str, ...],
    top_k: int,
    output_format: str | None,
    output: str | None,
    resume: bool,
    force: bool,
    shard: tuple[int, int] | None,
    batch_size: int | None,
    workers: int | None,
    provider: str | None,
    threads: int | None,
    spinning: bool | None,
    inference_precision: InferencePrecision | None,
    profile: str | None,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    trust: bool,
    engine_cache: str | None,
    decode: Literal["exact", "fast"],
    max_pixels: int | None,
) -> None:
    """Name what is in pictures.

    IMAGE is a file, a folder, a glob, or - for one picture on standard input. Several pictures are decoded and run at
    the same time, each in one thread, and answered in their order: folders sorted by path.

    --labels and --preprocess are for ONNX files of other makers; those of edgecls carry their own. The exit status
    is 1 if any picture failed; the others are answered all the same. Ctrl-C (130) and SIGTERM (143) leave whole
    records, and --resume goes on from there.
    """
    from PIL import Image

    from edgecls_runtime.backends import default_provider
    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.preprocess import MAX_PIXELS

    form = _format(output_format, output, resume=resume, force=force)
    if output is not None:
        from edgecls_runtime.output import check_writable

        check_writable(output, force=force or resume)  # before the model is loaded
    if STDIN in images and sys.stdin is None:
        raise ImageError("<stdin>: is closed", "Give a picture on standard input, or the name of a file.")
    if profile is not None:
        for name in ("provider", "threads", "spinning", "inference_precision"):
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                option = name.replace("_", "-")
                raise click.UsageError(f"--profile says it all: leave out --{option}.", ctx)
    max_pixels = max_pixels or MAX_PIXELS
    # Pillow's own guards (of frames and tiles) are one global; this process is ours, so they rise with ours.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, MAX_PIXELS)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it becomes an error that says more
    pictures = Pictures(images, shard=shard)
    paths = iter(pictures)
    first = list(itertools.islice(paths, 2))
    if not pictures.found:
        _say_what_was_left_out(pictures)
        raise ImageError(
            f"{' '.join(images)}: no pictures there", "Give files, or folders with JPEG, PNG or WebP files."
        )
    several = len(first) == 2
    if several and threads is None and profile is None and (provider or default_provider(engine)) == "cpu":
        threads = 1  # see edgecls_runtime.stream
    if decode == "fast":
        click.echo("note: decoded fast: the scores are near those of --decode exact, not the same", err=True)
    tally = _Tally()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_interruptions(tally))
        classifier = stack.enter_context(
            Classifier.load(
                engine,
                provider=provider,
                threads=threads,
                settings=session_settings(spinning, inference_precision),
                profile=profile,
                labels=labels,
                preprocess=preprocess,
                max_pixels=max_pixels,
                decode=decode,
                trust=trust,
                engine_cache=engine_cache,
            )
        )
        todo: Iterable[str] = itertools.chain(first, paths)
        write: Callable[[str], object] = functools.partial(click.echo, nl=False)
        results: ResultsFile | None = None
        if output is not None:
            options = {
                "images": list(images),
                "shard": shard and f"{shard[0]}/{shard[1]}",
                "top_k": top_k,
                "placement": str(classifier.placement),
                "decode": decode,
                "max_pixels": max_pixels,
                "labels": labels and list(labels),
                "preprocess": preprocess and str(preprocess),
            }
            header = {"model": engine, "model_sha256": _sha256(engine), "options": options}
            results = stack.enter_context(_open_results(output, header if form == "jsonl" else None, resume, force))
            write = results.write
            tally.resumable = output if form == "jsonl" else None
            tally.failed = results.failed
            todo = itertools.filterfalse(results.take, todo)
        writer = stack.enter_context(contextlib.closing(WRITERS[form](write)))
        next(writer)  # to its first yield
        advance = stack.enter_context(_bar(pictures, results)) if several else None
        answers: Generator[Record, None, None]
        if several:
            answers = _answers(classifier, todo, top_k, batch_size, workers or _workers(classifier.placement.threads))
        else:
            answers = _answer(classifier, todo, top_k)
        stack.enter_context(contextlib.closing(answers))
        for record in answers:
            writer.send(record)
            tally.answered += 1
            tally.failed += record["error"] is not None
            if results is not None:
                results.count(failed=record["error"] is not None)
            if advance is not None:
                advance(1)
        if results is not None:
            results.finish()
    _say_what_was_left_out(pictures)
    total = tally.answered if results is None else results.pictures
    if output is not None:
        click.echo(f"{output}: {total:,} pictures, {tally.answered:,} of them now")
    elif not total:
        click.echo(f"note: none of {pictures.found:,} pictures falls into this shard", err=True)
    if tally.failed or pictures.unreadable:
        if tally.failed:
            click.echo(f"error: {tally.failed} of {total} pictures failed", err=True)
        ctx.exit(1)


@dataclasses.dataclass
class _Tally:
    answered: int = 0
    failed: int = 0
    resumable: str | None = None  # the file that --resume can go on with


def _format(name: str | None, output: str | None, *, resume: bool, force: bool) -> str:
    """Return the format of the records; refuse options that contradict each other."""
    if output is None:
        if resume or force:
            raise click.UsageError(f"--{'resume' if resume else 'force'} goes with --output.")
        return name or "table"
    form = name or os.path.splitext(output)[1].removeprefix(".")  # noqa: PTH122 - pathlib costs time at each start
    if form not in ("jsonl", "csv"):
        raise click.UsageError(f"--output writes jsonl or csv, not {form or 'a file without suffix'}: see --format.")
    if resume and force:
        raise click.UsageError("--resume keeps the file of --output, --force overwrites it: give one of them.")
    if resume and form == "csv":
        raise click.UsageError("--resume goes with a .jsonl file; a .csv file does not say what made it.")
    return form


def _answer(classifier: Classifier, paths: Iterable[str], top_k: int) -> Generator[Record, None, None]:
    """Answer a picture in this thread, with as little as possible around it."""
    for path in paths:
        try:
            yield new_record(path, classifier.predict(_source(path), top_k), None)
        except ImageError as error:
            yield new_record(path, (), error)


def _answers(
    classifier: Classifier, paths: Iterable[str], top_k: int, batch_size: int | None, workers: int
) -> Generator[Record, None, None]:
    """Answer any number of pictures."""
    names: deque[str] = deque()

    def sources() -> Iterator[ImageSource]:
        for path in paths:
            names.append(path)
            yield _source(path)

    for result in classifier.predict_stream(sources(), top_k=top_k, batch_size=batch_size, workers=workers):
        yield new_record(names.popleft(), result.predictions, result.error)


def _workers(threads: int | None) -> int:
    from edgecls_runtime.cpus import usable_cpus

    return max(1, usable_cpus() // (threads or 1))


def _source(path: str) -> ImageSource:
    return sys.stdin.buffer if path == STDIN else path


@contextlib.contextmanager
def _bar(pictures: Pictures, results: ResultsFile | None) -> Iterator[Callable[[int], object] | None]:
    """Show a bar where somebody watches it, and not the answers themselves."""
    if not sys.stderr.isatty() or (results is None and sys.stdout.isatty()):
        yield None
        return
    from .bars import picture_bar

    left = max(0, pictures.count() - (0 if results is None else results.pictures))
    with picture_bar("answering", left) as advance:
        yield advance


@contextlib.contextmanager
def _interruptions(tally: _Tally) -> Iterator[None]:
    """Say how far it came where Ctrl-C or SIGTERM ends it, and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:  # the second is SIGTERM, see main()
        remedy = f"\n       Go on with --resume: {tally.resumable} holds them." if tally.resumable else ""
        click.echo(f"interrupted: {tally.answered:,} pictures answered.{remedy}", err=True)
        if isinstance(end, SystemExit):
            raise
        sys.exit(_CTRL_C)


def _open_results(output: str, header: dict[str, Any] | None, resume: bool, force: bool) -> ResultsFile:
    from pathlib import Path

    from .results_file import ResultsFile

    results = ResultsFile(Path(output), header, resume=resume, force=force)
    if results.torn:
        click.echo(f"note: {output}: its last line is torn, so that picture is answered again", err=True)
    return results


def _sha256(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say_what_was_left_out(pictures: Pictures) -> None:
    if pictures.passed_over:
        click.echo(f"note: {pictures.passed_over} files passed over: no pictures by their suffix", err=True)
    for reason in pictures.unreadable:
        click.echo(f"error: {reason}", err=True)
