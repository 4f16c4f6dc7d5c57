"""Put the measured tables into the README and the guides: python benchmarks/write_tables.py

Between `<!-- table: NAME -->` and `<!-- end -->` stands benchmarks/results/NAME.md, and nothing by hand. A test
fails where the two differ.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/embedding.md")


def with_tables(text: str) -> str:
    """Return the text with every table replaced by its file."""

    def fresh(match: re.Match[str]) -> str:
        content = (ROOT / "benchmarks" / "results" / f"{match[1]}.md").read_text("utf-8")
        return f"<!-- table: {match[1]} -->\n{content}<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fresh, text, flags=re.DOTALL)


if __name__ == "__main__":
    for name in PAGES:
        page = ROOT / name
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
