"""Random numbers that depend on their place in the training alone.

Not on the number of loader processes or machines, and not on whether the training was interrupted: whatever is
random about picture 17 of epoch 3 begins from a seed of its own, so there is no generator's state to carry along.
"""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(purpose: str, *numbers: int) -> int:
    """Return a seed of 63 bits, a digest of what it is for and where it is needed."""
    digest = hashlib.sha256(f"{purpose} {numbers}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
