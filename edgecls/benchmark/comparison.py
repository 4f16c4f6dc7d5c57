"""Is the contender slower than the baseline, by more than is allowed? Pass, regression, or inconclusive.

The true ratio of the latencies lies in an interval (`edgecls.benchmark.intervals`). If all of it is within what is
allowed, that is a pass; if all of it is beyond, a regression; else nothing is proven. So neither a false alarm nor a
regression that slips through is likelier than the interval's own error, whatever the machine's noise: noise makes
intervals wide and verdicts inconclusive, not wrong. A slow-down of just what is allowed stays inconclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgecls.benchmark.document import Document, Fingerprint, Run, Setup
from edgecls.benchmark.pairing import pair_runs, why_incomplete
from edgecls_runtime.errors import BenchmarkError, OtherMachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls.benchmark.intervals import Interval

__all__ = [
    "CONFIDENCE",
    "EXIT_STATUS",
    "Comparison",
    "Row",
    "Side",
    "Verdict",
    "check_comparable",
    "compare",
]

Verdict: TypeAlias = Literal["pass", "inconclusive", "regression"]

EXIT_STATUS: dict[Verdict, int] = {"pass": 0, "inconclusive": 3, "regression": 1}
"""In the order from good to bad."""

CONFIDENCE = 0.95
"""With which all intervals of a comparison hold at once: one false alarm in forty, at most, where a slow-down is just
what is allowed, and far fewer where there is none; likewise for one that slips through."""

_APART = (
    "Ratio of the medians of two measurements that were made apart; bootstrap of whole rounds. "
    "What the machine did to all rounds of one measurement, and not to the other's, is part of the ratio."
)
_IN_TURN = (
    "Median of the ratios of queries of the same picture, one model right after the other; bootstrap of whole rounds, "
    "each of processes of its own."
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two documents.

    Attributes:
        name: what the user calls it: a path.
        file: name of the model's file.
        sha256: of that file.
        created: UTC, ISO 8601.
    """

    name: str
    file: str
    sha256: str
    created: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setup of both.

    Attributes:
        setup: the contender's; the baseline's may have another version of the engine.
        baseline_queries: that were measured.
        contender_queries: likewise.
        baseline_ms: median latency of a query; None without queries.
        contender_ms: likewise.
        ratio: of the latencies, contender over baseline: 1.1 is 10 % slower. None without an interval.
        low: the interval's end; None where there are too few rounds for one, or none at all.
        high: likewise.
        verdict: ``pass``, ``regression`` or ``inconclusive``.
        remark: what that means, in a sentence.
        failed: whether one of the two runs ended before its time.
    """

    setup: Setup
    baseline_queries: int
    contender_queries: int
    baseline_ms: float | None
    contender_ms: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    remark: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A contender held against its baseline.

    Attributes:
        baseline: what it was.
        contender: what it is now.
        max_regression: share by which a query may take longer: 0.05 for 5 %.
        confidence: with which all intervals hold at once.
        in_turn: whether the two were measured in turn, query by query of the same pictures.
        method: how the intervals were made, in words.
        warnings: what makes the verdict less than it seems, each a sentence.
        complete: whether both documents are; what is not complete cannot pass.
        rows: one for each setup.
        early_exit: exit status of a command whose measurement ended early: 130 after Ctrl-C, 143 after SIGTERM, 1 if a
            setup failed; None if it went through, or if files were compared.
    """

    baseline: Side
    contender: Side
    max_regression: float
    confidence: float
    in_turn: bool
    method: str
    warnings: tuple[str, ...]
    complete: bool
    rows: tuple[Row, ...]
    early_exit: int | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the rows' verdicts; ``inconclusive`` at best if a document is not complete."""
        order = list(EXIT_STATUS)
        found: list[Verdict] = [row.verdict for row in self.rows]
        if not self.complete or not found:
            found.append("inconclusive")
        return max(found, key=order.index)

    @property
    def exit_status(self) -> int:
        """What the command that tells the verdict exits with: 0 pass, 1 regression, 3 inconclusive, or `early_exit`."""
        return self.early_exit or EXIT_STATUS[self.verdict]

    @property
    def advice(self) -> str | None:
        """What an inconclusive verdict asks for, in a sentence; None where there is a verdict."""
        if self.verdict != "inconclusive":
            return None
        if not self.complete:
            return "Measure again: what is not complete cannot pass."
        if self.in_turn:
            return "Give it more time (--duration), or a machine that does less besides."
        return "Measure longer (--duration), or both in turn, which noise disturbs least: edgecls bench --ab A B"

    def __str__(self) -> str:
        setups = [str(row.setup) for row in self.rows]
        width = max(map(len, ["setup", *setups]))
        names = f"{self.contender.name} against {self.baseline.name}"
        lines = [
            f"{self.verdict}: {names}; up to {100 * self.max_regression:g} % slower is allowed",
            f"  {'setup':{width}}   baseline  contender   ratio  {100 * self.confidence:g} % interval",
        ]
        for setup, row in zip(setups, self.rows, strict=True):
            times = f"{_ms(row.baseline_ms):>10} {_ms(row.contender_ms):>10}"
            bounds = "-" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
            ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
            lines += [f"  {setup:{width}} {times} {ratio:>7}  {bounds}", f"      {row.verdict}: {row.remark}"]
        lines += [f"  - {warning}" for warning in self.warnings]
        return "\n".join([*lines, self.advice] if self.advice else lines)


