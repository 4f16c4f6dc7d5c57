from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgecls_runtime

MODULES = [
    "edgecls_runtime",
    *(module.name for module in pkgutil.walk_packages(edgecls_runtime.__path__, "edgecls_runtime.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__, name
    assert [item for item in module.__all__ if not hasattr(module, item)] == []


def test_no_other_name_is_invented() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = edgecls_runtime.Clasifier


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_runtime_never_imports_the_training_side() -> None:
    imports = "; ".join(f"import {name}" for name in MODULES)
    loaded = run(f"import sys; {imports}; print(*(name.partition('.')[0] for name in sys.modules))").split()
    assert "numpy" in loaded  # the list is real
    forbidden = {"torch", "torchvision", "onnx", "onnxscript", "edgecls", "edgecls_export"}
    assert forbidden.isdisjoint(loaded)


def test_importing_the_package_alone_loads_no_numpy() -> None:
    assert "numpy" not in run("import sys, edgecls_runtime; print(*sys.modules)").split()


def test_the_first_answer_takes_no_more_modules_than_it_needs(models: Path) -> None:
    """Each costs a device time at every start, and its dataclasses the most of it."""
    loaded = run(
        "import sys; import numpy, onnxruntime, PIL.Image, PIL.JpegImagePlugin; before = set(sys.modules)\n"
        "from edgecls_runtime import Classifier\n"
        f"Classifier.load({str(models / 'tiny.onnx')!r}).predict(numpy.zeros((40, 40, 3), 'uint8'))\n"
        "print(*sorted(set(sys.modules) - before))"
    ).split()
    ours = ["", "backends", "backends.onnxruntime", "backends.settings", "classifier", "cpus", "errors", "loaded"]
    ours += ["loading", "manifest", "onnx_file", "preprocess", "resizing"]
    assert [name for name in loaded if name.startswith("edgecls")] == [
        f"edgecls_runtime.{name}".rstrip(".") for name in ours
    ]
    assert {"pathlib", "hashlib", "tempfile", "click", "concurrent.futures"}.isdisjoint(loaded)
