"""Benchmark documents with latencies drawn from a generator, for tests of what is made of documents."""

from __future__ import annotations

import hashlib

import numpy as np

from edgecls.benchmark.document import (
    STAGES,
    ColdStart,
    Document,
    Fingerprint,
    Measured,
    Model,
    Pictures,
    Run,
    Setup,
)

MACHINE = Fingerprint(
    cpu="Some CPU @ 3.00GHz",
    architecture="x86_64",
    cpu_flags=("avx2", "avx512_vnni"),
    logical_cores=8,
    usable_cpus=4,
    cpu_quota=2.5,
    governor="performance",
    memory_bytes=16 * 2**30,
    os="Linux 6.1",
    python="CPython 3.12.1",
    gpus=(),
    gpu_driver=None,
    power_mode=None,
)
SHARES = {"read": 0.02, "decode": 0.35, "resize": 0.18, "normalize": 0.09, "run": 0.33, "top_k": 0.01}


def setup(scenario: str = "singlestream", batch_size: int = 1, threads: int | None = 2, provider: str = "CPU") -> Setup:
    return Setup(
        scenario=scenario,  # type: ignore[arg-type]
        batch_size=batch_size,
        threads=threads,
        provider=f"{provider}ExecutionProvider",
        engine="onnxruntime 1.31.1",
    )


def run(
    queries: int,
    of: Setup | None = None,
    *,
    median_ms: float = 7.0,
    spread: float = 0.06,
    tail: float = 0.02,
    rounds: int = 10,
    seed: int = 0,
    doubts: tuple[str, ...] = (),
    failure: str | None = None,
) -> Run:
    """Return a run whose latencies are log-normal, a share of them several times as long."""
    of = of or setup()
    generator = np.random.default_rng(seed)
    latency = median_ms * of.batch_size**0.9 * np.exp(spread * generator.standard_normal(queries))
    latency *= np.where(generator.random(queries) < tail, 1 + 6 * generator.random(queries), 1)
    stages = {}
    if of.scenario != "offline":
        stages = {name: tuple((latency * SHARES[name]).tolist()) for name in STAGES}
    rounds = min(rounds, queries)
    sizes = [len(part) for part in np.array_split(latency, rounds)] if rounds else []
    return Run(
        setup=of,
        warmup_queries=25,
        steady=True,
        measured=Measured(latency_ms=tuple(latency.tolist()), stages_ms=stages, rounds=tuple(sizes)),
        seconds=float(latency.sum()) / 1e3,
        pictures=queries * of.batch_size,
        peak_rss_bytes=180_000_000,
        doubts=doubts,
        failure=failure,
    )


def cold_start(seed: int) -> ColdStart:
    process, imports, load, first = (
        float(v) for v in np.random.default_rng(seed).uniform(0.9, 1.2, 4) * (30, 140, 70, 22)
    )
    return ColdStart(
        process_ms=process,
        import_ms=imports,
        load_ms=load,
        first_ms=first,
        total_ms=process + imports + load + first + 11,
        peak_rss_bytes=120_000_000,
    )


def document(*runs: Run, file: str = "mobilenet_v2.onnx", precision: str | None = "fp32", colds: int = 5) -> Document:
    return Document(
        created="2026-11-25T12:00:00+00:00",
        edgecls="0.1.0",
        versions={"numpy": "2.4.0", "pillow": "13.0.0", "onnxruntime": "1.31.1"},
        machine=MACHINE,
        model=Model(
            file=file,
            sha256=hashlib.sha256(file.encode("utf-8", "surrogateescape")).hexdigest(),
            bytes=14_017_132,
            arch="mobilenet_v2",
            precision=precision,
        ),
        pictures=Pictures(source="drawn", count=64, bytes=9_000_000, sha256="ab" * 32),
        options={"batch": "1,8", "quick": "true"},
        cold_starts=tuple(map(cold_start, range(colds))),
        runs=runs,
        complete=not any(item.failure for item in runs),
    )
