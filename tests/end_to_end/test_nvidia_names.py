"""Every name of NVIDIA's that the source uses exists in the packages that it may meet: TensorRT 10, 11 and RTX, CUDA.

The bindings of `tensorrt` import without TensorRT when something stands in for the libraries that they link against, so
the names can be looked up on a machine that has neither a GPU nor TensorRT. `EDGECLS_TENSORRT_BINDINGS` names a folder
with the two wheels: pip download --no-deps -d FOLDER tensorrt_cu12_bindings==10.13.* tensorrt_cu13_bindings==11.4.*
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("export/edgecls_export", "runtime/edgecls_runtime/backends")
    for path in (ROOT / folder).glob("*.py")
    if "trt" in path.read_text("utf-8") or "_cudart" in path.read_text("utf-8")
)

# What the source calls an object -> its class. `config` is the one name that means two things.
OBJECTS = {
    "builder": "Builder",
    "maker": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "shapes": "IOptimizationProfile",
    "monitor": "IProgressMonitor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "layer": "ILayer",
    "image": "ITensor",
}
CONFIG = {"export": "IBuilderConfig", "runtime": "IRuntimeConfig"}
# Our own objects of those names, and attributes that ours add to theirs.
OURS = {
    "builder.gpu",
    "builder.package",
    "monitor.raised",
    "Builder",  # edgecls_export.engine_options
}
RTX_ONLY = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.set_runtime_cache",
}
NINE = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "getBuilderPluginRegistry",
    "initLibNvInferPlugins",
)
LOOK_UP = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
def has(name):
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
print(json.dumps([name for name in json.load(sys.stdin) if not has(name)]))
"""


def chain(node: ast.expr) -> list[str]:
    """Return ``a.b.c`` as its parts; empty if it begins with something else than a name."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = chain(node.value)
        return [*before, node.attr] if before else []
    return []


def names_in(path: Path, root: str) -> set[str]:
    """Return what a source file asks of a module that it calls ``root`` (or ``something.root``)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        parts = chain(node) if isinstance(node, ast.Attribute) else []
        if root in parts[:-1]:
            found.add(".".join(parts[parts.index(root) + 1 :]))
    return found


def tensorrt_names() -> set[str]:
    found: set[str] = set()
    for path in SOURCES:
        found |= {name.removesuffix(".__members__") for name in names_in(path, "trt") | names_in(path, "module")}
        layer = path.relative_to(ROOT).parts[0]
        for called, owner in {**OBJECTS, "config": CONFIG[layer]}.items():
            for name in names_in(path, called):
                attribute = name.partition(".")[0]
                if f"{called}.{attribute}" not in OURS:
                    found.add(f"{owner}.{attribute}")
    # What a plain module has, whatever it is; and a member's own name and value.
    return {name for name in found if not name.startswith("__") and name not in OURS}


def missing(names: set[str], module: str, **environment: str) -> set[str]:
    """Look names up in another process: two versions of one package do not fit in this one."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP, module],
        input=json.dumps(sorted(names)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_collector_sees_what_the_source_uses() -> None:
    names = tensorrt_names()
    assert {
        "Runtime",
        "ILogger.Severity",
        "TensorIOMode.INPUT",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.get_tensor_profile_shape",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.set_runtime_cache",
    } <= names


@pytest.mark.parametrize(("major", "wheel"), [("10", "tensorrt_cu12_bindings"), ("11", "tensorrt_cu13_bindings")])
def test_tensorrt_has_every_name(major: str, wheel: str, tmp_path: Path) -> None:
    folder, compiler = os.environ.get("EDGECLS_TENSORRT_BINDINGS"), shutil.which("cc") or shutil.which("gcc")
    if not folder:
        pytest.skip("EDGECLS_TENSORRT_BINDINGS names no folder with the wheels of TensorRT's bindings")
    if compiler is None:
        pytest.skip("there is no C compiler to make what the bindings link against")
    (found,) = Path(folder).glob(f"{wheel}-{major}.*-cp{sys.version_info.major}{sys.version_info.minor}-*.whl")
    zipfile.ZipFile(found).extractall(tmp_path)
    (tmp_path / "nine.c").write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in NINE))
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        name = f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", tmp_path / name, tmp_path / "nine.c"]
        subprocess.run(command, check=True, timeout=120)
    absent = missing(tensorrt_names(), "tensorrt_bindings", PYTHONPATH=str(tmp_path), LD_LIBRARY_PATH=str(tmp_path))
    assert absent == tensorrt_names() & RTX_ONLY  # the list says neither too little nor too much


def test_tensorrt_rtx_has_every_name() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'")
    assert missing(tensorrt_names(), "tensorrt_rtx") == set()


def test_cuda_has_every_name() -> None:
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        pytest.skip("cuda-bindings is not installed: pip install 'edgecls[tensorrt]'")
    names = names_in(ROOT / "runtime/edgecls_runtime/backends/cuda.py", "_cudart")
    names |= names_in(ROOT / "runtime/edgecls_runtime/backends/cuda.py", "cudart")
    assert {"cudaMallocHost", "cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal"} <= names
    assert missing(names, "cuda.bindings.runtime") == set()
