"""Draw what benchmarks/precisions.py measured: python benchmarks/plots.py

Reads benchmarks/results/precisions.json; writes precisions.png, how quick each precision of each architecture is, and
accuracy.png, what that costs, beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls.drawing.axes import number
from edgecls.drawing.png import write_png
from edgecls.drawing.relations import Spot, scatter
from edgecls.drawing.tables import Cell, heat_map

if TYPE_CHECKING:
    from edgecls.drawing.figure import Figure

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    for figure in figures(RESULTS):
        write_png(figure, RESULTS / f"{figure.name}.png", force=True)


def figures(results: Path) -> list[Figure]:
    machines = json.loads((results / "precisions.json").read_text("utf-8"))["machines"]
    archs: dict[str, Any] = max(machines.values(), key=lambda machine: machine["vnni"])[
        "archs"
    ]  # of one with VNNI, if any
    return [precisions(archs), accuracy(archs)]


def precisions(archs: dict[str, Any]) -> Figure:
    columns = list(dict.fromkeys(name for item in archs.values() for name in item["rows"]))
    cells = {}
    for row, item in enumerate(archs.values()):
        first = item["rows"]["fp32"]["p50_ms"]
        for name, found in item["rows"].items():
            cells[row, columns.index(name)] = Cell(
                found["p50_ms"] / first, f"{number(found['p50_ms'])} ms", f"{first / found['p50_ms']:.2f} x"
            )
    item = next(iter(archs.values()))
    return heat_map(
        "precisions",
        "Median latency by precision",
        list(archs),
        [title(name) for name in columns],
        cells,
        caption=f"x: times as quick as fp32, paler is quicker. {about(item)}",
    )


def accuracy(archs: dict[str, Any]) -> Figure:
    # With random weights there is no accuracy to speak of.
    arch, item = next((arch, item) for arch, item in archs.items() if item["weights"] == "trained")
    spots = [Spot(title(name), row["p50_ms"], row["accuracy"]) for name, row in item["rows"].items()]
    return scatter(
        "accuracy",
        f"Accuracy and latency of {arch}",
        spots,
        x_unit="ms, median of one run",
        y_unit="acc@1, %",
        caption=f"better is up and to the left; one of the {item['images']} photos is {100 / item['images']:g} points. "
        f"{about(item)}",
    )


def title(name: str) -> str:
    return name if name.startswith("fp") else f"int8, {name}"


def about(item: dict[str, Any]) -> str:
    return f"{item['machine']['cpu']}, {item['threads']} threads, {item['provider']}, {item['date']}"


if __name__ == "__main__":
    main()
