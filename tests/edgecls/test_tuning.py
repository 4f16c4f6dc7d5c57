from __future__ import annotations

from pathlib import Path

import pytest

from edgecls import tuning
from edgecls.tuning import Trial
from edgecls_runtime import SessionSettings
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import ManifestError, ModelError


def trial(*round_ms: float, batch_size: int = 1, **fields: object) -> Trial:
    settings = SessionSettings(**{k: fields.pop(k) for k in ("spinning", "inference_precision") if k in fields})  # type: ignore[arg-type]
    return Trial(placement=Placement(settings=settings, **fields), batch_size=batch_size, round_ms=round_ms)  # type: ignore[arg-type]


def test_every_way_is_verified_and_measured_in_turn(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    right = tuning._p50_ms

    def measured(path: Path, placement: Placement, size: int) -> float:
        order.append((placement, size))
        return right(path, placement, size)

    monkeypatch.setattr(tuning, "_p50_ms", measured)
    monkeypatch.setattr(tuning, "_ROUND_S", 0.0)
    steps: list[tuple[int, int]] = []
    found = tuning.tune(
        models / "tiny.onnx",
        providers=["cpu", "absent"],
        threads=[1, 2],
        batch_sizes=[1, 2],
        rounds=2,
        progress=lambda *step: steps.append(step),
    )
    good = [item for item in found.trials if item.failure is None]
    ways = [(item.placement, item.batch_size) for item in good]
    assert order == [*reversed(ways), *ways]
    assert sum(count for count, _ in steps) == steps[0][1]
    assert {(placement.threads, placement.settings.spinning, size) for placement, size in ways} == {
        (threads, spinning, size)
        for threads, spinning in ((1, None), (2, None), (2, False), (2, True))
        for size in (1, 2)
    }
    assert {item.failure for item in found.trials if item.placement.provider == "absent"} == {
        "provider 'absent': is unknown"
    }


def test_what_computes_something_else_is_listed_and_never_chosen(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    right = OnnxRuntimeBackend.__init__
    wrong = OnnxRuntimeBackend.run

    def remember(self: OnnxRuntimeBackend, *arguments: object, **options: object) -> None:
        right(self, *arguments, **options)  # type: ignore[arg-type]
        self.threads = options["threads"]

    monkeypatch.setattr(OnnxRuntimeBackend, "__init__", remember)
    monkeypatch.setattr(
        OnnxRuntimeBackend, "run", lambda self, batch: wrong(self, batch) * (1.1 if self.threads == 2 else 1)
    )
    found = tuning.tune(models / "tiny.onnx", providers=["cpu"], threads=[1, 2], rounds=1)
    assert found.profile.placement == Placement(threads=1)
    failures = [item.failure for item in found.trials if item.placement.threads == 2]
    assert len(failures) == 3
    assert all("tiny.onnx: logits: max |diff| 0.1 of max |logit|" in failure for failure in failures)
    assert "not chosen: " in str(found)
    with pytest.raises(ModelError, match="no way to run it was found: .*logits: max"):
        tuning.tune(models / "tiny.onnx", providers=["cpu"], threads=[2], rounds=1)


def test_models_that_cannot_be_tuned(models: Path) -> None:
    with pytest.raises(ManifestError, match="carries no manifest to verify it by"):
        tuning.tune(models / "foreign.onnx")
    with pytest.raises(ModelError, match="takes 4 pictures a run, no other number"):
        tuning.tune(models / "fixed4.onnx", batch_sizes=[1, 4])
    assert tuning.tune(models / "fixed4.onnx", providers=["cpu"], threads=[1], rounds=1).profile.batch_size == 4


def test_the_quickest_is_chosen_where_it_is_clear() -> None:
    assert tuning.choose([trial(3.0, 3.1, 3.0), trial(2.0, 2.1, 2.0, threads=2)]) == (1, (1,))
    # Pictures a second count, not runs: 8 pictures in 9 ms are quicker than one in 2.
    assert tuning.choose([trial(2.0, 2.0, 2.0), trial(9.0, 9.0, 9.0, batch_size=8)]) == (1, (1,))


@pytest.mark.parametrize(
    ("simple", "other"),
    [
        (trial(2.1, 1.9, 2.2, threads=1), trial(2.0, 2.0, 2.0, threads=2)),  # quicker in one round
        (trial(2.01, 2.01, 2.01, threads=1), trial(2.0, 2.0, 2.0, threads=2)),  # slower by less than 2 %
        (trial(2.1, 1.9, 2.2), trial(2.0, 2.0, 2.0, provider="openvino")),
        (trial(2.1, 1.9, 2.2), trial(2.0, 2.0, 2.0, spinning=True)),
        (trial(2.1, 1.9, 2.2), trial(4.0, 4.0, 4.0, batch_size=2)),
        (
            trial(2.1, 1.9, 2.2, provider="openvino"),
            trial(2.0, 2.0, 2.0, provider="openvino", inference_precision="bf16"),
        ),
    ],
)
def test_of_equals_the_simplest_is_chosen(simple: Trial, other: Trial) -> None:
    assert tuning.choose([other, simple]) == (1, (0, 1))
    assert tuning.choose([simple, other]) == (0, (0, 1))
