from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecls_export import calibration
from edgecls_export.activations import ObservedGraph
from edgecls_export.calibration import Ranges, calibrate
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.calibrators import Entropy, MinMax, Percentile
from edgecls_export.histogram import collect_histograms
from edgecls_export.pipeline import ModelCard
from edgecls_runtime.errors import OutputError


def test_ranges_are_those_of_the_calibrator(graph_path: Path, images: CalibrationImages, card: ModelCard) -> None:
    for method in (MinMax(), Percentile(99.0)):
        for symmetric in (False, True):
            found = calibrate(graph_path, images, preprocess=card.preprocess, method=method, symmetric=symmetric)
            histograms = collect_histograms(
                ObservedGraph(onnx.load(graph_path), list(found.values)), images.sources, card.preprocess
            )
            assert found.values == {
                name: method.range(histogram, symmetric=symmetric) for name, histogram in histograms.items()
            }
            assert (found.method, found.symmetric, found.images, found.cached) == (method.name, symmetric, 7, False)
    assert str(found) == "ranges of 15 activations (percentile 99, symmetric) from 7 pictures"


def test_only_the_tensors_asked_for(graph_path: Path, images: CalibrationImages, card: ModelCard) -> None:
    found = calibrate(graph_path, images, preprocess=card.preprocess, tensors=["stem", "logits"])
    assert list(found.values) == ["stem", "logits"]


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured, though the cache knows")

    monkeypatch.setattr(calibration, "collect_histograms", measured)


def cached(tmp_path: Path, graph_path: Path, images: CalibrationImages, card: ModelCard, **changes: object) -> Ranges:
    arguments: dict[str, object] = {"preprocess": card.preprocess, "method": MinMax()}
    return calibrate(graph_path, images, cache=tmp_path / "cache", **(arguments | changes))  # type: ignore[arg-type]


def test_the_same_calibration_is_not_measured_twice(
    graph_path: Path, images: CalibrationImages, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(tmp_path, graph_path, images, card)
    forbid(monkeypatch)
    turned = dataclasses.replace(images, sources=images.sources[::-1], digests=images.digests[::-1], origin="elsewhere")
    again = cached(tmp_path, graph_path, turned, card)
    assert again.cached
    assert not first.cached
    assert again.values == first.values


def test_whatever_changes_the_ranges_changes_the_entry(
    graph_path: Path, images: CalibrationImages, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, graph_path, images, card)
    other_weights = onnx.load(graph_path)
    weight = next(item for item in other_weights.graph.initializer if item.name == "head.w")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nextafter(values[0, 0], np.float32(2))
    weight.CopyFrom(numpy_helper.from_array(values, "head.w"))
    onnx.save(other_weights, tmp_path / "other.onnx")
    fewer = dataclasses.replace(images, sources=images.sources[:6], digests=images.digests[:6])
    other = dataclasses.replace(images, digests=("0" * 64, *images.digests[1:]))
    changes: list[tuple[Path, CalibrationImages, dict[str, object]]] = [
        (tmp_path / "other.onnx", images, {}),
        (graph_path, fewer, {}),
        (graph_path, other, {}),
        (graph_path, images, {"method": Percentile(99.0)}),
        (graph_path, images, {"method": Percentile(99.5)}),
        (graph_path, images, {"method": Entropy()}),
        (graph_path, images, {"symmetric": True}),
        (graph_path, images, {"preprocess": card.preprocess.replace(interpolation="bicubic")}),
        (graph_path, images, {"tensors": ["stem"]}),
    ]
    for count, (path, pictures, settings) in enumerate(changes, start=2):
        assert not cached(tmp_path, path, pictures, card, **settings).cached, settings
        assert len(list((tmp_path / "cache").iterdir())) == count
    monkeypatch.setattr(calibration, "_version", lambda package: "another")
    assert not cached(tmp_path, graph_path, images, card).cached


@pytest.mark.parametrize("damage", ["cut", "edited", "foreign", "empty", "another document"])
def test_a_damaged_or_foreign_entry_is_never_used(
    graph_path: Path,
    images: CalibrationImages,
    card: ModelCard,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    right = cached(tmp_path, graph_path, images, card)
    (entry,) = (tmp_path / "cache").iterdir()
    document = json.loads(entry.read_text())
    if damage == "cut":
        entry.write_bytes(entry.read_bytes()[:-200])
    elif damage == "edited":
        document["ranges"]["stem"] = [-1, 1]
        entry.write_text(json.dumps(document))
    elif damage == "foreign":  # copied over from the entry of another calibration
        cached(tmp_path, graph_path, images, card, method=Percentile(90.0))
        (other,) = set((tmp_path / "cache").iterdir()) - {entry}
        entry.write_bytes(other.read_bytes())
    elif damage == "empty":
        entry.write_bytes(b"")
    else:
        entry.write_text("[1, 2]")
    with caplog.at_level(logging.WARNING):
        again = cached(tmp_path, graph_path, images, card)
    assert not again.cached
    assert again.values == right.values
    assert f"{entry}: is damaged or belongs to another calibration" in caplog.text
    assert cached(tmp_path, graph_path, images, card).cached  # mended


def test_a_cache_that_cannot_be_written_is_an_error(
    graph_path: Path, images: CalibrationImages, card: ModelCard, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(OutputError, match="cache: the calibration cache cannot be written"):
        cached(tmp_path, graph_path, images, card)
