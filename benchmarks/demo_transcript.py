"""Write what the demo's commands print, for the README: make demo && python benchmarks/demo_transcript.py"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "edgecls export shapes.pt --force",
    "edgecls verify shapes.onnx",
    "edgecls infer --engine shapes.onnx pictures/heart.jpg",
)


def main() -> None:
    lines = ["```console"]
    for command in COMMANDS:
        arguments = [sys.executable, "-m", *command.split()]
        done = subprocess.run(arguments, cwd=ROOT / "demo-output", check=True, capture_output=True, text=True)
        lines += [f"$ {command}", *done.stdout.splitlines()]
    target = ROOT / "benchmarks" / "results" / "demo.md"
    target.write_text("\n".join([*lines, "```", ""]), "utf-8")


if __name__ == "__main__":
    main()
