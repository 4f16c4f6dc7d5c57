"""What ``edgecls infer`` says about a picture, in each of its formats.

A writer takes records one by one and closes what it opened: each is a generator, fed with ``send()``. It hands over
every record as one text, so that an interruption leaves whole records.
"""

from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from edgecls_runtime.classifier import Prediction
    from edgecls_runtime.errors import ImageError

__all__ = ["WRITERS", "Record", "new_record"]

Record: TypeAlias = "dict[str, Any]"
Writer: TypeAlias = "Generator[None, Record, None]"


def new_record(path: str, predictions: tuple[Prediction, ...], error: ImageError | None) -> Record:
    """Return the record of a picture; exactly one of predictions and error counts."""
    return {
        "image": path,
        "predictions": [dataclasses.asdict(item) for item in predictions],
        "error": None if error is None else str(error),
    }


def _write_table(write: Callable[[str], object]) -> Writer:
    while True:
        record = yield
        if record["error"] is not None:
            click.echo(record["error"].replace("\n", "\n    "), err=True)
            continue
        lines = [f"  {item['score']:8.2%}  {item['label']}" for item in record["predictions"]]
        write("\n".join([record["image"], *(lines or ["  no label over its threshold"]), ""]))


def _write_json(write: Callable[[str], object]) -> Writer:
    separator = "[\n"
    try:
        while True:
            record = yield
            write(separator + json.dumps(record, ensure_ascii=False))
            separator = ",\n"
    except (GeneratorExit, KeyboardInterrupt, SystemExit):  # but no OSError: a full disk does not take the end either
        write("\n]\n" if separator == ",\n" else "[]\n")
        raise


def _write_jsonl(write: Callable[[str], object]) -> Writer:
    while True:
        write(json.dumps((yield), ensure_ascii=False) + "\n")


def _write_csv(write: Callable[[str], object]) -> Writer:
    import csv

    write("image,rank,index,label,score,error\n")
    while True:
        record = yield
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if record["error"] is not None:
            rows.writerow([record["image"], "", "", "", "", record["error"].replace("\n", " ")])
        for rank, item in enumerate(record["predictions"], start=1):
            rows.writerow([record["image"], rank, item["index"], item["label"], item["score"], ""])
        write(text.getvalue())


WRITERS: dict[str, Callable[[Callable[[str], object]], Writer]] = {
    "table": _write_table,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}
