"""Which of several runs is which, in as few words as tell them apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edgecls.benchmark.quantiles import SHARES, summarize
from edgecls.drawing.distributions import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document, Run, Setup
    from edgecls.benchmark.quantiles import Summary

__all__ = ["Shown", "compared_names", "distinct", "document_labels", "setup_parts", "show", "some_of"]


@dataclass(frozen=True)
class Shown:
    """A run with what a reader calls it.

    Attributes:
        label: no other run that is shown with it has the same.
        of: likewise of its document.
        document: that it stands in.
        run: itself.
    """

    label: str
    of: str
    document: Document
    run: Run

    @property
    def samples(self) -> tuple[float, ...]:
        """Milliseconds of each query."""
        return self.run.measured.latency_ms

    @cached_property
    def summary(self) -> Summary | None:
        """The samples in a few numbers; None without samples."""
        return summarize(self.samples) if self.samples else None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The percentiles that the samples support."""
        found = [(name, getattr(self.summary, name, None)) for name in SHARES]
        return tuple(Mark(name, of.share, of.value, of.at_most) for name, of in found if of is not None)


def show(documents: Sequence[Document], names: Sequence[str] | None = None) -> tuple[Shown, ...]:
    """Return every run of the documents.

    Args:
        documents: in the order in which they are shown.
        names: what to call them; None to tell them apart by what they differ in.
    """
    names = document_labels(documents) if names is None else names
    found = [(name, document, run) for name, document in zip(names, documents, strict=True) for run in document.runs]
    labels = distinct([{"of": name if len(names) > 1 else ""} | setup_parts(run.setup) for name, _, run in found])
    return tuple(Shown(label, *of) for label, of in zip(labels, found, strict=True))


def compared_names(comparison: Comparison | None) -> list[str] | None:
    """Return what a comparison calls its two documents; None without one, which lets them be told apart as ever."""
    if comparison is None:
        return None
    return distinct([{"name": comparison.baseline.name}, {"name": comparison.contender.name}])


def document_labels(documents: Sequence[Document]) -> list[str]:
    """Return a name for each document: what they differ in of file, contents and machine."""
    machines = list(dict.fromkeys(document.machine for document in documents))
    contents: dict[str, set[str]] = {}
    for document in documents:
        contents.setdefault(document.model.file, set()).add(document.model.sha256)
    return distinct(
        [
            {
                "file": document.model.file,
                "sha256": document.model.sha256[:8] if len(contents[document.model.file]) > 1 else "",
                "machine": f"machine {machines.index(document.machine) + 1}",
            }
            for document in documents
        ]
    )


def distinct(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Join of each row the parts in which the rows differ, else its first one; what is alike even so gets a number.

    Args:
        rows: parts, the same keys in each.
    """
    keys = [key for key in (rows[0] if rows else {}) if len({row[key] for row in rows}) > 1]
    labels = [", ".join(row[key] for key in keys if row[key]) or next(filter(None, row.values()), "") for row in rows]
    alike, seen = Counter(labels), Counter[str]()
    for index, label in enumerate(labels):
        if alike[label] > 1:
            seen[label] += 1
            labels[index] = f"{label} ({seen[label]})"
    return labels


def setup_parts(setup: Setup) -> dict[str, str]:
    """Return what there is to tell setups apart by."""
    plural = "s" if setup.threads != 1 else ""
    return {
        "scenario": setup.scenario,
        "provider": setup.provider.removesuffix("ExecutionProvider"),
        "engine": setup.engine,
        "batch": f"batch {setup.batch_size}",
        "threads": f"{'default' if setup.threads is None else setup.threads} thread{plural}",
    }


def some_of(count: int, most: int, what: str) -> str:
    """Return in words that not all are drawn; nothing if all are."""
    return f" ({most} of {count} {what})" if count > most else ""
