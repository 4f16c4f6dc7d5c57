"""How large the part is that ships: python benchmarks/size.py

Counts the lines of code of each package (blank lines, comments and docstrings are none), builds the wheel, and writes
benchmarks/results/size.json and size.md; benchmarks/write_tables.py puts the table into the README.
"""

from __future__ import annotations

import ast
import datetime
import io
import json
import subprocess
import sys
import tempfile
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = {
    "edgecls_runtime": ROOT / "runtime" / "edgecls_runtime",
    "edgecls_export": ROOT / "export" / "edgecls_export",
    "edgecls": ROOT / "edgecls",
}
MAX_RUNTIME_LINES = 3000
MAX_RUNTIME_BYTES = 200_000
"""Of the wheel; the training side, which no device reads, is the larger part of it."""
_NO_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "size.json")
def main(output: Path) -> None:
    wheel, shares = built_wheel()
    report = {
        "schema": "edgecls.size/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "packages": {
            name: {"modules": len(list(folder.rglob("*.py"))), "lines": package_lines(folder), "wheel_bytes": share}
            for (name, folder), share in zip(PACKAGES.items(), shares, strict=True)
        },
        "allowed_runtime_lines": MAX_RUNTIME_LINES,
        "allowed_runtime_bytes": MAX_RUNTIME_BYTES,
        "wheel_bytes": wheel,
        "runtime_modules": {
            str(path.relative_to(PACKAGES["edgecls_runtime"])): code_lines(path.read_text("utf-8"))
            for path in sorted(PACKAGES["edgecls_runtime"].rglob("*.py"))
        },
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def package_lines(folder: Path) -> int:
    """Return the number of lines of code in all modules of a package."""
    return sum(code_lines(path.read_text("utf-8")) for path in folder.rglob("*.py"))


def code_lines(source: str) -> int:
    """Return the number of lines that hold code, or a part of a text that is no docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        # A text that is a statement of its own documents what stands before it.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def built_wheel() -> tuple[int, list[int]]:
    """Build the wheel; return its size and each package's compressed share, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            shares = [
                sum(item.compress_size for item in wheel.infolist() if item.filename.startswith(f"{name}/"))
                for name in PACKAGES
            ]
        return path.stat().st_size, shares


def table(report: dict[str, Any]) -> str:
    packages = report["packages"]
    lines = ["| package | lines of code | in the wheel |", "|---|---|---|"]
    for name, what in (
        ("edgecls_runtime", "what a device runs"),
        ("edgecls_export", "conversion, parity"),
        ("edgecls", "training, measuring, command line"),
    ):
        count, size = f"{packages[name]['lines']:,}", f"{packages[name]['wheel_bytes'] / 1e3:.0f} KB"
        if name == "edgecls_runtime":
            count = f"**{count}** (allowed {report['allowed_runtime_lines']:,})"
            size = f"**{size}** (allowed {report['allowed_runtime_bytes'] / 1e3:.0f} KB)"
        lines.append(f"| `{name}`, {what} | {count} | {size} |")
    lines.append(f"| the wheel, with its metadata | | {report['wheel_bytes'] / 1e3:.0f} KB |")
    return "\n".join(lines) + f"\n\nWithout blank lines, comments and docstrings; {report['date']}.\n"


if __name__ == "__main__":
    main()
