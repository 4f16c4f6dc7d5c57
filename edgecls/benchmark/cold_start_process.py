"""What `edgecls.benchmark.cold_start` starts: a process that imports, loads and answers one picture."""

# The first line of our code: what came before it is Python's own start. Nothing but the clock is imported above it.
import time

FIRST_LINE_NS = time.perf_counter_ns()

import json  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

__all__ = ["main"]


def main(details: dict[str, Any]) -> None:
    """Do what an application does that answers one picture, and print when each step was over, in nanoseconds.

    Args:
        details: ``model`` and ``picture``, paths, and what `Classifier.load` takes.

    Raises:
        EdgeclsError: it could not.
    """
    from edgecls_runtime.backends import onnxruntime, openvino
    from edgecls_runtime.backends.settings import SessionSettings
    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.engine_file import is_engine

    model, picture, provider = details.pop("model"), details.pop("picture"), details["provider"]
    if not is_engine(model):  # which package takes an engine only its plan tells: that is part of loading it
        (openvino.import_openvino if provider == "openvino" else onnxruntime.import_onnxruntime)()
    imported = time.perf_counter_ns()
    with Classifier.load(model, settings=SessionSettings(**details.pop("settings")), **details) as classifier:
        loaded = time.perf_counter_ns()
        classifier.predict(picture)
        answered = time.perf_counter_ns()
        from edgecls.benchmark.peak_memory import peak_rss_bytes

        answer = {"moments_ns": [FIRST_LINE_NS, imported, loaded, answered], "peak_rss_bytes": peak_rss_bytes()}
        print(json.dumps(answer))  # noqa: T201 - to the process that started this one


if __name__ == "__main__":
    from edgecls_runtime.errors import EdgeclsError

    try:
        main(json.loads(sys.argv[1]))
    except EdgeclsError as error:
        sys.exit(error.cause)
