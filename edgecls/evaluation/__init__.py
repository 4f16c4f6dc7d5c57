"""How often a checkpoint or an exported model is right: `evaluate`, and what it works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Comparison", "Evaluation", "Predictor", "compare_files", "evaluate", "open_predictor"]

if TYPE_CHECKING:
    from edgecls.evaluation.comparison import Comparison, compare_files
    from edgecls.evaluation.figures import Evaluation, evaluate
    from edgecls.evaluation.predictor import Predictor, open_predictor

# Resolved on first use (PEP 562): each part imports only what it needs.
_HOME = {
    "Comparison": "comparison",
    "compare_files": "comparison",
    "Predictor": "predictor",
    "open_predictor": "predictor",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'figures')}"), name)
