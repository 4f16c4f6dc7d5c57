"""Training and the command line; `edgecls_export` and `edgecls_runtime` are the layers beneath."""

from __future__ import annotations

from edgecls_runtime import __version__

__all__ = ["__version__"]
