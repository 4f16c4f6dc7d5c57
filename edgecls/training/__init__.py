"""From a folder of pictures to a checkpoint: `train`, and what it works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["RunFolder", "TrainingConfig", "TrainingResult", "train"]

if TYPE_CHECKING:
    from edgecls.training.config import TrainingConfig
    from edgecls.training.loop import TrainingResult, train
    from edgecls.training.run_folder import RunFolder

# Resolved on first use (PEP 562): a part of this package alone, `stopping` say, needs no torch.
_HOME = {"TrainingConfig": "config", "RunFolder": "run_folder"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'loop')}"), name)
