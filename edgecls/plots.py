"""Pictures of what training and evaluation found, as PNG files.

Figures are drawn on a canvas of their own: matplotlib's global state (pyplot, the back end) is neither read nor
changed, so a notebook or a server may use it as it likes.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import Preprocess

__all__ = ["ShownPicture", "plot_batch", "plot_confusion_matrix", "plot_curves", "plot_predictions"]

_RIGHT, _WRONG = "#1a7f37", "#c62828"
_LINES = {
    "loss": ("loss", "#5b7083", "-"),
    "val_loss": ("loss", "#d1495b", "-"),
    "train_acc@1": ("percent", "#5b7083", "-"),
    "acc@1": ("percent", "#00798c", "-"),
    "acc@5": ("percent", "#00798c", ":"),
    "mAP": ("percent", "#7a4fb5", "-"),
    "f1": ("percent", "#e09f3e", "--"),
    "f1_micro": ("percent", "#e09f3e", ":"),
    "exact_match": ("percent", "#00798c", "-"),
    "lr": ("learning rate", "#666666", "-"),
}
"""Key of the history: axes, colour, line style. What measures nothing on this list is not drawn."""

_NUMBERED_CLASSES = 24
_NAMED_CLASSES = 60
_CELLS = 200
_LONGEST = 22


@dataclass(frozen=True, eq=False)
class ShownPicture:
    """A picture with what it is and what it was taken for.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        true: its labels; None if they are not known.
        predicted: the labels that the model gave it.
        score: of the first of them.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    true: tuple[str, ...] | None
    predicted: tuple[str, ...]
    score: float


