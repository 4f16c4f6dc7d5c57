from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edgecls_runtime import Classifier, SessionSettings, backends, cpus
from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import ProviderError

HERE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[onnxruntime.SessionOptions]:
    """The options of every session that is opened."""
    seen = []
    right = onnxruntime.InferenceSession

    def session(path: str, options: onnxruntime.SessionOptions, **others: object) -> onnxruntime.InferenceSession:
        seen.append(options)
        return right(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return seen


def test_integers_are_exact(models: Path, options: list) -> None:
    """Without VNNI they saturate otherwise; where it is, nothing else would show it."""
    Classifier.load(models / "tiny.onnx").close()
    assert options[0].get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize(("spinning", "at_all", "stops"), [(None, "1", "1"), (True, "1", "0"), (False, "0", "1")])
def test_spinning(models: Path, options: list, spinning: bool | None, at_all: str, stops: str) -> None:
    Classifier.load(models / "tiny.onnx", settings=SessionSettings(spinning=spinning)).close()
    assert options[0].get_session_config_entry("session.intra_op.allow_spinning") == at_all
    assert options[0].get_session_config_entry("session.force_spinning_stop") == stops


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no threads")
def test_cpus_are_those_of_the_engines_own_threads(models: Path, options: list) -> None:
    tasks = Path("/proc/self/task")
    before = set(os.listdir(tasks)) if tasks.is_dir() else set()
    with Classifier.load(models / "tiny.onnx", settings=SessionSettings(cpus=(HERE,))):
        assert options[0].intra_op_num_threads == 2
        assert options[0].get_session_config_entry("session.intra_op_thread_affinities") == str(HERE + 1)
        if before and len(os.sched_getaffinity(0)) > 1:
            (new,) = set(os.listdir(tasks)) - before
            end = time.monotonic() + 30
            while os.sched_getaffinity(int(new)) != {HERE}:  # the thread binds itself, once it runs
                assert time.monotonic() < end
    with pytest.raises(ProviderError, match="cpus: 1 CPUs for 3 threads"):
        Classifier.load(models / "tiny.onnx", threads=3, settings=SessionSettings(cpus=(HERE,)))
    with pytest.raises(ProviderError, match="this process may not use CPU 4095"):
        Classifier.load(models / "tiny.onnx", settings=SessionSettings(cpus=(4095,)))


@pytest.mark.parametrize("wrong", [(), (1, 1), (-1,)])
def test_cpus_that_are_none(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must name different CPUs"):
        SessionSettings(cpus=wrong)


@pytest.mark.parametrize(
    ("provider", "settings", "name"),
    [
        ("cpu", SessionSettings(inference_precision="bf16"), "inference_precision"),
        ("openvino", SessionSettings(spinning=False), "spinning"),
        ("openvino", SessionSettings(cpus=(HERE,)), "cpus"),
        ("cuda", SessionSettings(spinning=True), "spinning"),
    ],
)
def test_a_setting_that_a_provider_does_not_have_is_refused(
    models: Path, provider: str, settings: SessionSettings, name: str
) -> None:
    with pytest.raises(ProviderError, match=f"provider {provider}: has no setting {name}"):
        Classifier.load(models / "tiny.onnx", provider=provider, settings=settings)


def test_a_process_with_fewer_cores_than_the_machine_says_so_to_the_engine(
    models: Path, options: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "default_threads", lambda: 3)
    for threads, expected in ((None, 3), (2, 2)):
        OnnxRuntimeBackend.close(backends.open_backend(models / "tiny.onnx", Placement(threads=threads)))  # type: ignore[arg-type]
        assert options[-1].intra_op_num_threads == expected
    monkeypatch.setattr(backends, "default_threads", cpus.default_threads)


def test_a_placement_prints_what_was_chosen() -> None:
    assert str(Placement()) == "cpu"
    assert str(Placement(threads=1, settings=SessionSettings(spinning=False))) == "cpu, 1 thread, no spinning"
    settings = SessionSettings(spinning=True, cpus=(2, 3))
    assert str(Placement(threads=3, settings=settings)) == "cpu, 3 threads, spinning, CPUs 2,3"
    rounded = Placement(provider="openvino", settings=SessionSettings(inference_precision="bf16"))
    assert str(rounded) == "openvino, in bf16"


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2", 1025])
def test_threads_that_are_none(models: Path, threads: Any) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 1024"):
        Classifier.load(models / "tiny.onnx", threads=threads)
