"""The runtime stays small, and is whole in a wheel of its own: `benchmarks/size.py` counts and builds."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import edgecls_runtime

ROOT = Path(__file__).parents[1]
SIZE = runpy.run_path(str(ROOT / "benchmarks" / "size.py"))

PREDICT = """
import json, sys
sys.path.insert(0, sys.argv[1])  # a wheel is an archive that Python can import from
import edgecls_runtime
from edgecls_runtime.golden import draw_picture
edgecls_runtime.verify(sys.argv[2]).require()
with edgecls_runtime.Classifier.load(sys.argv[2]) as classifier:
    best = classifier.predict(draw_picture(1))[0]
roots = {name.partition(".")[0] for name in sys.modules}
others = sorted(roots & {"edgecls", "edgecls_export", "click", "torch", "onnx"})
print(json.dumps([edgecls_runtime.__file__, best.label, others]))
"""


def test_the_runtime_is_no_larger_than_allowed() -> None:
    lines = SIZE["package_lines"](SIZE["PACKAGES"]["edgecls_runtime"])
    assert 1000 < lines <= SIZE["MAX_RUNTIME_LINES"] == 3000


def test_lines_of_code_are_counted_without_what_is_no_code() -> None:
    source = (
        '"""A module,\ndocumented."""\n\nimport os  # counts\n\n# does not\nX = 1\n"""Documents X."""\n\n\n'
        'def f(\n    a: int,\n) -> str:\n    """Document f."""\n\n    return """two\nlines"""\n'
    )
    assert SIZE["code_lines"](source) == 7  # import, X, three of the signature, two of the text


def test_the_runtime_is_whole_in_a_wheel_of_its_own(tmp_path: Path, models: Path) -> None:
    wheel = SIZE["built_wheel"](ROOT / "runtime", tmp_path)
    assert wheel.name.startswith(f"edgecls-{edgecls_runtime.__version__}+runtime-")
    assert wheel.stat().st_size < SIZE["MAX_RUNTIME_BYTES"] == 200_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = ROOT / "runtime" / "edgecls_runtime"
    modules = {f"edgecls_runtime/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {
        *modules,
        "edgecls_runtime/py.typed",
        "edgecls_runtime/LICENSE",
    }
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, wheel, models / "tiny.onnx"], capture_output=True, text=True, check=True
    )
    where, label, others = json.loads(done.stdout)
    assert where.startswith(f"{wheel}/")
    assert others == []
    with edgecls_runtime.Classifier.load(models / "tiny.onnx") as classifier:
        assert label in classifier.labels


def test_the_runtimes_wheel_asks_for_what_the_whole_asks_for() -> None:
    whole, alone = (
        tomllib.loads(path.read_text("utf-8"))
        for path in (ROOT / "pyproject.toml", ROOT / "runtime" / "pyproject.toml")
    )
    assert alone["build-system"] == whole["build-system"]
    for field in ("name", "license", "requires-python"):
        assert alone["project"][field] == whole["project"][field]
    wanted = [item for item in whole["project"]["dependencies"] if not item.startswith("click")]  # the command line's
    assert alone["project"]["dependencies"] == wanted
    extras = whole["project"]["optional-dependencies"]
    assert alone["project"]["optional-dependencies"] == {
        name: wanted for name, wanted in extras.items() if name not in ("train", "dev")
    }
