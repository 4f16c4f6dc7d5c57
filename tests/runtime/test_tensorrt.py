"""The TensorRT backend on a GPU that is none (`fake_gpu`): strict about addresses, order, threads and profiles."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path
from typing import Any

import fake_gpu
import numpy as np
import pytest
from fake_gpu import CudaError, FakeGpu, write_engine

from edgecls_runtime import Classifier, ManifestError, MissingDependencyError, ModelError, ProviderError, verify
from edgecls_runtime.backends import open_backend, tensorrt_log
from edgecls_runtime.backends.tensorrt import TensorRtBackend
from edgecls_runtime.preflight import read_plan


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A card with TensorRT 10.13 beside it; whatever was done must have been right, and all given back."""
    card = FakeGpu()
    fake_gpu.install(monkeypatch, card, fake_gpu.make_tensorrt(card))
    yield card
    gc.collect()
    assert card.violations == []
    assert card.leaks == {}


@pytest.fixture
def engine(models: Path, tmp_path: Path) -> Path:
    return write_engine(tmp_path / "tiny.engine", models / "tiny.onnx")


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)


def test_an_engine_answers_as_its_onnx_file(gpu: FakeGpu, engine: Path, models: Path) -> None:
    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(engine) as model:
        assert (model.labels, model.preprocess) == (onnx.labels, onnx.preprocess)
        assert (model.provider, model.engine) == ("TensorRT", "tensorrt 10.13.3.9 on NVIDIA Fake 4090")
        assert model.batch_size is None
        assert model.assumptions == ()
        assert model.predict(picture()) == onnx.predict(picture())
        several = [picture(seed) for seed in range(3)]
        assert model.predict_batch(several) == onnx.predict_batch(several)
        np.testing.assert_array_equal(model.run(pictures(5)), onnx.run(pictures(5)))
        assert model.run(pictures(0)).shape == (0, len(onnx.labels))


def test_an_interrupt_while_the_log_is_written_is_not_lost(
    gpu: FakeGpu, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through TensorRT itself no exception passes: it would go on, and the user wait."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "rubbish.engine").write_bytes(b"of which TensorRT complains")
    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_log._log, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            TensorRtBackend(read_plan(tmp_path / "rubbish.engine", trust=True))
    TensorRtBackend(read_plan(engine)).close()


@pytest.mark.parametrize(
    ("count", "profile", "ran"),
    [(20, (1, 4, 8), [8, 8, 4]), (1, (2, 4, 8), [2]), (9, (2, 4, 8), [8, 2]), (3, (4, 4, 4), [4]), (4, (4, 4, 4), [4])],
    ids=["split", "filled", "split, the rest filled", "fixed, filled", "fixed"],
)
def test_a_batch_outside_of_the_profile_never_reaches_the_engine(
    gpu: FakeGpu, models: Path, tmp_path: Path, count: int, profile: tuple[int, int, int], ran: list[int]
) -> None:
    path = write_engine(tmp_path / "tiny.engine", models / "tiny.onnx", profile=profile)
    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(path) as model:
        np.testing.assert_array_equal(model.run(pictures(count)), onnx.run(pictures(count)))
    assert gpu.ran == ran


def test_what_fills_a_batch_is_black(gpu: FakeGpu, models: Path, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "tiny.engine", models / "tiny.onnx", profile=(4, 4, 8))
    with Classifier.load(path) as model:
        model.run(pictures(4))
        model.run(pictures(1))
        sent = max(gpu.pinned.values(), key=len).view(np.float32).reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(sent[:1], pictures(1))
        assert not sent[1:].any()


def test_an_engine_of_a_fixed_graph(gpu: FakeGpu, models: Path, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "fixed4.engine", models / "fixed4.onnx", profile=(4, 4, 4), batch=4)
    with Classifier.load(path) as model:
        assert model.batch_size == 4
        assert model.run(pictures(5)).shape[0] == 5
    assert gpu.ran == [4, 4]


def test_half_precision_goes_in_and_comes_out(gpu: FakeGpu, models: Path, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "half.engine", models / "tiny.onnx", dtype="HALF")
    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(path) as model:
        logits = model.run(pictures(3))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, onnx.run(pictures(3).astype(np.float16).astype(np.float32)), atol=1e-2)


