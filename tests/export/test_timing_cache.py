from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecls_export.gpu import Gpu
from edgecls_export.timing_cache import TimingCache
from edgecls_runtime.errors import ExportError, OutputError

GPU = Gpu("NVIDIA H200 / MIG 1g.18gb", "9.0")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = TimingCache.of(tmp_path / "new", flavour="tensorrt", version="10.13.3.9", gpu=GPU)
    assert cache.read() == b""
    cache.write(b"times")
    cache.write(b"other times")
    assert cache.read() == b"other times"
    assert os.listdir(tmp_path / "new") == ["tensorrt-10.13.3.9-NVIDIA-H200-MIG-1g.18gb-9.0.timing"]


def test_versions_and_gpus_have_files_of_their_own(tmp_path: Path) -> None:
    paths = {
        TimingCache.of(tmp_path, flavour="tensorrt", version=version, gpu=gpu).path
        for version in ("10.13.3", "11.4.0")
        for gpu in (GPU, Gpu("NVIDIA A10", "8.6"))
    }
    assert len(paths) == 4


@pytest.mark.parametrize("damage", [b"", b"\0" * 80, lambda c: c[:-1], lambda c: c[:-1] + b"X", lambda c: c + b"X"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: object) -> None:
    cache = TimingCache(tmp_path / "c.timing")
    cache.write(b"times")
    content = cache.path.read_bytes()
    cache.path.write_bytes(damage(content) if callable(damage) else damage)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="c.timing: is damaged: .*\nDelete it, it will be made again: rm '"):
        cache.read()


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: the timing cache cannot be made"):
        TimingCache.of(tmp_path / "file", flavour="tensorrt", version="11", gpu=GPU)
    (tmp_path / "c.timing").mkdir()
    with pytest.raises(ExportError, match="c.timing: cannot be read"):
        TimingCache(tmp_path / "c.timing").read()
