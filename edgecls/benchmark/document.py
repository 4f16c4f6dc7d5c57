"""What `edgecls bench` writes: one JSON document of a machine, a model and its times; see ``bench-1.schema.json``.

Every sample is kept. Quantiles, bounds and verdicts are computed from the samples whenever they are shown, so a better
statistic can be had from an old file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NEVER_LOADED",
    "SCHEMA",
    "STAGES",
    "ColdStart",
    "Document",
    "Fingerprint",
    "Measured",
    "Model",
    "Pictures",
    "Run",
    "Setup",
]

SCHEMA = "edgecls.bench/1"

_MOST_MS = _MOST_S = 1e9
_MOST = 1e15
"""What no measurement reaches, and what can be added, divided and drawn without a thought."""

STAGES = ("read", "decode", "resize", "normalize", "run", "top_k")
"""What one picture goes through, in this order."""

NEVER_LOADED = "none"
"""The engine of a setup that failed before its model was loaded; its provider is the one that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The machine: two documents are compared only if all of it is the same.

    Attributes:
        cpu: name of the CPU, or of the board.
        architecture: of its instructions: ``x86_64``, ``aarch64``.
        cpu_flags: those that matter to inference, by the kernel's names.
        logical_cores: of the machine.
        usable_cpus: that affinity and cgroup leave to this process.
        cpu_quota: CPUs' time that the cgroup grants; None if it sets no limit.
        governor: of CPU 0's frequency; None where the kernel does not tell.
        memory_bytes: of the machine; None where the system does not tell.
        os: system and release.
        python: version.
        gpus: names of NVIDIA's.
        gpu_driver: version of NVIDIA's driver; None without.
        power_mode: platform profile or power source, as far as the system tells; None where it does not.
    """

    cpu: str
    architecture: str
    cpu_flags: tuple[str, ...]
    logical_cores: int
    usable_cpus: int
    cpu_quota: float | None
    governor: str | None
    memory_bytes: int | None
    os: str
    python: str
    gpus: tuple[str, ...]
    gpu_driver: str | None
    power_mode: str | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """The file that was measured.

    Attributes:
        file: its name, without the folder.
        sha256: of its bytes.
        bytes: its size.
        arch: from its manifest; None for a foreign file, as for ``precision``.
        precision: ``fp32``, ``fp16``, ``int8``.
    """

    file: str
    sha256: str
    bytes: int
    arch: str | None
    precision: str | None

    def __post_init__(self) -> None:
        _check_range("bytes", (self.bytes,), _MOST)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the model was fed.

    Attributes:
        source: ``drawn`` by edgecls, or ``folder``.
        count: different pictures.
        bytes: of all their files (or encoded pictures) together.
        sha256: of their sorted digests, so that two documents can be told to have measured the same.
    """

    source: Literal["drawn", "folder"]
    count: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _check_range("count and bytes", (self.count, self.bytes), _MOST)


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """One process from its start to its first answer, in milliseconds.

    Attributes:
        process_ms: from the request for a process to the first line of our code.
        import_ms: of the runtime and the engine.
        load_ms: of the model.
        first_ms: the first picture, file to top-k.
        total_ms: all of it.
        peak_rss_bytes: of the process.
    """

    process_ms: float
    import_ms: float
    load_ms: float
    first_ms: float
    total_ms: float
    peak_rss_bytes: int

    def __post_init__(self) -> None:
        times = (self.process_ms, self.import_ms, self.load_ms, self.first_ms, self.total_ms)
        _check_range("the times", times, _MOST_MS)
        _check_range("peak_rss_bytes", (self.peak_rss_bytes,), _MOST)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One way of running the model that was measured.

    Attributes:
        scenario: as MLPerf names them: ``singlestream``, the next picture comes when the last is answered, file to
            top-k; ``multistream``, a query of ``batch_size`` pictures in one run, likewise; ``offline``, all pictures
            are there, as fast as may be. And one of our own, ``engine``: runs alone, one right after the other, of
            batches that were made before, as the engines' own benchmark programs do it.
        batch_size: pictures a run.
        threads: of one run; None for the engine's choice.
        provider: that really ran it, in the engine's own words.
        engine: name and version.
    """

    scenario: Literal["singlestream", "multistream", "offline", "engine"]
    batch_size: int
    threads: int | None
    provider: str
    engine: str

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.scenario}, {self.provider.removesuffix('ExecutionProvider')}, batch {self.batch_size}{threads}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The samples, in the order in which they were taken, none left out. A sample is a query: one run of a batch.

    In ``offline``, where pictures are not answered one by one, a query is a fixed number of answers, and its latency is
    the time in which they came: `Run.pictures` tells how many they are.

    Attributes:
        latency_ms: of each query, from file to top-k.
        stages_ms: of each query, by the names of `STAGES`; sums of a batch's pictures where those are handled one by
            one. Empty where stages overlap (``offline``).
        rounds: how many samples each round of the measurement gave. Each round is a process of its own, and between
            rounds other setups had their turn: samples of one round share its place in memory and the mood of the
            machine, and those of several rounds do not.
    """

    latency_ms: tuple[float, ...]
    stages_ms: dict[str, tuple[float, ...]]
    rounds: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.rounds) != len(self.latency_ms) or min(self.rounds, default=1) < 1:
            raise ValueError(f"rounds are {self.rounds} for {len(self.latency_ms)} samples")
        _check_range("latency_ms", self.latency_ms, _MOST_MS)
        if 0 in self.latency_ms:
            raise ValueError("latency_ms: 0 ms is no latency, and no ratio can be made of it")
        for name, samples in self.stages_ms.items():
            _check_range(f"stage {name}", samples, _MOST_MS)
            if name not in STAGES or len(samples) != len(self.latency_ms):
                raise ValueError(f"stage {name!r} has {len(samples)} samples, the latency {len(self.latency_ms)}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was measured of one setup.

    Attributes:
        setup: how the model ran.
        warmup_queries: that came first and do not count.
        steady: whether the warm-up ended because the latency had settled, and not at its cap.
        measured: the samples.
        seconds: wall time of the counted queries, all rounds together.
        pictures: answered in that time.
        peak_rss_bytes: of the process, up to the end of this run.
        doubts: why these figures may not mean what they seem to, each a sentence.
        failure: what ended the run before its time; None if nothing did.
    """

    setup: Setup
    warmup_queries: int
    steady: bool
    measured: Measured
    seconds: float
    pictures: int
    peak_rss_bytes: int
    doubts: tuple[str, ...] = ()
    failure: str | None = None

    def __post_init__(self) -> None:
        _check_range("seconds", (self.seconds,), _MOST_S)
        _check_range("numbers", (self.warmup_queries, self.pictures, self.peak_rss_bytes), _MOST)
        if self.pictures * 1e-9 > self.seconds:
            raise ValueError(f"{self.pictures} pictures in {self.seconds} s are more than any machine answers")

    @property
    def images_per_second(self) -> float:
        """Pictures answered a second of the counted time; 0 if there were none."""
        return self.pictures / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Document:
    """All of one `edgecls bench`.

    Attributes:
        created: UTC, ISO 8601, to the second.
        edgecls: version.
        versions: of the packages that matter: numpy, pillow, and the engine's.
        machine: where.
        model: what.
        pictures: on what.
        options: of the command line, those that were given, by their names without dashes: ``batch``: ``1,8``. A flag
            is ``true``; where to write the results is left out.
        cold_starts: one for each process that was started for it; none if that was not asked for.
        runs: one for each setup.
        complete: whether everything that was asked for was measured.
        failure: what ended it early; None if nothing did.
    """

    created: str
    edgecls: str
    versions: dict[str, str]
    machine: Fingerprint
    model: Model
    pictures: Pictures
    options: dict[str, str]
    cold_starts: tuple[ColdStart, ...]
    runs: tuple[Run, ...]
    complete: bool
    failure: str | None = None

    def __str__(self) -> str:
        from edgecls.benchmark.summary import describe

        return describe(self)


def _check_range(name: str, values: Iterable[float], most: float) -> None:
    """Refuse what is negative, no number, or larger than anything that is measured."""
    for value in values:
        if not 0 <= value <= most:
            raise ValueError(f"{name}: {value!s:.40} is not between 0 and {most:g}")
