"""The part of edgecls that ships to devices: preprocess, infer, verify. It never imports torch or onnx.

>>> from edgecls_runtime import Classifier
>>> with Classifier.load("model.onnx") as classifier:            # doctest: +SKIP
...     print(classifier.predict("photo.jpg")[0].label)
tench
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Classification",
    "Classifier",
    "EdgeclsError",
    "ImageError",
    "Manifest",
    "ManifestError",
    "MissingDependencyError",
    "ModelError",
    "Prediction",
    "Preprocess",
    "Profile",
    "ProfileError",
    "ProviderError",
    "SessionSettings",
    "VerificationError",
    "__version__",
    "verify",
]

if TYPE_CHECKING:
    from edgecls_runtime.backends.settings import SessionSettings
    from edgecls_runtime.classifier import Classifier, Prediction
    from edgecls_runtime.errors import (
        EdgeclsError,
        ImageError,
        ManifestError,
        MissingDependencyError,
        ModelError,
        ProfileError,
        ProviderError,
        VerificationError,
    )
    from edgecls_runtime.golden import verify
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.preprocess import Preprocess
    from edgecls_runtime.profile import Profile
    from edgecls_runtime.stream import Classification


# Resolved on first use (PEP 562), so that `edgecls --help` does not pay for numpy. What is not here is an error.
_HOME = {
    "Classifier": "classifier",
    "Classification": "stream",
    "Prediction": "classifier",
    "Manifest": "manifest",
    "Preprocess": "preprocess",
    "Profile": "profile",
    "SessionSettings": "backends.settings",
    "verify": "golden",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
