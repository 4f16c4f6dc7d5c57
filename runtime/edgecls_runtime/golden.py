"""Golden outputs: prove on the device, without torch, that this engine on this hardware computes that model.

The pictures are drawn with integer arithmetic, so every machine draws the same ones; they pass the whole way of
a photo (resize, crop, normalize, engine), and the right answers to them ride in the manifest: PyTorch's in float32,
else those of the artifact itself on the machine that proved it (`edgecls_runtime.tolerance`).
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.backends import is_engine
from edgecls_runtime.errors import ManifestError, VerificationError
from edgecls_runtime.loaded import scores_from_logits
from edgecls_runtime.loading import load_model
from edgecls_runtime.onnx_file import graph_sha256
from edgecls_runtime.preflight import read_plan
from edgecls_runtime.preprocess import decode, normalize, resize_and_crop
from edgecls_runtime.tolerance import MAX_GOLDEN_DIFF

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from edgecls_runtime.backends.settings import SessionSettings
    from edgecls_runtime.loaded import LoadedModel
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["Check", "Verification", "draw_picture", "golden_pixels", "pixels_sha256", "verify", "verify_loaded"]

_HEIGHT, _WIDTH = 300, 400  # not the size of any crop, so that the resize has work to do


@dataclass(frozen=True)
class Check:
    """One thing that was verified, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found; true if every check passed."""

    path: str
    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(
            f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<11} {check.found}" for check in self.checks
        )

    def require(self) -> None:
        """Raise a VerificationError that names what failed, if anything did."""
        failed = "; ".join(f"{check.name}: {check.found}" for check in self.checks if not check.passed)
        if failed:
            raise VerificationError(
                f"{self.path}: {failed}", "Do not deploy it: export the model again, or try another engine or provider."
            )


def draw_picture(number: int) -> NDArray[np.uint8]:
    """Draw golden picture ``number``: uint8 [300, 400, 3], the same on every machine.

    Waves and edges of several scales with noise on top, so that filters of every size have something to answer.
    """
    y, x, channel = np.ogrid[:_HEIGHT, :_WIDTH, :3]
    waves = _triangle(x * (number + 1) + channel * 41, 90) + _triangle(y * (channel + 1) + x + number * 57, 140)
    edges = 255 * ((x // (16 << number) + y // 48 + channel) % 2)
    # An integer hash of the place (multiply, xor, shift; 32 bits), as good as noise.
    place = (x * 374_761_393 + y * 668_265_263 + channel * 974_634_777 + number * 2_147_483_629) & 0xFFFFFFFF
    place = ((place ^ (place >> 13)) * 1_274_126_177) & 0xFFFFFFFF
    noise = (place >> 16) & 0xFF
    mixed: NDArray[np.int64] = (3 * waves + 2 * edges + (number + 1) * noise) // (9 + number)
    return mixed.astype(np.uint8)


def golden_pixels(count: int, preprocess: Preprocess) -> list[NDArray[np.uint8]]:
    """Return the first golden pictures, resized and cropped."""
    return [resize_and_crop(decode(draw_picture(number), preprocess), preprocess) for number in range(count)]


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Return the digest that the manifest has of a picture's pixels."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def verify(
    path: str | os.PathLike[str],
    *,
    provider: str | None = None,
    threads: int | None = None,
    settings: SessionSettings | None = None,
    trust: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
) -> Verification:
    """Check a model on this machine against what its manifest recorded at export.

    Four things: the graph is the one that was proven (of an engine: the plan is the one that was built); labels and
    preprocess are those; this machine's resize makes the same pixels; its engine computes the recorded logits within
    the tolerance of the model's precision. A fifth where the graph names the best classes itself: they are those of
    its logits.

    Raises:
        ModelError: the model cannot be loaded.
        ManifestError: it carries no manifest, or no golden outputs.
        ProviderError: the provider is not there.
    """
    model = load_model(
        path, provider=provider, threads=threads, settings=settings, trust=trust, engine_cache=engine_cache
    )
    with contextlib.closing(model):
        return verify_loaded(model)


def verify_loaded(model: LoadedModel) -> Verification:
    """Check, as `verify` does, a model that is loaded already.

    Raises:
        ManifestError: it carries no manifest, or no golden outputs.
        ModelError: the run failed.
    """
    path, manifest = model.path, model.manifest
    if manifest is None or manifest.golden is None:
        raise ManifestError(
            f"{path}: carries no {'golden outputs' if manifest else 'manifest'} to verify it by",
            "Export it with edgecls: edgecls export ARCH|CHECKPOINT",
        )
    golden = manifest.golden
    pixels = golden_pixels(len(golden.pixels_sha256), manifest.preprocess)
    batch = np.stack([normalize(picture, manifest.preprocess) for picture in pixels])
    logits = model.run(batch)
    rounding = MAX_GOLDEN_DIFF.get(_computed_in(model), MAX_GOLDEN_DIFF["fp32"])
    bound = max(MAX_GOLDEN_DIFF[manifest.precision], rounding)
    on = f"{model.backend.provider}, {model.backend.engine}"
    checks = [
        _compare_origin(path, manifest),
        _compare_digests(
            "contract", [manifest.contract_sha256()], [golden.contract_sha256], "labels, activation and preprocess"
        ),
        _compare_digests(
            "pixels", [*map(pixels_sha256, pixels)], list(golden.pixels_sha256), "resized golden pictures"
        ),
        _compare_logits(logits, golden.logits(), bound, on),
    ]
    if manifest.top_k is not None:
        checks.append(_compare_top_k(model, batch, rounding, on))
    return Verification(path, tuple(checks))


def _triangle(position: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """Return a triangle wave from 0 to 255."""
    return np.abs(position % period * 2 - period) * 255 // period


def _computed_in(model: LoadedModel) -> str:
    """Return what an engine was asked to compute in, if that is less than the file holds."""
    if is_engine(model.path):
        return "tf32" if read_plan(model.path, trust=True).has_option("tf32") else ""
    return model.placement.settings.inference_precision or ""


def _compare_origin(path: str | os.PathLike[str], manifest: Manifest) -> Check:
    """Hold the file against what was proven: the graph, or the plan that was built from it."""
    if not is_engine(path):
        return _compare_digests("graph", [graph_sha256(path)], [manifest.graph_sha256], "nodes and weights")
    plan = read_plan(path, trust=True)
    expected = plan.sidecar.plan_sha256 if plan.sidecar else ""
    return _compare_digests("plan", [plan.sha256], [expected], "the plan's bytes")


def _compare_digests(name: str, found: list[str], expected: list[str], what: str) -> Check:
    if found == expected:
        return Check(name, passed=True, found=f"{what} are those of the export")
    ours, theirs = next(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])
    difference = f"(SHA-256 {ours[:12]}, expected {theirs[:12]})"
    return Check(name, passed=False, found=f"{what} are not those of the export {difference}")


def _compare_top_k(model: LoadedModel, batch: NDArray[Any], bound: float, on: str) -> Check:
    """Hold the graph's best classes against the logits of the same run; equal logits may change places."""
    filled = batch[np.arange(model.batch_size or len(batch)) % len(batch)]
    logits, scores, indices = model.backend.run_all(filled)
    order = np.argsort(-logits, axis=1, kind="stable")[:, : indices.shape[1]]
    named = indices.clip(0, logits.shape[1] - 1)  # an engine that is broken may name any
    same = (named == indices) & (np.take_along_axis(logits, named, 1) == np.take_along_axis(logits, order, 1))
    right = np.take_along_axis(scores_from_logits(logits, model.activation), named, 1)
    difference = float(np.abs(scores - right).max())
    return Check(
        "top-k",
        passed=bool(same.all()) and difference <= bound,
        found=f"{same.mean():.0%} of the best {indices.shape[1]} classes are those of the logits, scores "
        f"{difference:.2g} off (allowed {bound:g}) ({on})",
    )


def _compare_logits(logits: NDArray[np.float32], expected: NDArray[np.float32], bound: float, on: str) -> Check:
    scale = float(np.abs(expected).max())
    difference = float(np.abs(logits - expected).max())
    relative = difference / scale if scale else float("inf")
    agree = int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return Check(
        "logits",
        passed=relative <= bound,
        found=f"max |diff| {relative:.2g} of max |logit| (allowed {bound:g}), "
        f"top-1 the same on {agree} of {len(expected)} ({on})",
    )
