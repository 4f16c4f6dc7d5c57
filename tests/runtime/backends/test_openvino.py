"""OpenVINO itself, where it is installed; EDGECLS_REQUIRE=openvino makes it a must."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecls_runtime import Classifier, SessionSettings, golden
from edgecls_runtime.backends import open_backend
from edgecls_runtime.backends import openvino as backend
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import MissingDependencyError, ModelError, ProviderError

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
PICTURES = [golden.draw_picture(number) for number in range(7)]


@needs_openvino
@pytest.mark.parametrize("name", ["tiny", "fixed4", "multilabel"])
def test_float32_is_exact(models: Path, name: str) -> None:
    with (
        Classifier.load(models / f"{name}.onnx", provider="openvino", threads=1) as ours,
        Classifier.load(models / f"{name}.onnx") as theirs,
    ):
        assert ours.provider == "OpenVINO CPU"
        assert ours.engine.startswith("openvino 20")
        assert ours.engine.endswith(" in f32")
        assert ours.batch_size == theirs.batch_size
        for count in (1, 3, 4, 7):
            batch = np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)
            np.testing.assert_allclose(ours.run(batch), theirs.run(batch), rtol=1e-5, atol=1e-6)
        assert [p.index for p in ours.predict(PICTURES[0])] == [p.index for p in theirs.predict(PICTURES[0])]
    assert golden.verify(models / f"{name}.onnx", provider="openvino")


@needs_openvino
def test_an_answer_is_not_written_over_by_the_next(models: Path) -> None:
    with Classifier.load(models / "tiny.onnx", provider="openvino") as classifier:
        first = classifier.logits(PICTURES[0])
        kept = first.copy()
        classifier.logits(PICTURES[3])
        np.testing.assert_array_equal(first, kept)


@needs_openvino
def test_a_batch_that_is_written_over_is_read_again(models: Path) -> None:
    """It is given to the request once; another one, or one of another size, in its turn."""
    first, second = (
        np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32) for count in (1, 2)
    )
    one, two = np.empty_like(first), np.empty_like(second)
    with (
        Classifier.load(models / "tiny.onnx", provider="openvino") as ours,
        Classifier.load(models / "tiny.onnx") as theirs,
    ):
        for number in range(3):
            for batch, values in ((one, first), (one, -first), (two, second), (two, number * second), (one, first)):
                batch[...] = values
                np.testing.assert_allclose(ours.run(batch), theirs.run(batch), rtol=1e-5, atol=1e-6)


@needs_openvino
def test_after_a_run_that_failed_comes_one_that_does_not(models: Path) -> None:
    """The request may have been given the batch that failed, and not where to write its logits."""
    engine = open_backend(models / "tiny.onnx", Placement(provider="openvino"))
    batch = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    expected = engine.run(batch)
    for wrong in (batch.astype(np.float64), batch.astype(np.int32)):
        with pytest.raises(ModelError, match="the run failed"):
            engine.run(wrong)
        np.testing.assert_array_equal(engine.run(batch), expected)
    larger = np.concatenate([batch, batch])
    request = engine._thread.request  # type: ignore[attr-defined]
    engine._thread.request = SimpleNamespace(set_input_tensor=request.set_input_tensor)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="the run failed"):
        engine.run(larger)  # fails when it was given its input
    np.testing.assert_array_equal(engine.run(batch), expected)
    np.testing.assert_allclose(engine.run(larger), np.concatenate([expected, expected]), rtol=1e-5, atol=1e-6)
    engine.close()


@needs_openvino
def test_threads_get_the_answers_of_one(models: Path) -> None:
    with Classifier.load(models / "tiny.onnx", provider="openvino") as classifier:
        expected = [classifier.predict(picture) for picture in PICTURES]
        with ThreadPoolExecutor(16) as pool:
            for answers in pool.map(lambda _: [classifier.predict(picture) for picture in PICTURES], range(64)):
                assert answers == expected


@needs_openvino
@pytest.mark.parametrize("shape", [(1, 3, 31, 32), (1, 3, 32), (2, 1, 32, 32)])
def test_a_batch_of_another_shape_is_refused(models: Path, shape: tuple[int, ...]) -> None:
    """OpenVINO answers the first of them with an empty array."""
    expected = r"batch is float32 \[.*\], must be input: float32 \[\?, 3, 32, 32\]"
    with Classifier.load(models / "tiny.onnx", provider="openvino") as model, pytest.raises(ValueError, match=expected):
        model.run(np.zeros(shape, np.float32))


@needs_openvino
def test_what_was_asked_for_or_an_error(models: Path) -> None:
    with pytest.raises(ProviderError, match="asked for 1024 threads, got"):
        Classifier.load(models / "tiny.onnx", provider="openvino", threads=1024)
    with pytest.raises(ModelError, match="openvino 20.* cannot load it: .*Wrong value i8"):
        Classifier.load(
            models / "tiny.onnx",
            provider="openvino",
            settings=SessionSettings(inference_precision="i8"),  # type: ignore[arg-type]
        )


def test_a_precision_that_the_cpu_does_not_have_is_an_error() -> None:
    """OpenVINO itself computes in float32 then, and says nothing."""
    granted = {"INFERENCE_PRECISION_HINT": SimpleNamespace(get_type_name=lambda: "f32"), "INFERENCE_NUM_THREADS": 2}
    compiled = SimpleNamespace(get_property=granted.__getitem__)
    backend._check_granted(compiled, "f32", 2)
    with pytest.raises(ProviderError, match="asked to compute in bf16, this CPU computes in f32"):
        backend._check_granted(compiled, "bf16", 2)


@needs_openvino
def test_rounding_must_be_asked_for_and_is_shown(models: Path) -> None:
    settings = SessionSettings(inference_precision="bf16")
    try:
        verification = golden.verify(models / "tiny.onnx", provider="openvino", settings=settings)
    except ProviderError as error:
        pytest.skip(f"this CPU has no bfloat16: {error.cause}")
    assert verification
    assert "(allowed 0.05)" in verification.checks[-1].found
    assert "in bf16)" in verification.checks[-1].found
    batch = np.stack([PICTURES[0][:32, :32].transpose(2, 0, 1)]).astype(np.float32) / 255
    with (
        Classifier.load(models / "tiny.onnx", provider="openvino", settings=settings) as rounded,
        Classifier.load(models / "tiny.onnx", provider="openvino") as exact,
    ):
        difference = np.abs(rounded.run(batch) - exact.run(batch)).max()
        assert difference > 1e-4  # else the option does nothing


@needs_openvino
def test_importing_it_reports_nothing_to_anybody() -> None:
    code = (
        "import sys\n"
        "from edgecls_runtime.backends.openvino import import_openvino\n"
        "openvino = import_openvino()\n"
        "print(*(name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools')))\n"
        "import openvino.tools.ovc\n"  # who wants the converter can still have it
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_where_it_is_not_installed_one_is_told_what_to_install(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgecls\[openvino\]'"):
        Classifier.load(models / "tiny.onnx", provider="openvino")


@needs_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_told_to_load_anew(models: Path) -> None:
    """OpenVINO's threads are not there, and it would wait for them for ever."""
    with Classifier.load(models / "tiny.onnx", provider="openvino") as model:
        model.predict(PICTURES[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)  # as a child would
            with pytest.raises(ModelError, match=r"was loaded before this process was forked\nLoad it in the child"):
                model.predict(PICTURES[0])
        model.predict(PICTURES[0])
