"""Print constraints.txt with the oldest versions that pyproject.toml allows of what it names for a device.

So `make test-runtime-alone` proves the lower bounds; all other tests run with the newest versions known to work.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + project["optional-dependencies"]["cpu"]
    oldest = dict(requirement.split(">=") for requirement in named)
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        print(f"{name}=={oldest.get(name, version)}" if re.match(r"\w", line) else line)


if __name__ == "__main__":
    main()