def compare(
    baseline: Document,
    contender: Document,
    *,
    max_regression: float = 0.05,
    any_machine: bool = False,
    names: tuple[str, str] | None = None,
    in_turn: bool = False,
    looks: int = 1,
) -> Comparison:
    """Hold a document against another of the same machine, architecture, pictures and setups.

    Args:
        baseline: what it was.
        contender: what it is now.
        max_regression: share by which a query may take longer: 0.05 for 5 %.
        any_machine: compare what different machines measured, and warn.
        names: what to call the two; None for their models' file names.
        in_turn: the two were measured in turn: the n-th query of a round is of the same picture in both, and was
            answered at nearly the same time.
        looks: how many times at most such a comparison is made of a growing measurement before the verdict counts.
            Each look may err, so each has its share of the allowed error (Bonferroni), as has each setup.

    Raises:
        OtherMachineError: the machines differ; names the fields.
        BenchmarkError: something else differs that makes the comparison meaningless.
    """
    if not 0 <= max_regression < math.inf:
        raise ValueError(f"max_regression is {max_regression}, must be a share of 0 or more")
    sides = _sides(baseline, contender, names)
    warnings = check_comparable(baseline, contender, any_machine=any_machine, names=names)
    pairs = pair_runs(baseline, contender, (sides[0].name, sides[1].name))
    error = (1 - CONFIDENCE) / 2 / (looks * max(1, len(pairs)))
    for side, document in zip(sides, (baseline, contender), strict=True):
        if not document.complete:
            warnings.append(f"{side.name} is not complete ({why_incomplete(document)}): it cannot pass")
        for doubt in dict.fromkeys(doubt for run in document.runs for doubt in run.doubts):
            warnings.append(f"{side.name}: {doubt}")
    return Comparison(
        baseline=sides[0],
        contender=sides[1],
        max_regression=max_regression,
        confidence=CONFIDENCE,
        in_turn=in_turn,
        method=_IN_TURN if in_turn else _APART,
        warnings=tuple(warnings),
        complete=baseline.complete and contender.complete,
        rows=tuple(_row(*pair, max_regression, error, in_turn=in_turn) for pair in pairs),
    )


def check_comparable(
    baseline: Document, contender: Document, *, any_machine: bool = False, names: tuple[str, str] | None = None
) -> list[str]:
    """Refuse what `compare` refuses whatever was measured: other machines, architectures and pictures.

    Returns:
        What differs and may, each a sentence.

    Raises:
        OtherMachineError: the machines differ; names the fields.
        BenchmarkError: something else differs that makes the comparison meaningless.
    """
    sides = _sides(baseline, contender, names)
    return [*_check_machines(baseline, contender, sides, any_machine), *_check_work(baseline, contender, sides)]


def _sides(baseline: Document, contender: Document, names: tuple[str, str] | None) -> tuple[Side, ...]:
    named = _apart(names or (baseline.model.file, contender.model.file))
    return tuple(
        Side(name=name, file=document.model.file, sha256=document.model.sha256, created=document.created)
        for name, document in zip(named, (baseline, contender), strict=True)
    )


def _apart(names: tuple[str, str]) -> tuple[str, str]:
    """Return names that tell the two apart, also where a file is compared with itself."""
    return names if names[0] != names[1] else (f"baseline {names[0]}", f"contender {names[1]}")


