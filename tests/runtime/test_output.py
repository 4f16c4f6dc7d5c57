from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edgecls_runtime.errors import OutputError
from edgecls_runtime.output import whole_file


def test_the_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with whole_file(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["model.onnx"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_and_nothing_lost_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(error), whole_file(target, force=True) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"), whole_file(target):
        pytest.fail("must not get here")
    with whole_file(target, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(OutputError, match="exists already"), whole_file(target):
        target.write_bytes(b"another's")
    assert target.read_bytes() == b"another's"


def test_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"), whole_file(tmp_path):
        pytest.fail("must not get here")
    with pytest.raises(OutputError, match="does not exist\nMake it: mkdir -p"), whole_file(tmp_path / "no" / "m.onnx"):
        pytest.fail("must not get here")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full"), whole_file(tmp_path / "model.onnx"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []
