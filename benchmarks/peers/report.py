"""What the seconds say: ratios with their intervals, tables, a picture."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np
from catalogue import REFERENCES

if TYPE_CHECKING:
    from pathlib import Path

    from catalogue import Peer

RESAMPLES = 2000
# Of the pictures, for the same weights on the same pixels: below it, something else is computed. Engines round an INT8
# file's integers each in its own way.
SAME_TOP1 = {"fp32": 0.95, "int8": 0.8}


def ratio(contender: list[list[float]], reference: list[list[float]]) -> dict[str, float]:
    """Return how many times the reference's time another took, seconds [picture][round] each.

    Pairs are of the same picture in the same round. Pictures are what is drawn at random: the 95 % interval comes from
    a bootstrap over them (percentile method, Efron 1979).
    """
    pairs = [
        statistics.median(theirs / ours for theirs, ours in zip(*both, strict=True))
        for both in zip(contender, reference, strict=True)
    ]
    draws = np.random.default_rng(0).choice(pairs, (RESAMPLES, len(pairs)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return {"ratio": float(np.median(pairs)), "low": float(low), "high": float(high)}


def agreement(ours: list[list[int]], theirs: list[list[int] | None]) -> dict[str, float] | None:
    """Return the shares of pictures with the same best class, and with the same five; None where there are none."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if b is not None]
    if not pairs:
        return None
    return {
        "top1": statistics.fmean(a[0] == b[0] for a, b in pairs),
        "top5": statistics.fmean(set(a) == set(b) for a, b in pairs),
    }


def rows_of(
    section: str,
    peers: list[Peer],
    seconds: dict[str, list[list[float]]],
    top5: dict[str, list[list[int] | None]],
    reasons: dict[str, str],
) -> list[dict]:
    """Return a section's rows: measured, or why not."""
    references = {precision: f"{REFERENCES[section]}, {precision.upper()}" for precision in ("fp32", "int8")}
    rows = []
    for peer in peers:
        if section not in peer.wanted:
            continue
        row = {"peer": peer.name, "precision": peer.precision}
        if peer.key not in seconds:
            rows.append(row | {"not_available": reasons.get(peer.key, "not asked for")})
            continue
        times = [time for picture in seconds[peer.key] for time in picture]
        row["p25_ms"], row["p50_ms"], row["p75_ms"] = (1e3 * float(np.percentile(times, q)) for q in (25, 50, 75))
        row["ratio_to_edgecls"] = {
            precision: ratio(seconds[peer.key], seconds[key])
            for precision, key in references.items()
            # Something in INT8 against edgecls in FP32 would say little.
            if key in seconds and key != peer.key and (peer.precision != "int8" or precision == "int8")
        }
        row["wanted"] = peer.wanted[section]
        exact = f"edgecls, {peer.precision.upper()}"
        row["agreement"] = agreement(top5[exact], top5[peer.key]) if exact in top5 else None
        row["same_pixels"] = peer.same_pixels
        rows.append(row)
    return rows


def disagreements(rows: list[dict]) -> list[str]:
    """Name the peers with the same weights and pixels that answer otherwise too often to be doing the same work."""
    return [
        f"{row['peer']}, {row['precision'].upper()}: the same best class on {row['agreement']['top1']:.0%} of pictures"
        for row in rows
        if row.get("agreement") and row["same_pixels"] and row["agreement"]["top1"] < SAME_TOP1[row["precision"]]
    ]


def table(section: str, rows: list[dict]) -> str:
    """Return a section as Markdown."""
    ours = REFERENCES[section]
    lines = [
        f"| peer | model | p50 | times {ours} FP32 | times {ours} INT8 | wanted | same top-1 as edgecls |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = f"| {row['peer']} | {row['precision'].upper()} |"
        if "not_available" in row:
            lines.append(f"{head} not measured: {_cell(row['not_available'])} | | | | |")
            continue
        ratios = row["ratio_to_edgecls"]
        cells = [_interval(ratios.get(precision)) for precision in ("fp32", "int8")]
        wanted = "; ".join(_verdict(key, least, ratios.get(key)) for key, least in row["wanted"].items())
        same = f"{row['agreement']['top1']:.0%}" if row["agreement"] else ""
        lines.append(f"{head} {row['p50_ms']:.1f} ms | {' | '.join(cells)} | {wanted} | {same} |")
    return "\n".join(lines) + "\n"


def _interval(found: dict[str, float] | None) -> str:
    return f"**{found['ratio']:.2f}** ({found['low']:.2f}-{found['high']:.2f})" if found else ""


def _verdict(precision: str, least: float, found: dict[str, float] | None) -> str:
    words = f"{precision.upper()} at least {least:.2f}"
    if least < 1:
        words += f" (edgecls at most {1 / least:.2f} times it)"
    if found is None:
        return f"{words}: not measured"
    return words if found["ratio"] >= least else f"{words}: **missed**"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:300]


def plot(sections: dict[str, list[dict]], titles: dict[str, str], path: Path) -> None:
    """Draw each section's medians as bars, from quick to slow, and the middle half of the times as lines."""
    from matplotlib.figure import Figure

    measured = {name: [row for row in rows if "p50_ms" in row] for name, rows in sections.items()}
    measured = {name: sorted(rows, key=lambda row: -row["p50_ms"]) for name, rows in measured.items() if rows}
    heights = [len(rows) for rows in measured.values()]
    figure = Figure(figsize=(10, 1.2 * len(heights) + 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, rows) in zip(panels, measured.items(), strict=True):
        values = [row["p50_ms"] for row in rows]
        spread = [[row["p50_ms"] - row["p25_ms"] for row in rows], [row["p75_ms"] - row["p50_ms"] for row in rows]]
        colors = ["#d95f02" if row["peer"].startswith("edgecls") else "#7a8ba3" for row in rows]
        names = [f"{row['peer']}, {row['precision'].upper()}".replace("`", "") for row in rows]
        bars = axes.barh(names, values, xerr=spread, color=colors, ecolor="#333333", height=0.7)
        axes.bar_label(bars, [f"{value:.1f} ms" for value in values], padding=6, fontsize=8)
        axes.set(title=titles[name], xlabel="ms a picture, file to top-5 (median; line: middle half)")
        axes.set_xlim(0, 1.15 * max(row["p75_ms"] for row in rows))
        axes.margins(y=0.01)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
