"""Try the ways in which this machine can run a model, and choose."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls_runtime.backends import PROVIDERS
from edgecls_runtime.backends.settings import InferencePrecision, Placement, SessionSettings
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.errors import EdgeclsError, ManifestError, ModelError
from edgecls_runtime.golden import verify_loaded
from edgecls_runtime.loading import load_model
from edgecls_runtime.machine import this_machine
from edgecls_runtime.manifest import read as read_manifest
from edgecls_runtime.output import whole_file
from edgecls_runtime.profile import FORMAT, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgecls_runtime.loaded import LoadedModel

__all__ = ["Trial", "Tuning", "candidates", "choose", "tune"]

_WARMUP_RUNS = 3
_ROUND_S = 0.15  # of runs, in each round; at least `_ROUND_RUNS` of them
_ROUND_RUNS = 5
_SAME_SPEED = 0.02  # less is not worth another setting, however sure


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to run a model, and how it went.

    Attributes:
        placement: what was tried.
        batch_size: pictures a run.
        round_ms: p50 of a run, in milliseconds, in each round.
        failure: why it cannot be chosen; None if it can.
    """

    placement: Placement
    batch_size: int
    round_ms: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def p50_ms(self) -> float:
        """Median of the rounds, of one run."""
        ordered = sorted(self.round_ms)
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

    @property
    def images_per_second(self) -> float:
        """Pictures a second at that speed, one run after the other."""
        return 1e3 * self.batch_size / self.p50_ms

    def __str__(self) -> str:
        return f"{self.placement}, batch {self.batch_size}"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was tried, and what came of it.

    Attributes:
        profile: what to load the model with, of the chosen trial.
        trials: everything that was tried.
        chosen: index of the chosen trial.
        equals: indices of the trials that the measurement cannot tell from the quickest.
    """

    profile: Profile
    trials: tuple[Trial, ...]
    chosen: int
    equals: tuple[int, ...]

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the profile, for `Classifier.load` and `edgecls infer --profile`.

        Raises:
            OutputError: it exists already (without ``force``), or cannot be written.
        """
        document = {"format": FORMAT, **dataclasses.asdict(self.profile)}
        document["trials"] = [
            {**dataclasses.asdict(trial), "chosen": index == self.chosen, "equal": index in self.equals}
            for index, trial in enumerate(self.trials)
        ]
        with whole_file(path, force=force) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")

    def __str__(self) -> str:
        def speed(index: int) -> float:
            trial = self.trials[index]
            return -trial.images_per_second if trial.failure is None else float("inf")

        width = max(len(str(trial.placement)) for trial in self.trials)
        lines = [f"  {'':<{width}}  batch  p50 of a run  pictures/s"]
        for index in sorted(range(len(self.trials)), key=speed):
            trial = self.trials[index]
            mark = "*" if index == self.chosen else "=" if index in self.equals else " "
            head = f"{mark} {trial.placement!s:<{width}}  {trial.batch_size:>5}"
            if trial.failure is None:
                lines.append(f"{head}  {trial.p50_ms:>9.2f} ms  {trial.images_per_second:>10.1f}")
            else:
                lines.append(f"{head}  not chosen: {trial.failure}")
        lines.append(f"take {self.trials[self.chosen]} ({self.profile.engine})")
        if len(self.equals) > 1:
            lines.append(
                f"{len(self.equals)} of them (* and =) are within the noise of this measurement: the simplest is taken"
            )
        return "\n".join(lines)


def candidates(
    providers: Sequence[str],
    threads: Sequence[int],
    inference_precisions: Sequence[InferencePrecision] = (),
) -> Iterator[Placement]:
    """Yield the ways to run a model that are worth a trial, the simplest first."""
    for provider in providers:
        if provider not in ("cpu", "openvino"):
            yield Placement(provider=provider)
            continue
        for precision in (None, *(inference_precisions if provider == "openvino" else ())):
            for count in threads:
                settings = SessionSettings(inference_precision=precision)
                yield Placement(provider=provider, threads=count, settings=settings)
                if provider == "cpu" and count > 1:  # one thread alone has nobody to wait for
                    for spinning in (False, True):
                        yield Placement(provider=provider, threads=count, settings=SessionSettings(spinning=spinning))


