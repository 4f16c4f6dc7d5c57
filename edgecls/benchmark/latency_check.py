"""Measure a model in one call, quickly: for tests, and for whoever has no command line at hand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls.benchmark import ab, measurement
from edgecls.benchmark.picture_sets import open_pictures
from edgecls.benchmark.setups import orders_for
from edgecls_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from edgecls.benchmark.document import Document
    from edgecls.benchmark.worker import Order

__all__ = ["measure", "measure_in_turn"]


def measure(
    model: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    provider: str | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    duration_s: float | None = None,
) -> Document:
    """Measure the latency of a model.

    Args:
        model: path of the file.
        images: folder of pictures; None for drawn ones.
        provider: as in `Classifier.load`.
        threads: likewise.
        batch_size: pictures a run.
        duration_s: seconds of queries; None for 3.

    Raises:
        BenchmarkError: it could not be measured to the end.
        EdgeclsError: it could not be measured at all.
    """
    effort = dataclasses.replace(measurement.QUICK, cold_starts=0)
    if duration_s is not None:
        effort = dataclasses.replace(effort, duration_s=duration_s)
    with open_pictures(None if images is None else Path(images)) as pictures:
        orders = _orders(model, pictures.paths, provider, threads, batch_size)
        measured = measurement.Measurement(orders, effort)
        measured.run()
        document = measured.to_document(measurement.describe_model(model), pictures.description, {})
    _check_complete(document, model)
    return document


def measure_in_turn(
    baseline: str | os.PathLike[str],
    contender: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    provider: str | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    duration_s: float | None = None,
    max_regression: float = 0.05,
) -> ab.Pair:
    """Measure two models in turn until it is decided whether the second is slower, or the time is over.

    Args:
        baseline: path of the file.
        contender: likewise.
        images: folder of pictures; None for drawn ones.
        provider: as in `Classifier.load`.
        threads: likewise.
        batch_size: pictures a run.
        duration_s: seconds at most, starts of processes included; None for 15.
        max_regression: share by which a query of the contender may take longer.

    Raises:
        BenchmarkError: it could not be measured to the end.
        EdgeclsError: it could not be measured at all.
    """
    effort = ab.QUICK if duration_s is None else dataclasses.replace(ab.QUICK, limit_s=duration_s)
    with open_pictures(None if images is None else Path(images)) as pictures:
        orders = [_orders(model, pictures.paths, provider, threads, batch_size) for model in (baseline, contender)]
        measured = ab.PairMeasurement(
            list(zip(*orders, strict=True)),
            models=(measurement.describe_model(baseline), measurement.describe_model(contender)),
            names=(os.fspath(baseline), os.fspath(contender)),
            pictures=pictures.description,
            options={},
            max_regression=max_regression,
            effort=effort,
        )
        measured.run()
        pair = measured.result()
    _check_complete(pair.baseline, baseline)
    _check_complete(pair.contender, contender)
    return pair


def _orders(
    model: str | os.PathLike[str],
    paths: tuple[str, ...],
    provider: str | None,
    threads: int | None,
    batch_size: int,
) -> tuple[Order, ...]:
    return orders_for(
        os.fspath(model),
        paths,
        providers=() if provider is None else (provider,),
        threads=() if threads is None else (threads,),
        batch_sizes=(batch_size,),
    )


def _check_complete(document: Document, model: str | os.PathLike[str]) -> None:
    for run in document.runs:
        if run.failure is not None:
            raise BenchmarkError(f"{model}: failed midway: {run.failure}", f"Try: edgecls verify {model}")