def test_runs_of_one_size_become_a_graph_and_stay_right(gpu: FakeGpu, engine: Path, models: Path) -> None:
    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(engine) as model:
        for seed in range(8):  # other pictures each time: a graph must not answer with those it was recorded on
            batch = pictures(2) * seed
            np.testing.assert_array_equal(model.run(batch), onnx.run(batch))
        assert gpu.calls.count("cudaGraphLaunch") == 5
        assert gpu.calls.count("cudaGraphInstantiate") == 1
        for count in (3, 2, 8, 2, 2, 2, 2, 2):  # other sizes change the context, larger ones the addresses, too
            np.testing.assert_array_equal(model.run(pictures(count)), onnx.run(pictures(count)))
        assert gpu.calls.count("cudaGraphInstantiate") == 2


def test_what_cannot_become_a_graph_runs_without(
    gpu: FakeGpu, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_engine(tmp_path / "tiny.engine", models / "tiny.onnx", refuses_capture=True)
    caplog.set_level(logging.INFO)
    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(path) as model:
        for _ in range(6):
            np.testing.assert_array_equal(model.run(pictures(1)), onnx.run(pictures(1)))
    assert "no CUDA graph" in caplog.text
    assert gpu.calls.count("cudaStreamBeginCapture") - gpu.calls.count("cudaStreamEndCapture") == 1  # ended in error
    assert "cudaGraphLaunch" not in gpu.calls


def test_a_graph_that_cannot_be_made_is_no_reason_to_fail(gpu: FakeGpu, engine: Path) -> None:
    gpu.fail["cudaGraphInstantiate"] = CudaError.cudaErrorIllegalAddress
    with Classifier.load(engine) as model:
        for _ in range(6):
            model.run(pictures(1))
    assert gpu.ran == [1] * 6


def test_threads_share_an_engine_and_nothing_else(gpu: FakeGpu, engine: Path, models: Path) -> None:
    wrong: list[int] = []
    together = threading.Barrier(4)

    def work(number: int) -> None:
        batch = pictures(2) * number
        for _ in range(10):
            together.wait(30)
            if not np.array_equal(model.run(batch), expected[number]):
                wrong.append(number)

    with Classifier.load(models / "tiny.onnx") as onnx, Classifier.load(engine) as model:
        expected = [onnx.run(pictures(2) * number) for number in range(4)]
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert len(gpu.contexts) <= 4, "as many as runs at the same time, however many threads there were"
        for number in range(4):
            thread = threading.Thread(target=model.run, args=(pictures(number + 1),))
            thread.start()
            thread.join(60)
        assert len(gpu.contexts) <= 4


def test_closing_while_a_run_is_under_way(gpu: FakeGpu, engine: Path) -> None:
    backend = open_backend(engine)
    inside, go_on = threading.Event(), threading.Event()
    found: list[np.ndarray] = []
    synchronize = gpu.cudaStreamSynchronize

    def slow(stream: Any) -> Any:
        inside.set()
        go_on.wait(30)
        return synchronize(stream)

    gpu.cudaStreamSynchronize = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: found.append(backend.run(pictures(2))))
    thread.start()
    inside.wait(30)
    backend.close()
    go_on.set()
    thread.join(60)
    assert found[0].shape[0] == 2
    with pytest.raises(ModelError, match="tiny.engine: the engine is closed"):
        backend.run(pictures(1))


def test_memory_comes_back_without_close(gpu: FakeGpu, engine: Path) -> None:
    model = Classifier.load(engine)
    model.run(pictures(4))
    assert gpu.leaks
    del model  # the fixture looks whether it did


def test_an_error_gives_everything_back(gpu: FakeGpu, engine: Path) -> None:
    with Classifier.load(engine) as model:
        model.run(pictures(2))
        gpu.fail["cudaMemcpyAsync"] = CudaError.cudaErrorIllegalAddress
        with pytest.raises(ProviderError, match=r"copying to the GPU failed: .*cudaErrorIllegalAddress"):
            model.run(pictures(2))
        assert gpu.leaks == {}, "what failed is not lent again"
        del gpu.fail["cudaMemcpyAsync"]
        assert len(model.run(pictures(2))) == 2


def test_a_run_that_tensorrt_refuses_quotes_it(gpu: FakeGpu, models: Path, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "tiny.engine", models / "tiny.onnx", refuses_to_run=True)
    with Classifier.load(path) as model, pytest.raises(ModelError) as caught:
        model.run(pictures(1))
    assert caught.value.cause.endswith("the run failed: IExecutionContext::enqueueV3: Error Code 1: no such kernel")


