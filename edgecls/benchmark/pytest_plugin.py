"""A pytest plug-in for projects that embed the runtime: a test fails if a model became slower.

::

    def test_latency(edgecls_latency):
        edgecls_latency("model.onnx", images="pictures", against="released.onnx", max_regression=0.05)

It is loaded with every run of pytest where edgecls is installed, so it imports nothing until a test asks for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from edgecls.benchmark.comparison import Comparison

__all__ = ["EdgeclsLatency", "edgecls_latency"]

_PROPERTY = "edgecls_latency"


class EdgeclsLatency:
    """Holds a model's latency against a baseline; what the fixture ``edgecls_latency`` is.

    Args:
        request: of the test.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._folder = request.path.parent
        self._update = bool(request.config.getoption("edgecls_latency_update"))
        self._strict = bool(request.config.getoption("edgecls_latency_strict"))

    def __call__(
        self,
        model: str | os.PathLike[str],
        *,
        baseline: str | os.PathLike[str] | None = None,
        against: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
        max_regression: float = 0.05,
        provider: str | None = None,
        threads: int | None = None,
        batch_size: int = 1,
        duration_s: float | None = None,
    ) -> Comparison:
        """Fail the test if the model is slower than is allowed; skip it, with the reason, if that cannot be decided.

        Relative paths begin at the folder of the test's file. With ``--edgecls-latency-strict`` what cannot be decided
        fails too.

        Args:
            model: path of the file.
            baseline: JSON file of an earlier measurement on this machine, which ``--edgecls-latency-update`` writes.
            against: another model, measured in turn with this one; either this or ``baseline``. On a machine that does
                other things too this is the way that can be trusted.
            images: folder of pictures; None for drawn ones.
            max_regression: share by which a query may take longer.
            provider: as in `Classifier.load`.
            threads: likewise.
            batch_size: pictures a run.
            duration_s: seconds of queries, or at most with ``against``; None for 3 and 15.

        Returns:
            The comparison that passed.
        """
        from edgecls.benchmark import files, latency_check
        from edgecls.benchmark.comparison import compare
        from edgecls_runtime.errors import EdgeclsError, OtherMachineError

        if (baseline is None) == (against is None):
            raise TypeError("give either baseline=FILE.json or against=MODEL")
        if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
            self._undecided(f"{model}: other tests run at the same time; measure with: pytest -n 0")
        how = {"provider": provider, "threads": threads, "batch_size": batch_size, "duration_s": duration_s}
        try:
            if against is not None:
                pair = latency_check.measure_in_turn(
                    self._path(against),
                    self._path(model),
                    images=self._folder_of(images),
                    max_regression=max_regression,
                    **how,  # type: ignore[arg-type]
                )
                return self._concluded(pair.comparison)
            assert baseline is not None  # noqa: S101 - for mypy
            file = self._path(baseline)
            if not self._update and not file.exists():
                pytest.fail(f"{file}: is not there\nWrite it with: pytest --edgecls-latency-update", pytrace=False)
            # Before the measurement, which takes longer than to find out that the file is damaged.
            earlier = None if self._update else files.read(file)
            found = latency_check.measure(self._path(model), images=self._folder_of(images), **how)  # type: ignore[arg-type]
            if earlier is None:
                files.write(found, file, force=True)
                self._note(f"written: {file}")
                pytest.skip(f"{file}: written; nothing was compared")
            names = (os.fspath(baseline), os.fspath(model))
            return self._concluded(compare(earlier, found, max_regression=max_regression, names=names))
        except OtherMachineError as error:
            self._undecided(str(error))
        except EdgeclsError as error:
            self._note(f"error: {error.cause}")
            pytest.fail(str(error), pytrace=False)

    def _concluded(self, comparison: Comparison) -> Comparison:
        names = f"{comparison.contender.name} against {comparison.baseline.name}"
        notes = [f"{row.verdict}: {names}: {row.setup}: {row.remark}" for row in comparison.rows]
        if comparison.verdict == "inconclusive":
            self._undecided(" ".join([*notes, comparison.advice or ""]))
        for note in notes:
            self._note(note)
        if comparison.verdict == "regression":
            pytest.fail(str(comparison), pytrace=False)
        return comparison

    def _undecided(self, reason: str) -> NoReturn:
        reason = " ".join(reason.split())
        self._note(reason)
        if self._strict:
            pytest.fail(f"{reason}\nIt fails because of --edgecls-latency-strict", pytrace=False)
        pytest.skip(reason)

    def _note(self, text: str) -> None:
        """Keep what the summary tells; pytest-xdist carries it from process to process, and JUnit XML shows it."""
        self._request.node.user_properties.append((_PROPERTY, text))

    def _path(self, path: str | os.PathLike[str]) -> Path:
        return self._folder / path

    def _folder_of(self, images: str | os.PathLike[str] | None) -> Path | None:
        return None if images is None else self._path(images)


@pytest.fixture
def edgecls_latency(request: pytest.FixtureRequest) -> EdgeclsLatency:
    """Hold a model's latency against a baseline; see `EdgeclsLatency.__call__`."""
    return EdgeclsLatency(request)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("edgecls", "edgecls: latency of models")
    group.addoption(
        "--edgecls-latency-update", action="store_true", help="Measure the baselines anew, and compare nothing."
    )
    group.addoption(
        "--edgecls-latency-strict",
        action="store_true",
        help="Fail, instead of skipping, where no verdict can be reached.",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell every verdict, also of the tests that passed."""
    lines = [
        f"{report.nodeid}: {text}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, text in report.user_properties
        if name == _PROPERTY
    ]
    if lines:
        terminalreporter.section("edgecls latency")
        for line in lines:
            terminalreporter.write_line(line)
