from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgecls.benchmark import doubts
from edgecls.benchmark.conditions import Conditions
from edgecls.benchmark.document import Measured
from edgecls.benchmark.doubts import condition_doubts, sample_doubts, standing_doubts
from edgecls.benchmark.sampling import WarmUp

STEADY = [WarmUp(queries=20, steady=True)] * 2
CALM = Conditions(seconds=10, others_s=0.3, stolen_s=0.05, thermal_events=0, frequency_mhz=3000, limited_s=0)


def measured(first: list[float], second: list[float], *, latency: list[float] | None = None) -> Measured:
    run = (*first, *second)
    return Measured(latency_ms=tuple(latency or run), stages_ms={"run": run}, rounds=(len(first), len(second)))


def calm(count: int, level: float = 10) -> list[float]:
    return [level + 0.01 * (number % 5) for number in range(count)]


def test_a_calm_measurement_is_not_doubted() -> None:
    assert sample_doubts(measured(calm(30), calm(30)), STEADY, on_gpu=True) == ()
    assert condition_doubts([CALM, CALM]) == ()


def test_few_samples() -> None:
    assert sample_doubts(measured(calm(21), calm(22)), STEADY, on_gpu=False) == (
        "43 queries are too few for p90, which needs 44",
    )
    assert sample_doubts(Measured(latency_ms=(1.0,), stages_ms={}, rounds=(1,)), STEADY, on_gpu=False) == (
        "1 queries are too few for p90, which needs 44",
    )


def test_a_warm_up_that_never_settled() -> None:
    warm_ups = [*STEADY, WarmUp(queries=9, steady=False)]
    assert sample_doubts(measured(calm(30), calm(30)), warm_ups, on_gpu=False) == (
        "the latency had not settled after 1 of 3 warm-ups",
    )


@pytest.mark.parametrize(
    ("spread", "on_gpu", "doubted"),
    [
        (0.09, False, None),
        (0.12, False, "12 % (stdev / mean); pyperf doubts from 10 % on"),
        (0.02, True, None),
        (0.03, True, "3 % (stdev / mean); trtexec doubts from 2.5 % on"),
    ],
)
def test_variation(spread: float, on_gpu: bool, doubted: str | None) -> None:
    half = [10 * (1 + spread * (-1) ** number) for number in range(500)]  # whose standard deviation is the spread
    found = sample_doubts(measured(half, half), STEADY, on_gpu=on_gpu)
    assert [text for text in found if "varies" in text] == (
        [] if doubted is None else [f"the time of one run of the model varies by {doubted}"]
    )


def test_pictures_that_differ_are_no_variation_of_the_machine() -> None:
    found = measured(calm(50), calm(50), latency=[10.0 + 30 * (number % 3) for number in range(100)])
    assert sample_doubts(found, STEADY, on_gpu=False) == ()
    streamed = dataclasses.replace(found, stages_ms={})  # where nothing else is known, the whole query counts
    assert "the time of one query varies" in sample_doubts(streamed, STEADY, on_gpu=False)[0]


def test_drift_from_round_to_round() -> None:
    assert sample_doubts(measured(calm(50), calm(50, 10.4)), STEADY, on_gpu=False) == ()
    (doubt,) = sample_doubts(measured(calm(50), calm(50, 10.8)), STEADY, on_gpu=False)
    assert doubt == "the rounds' medians go from 10.02 to 10.82 ms, 7.98 % apart"


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"others_s": 3}, "other programs kept 0.3 CPUs busy meanwhile; this process may use 4"),
        ({"stolen_s": 0.9}, "the hypervisor gave 1.80 s of CPU time to other machines meanwhile"),
        ({"thermal_events": 1}, "the CPU was slowed down 2 times because it was hot"),
        ({"limited_s": 0.2}, "threads stood still for 0.40 s: the container's CPU time was used up"),
    ],
)
def test_what_the_machine_did(changes: dict[str, float], doubt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "usable_cpus", lambda root: 4)
    busy = dataclasses.replace(CALM, **changes)
    assert condition_doubts([busy, busy]) == (doubt,)
    nothing = Conditions(
        seconds=1, others_s=None, stolen_s=None, thermal_events=None, frequency_mhz=None, limited_s=None
    )
    assert condition_doubts([nothing]) == ()
    assert condition_doubts([]) == ()


def test_a_large_machine_may_have_something_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "usable_cpus", lambda root: 64)
    assert condition_doubts([dataclasses.replace(CALM, others_s=20)]) == ()


def test_a_frequency_that_moved() -> None:
    slower = dataclasses.replace(CALM, frequency_mhz=2800)
    assert condition_doubts([CALM, slower, CALM]) == ("the CPU's frequency went from 2,800 to 3,000 MHz",)
    assert condition_doubts([CALM, dataclasses.replace(CALM, frequency_mhz=2900)]) == ()


@pytest.mark.parametrize(
    ("files", "doubt"),
    [
        ({}, None),
        ({"sys/firmware/acpi/platform_profile": "balanced"}, None),
        ({"sys/firmware/acpi/platform_profile": "low-power"}, "the machine's power profile is low-power"),
        (
            {"sys/class/power_supply/BAT0/type": "Battery", "sys/class/power_supply/BAT0/status": "Discharging"},
            "the machine runs on its battery, and may save power",
        ),
        (
            {"cpufreq/scaling_governor": "powersave", "cpufreq/scaling_driver": "acpi-cpufreq"},
            "the governor powersave keeps the CPU at its lowest frequency",
        ),
        ({"cpufreq/scaling_governor": "powersave", "cpufreq/scaling_driver": "intel_pstate"}, None),
        ({"cpufreq/scaling_governor": "performance", "cpufreq/scaling_driver": "acpi-cpufreq"}, None),
    ],
)
def test_how_the_machine_is_set_up(files: dict[str, str], doubt: str | None, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / name.replace("cpufreq", "sys/devices/system/cpu/cpu0/cpufreq")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert standing_doubts(tmp_path) == (() if doubt is None else (doubt,))