def plot_curves(history: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Draw how loss, accuracy and learning rate went, over whatever was there.

    Args:
        history: a dict an epoch: ``epoch``, and any of ``loss``, ``val_loss``, ``lr`` and the metrics' names (percent).
            What is missing in an epoch, or not finite, leaves a gap.
        path: of the PNG file.

    Raises:
        ValueError: there is no epoch.
        OutputError: the file cannot be written.
    """
    if not history:
        raise ValueError("history: has no epoch")
    epochs = [float(row.get("epoch", number)) for number, row in enumerate(history, start=1)]
    drawn = {key: line for key, line in _LINES.items() if any(key in row for row in history)}
    panels = list(dict.fromkeys(axes for axes, _, _ in drawn.values())) or ["loss"]
    figure = _figure(4.6 * len(panels) + 0.4, 3.6)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for key, (_, colour, style) in ((key, line) for key, line in drawn.items() if line[0] == panel):
            values = [row.get(key, math.nan) for row in history]
            finite = [value if math.isfinite(value) else math.nan for value in map(float, values)]
            marker = "o" if len(history) <= 30 else None
            axes.plot(epochs, finite, color=colour, linestyle=style, marker=marker, markersize=3, label=key)
            if panel == "percent" and not all(map(math.isnan, finite)):
                best = int(np.nanargmax(finite))
                axes.annotate(
                    f"{finite[best]:.2f}",
                    (epochs[best], finite[best]),
                    xytext=(0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=colour,
                )
        title = panel if len(axes.lines) != 1 else f"{axes.lines[0].get_label()}{', %' * (panel == 'percent')}"
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.margins(y=0.12)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(axes.lines) > 1:
            axes.legend(fontsize=8, frameon=False)
        _plain(axes)
    _write(figure, path)


def plot_confusion_matrix(matrix: NDArray[np.int64], labels: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw what is taken for what, over whatever was there: dark on the diagonal is right.

    Colours are shares of the row (their square root beyond 24 classes). Classes without a picture have no row; what is
    taken for one of them stands in a column of its own, "others". Numbers appear up to 24 classes and names up to 60;
    beyond that, the most frequent confusions are listed beside the matrix, and beyond 200 a cell stands for several
    neighbouring classes.

    Args:
        matrix: int64 [C, C], the row is the true class.
        labels: the classes' names.
        path: of the PNG file.

    Raises:
        ValueError: there are not as many labels as rows, or no pictures.
        OutputError: the file cannot be written.
    """
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError(f"matrix: has the shape {list(matrix.shape)} for {len(labels)} labels")
    if not matrix.any():
        raise ValueError("matrix: counts no picture")
    present: list[int] = np.flatnonzero(matrix.sum(1)).tolist()
    rows, count = [labels[index] for index in present], len(present)
    numbered, named = count <= _NUMBERED_CLASSES, count <= _NAMED_CLASSES
    block = math.ceil(count / _CELLS)
    shown, columns = _blocks(matrix[np.ix_(present, present)], block), list(rows)
    others = _blocks(np.delete(matrix[present], present, 1).sum(1, keepdims=True), block)
    if others.any():
        shown, columns = np.column_stack([shown, others]), [*columns, "others"]
    shares = shown / np.maximum(1, shown.sum(1, keepdims=True))

    side = max(2.6, 0.46 * count) if numbered else 9.0
    figure = _figure(side + 1.6 + (0.0 if named else 4.0), side + 1.2)
    if named:
        axes = figure.subplots()
    else:
        axes, beside = figure.subplots(1, 2, width_ratios=[9, 4])
        _list_confusions(beside, matrix, labels)
    # Of many classes none takes much of another's share: the square root lifts what is small.
    drawn = shares if numbered else np.sqrt(shares)
    axes.imshow(drawn, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    if numbered:
        for row, column in np.ndindex(*shown.shape):
            if shown[row, column]:
                dark = shares[row, column] > 0.55
                axes.text(
                    column,
                    row,
                    f"{shown[row, column]:,}",
                    ha="center",
                    va="center",
                    fontsize=8 if count > 6 else 11,
                    color="white" if dark else "#1b2733",
                )
    if named:
        size = 9 if numbered else 6
        upright = max(map(len, columns), default=0) > 7 or count > 6
        axes.set_xticks(
            range(len(columns)), [_short(name) for name in columns], rotation=90 if upright else 0, fontsize=size
        )
        axes.set_yticks(range(len(rows)), [_short(name) for name in rows], fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    grouped = f" ({count:,} classes, {block} a cell)" if block > 1 else "" if named else f" ({count:,} classes)"
    axes.set_xlabel(f"predicted{grouped}", fontsize=10)
    axes.set_ylabel("true", fontsize=10)
    right, images = int(matrix.diagonal().sum()), int(matrix.sum())
    axes.set_title(f"{right:,} of {images:,} pictures right ({right / images:.2%})", loc="left", fontsize=10)
    _write(figure, path)


def plot_predictions(pictures: Sequence[ShownPicture], path: str | os.PathLike[str]) -> None:
    """Draw a grid of pictures with what each is taken for, green where that is right, red where it is wrong.

    Raises:
        ValueError: there are no pictures.
        OutputError: the file cannot be written.
    """
    titles, colours = [], []
    for picture in pictures:
        said = _short(", ".join(picture.predicted) or "no label")
        right = picture.true is None or set(picture.true) == set(picture.predicted)
        score = f"  {picture.score:.1%}" if picture.predicted else ""
        truth = "" if right else f"\nis {_short(', '.join(picture.true or ()) or 'none of the labels')}"
        titles.append(f"{said}{score}{truth}")
        colours.append("#1b2733" if picture.true is None else _RIGHT if right else _WRONG)
    _write(_grid([picture.pixels for picture in pictures], titles, colours), path)


def plot_batch(
    batch: NDArray[np.float32], preprocess: Preprocess, titles: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draw what a model is fed, with the normalization undone.

    Args:
        batch: float32 [N, 3, H, W].
        preprocess: whose mean, std and order of colours made the batch.
        titles: N texts.
        path: of the PNG file.

    Raises:
        ValueError: there is no picture, or there are not as many titles as pictures.
        OutputError: the file cannot be written.
    """
    if len(titles) != len(batch):
        raise ValueError(f"{len(titles)} titles for {len(batch)} pictures")
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (preprocess.mean, preprocess.std))
    pixels = np.rint((batch * std + mean) * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    if preprocess.color == "BGR":
        pixels = pixels[..., ::-1]
    _write(_grid(list(pixels), [_short(title) for title in titles], ["#1b2733"] * len(titles)), path)


def _grid(pictures: Sequence[NDArray[np.uint8]], titles: Sequence[str], colours: Sequence[str]) -> Figure:
    if not pictures:
        raise ValueError("there are no pictures to draw")
    columns = min(8, math.ceil(math.sqrt(len(pictures))))
    rows = math.ceil(len(pictures) / columns)
    lines = max(title.count("\n") + 1 for title in titles)
    tallest = max(pixels.shape[0] / pixels.shape[1] for pixels in pictures)
    figure = _figure(max(3.0, 2.1 * columns), (2.05 * tallest + 0.06 + 0.16 * lines) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, pixels, title, colour in zip(grid.flat, pictures, titles, colours, strict=False):
        smooth = "antialiased" if min(pixels.shape[:2]) > 64 else "nearest"
        axes.imshow(pixels, interpolation=smooth)
        axes.set_title(title, fontsize=8, color=colour, pad=3)
    return figure


def _blocks(matrix: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """Add up squares of block x block cells."""
    padded = np.pad(matrix, [(0, -length % block) for length in matrix.shape])
    rows, columns = (length // block for length in padded.shape)
    return np.asarray(padded.reshape(rows, block, columns, block).sum((1, 3)), np.int64)


def _list_confusions(axes: Axes, matrix: NDArray[np.int64], labels: Sequence[str]) -> None:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:25]
    pairs = [divmod(int(flat), len(labels)) for flat in order if wrong.flat[flat]]
    lines = [f"{wrong[true, said]:5,}  {_short(labels[true])} → {_short(labels[said])}" for true, said in pairs]
    axes.axis("off")
    axes.set_title("most frequent confusions (true → predicted)", loc="left", fontsize=9)
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.7, transform=axes.transAxes)


def _figure(width: float, height: float) -> Figure:
    """Return a figure, in inches, with an Agg canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: str | os.PathLike[str]) -> None:
    settings: dict[str, Any] = {"format": "png", "dpi": 130, "facecolor": "white"}
    with whole_file(path, force=True) as temporary, warnings.catch_warnings():
        # A label in a script that matplotlib's own font lacks becomes boxes, which says it all.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, **settings)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(labelsize=8)
    axes.set_axisbelow(True)


def _short(text: str) -> str:
    """Cut a long text, and keep matplotlib from reading a dollar sign as mathematics."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return cut.replace("$", r"\$")
