"""`Classifier.reload`: another model in the place of the running one."""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgecls_export.golden_outputs import golden_from_reference
from edgecls_runtime import Classifier, golden, manifest
from edgecls_runtime.errors import EdgeclsError, ManifestError, ModelError, VerificationError

PICTURE = golden.draw_picture(0)


@pytest.fixture
def other(models: Path, tmp_path: Path) -> Path:
    """The tiny model with other labels, another activation and another preprocess, proven as an export would."""
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    labels = tuple(label.upper() for label in reversed(document.labels))
    changed = dataclasses.replace(
        document,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.0,) * 5,
        preprocess=document.preprocess.replace(resize_size=60),
        golden=None,
    )
    manifest.write(changed, models / "foreign.onnx", tmp_path / "bare.onnx")
    with Classifier.load(tmp_path / "bare.onnx") as classifier:
        proven = dataclasses.replace(changed, golden=golden_from_reference(classifier.run, changed))
    manifest.write(proven, models / "foreign.onnx", tmp_path / "other.onnx")
    return tmp_path / "other.onnx"


def test_everything_of_the_new_file_takes_over(models: Path, other: Path) -> None:
    with Classifier.load(models / "tiny.onnx", threads=1) as classifier, Classifier.load(other) as expected:
        before = classifier.predict(PICTURE)
        classifier.reload(other)
        for name in ("path", "labels", "preprocess", "activation", "thresholds", "manifest"):
            assert getattr(classifier, name) == getattr(expected, name), name
        assert classifier.placement.threads == 1
        assert classifier.predict(PICTURE) == expected.predict(PICTURE) != before
        classifier.reload(models / "tiny.onnx")
        assert classifier.predict(PICTURE) == before


def test_another_size_of_picture(models: Path, real_size: Path) -> None:
    with Classifier.load(models / "tiny.onnx") as classifier:
        classifier.predict(PICTURE)
        classifier.reload(real_size)
        assert classifier.preprocess.crop_size == (40, 48)
        with Classifier.load(real_size) as expected:
            np.testing.assert_array_equal(classifier.logits(PICTURE), expected.logits(PICTURE))


@pytest.fixture
def real_size(models: Path, tmp_path: Path) -> Path:
    """A model that takes 40x48 pixels: the bytes of the tiny one with other axes of its input."""
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    content = (models / "foreign.onnx").read_bytes()
    axes = b"\x0a\x02\x08\x20\x0a\x02\x08\x20"  # two dimensions of 32 in the input's shape
    assert content.count(axes) == 1
    (tmp_path / "graph.onnx").write_bytes(content.replace(axes, b"\x0a\x02\x08\x28\x0a\x02\x08\x30"))
    from edgecls_runtime.onnx_file import graph_sha256

    changed = dataclasses.replace(
        document,
        graph_sha256=graph_sha256(tmp_path / "graph.onnx"),
        preprocess=document.preprocess.replace(resize_size=50, crop_size=(40, 48)),
        golden=None,
    )
    manifest.write(changed, tmp_path / "graph.onnx", tmp_path / "bare.onnx")
    with Classifier.load(tmp_path / "bare.onnx") as classifier:
        proven = dataclasses.replace(changed, golden=golden_from_reference(classifier.run, changed))
    manifest.write(proven, tmp_path / "graph.onnx", tmp_path / "size.onnx")
    return tmp_path / "size.onnx"


