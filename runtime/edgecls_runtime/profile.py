"""What `edgecls tune` found out about a model on a machine, as a small JSON file beside the model."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecls_runtime.backends.settings import Placement  # noqa: TC001 - the reader resolves the annotations
from edgecls_runtime.errors import ManifestError, ProfileError
from edgecls_runtime.machine import Machine, this_machine
from edgecls_runtime.manifest import from_document

if TYPE_CHECKING:
    from edgecls_runtime.manifest import Manifest

__all__ = ["FORMAT", "Profile", "read"]

FORMAT = "edgecls.profile/1"
_REMEDY = "Tune here: edgecls tune {model}"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a model runs best on a machine.

    Attributes:
        model: name of the file.
        graph_sha256: of the model, as its manifest has it.
        machine: where it was measured.
        engine: name and version of the chosen engine.
        placement: the chosen provider, threads and settings.
        batch_size: the chosen number of pictures a run.
        trials: everything that was tried, for readers: any JSON objects, which `edgecls.tuning` writes.
    """

    model: str
    graph_sha256: str
    machine: Machine
    engine: str
    placement: Placement
    batch_size: int
    trials: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, must be at least 1")

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
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{where}: is not valid JSON: {error}", remedy) from error
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise ProfileError(f"{where}: is not a profile: its format is {found!r}, not {FORMAT!r}", remedy)
    try:
        profile: Profile = from_document(Profile, document, where)
    except ManifestError as error:
        raise ProfileError(error.cause, remedy) from error
    return profile


def _show(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)
