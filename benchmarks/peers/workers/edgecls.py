"""edgecls itself: `Classifier.predict`."""

from __future__ import annotations

import inspect

from edgecls_runtime import Classifier


def load(files, threads, *, precision, decode="exact"):
    options = {} if decode == "exact" else {"decode": decode}
    if options and "decode" not in inspect.signature(Classifier.load).parameters:
        raise RuntimeError("this version of edgecls has no `Classifier.load(decode=...)`")
    classifier = Classifier.load(files[precision], threads=threads, **options)
    return lambda path: [prediction.index for prediction in classifier.predict(path)]