@pytest.mark.parametrize("kind", ["absent", "damaged", "wrong", "foreign"])
def test_a_bad_file_leaves_the_old_one_running(models: Path, tmp_path: Path, kind: str) -> None:
    path, error = tmp_path / "m.onnx", ModelError
    content = (models / "tiny.onnx").read_bytes()
    if kind == "damaged":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "wrong":
        changed = bytearray(content)
        changed[len(content) // 3] ^= 0x40
        path.write_bytes(changed)
        error = VerificationError
    elif kind == "foreign":
        path, error = models / "foreign.onnx", ManifestError
    with Classifier.load(models / "tiny.onnx") as classifier:
        before = classifier.predict(PICTURE)
        with pytest.raises(error):
            classifier.reload(path)
        assert classifier.path == str(models / "tiny.onnx")
        assert classifier.predict(PICTURE) == before


def test_a_closed_classifier_stays_closed(models: Path) -> None:
    classifier = Classifier.load(models / "tiny.onnx")
    classifier.close()
    with pytest.raises(ModelError, match="the classifier is closed"):
        classifier.reload(models / "tiny.onnx")
    with pytest.raises(ModelError, match="the classifier is closed"):
        classifier.predict(PICTURE)


@pytest.mark.parametrize("end", ["reload", "close"])
def test_a_run_in_flight_ends_on_the_old_engine_which_is_closed_then(
    models: Path, other: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    classifier = Classifier.load(models / "tiny.onnx")
    expected = classifier.predict(PICTURE)
    old = classifier._model.backend
    running, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    right_run, right_close = old.run, old.close

    def slow_run(batch: np.ndarray) -> np.ndarray:
        running.set()
        assert go_on.wait(30)
        return right_run(batch)

    monkeypatch.setattr(old, "run", slow_run)
    monkeypatch.setattr(old, "close", lambda: (right_close(), closed.set()))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(classifier.predict, PICTURE)
        assert running.wait(30)
        if end == "reload":
            classifier.reload(other)
            assert classifier.labels[0] == "EEL"
            assert classifier.predict(PICTURE) != expected
        else:
            classifier.close()
        assert not closed.is_set()
        go_on.set()
        assert answer.result() == expected
    assert closed.is_set()
    classifier.close()


def test_threads_get_the_answer_of_one_model_or_of_the_other(
    models: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never new labels for old logits, through 200 reloads; and what was loaded is let go again."""
    monkeypatch.setattr(golden, "draw_picture", functools.cache(golden.draw_picture))  # most of a verification's time
    files = [models / "tiny.onnx", other]
    small = PICTURE[:48, :48].copy()
    answers = []
    for path in files:
        with Classifier.load(path) as classifier:
            answers.append(classifier.predict(small))
    assert answers[0] != answers[1]

    classifier = Classifier.load(files[0], threads=1)
    stop = threading.Event()
    seen: set[int] = set()

    def work() -> None:
        while not stop.wait(0.01):  # eight that never rest would leave Python's lock to no reload
            seen.add(answers.index(classifier.predict(small)))
            (batch,) = classifier.predict_batch([small])
            assert [p.label for p in batch] in [[p.label for p in answer] for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        try:
            workers = [pool.submit(work) for _ in range(8)]
            for number in range(200):
                classifier.reload(files[(number + 1) % 2])
                if number == 50:
                    early = resident_bytes()
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    assert seen == {0, 1}
    gc.collect()
    assert resident_bytes() - early < 12 * 2**20  # a session of the tiny model takes 0.1 MB, its threads' stacks more
    classifier.close()


def resident_bytes() -> int:
    try:
        fields = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0  # other systems: the rest of the test remains
    return int(fields[1]) * 4096


def test_a_failure_of_the_new_engine_frees_it(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    closed = []
    right = OnnxRuntimeBackend.close
    monkeypatch.setattr(OnnxRuntimeBackend, "close", lambda self: (closed.append(self), right(self)))
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    manifest.write(dataclasses.replace(document, golden=None), models / "tiny.onnx", tmp_path / "m.onnx")
    with Classifier.load(models / "tiny.onnx") as classifier:
        with pytest.raises(EdgeclsError):
            classifier.reload(tmp_path / "m.onnx")
        assert len(closed) == 1
        assert closed[0] is not classifier._model.backend


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stream_goes_on_with_the_new_model_and_mixes_none(
    models: Path, other: Path, real_size: Path, batch_size: int
) -> None:
    classifier = Classifier.load(models / "tiny.onnx", threads=1)
    files = [models / "tiny.onnx", other, real_size]
    answers = []
    for path in files:
        with Classifier.load(path) as expected:
            answers.append([(item.label, pytest.approx(item.score, rel=1e-4)) for item in expected.predict(PICTURE)])
    given, models_in_turn = set(), [classifier._model]
    results = classifier.predict_stream(itertools.repeat(PICTURE), batch_size=batch_size, workers=2)
    for number, result in enumerate(itertools.islice(results, 240)):
        found = [(item.label, item.score) for item in result.predictions]
        matching = [index for index, answer in enumerate(answers) if found == answer]
        assert matching, found
        given.update(matching)
        if number % 40 == 39:
            classifier.reload(files[(number // 40 + 1) % 3])
            models_in_turn.append(classifier._model)
    results.close()
    assert [model._holders for model in models_in_turn] == [0] * 7, "an abandoned stream holds no engine open"
    assert given == {0, 1, 2}
    classifier.close()
