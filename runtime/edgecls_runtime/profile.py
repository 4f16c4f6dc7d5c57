"""What `edgecls tune` found out about a model on a machine, as a small JSON file beside the model."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls_runtime.backends.settings import Placement  # noqa: TC001 - the reader resolves the annotations
from edgecls_runtime.errors import ManifestError, ProfileError
from edgecls_runtime.machine import Machine, this_machine
from edgecls_runtime.manifest import from_document
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    from edgecls_runtime.manifest import Manifest

__all__ = ["FORMAT", "Profile", "Trial", "read", "write"]

FORMAT = "edgecls.profile/1"
_REMEDY = "Tune here: edgecls tune {model}"


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
class Profile:
    """How a model runs best on a machine.

    Attributes:
        model: name of the file.
        graph_sha256: of the model, as its manifest has it.
        machine: where it was measured.
        engine: name and version of the chosen engine.
        chosen: index of the chosen trial.
        equals: indices of the trials that the measurement cannot tell from the quickest.
        trials: everything that was tried.
    """

    model: str
    graph_sha256: str
    machine: Machine
    engine: str
    chosen: int
    equals: tuple[int, ...]
    trials: tuple[Trial, ...]

    def __post_init__(self) -> None:
        if not all(0 <= index < len(self.trials) for index in (self.chosen, *self.equals)):
            raise ValueError(f"chosen is {self.chosen} and equals {self.equals}, of {len(self.trials)} trials")
        for trial in self.trials:
            if (trial.failure is None) != bool(trial.round_ms) or min(trial.round_ms, default=1) <= 0:
                raise ValueError(f"the trial {trial} has neither times nor a failure, or both")
        if self.trials[self.chosen].failure is not None:
            raise ValueError(f"the chosen trial failed: {self.trials[self.chosen].failure}")

    @property
    def placement(self) -> Placement:
        """The chosen provider, threads and settings."""
        return self.trials[self.chosen].placement

    @property
    def batch_size(self) -> int:
        """The chosen number of pictures a run."""
        return self.trials[self.chosen].batch_size

    def check_model(self, where: str, manifest: Manifest | None) -> None:
        """Refuse a model that is not the one of this profile, and a machine that is not its.

        Raises:
            ProfileError: says which, and how they differ.
        """
        digest = manifest.graph_sha256 if manifest else "none"
        remedy = _REMEDY.format(model=where)
        if digest != self.graph_sha256:
            raise ProfileError(
                f"{where}: the profile is of another model: {self.model}, graph SHA-256 {self.graph_sha256[:12]}, "
                f"not {digest[:12]}",
                remedy,
            )
        here = this_machine()
        for field in dataclasses.fields(Machine):
            theirs, ours = getattr(self.machine, field.name), getattr(here, field.name)
            if theirs != ours:
                raise ProfileError(
                    f"{where}: the profile is of another machine: {field.name} {_show(theirs)}, here {_show(ours)}",
                    remedy,
                )

    def check_engine(self, where: str, engine: str) -> None:
        """Refuse another engine, or another version of it, than was measured.

        Raises:
            ProfileError: says which.
        """
        if engine != self.engine:
            raise ProfileError(
                f"{where}: the profile is of another engine: {self.engine}, here {engine}", _REMEDY.format(model=where)
            )

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
        lines.append(f"take {self.trials[self.chosen]} ({self.engine})")
        if len(self.equals) > 1:
            lines.append(
                f"{len(self.equals)} of them (* and =) are within the noise of this measurement: the simplest is taken"
            )
        return "\n".join(lines)


def read(path: str | os.PathLike[str]) -> Profile:
    """Read a profile strictly.

    Raises:
        ProfileError: it is not there, or not a profile.
    """
    where = os.fspath(path)
    remedy = _REMEDY.format(model="MODEL")
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise ProfileError(f"{where}: cannot be read: {error.strerror or error}", remedy) from error
    except ValueError as error:
        raise ProfileError(f"{where}: is not valid JSON: {error}", remedy) from error
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise ProfileError(f"{where}: is not a profile: its format is {found!r}, not {FORMAT!r}", remedy)
    try:
        profile: Profile = from_document(Profile, document, where)
    except ManifestError as error:
        raise ProfileError(error.cause, remedy) from error
    return profile


def write(profile: Profile, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a profile for `read`.

    Raises:
        OutputError: it exists already (without ``force``), or cannot be written.
    """
    with whole_file(path, force=force) as temporary:
        document = {"format": FORMAT, **dataclasses.asdict(profile)}
        temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _show(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)
