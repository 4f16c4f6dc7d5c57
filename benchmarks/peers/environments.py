"""The peers' virtual environments and converted models, made once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements"
CONVERTER = "torch"  # the environment that convert.py runs in
SOURCES = {"transformers": ("fp32", "int8"), "ncnn": ("weights",), "litert": ("weights",)}  # of what convert.py makes


class NotAvailableError(Exception):
    """Why a peer cannot be measured here: what stands in its row."""


def python_of(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment, which is made if it is not there or its requirements have changed."""
    environment, requirements = folder / name, REQUIREMENTS / f"{name}.txt"
    stamp, wanted = environment / "installed", _sha256(requirements)
    python = environment / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(environment)], f"environment {name}")
        _run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
            f"environment {name} cannot be installed",
        )
        stamp.write_text(wanted)
    return python


def converted(folder: Path, target: str, files: dict[str, str]) -> Path:
    """Return the folder with what `convert.py` makes of the files for a target."""
    python = python_of(folder, CONVERTER)
    files = {name: files[name] for name in SOURCES[target]}
    sources = [*map(Path, files.values()), HERE / "convert.py", REQUIREMENTS / f"{CONVERTER}.txt"]
    key = hashlib.sha256("".join(map(_sha256, sources)).encode()).hexdigest()[:16]
    finished = folder / "converted" / f"{target}-{key}"
    if not finished.exists():
        finished.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=finished.parent) as unfinished:
            # Some converters leave files where they stand.
            _run(
                [str(python), str(HERE / "convert.py"), target, unfinished, json.dumps(files)],
                f"conversion to {target} failed",
                cwd=unfinished,
                env=variables(folder),
            )
            Path(unfinished).rename(finished)
            Path(unfinished).mkdir()  # which the end of the block removes
    return finished


def variables(folder: Path) -> dict[str, str]:
    """Return the variables of a peer's process: nothing is fetched, nothing reported, compiled code is kept."""
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder.absolute() / "inductor"),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT / "runtime")]),
        "PYTHONWARNINGS": "ignore",
    }


def _run(command: list[str], what: str, cwd: str | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")]  # pip's; its last line may be advice
        raise NotAvailableError(f"{what}: {(errors or lines or [f'exit status {done.returncode}'])[-1]}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
