"""How fast a model runs on this machine, told so that a build server can trust it. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Comparison", "Document", "compare", "read", "write"]

if TYPE_CHECKING:
    from edgecls.benchmark.comparison import Comparison, compare
    from edgecls.benchmark.document import Document
    from edgecls.benchmark.files import read, write

# Resolved on first use (PEP 562): pytest imports this package in every project that has its plug-in installed.
_HOME = {"Comparison": "comparison", "compare": "comparison", "Document": "document"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'files')}"), name)