def tune(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[str] = PROVIDERS,
    threads: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    inference_precisions: Sequence[InferencePrecision] = (),
    rounds: int = 5,
    progress: Callable[[int, int], object] | None = None,
) -> Tuning:
    """Measure a model in every way that computes it right, and choose the quickest, or the simplest of equals.

    Each way is verified by the golden outputs first. Then all take turns, with one engine open at a time: the threads
    of two would take the cores from each other. A way counts as slower than the quickest if it was so in every round
    (of two equals, chance makes one slower in all of 5 rounds once in 32 times) and by 2 % in the middle.

    Args:
        path: of a model with golden outputs.
        providers: to try; those that are not here are listed with the reason.
        threads: counts to try; None for 1, 2, 4 and so on up to the CPUs that this process may use.
        batch_sizes: pictures a run; None for one, or for what the model fixes.
        inference_precisions: of OpenVINO, besides float32: they round, so they are tried only when asked for.
        rounds: turns of each.
        progress: called with the steps done since the last call, and the number of all steps.

    Raises:
        ManifestError: the model has no golden outputs.
        ModelError: nothing computes it right; says why, of the first one.
    """
    where = os.fspath(path)
    manifest = read_manifest(path)
    if manifest is None or manifest.golden is None:
        raise ManifestError(
            f"{where}: carries no {'golden outputs' if manifest else 'manifest'} to verify it by",
            "Export it with edgecls: edgecls export ARCH|CHECKPOINT",
        )
    fixed = manifest.batch_size
    if batch_sizes is None:
        batch_sizes = (fixed or 1,)
    if fixed is not None and set(batch_sizes) != {fixed}:
        raise ModelError(f"{where}: takes {fixed} pictures a run, no other number", "Leave out --batch-size.")

    failures: dict[Placement, str] = {}
    engines: dict[Placement, str] = {}
    placements = list(candidates(providers, _thread_counts() if threads is None else threads, inference_precisions))
    measured = len(batch_sizes) * rounds  # of each placement
    steps = len(placements) * (1 + measured)
    for placement in placements:
        try:
            with _load(path, placement) as model:
                verify_loaded(model).require()
                engines[placement] = model.backend.engine
        except EdgeclsError as error:
            failures[placement] = error.cause
        if progress is not None:
            progress(1 + measured if placement in failures else 1, steps)
    if not engines:
        raise ModelError(
            f"{where}: no way to run it was found: {failures[placements[0]]}", f"Try: edgecls verify {where}"
        )

    ways = [(placement, size) for placement in engines for size in batch_sizes]
    times: dict[tuple[Placement, int], list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 else reversed(ways):  # who comes after whom turns too
            times[way].append(_p50_ms(path, *way))
            if progress is not None:
                progress(1, steps)
    trials = [Trial(placement=way[0], batch_size=way[1], round_ms=tuple(times[way])) for way in ways]
    chosen, equals = choose(trials)
    trials += [
        Trial(placement=placement, batch_size=size, failure=failures[placement])
        for placement in failures
        for size in batch_sizes
    ]
    profile = Profile(
        model=os.path.basename(where),  # noqa: PTH119 - one name of a str | PathLike
        graph_sha256=manifest.graph_sha256,
        machine=this_machine(),
        engine=engines[trials[chosen].placement],
        placement=trials[chosen].placement,
        batch_size=trials[chosen].batch_size,
    )
    return Tuning(profile=profile, trials=tuple(trials), chosen=chosen, equals=equals)


def choose(trials: Sequence[Trial]) -> tuple[int, tuple[int, ...]]:
    """Return the index of the simplest of those that cannot be told from the quickest, and the indices of all those."""
    quickest = max(trials, key=lambda trial: trial.images_per_second)
    equals = tuple(index for index, trial in enumerate(trials) if not _slower(trial, quickest))
    return min(equals, key=lambda index: _complexity(trials[index])), equals


def _slower(trial: Trial, quickest: Trial) -> bool:
    ratios = [
        (ours / trial.batch_size) / (theirs / quickest.batch_size)
        for ours, theirs in zip(trial.round_ms, quickest.round_ms, strict=True)
    ]
    return min(ratios) > 1 and statistics.median(ratios) > 1 + _SAME_SPEED


def _complexity(trial: Trial) -> tuple[object, ...]:
    """Order by what costs least elsewhere: exact numbers, ONNX Runtime, small batches, few threads that spin little."""
    placement = trial.placement
    return (
        placement.settings.inference_precision is not None,
        PROVIDERS.index(placement.provider),
        trial.batch_size,
        (None, False, True).index(placement.settings.spinning),
        placement.threads or 0,
    )


def _thread_counts() -> tuple[int, ...]:
    usable = usable_cpus()
    powers = [1 << exponent for exponent in range(usable.bit_length()) if 1 << exponent < usable]
    return (*powers, usable)


def _load(path: str | os.PathLike[str], placement: Placement) -> contextlib.closing[LoadedModel]:
    settings = placement.settings
    return contextlib.closing(
        load_model(path, provider=placement.provider, threads=placement.threads, settings=settings)
    )


def _p50_ms(path: str | os.PathLike[str], placement: Placement, batch_size: int) -> float:
    with _load(path, placement) as model:
        batch = model.preprocess.new_batch(batch_size)
        batch[:] = 0
        for _ in range(_WARMUP_RUNS):
            model.run(batch)
        seconds: list[float] = []
        while len(seconds) < _ROUND_RUNS or sum(seconds) < _ROUND_S:
            started = time.perf_counter()
            model.run(batch)
            seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)