def _check_machines(
    baseline: Document, contender: Document, sides: Sequence[Side], any_machine: bool
) -> tuple[str, ...]:
    differences = [
        f"{field.name} is {_shown(getattr(contender.machine, field.name))}, "
        f"was {_shown(getattr(baseline.machine, field.name))}"
        for field in fields(Fingerprint)
        if getattr(contender.machine, field.name) != getattr(baseline.machine, field.name)
    ]
    if differences and not any_machine:
        raise OtherMachineError(
            f"{sides[1].name}: was measured on another machine than {sides[0].name}: {'; '.join(differences)}",
            "Measure both on one machine, best in turn: edgecls bench --ab MODEL_A MODEL_B "
            "(--any-machine compares all the same)",
        )
    return tuple(f"another machine: {difference}" for difference in differences)


def _check_work(baseline: Document, contender: Document, sides: Sequence[Side]) -> list[str]:
    """Refuse what was not the same work; return what differs and may."""
    was, now = baseline.model, contender.model
    if was.arch != now.arch:
        raise BenchmarkError(
            f"{sides[1].name}: measured {_arch(now.arch)}, {sides[0].name} {_arch(was.arch)}",
            "Compare files of one architecture; edgecls bench report shows others side by side.",
        )
    if baseline.pictures != contender.pictures:
        described = [
            f"{pictures.count} {'drawn' if pictures.source == 'drawn' else 'of a folder'} ({pictures.sha256[:12]})"
            for pictures in (contender.pictures, baseline.pictures)
        ]
        raise BenchmarkError(
            f"{sides[1].name}: was measured on other pictures than {sides[0].name}: {described[0]}, not {described[1]}",
            "Measure both on the same pictures: the drawn ones, or the same --images DIR",
        )
    found = []
    if was.precision != now.precision:
        found.append(f"precision is {now.precision}, was {was.precision}")
    if baseline.edgecls != contender.edgecls:
        found.append(f"edgecls is {contender.edgecls}, was {baseline.edgecls}")
    for name in sorted({*baseline.versions, *contender.versions}):
        old, new = baseline.versions.get(name), contender.versions.get(name)
        if old != new:
            found.append(f"{name} is {new or 'not there'}, was {old or 'not there'}")
    return found


def _row(was: Run, now: Run, max_regression: float, error: float, *, in_turn: bool) -> Row:
    from edgecls.benchmark.intervals import median_of_ratios, ratio_of_medians

    failures = [
        f"the {name} failed: {run.failure}" for name, run in (("baseline", was), ("contender", now)) if run.failure
    ]
    samples = [run.measured.latency_ms for run in (was, now)]
    interval = None
    if all(samples):
        rounds = [_rounds(run) for run in (was, now)]
        interval = (median_of_ratios if in_turn else ratio_of_medians)(*rounds, error=error)
    verdict, remark = _verdict(interval, was, now, max_regression)
    if failures and verdict == "pass":
        verdict = "inconclusive"
    return Row(
        setup=now.setup,
        baseline_queries=len(samples[0]),
        contender_queries=len(samples[1]),
        baseline_ms=median_low(samples[0]) if samples[0] else None,
        contender_ms=median_low(samples[1]) if samples[1] else None,
        ratio=None if interval is None else interval.ratio,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        verdict=verdict,
        remark="; ".join([*failures, remark] if interval or not failures else failures),
        failed=bool(failures),
    )


def _rounds(run: Run) -> list[tuple[float, ...]]:
    ends = accumulate(run.measured.rounds, initial=0)
    return [run.measured.latency_ms[start:end] for start, end in pairwise(ends)]


def _verdict(interval: Interval | None, was: Run, now: Run, max_regression: float) -> tuple[Verdict, str]:
    from edgecls.benchmark.intervals import FEWEST_ROUNDS

    if interval is None:
        count = min(len(was.measured.rounds), len(now.measured.rounds))
        return "inconclusive", f"{count} rounds are too few for an interval, which takes {FEWEST_ROUNDS}"
    low, high, allowed = interval.low, interval.high, 1 + max_regression
    if low > allowed:
        return "regression", _change(low, high)
    if high > allowed:
        return "inconclusive", f"{_change(low, high)}: more or less than {100 * max_regression:g} %, nobody can tell"
    if low <= 1 <= high:
        return "pass", f"no difference seen; {_change(low, high)}"
    return "pass", f"{_change(low, high)}, which is allowed" if low > 1 else _change(low, high)


def _change(low: float, high: float) -> str:
    """Say in words between what a ratio lies."""
    less, more = (f"{abs(100 * (ratio - 1)):.1f} %" for ratio in (low, high))
    if low > 1:
        return f"slower by {less} to {more}"
    if high < 1:
        return f"faster by {more} to {less}"
    return f"between {less} faster and {more} slower"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def _arch(name: str | None) -> str:
    return "a model that names no architecture" if name is None else name


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "unknown" if value is None else str(value)
