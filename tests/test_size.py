"""The runtime stays small: `benchmarks/size.py` counts, and builds the wheel, too."""

from __future__ import annotations

import runpy
from pathlib import Path

SIZE = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "size.py"))


def test_the_runtime_is_no_larger_than_allowed() -> None:
    lines = SIZE["package_lines"](SIZE["PACKAGES"]["edgecls_runtime"])
    assert 1000 < lines <= SIZE["MAX_RUNTIME_LINES"] == 3000


def test_lines_of_code_are_counted_without_what_is_no_code() -> None:
    source = (
        '"""A module,\ndocumented."""\n\nimport os  # counts\n\n# does not\nX = 1\n"""Documents X."""\n\n\n'
        'def f(\n    a: int,\n) -> str:\n    """Document f."""\n\n    return """two\nlines"""\n'
    )
    assert SIZE["code_lines"](source) == 7  # import, X, three of the signature, two of the text