def test_no_room_on_the_gpu(gpu: FakeGpu, models: Path, tmp_path: Path, engine: Path) -> None:
    crowded = write_engine(tmp_path / "crowded.engine", models / "tiny.onnx", no_room=True)
    with pytest.raises(ProviderError, match="out of memory: a run of it needs 3 MiB .*1,024 MiB of 1,024 MiB are free"):
        Classifier.load(crowded)
    with Classifier.load(engine) as model:
        gpu.memory_bytes = 30_000  # room for two pictures, not for eight
        model.run(pictures(2))
        with pytest.raises(
            ProviderError, match=r"allocating 98,304 bytes on the GPU failed: out of memory\nClose other"
        ):
            model.run(pictures(8))
        assert len(model.run(pictures(2))) == 2


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            {"device_count": (CudaError.cudaErrorInsufficientDriver, None), "driver": 0},
            "no NVIDIA GPU or no driver .*cudaErrorInsufficientDriver",
        ),
        ({"device_count": (CudaError.cudaErrorNoDevice, None)}, "no NVIDIA GPU or no driver .*cudaErrorNoDevice"),
        ({"device_count": (CudaError.cudaSuccess, 0)}, "no NVIDIA GPU or no driver .*no device is visible"),
        (
            {"device_count": (CudaError.cudaErrorInsufficientDriver, None), "driver": 12040},
            "driver serves CUDA 12.4, cuda-bindings wants 13.0 .*\n.*pip install 'cuda-bindings==12",
        ),
    ],
    ids=["no driver", "no device", "none visible", "old driver"],
)
def test_a_machine_without_a_gpu_that_works(
    monkeypatch: pytest.MonkeyPatch, engine: Path, card: dict[str, Any], message: str
) -> None:
    gpu = FakeGpu(**card)
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu))
    with pytest.raises(ProviderError, match=message):
        Classifier.load(engine)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, engine: Path) -> None:
    gpu = FakeGpu()
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu, "tensorrt_rtx", "1.7.1.116"))
    with pytest.raises(MissingDependencyError, match=r"built by tensorrt 10.13.3.9, .*tensorrt_rtx 1.7.1.116 is, and"):
        Classifier.load(engine)
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu))
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(MissingDependencyError, match="cuda-bindings cannot be imported"):
        Classifier.load(engine)


def test_a_damaged_plan_quotes_tensorrt(gpu: FakeGpu, engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[20:])
    with pytest.raises(ModelError, match=r"is not the plan that was built: it has [\d,]+ bytes, its sidecar says"):
        Classifier.load(engine)
    with pytest.raises(ModelError) as caught:
        Classifier.load(engine, trust=True)
    assert caught.value.cause.endswith(
        "tensorrt 10.13.3.9 cannot load it: IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magicTag "
        "assertion failed)"
    )
    assert "edgecls export tiny.onnx --tensorrt" in caught.value.remedy


def test_an_engine_of_another_maker_runs_on_trust(
    gpu: FakeGpu, engine: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(f"{engine}.json").unlink()
    with pytest.raises(ModelError, match=r"tiny.engine.json: is missing.*\n.*--trust"):
        Classifier.load(engine)
    with Classifier.load(models / "tiny.onnx") as onnx:
        labels, preprocess, expected = onnx.labels, onnx.preprocess, onnx.run(pictures(2))
    with Classifier.load(engine, trust=True, labels=labels, preprocess=preprocess) as model:
        np.testing.assert_array_equal(model.run(pictures(2)), expected)
        assert model.manifest is None
        assert model.assumptions[0] == "no sidecar: the plan, which is executable code, runs on trust"
    assert "runs on trust" in caplog.text
    assert gpu.host_code_allowed is True  # type: ignore[attr-defined]
    with pytest.raises(ManifestError, match="2 labels for"):
        Classifier.load(engine, trust=True, labels=["a", "b"])


def test_both_flavours_are_tried_where_nobody_says_which(
    monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    gpu = FakeGpu()
    rtx = fake_gpu.make_tensorrt(gpu, "tensorrt_rtx", "1.7.1.116")
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu), rtx)
    path = write_engine(tmp_path / "m.engine", models / "tiny.onnx", flavour="tensorrt_rtx")
    Path(f"{path}.json").unlink()
    with Classifier.load(path, trust=True) as model:
        assert model.provider == "TensorRT-RTX"
    path.write_bytes(b"rubbish")
    with pytest.raises(
        ModelError, match=r"tensorrt 10.13.3.9 cannot load it: .*; tensorrt_rtx 1.7.1.116 cannot load it"
    ):
        Classifier.load(path, trust=True)


