"""What `decode="fast"` changes and gains: python benchmarks/fast_decode.py MODEL... --images DIR

The photos as they are, and the same at 12 megapixels, as a phone or a camera makes them: once the exact way, once the
fast one, in turn. Writes benchmarks/results/fast_decode.json and fast_decode.md; benchmarks/write_tables.py puts the
table into the README.
"""

from __future__ import annotations

import datetime
import io
import json
import platform
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import PIL
from overhead import in_turn, median_ratio
from PIL import Image

import edgecls_runtime
from edgecls_runtime import Classifier
from edgecls_runtime.classifier import scores_from_logits
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.machine import cpu_name

HERE = Path(__file__).parent
LARGE_PIXELS = 12_000_000
QUALITY = 90


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--large", default=100, show_default=True, help="Photos that are measured at 12 megapixels, too.")
@click.option("--rounds", default=2, show_default=True, help="Times that each picture is timed, in turn.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results" / "fast_decode.json")
def main(models: tuple[str, ...], images: Path, large: int, rounds: int, threads: int, output: Path) -> None:
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    rows = []
    for model in models:
        with (
            Classifier.load(model, threads=threads) as exact,
            Classifier.load(model, threads=threads, decode="fast") as fast,
        ):
            measures: dict[str, list[tuple[np.ndarray, np.ndarray, list[float], list[float]]]] = {}
            for number, path in enumerate(paths):
                measures.setdefault("as they are", []).append(measure(exact, fast, path.read_bytes(), rounds))
                if number * large // len(paths) < (number + 1) * large // len(paths):  # evenly: they are sorted
                    measures.setdefault("at 12 megapixels", []).append(measure(exact, fast, enlarged(path), rounds))
        rows += [{"model": Path(model).name, "pictures": name, **summary(found)} for name, found in measures.items()]
    report = {
        "schema": "edgecls.fast-decode/1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu_name(), "logical_cores": usable_cpus()},
        "versions": {
            "edgecls": edgecls_runtime.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
        "threads": threads,
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(table(report))
    click.echo(output.with_suffix(".md").read_text())


def enlarged(path: Path) -> bytes:
    """Return a photo at 12 megapixels, its sides no multiples of anything."""
    with Image.open(path) as image:
        scale = (LARGE_PIXELS / (image.width * image.height)) ** 0.5
        size = round(image.width * scale), round(image.height * scale)
        large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def measure(
    exact: Classifier, fast: Classifier, photo: bytes, rounds: int
) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Return all scores of a photo, the exact way and the fast one, and the seconds that each took."""
    exact_s, fast_s = in_turn([partial(exact.predict, photo), partial(fast.predict, photo)], rounds)
    scores = [scores_from_logits(each.logits(photo), each.activation) for each in (exact, fast)]
    return scores[0], scores[1], exact_s, fast_s


def summary(found: list[tuple[np.ndarray, np.ndarray, list[float], list[float]]]) -> dict[str, Any]:
    exact, fast = (np.stack([entry[side] for entry in found]) for side in (0, 1))
    best = exact.argmax(axis=1)
    changes = np.abs(exact - fast)
    other = best != fast.argmax(axis=1)
    exact_s, fast_s = ([seconds for entry in found for seconds in entry[side]] for side in (2, 3))
    return {
        "count": len(found),
        "same_top1": int((~other).sum()),
        "unchanged": int((changes.max(axis=1) == 0).sum()),
        "max_score_change": float(changes.max()),
        "mean_top1_score_change": float(changes[np.arange(len(best)), best].mean()),
        # How sure the exact way was of a best class that the fast one does not share.
        "flipped_scores": sorted(float(score) for score in exact.max(axis=1)[other]),
        "exact_ms": 1e3 * statistics.median(exact_s),
        "fast_ms": 1e3 * statistics.median(fast_s),
        "ratio": median_ratio(exact_s, fast_s),
    }


def table(report: dict[str, Any]) -> str:
    columns = ["model", "photos", "same top-1", "unchanged", "largest change of a score", "of the best, mean"]
    columns += ["exact", "fast", "times as quick"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in report["rows"]:
        lines.append(
            f"| {row['model']} | {row['count']} {row['pictures']} | **{row['same_top1']} of {row['count']}** "
            f"| {row['unchanged']} | {100 * row['max_score_change']:.2g} points "
            f"| {100 * row['mean_top1_score_change']:.2g} points "
            f"| {row['exact_ms']:.1f} ms | {row['fast_ms']:.1f} ms | **{row['ratio']:.2f}** |"
        )
    machine = report["machine"]
    return (
        "\n".join(lines) + "\n\n"
        f"A score is of 100 points. At 12 megapixels: enlarged, JPEG quality {QUALITY}. {report['threads']} threads; "
        f"{machine['cpu']}, {machine['logical_cores']} logical cores; Pillow {report['versions']['pillow']}, "
        f"onnxruntime {report['versions']['onnxruntime']}; {report['date']}.\n"
    )


if __name__ == "__main__":
    main()
