from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import edgecls
import edgecls_export

MODULES = [
    name
    for package in (edgecls_export, edgecls)
    for name in (
        package.__name__,
        *(module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    )
    if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__, name
    assert [item for item in module.__all__ if not hasattr(module, item)] == []


def test_drawing_pictures_needs_no_torch() -> None:
    code = "import sys, edgecls_export.drawn; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


@pytest.mark.parametrize(
    ("file", "line", "forbidden"),
    [
        ("runtime/edgecls_runtime/golden.py", "import torch", True),
        ("runtime/edgecls_runtime/golden.py", "from torch import nn", True),
        ("runtime/edgecls_runtime/backends/onnxruntime.py", "def f():\n    import onnx", True),
        ("runtime/edgecls_runtime/golden.py", "from edgecls_export import parity", True),
        ("runtime/edgecls_runtime/golden.py", "import edgecls.models", True),
        ("runtime/edgecls_runtime/golden.py", "import onnxruntime", False),
        ("export/edgecls_export/parity.py", "from edgecls import models", True),
        ("export/edgecls_export/parity.py", "import torch", False),
        ("edgecls/models.py", "import edgecls_export", False),
    ],
)
def test_the_linter_guards_the_layers(file: str, line: str, forbidden: bool) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", file, "-"]
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=False)
    assert ("TID251" in done.stdout) is forbidden, done.stdout + done.stderr