def test_code_for_this_processor_runs_only_where_the_plan_says_so(gpu: FakeGpu, models: Path, tmp_path: Path) -> None:
    for number, (options, allowed) in enumerate([({}, False), ({"version_compatible": "yes"}, True)]):
        path = write_engine(tmp_path / f"{number}.engine", models / "tiny.onnx", sidecar={"options": options})
        Classifier.load(path).close()
        assert gpu.host_code_allowed is allowed  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "plan", "message"),
    [
        ("tiny", {"format": "HWC8"}, "input input has the format HWC8"),
        ("tiny", {"dtype": "BF16"}, "takes input: bf16"),
        ("rank3", {}, "takes picture: float32"),
    ],
)
def test_engines_that_are_no_picture_classifiers(
    gpu: FakeGpu, models: Path, tmp_path: Path, model: str, plan: dict[str, Any], message: str
) -> None:
    path = write_engine(tmp_path / "m.engine", models / f"{model}.onnx", **plan)
    with pytest.raises(ModelError, match=message):
        Classifier.load(path)


def test_pictures_of_another_size_are_refused(gpu: FakeGpu, engine: Path) -> None:
    expected = r"batch is float32 \[1, 3, 31, 32\], must be input: float32 \[batch, 3, 32, 32\]"
    with Classifier.load(engine) as model, pytest.raises(ValueError, match=expected):
        model.run(np.zeros((1, 3, 31, 32), np.float32))


def test_tensorrt_rtx_records_its_own_graphs_and_keeps_what_it_compiled(
    monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    gpu = FakeGpu()
    rtx = fake_gpu.make_tensorrt(gpu, "tensorrt_rtx", "1.7.1.116")
    fake_gpu.install(monkeypatch, gpu, rtx)
    path = write_engine(
        tmp_path / "m.engine", models / "tiny.onnx", flavour="tensorrt_rtx", sidecar={"version": "1.7.1.116"}
    )
    (tmp_path / "kept").mkdir()
    for _ in range(2):
        with Classifier.load(path, engine_cache=tmp_path / "kept") as model:
            for _ in range(6):
                model.run(pictures(2))
    config = gpu.contexts[0].config
    assert config.cuda_graph_strategy is rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert "cudaStreamBeginCapture" not in gpu.calls
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.read_bytes() == b"kernels for this GPU"
    assert kept.name.endswith("-1.7.1.116.rtx-cache")
    kept.write_bytes(b"of another GPU")
    Classifier.load(path, engine_cache=tmp_path / "kept").close()
    assert kept.read_bytes() == b"kernels for this GPU"
    with pytest.raises(Exception, match="missing does not exist"):
        Classifier.load(path, engine_cache=tmp_path / "missing")
    assert gpu.violations == []
    assert gpu.leaks == {}


def test_the_cache_has_nothing_to_keep_elsewhere(gpu: FakeGpu, engine: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="TensorRT compiles nothing when it loads an engine"):
        Classifier.load(engine, engine_cache=tmp_path)
    with pytest.raises(ProviderError, match="provider cpu: compiles nothing"):
        Classifier.load(models / "tiny.onnx", engine_cache=tmp_path)


def test_an_engine_runs_on_tensorrt_alone(gpu: FakeGpu, engine: Path) -> None:
    Classifier.load(engine, provider="tensorrt").close()
    for provider in ("cpu", "cuda"):
        with pytest.raises(ProviderError, match=f"provider {provider}: cannot run .*tiny.engine, which is a TensorRT"):
            Classifier.load(engine, provider=provider)
    with pytest.raises(ProviderError, match="no CPU threads"):
        Classifier.load(engine, threads=2)


def test_verify_proves_plan_contract_pixels_and_logits(gpu: FakeGpu, engine: Path) -> None:
    found = verify(engine)
    assert found, str(found)
    assert [check.name for check in found.checks] == ["plan", "contract", "pixels", "logits"]
    with engine.open("ab") as file:
        file.write(b"\0" * 0)
    content = engine.read_bytes()
    engine.write_bytes(content.replace(b'"profile"', b'"profil\\u0065"'))
    with pytest.raises(ModelError, match="is not the plan that was built"):
        verify(engine)
    on_trust = verify(engine, trust=True)
    assert [check.name for check in on_trust.checks if not check.passed] == ["plan"]


def test_warnings_of_tensorrt_are_logged(gpu: FakeGpu, engine: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = TensorRtBackend(read_plan(engine))
    gpu.contexts[0]._engine.complain("WARNING", "built on another model of GPU")
    gpu.contexts[0]._engine.complain("INFO", "chatter")
    gpu.contexts[0]._engine.complain(
        "WARNING", "The logger passed in differs from one already registered for a builder"
    )
    backend.close()
    assert [record.getMessage() for record in caplog.records] == ["tensorrt: built on another model of GPU"]
