"""Golden outputs as an export records them; `edgecls_runtime.golden` holds a device against them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.golden import golden_pixels, pixels_sha256
from edgecls_runtime.manifest import Golden
from edgecls_runtime.preprocess import normalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["encode_logits", "golden_from_reference"]

_PICTURES = 4


def golden_from_reference(
    reference: Callable[[NDArray[Any]], NDArray[np.float32]], manifest: Manifest, preprocess: Preprocess | None = None
) -> Golden:
    """Record a reference's answers to the golden pictures.

    Args:
        reference: preprocessed pictures to logits float32 [N, classes].
        manifest: whose contract counts.
        preprocess: that the reference wants; None if it is the manifest's.
    """
    pixels = golden_pixels(_PICTURES, manifest.preprocess)
    batch = np.stack([normalize(picture, preprocess or manifest.preprocess) for picture in pixels])
    return Golden(
        contract_sha256=manifest.contract_sha256(),
        pixels_sha256=tuple(map(pixels_sha256, pixels)),
        logits_f32_base64=encode_logits(reference(batch)),
    )


def encode_logits(logits: NDArray[np.float32]) -> str:
    """Return float32 [pictures, classes] as the text that `Golden.logits` reads."""
    return base64.b64encode(logits.astype("<f4").tobytes()).decode("ascii")
