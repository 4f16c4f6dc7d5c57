"""Weights that torchvision publishes: what it says about them, and the file itself.

Everything (labels, preset, accuracies) is read from torchvision"s own metadata, so that nothing here can go stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import math
import socket
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torchvision
from torchvision.transforms import InterpolationMode

from edgecls.models import check_arch
from edgecls_runtime.errors import CheckpointError, ModelError
from edgecls_runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


__all__ = ["TIMEOUT_S", "PretrainedWeights", "default_pretrained", "fetch", "pretrained"]

_INTERPOLATIONS: dict[InterpolationMode, Literal["nearest", "bilinear", "bicubic"]] = {
    InterpolationMode.NEAREST: "nearest",
    InterpolationMode.BILINEAR: "bilinear",
    InterpolationMode.BICUBIC: "bicubic",
}

_log = logging.getLogger(__name__)

TIMEOUT_S = 15.0
"""Longest silence of a server, in seconds, before a download is given up."""


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """Weights that torchvision publishes.

    Attributes:
        name: torchvision's, ``MobileNet_V2_Weights.IMAGENET1K_V2``.
        url: where they lie.
        file_name: its last part; it ends in the first hex digits of the file's SHA-256.
        labels: the classes, in the order of the outputs.
        preprocess: that they were measured with.
        metrics: ``acc@1`` and ``acc@5`` on ImageNet-1k's validation pictures, percent, torchvision's own figures.
        num_params: torchvision's own figure (Inception's counts the auxiliary head that `build` leaves out).
    """

    name: str
    url: str
    file_name: str
    labels: tuple[str, ...] = field(repr=False)
    preprocess: Preprocess
    metrics: dict[str, float]
    num_params: int

    @property
    def sha256_prefix(self) -> str:
        """First hex digits of the file's SHA-256, from its name."""
        return self.file_name.rpartition("-")[2].partition(".")[0]

    def __str__(self) -> str:
        metrics = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items())
        return f"{self.name}: {metrics}, {self.num_params:,} parameters, {self.preprocess}"


def pretrained(arch: str) -> tuple[PretrainedWeights, ...]:
    """Return the weights that torchvision publishes for an architecture, oldest first.

    Weights without accuracies (VGG-16's ``IMAGENET1K_FEATURES`` has no usable head) are left out.

    Raises:
        ModelError: there is no such architecture.
    """
    check_arch(arch)
    every: Iterable[Any] = torchvision.models.get_model_weights(arch)
    return tuple(_described(weights) for weights in every if not math.isnan(_accuracies(weights)["acc@1"]))


def default_pretrained(arch: str) -> PretrainedWeights:
    """Return torchvision's recommended weights of an architecture.

    Raises:
        ModelError: there is no such architecture.
    """
    check_arch(arch)
    return _described(torchvision.models.get_model_weights(arch).DEFAULT)


def fetch(weights: PretrainedWeights, *, timeout_s: float = TIMEOUT_S, progress: bool = False) -> Path:
    """Return the file of published weights out of torch hub's cache, downloaded first if it is not there.

    Args:
        weights: what to fetch.
        timeout_s: seconds of silence after which a server is given up.
        progress: show a progress bar on stderr.

    Raises:
        CheckpointError: it cannot be downloaded, or the file is not the one that torchvision published.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name
    if not path.exists():
        _log.info("downloading %s to %s", weights.url, path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _socket_timeout(timeout_s):
                torch.hub.download_url_to_file(weights.url, str(path), weights.sha256_prefix, progress=progress)
        # RuntimeError is how torch.hub reports another hash, a download cut short included.
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            reason = str(error) or type(error).__name__
            raise CheckpointError(
                # A server's own words stand in some errors: no line breaks, no escape codes.
                f"{weights.url} cannot be downloaded: {reason if reason.isprintable() else repr(reason)}",
                f"Fetch it on another machine and put it into {path.parent}, or give `--weights FILE`, "
                "or `--weights none` for random weights.",
            ) from error
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", "Check the file.") from error
    if not digest.startswith(weights.sha256_prefix):
        raise CheckpointError(
            f"{path}: its SHA-256 starts with {digest[:8]}, not {weights.sha256_prefix}: it is damaged or another file",
            "Delete it, so that it is downloaded again.",
        )
    return path


def _accuracies(weights: Any) -> dict[str, float]:
    return {name: float(value) for name, value in weights.meta["_metrics"]["ImageNet-1K"].items()}


def _described(weights: Any) -> PretrainedWeights:
    name = f"{type(weights).__name__}.{weights.name}"
    preset = weights.transforms()
    if (
        type(preset).__name__ != "ImageClassification"
        or preset.interpolation not in _INTERPOLATIONS
        or [len(preset.resize_size), len(preset.crop_size)] != [1, 1]
    ):
        raise ModelError(
            f"{name}: its preset has no counterpart here: {' '.join(repr(preset).split())}",
            "Use the torchvision version that this edgecls was tested with (constraints.txt).",
        )
    return PretrainedWeights(
        name=name,
        url=weights.url,
        file_name=weights.url.rpartition("/")[2],
        labels=tuple(weights.meta["categories"]),
        preprocess=Preprocess(
            resize_size=preset.resize_size[0],
            crop_size=(preset.crop_size[0], preset.crop_size[0]),
            interpolation=_INTERPOLATIONS[preset.interpolation],
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        ),
        metrics=_accuracies(weights),
        num_params=weights.meta["num_params"],
    )


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every wait for a server; torch.hub offers no argument for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
