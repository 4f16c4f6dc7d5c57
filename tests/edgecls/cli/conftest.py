from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from edgecls_runtime.golden import draw_picture

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]


@pytest.fixture
def edgecls(tmp_path: Path) -> Run:
    """Run the command line as a person does: a process of its own, in an empty folder."""

    def run(*arguments: object, stdin: bytes = b"", environment: dict[str, str] | None = None) -> object:
        done = subprocess.run(
            [sys.executable, "-m", "edgecls", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=os.environ | (environment or {}),
            timeout=250,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run  # type: ignore[return-value]


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line in this process, where many wrong ones are to be tried: torch is imported only once."""
    from edgecls.cli import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(draw_picture(1)).save(path)
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder of two classes of drawn pictures, labels and a preprocess for small inputs."""
    from edgecls_export.drawn import draw_pictures

    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    (tmp_path / "pre.json").write_text('{"resize_size": 72, "crop_size": [64, 64]}')
    for number, (_, picture) in enumerate(draw_pictures(24)):
        folder = tmp_path / "drawn" / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:02}.png")
    return tmp_path / "drawn"


@pytest.fixture
def refused() -> Refused:
    """Exit status 1, a line that says what is wrong and one that says what to do, no traceback."""
    return assert_refused


def assert_refused(done: subprocess.CompletedProcess[str], cause: str, remedy: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert len(error) == 2, error
    assert cause in error[0]
    assert remedy in error[1]
