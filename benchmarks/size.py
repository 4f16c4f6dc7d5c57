"""How large the part is that ships: python benchmarks/size.py

Counts the lines of code of each package (blank lines, comments and docstrings are none), builds the wheel and the one
of the runtime alone, and writes benchmarks/results/size.json and size.md; benchmarks/write_tables.py puts the table
into the README.
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
"""Of the runtime's own wheel."""
_NO_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "size.json")
def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel, runtime_wheel = (built_wheel(source, Path(folder) / source.name) for source in (ROOT, ROOT / "runtime"))
        shares = [package_bytes(wheel, name) for name in PACKAGES]
        sizes = {"wheel_bytes": wheel.stat().st_size, "runtime_wheel_bytes": runtime_wheel.stat().st_size}
    report = {
        "schema": "edgecls.size/2",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "packages": {
            name: {"modules": len(list(folder.rglob("*.py"))), "lines": package_lines(folder), "wheel_bytes": share}
            for (name, folder), share in zip(PACKAGES.items(), shares, strict=True)
        },
        "allowed_runtime_lines": MAX_RUNTIME_LINES,
        "allowed_runtime_bytes": MAX_RUNTIME_BYTES,
        **sizes,
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


def built_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a folder that has a pyproject.toml."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = folder.glob("*.whl")
    return path


def package_bytes(wheel: Path, name: str) -> int:
    """Return a package's share of a wheel, compressed."""
    with zipfile.ZipFile(wheel) as archive:
        return sum(item.compress_size for item in archive.infolist() if item.filename.startswith(f"{name}/"))


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
        lines.append(f"| `{name}`, {what} | {count} | {size} |")
    size = f"**{report['runtime_wheel_bytes'] / 1e3:.0f} KB** (allowed {report['allowed_runtime_bytes'] / 1e3:.0f} KB)"
    lines.append(f"| the wheel of all three, with its metadata | | {report['wheel_bytes'] / 1e3:.0f} KB |")
    lines.append(f"| the wheel of the runtime alone (`python -m build --wheel runtime`) | | {size} |")
    return "\n".join(lines) + f"\n\nWithout blank lines, comments and docstrings; {report['date']}.\n"


if __name__ == "__main__":
    main()
