from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edgecls_runtime.errors import OutputError
from edgecls_runtime.output import check_writable, whole_file


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
    with pytest.raises(OutputError, match="is a folder\nName a file in it.$"), whole_file(tmp_path):
        pytest.fail("must not get here")
    with pytest.raises(OutputError, match="does not exist\nMake it: mkdir -p"), whole_file(tmp_path / "no" / "m.onnx"):
        pytest.fail("must not get here")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")
def test_what_is_no_ordinary_file_is_never_overwritten(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for force in (False, True):
        with pytest.raises(OutputError, match="pipe: exists already\nChoose another name: it is a device"):
            check_writable(tmp_path / "pipe", force=force)


def test_names_as_long_as_the_system_takes(tmp_path: Path) -> None:
    with whole_file(tmp_path / ("n" * 255)) as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == ["n" * 255]
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        check_writable(tmp_path / ("n" * 256), force=False)


def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(Path, "stat", stat)  # what root would not meet
    with pytest.raises(OutputError, match="m.onnx: cannot be written: Permission denied"):
        check_writable(tmp_path / "m.onnx", force=False)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full"), whole_file(tmp_path / "model.onnx"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []
