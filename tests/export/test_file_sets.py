from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgecls_export.file_sets import whole_files, whole_folder
from edgecls_runtime.errors import OutputError


def test_several_files_appear_together_under_their_own_names(tmp_path: Path) -> None:
    targets = [tmp_path / "m.engine", tmp_path / "m.engine.json"]
    with whole_files(targets) as temporaries:
        assert [path.name for path in temporaries] == ["m.engine", "m.engine.json"]
        assert temporaries[0].parent == temporaries[1].parent
        for path in temporaries:
            path.write_text(path.name)
        assert not any(target.exists() for target in targets)
    assert [target.read_text() for target in targets] == ["m.engine", "m.engine.json"]
    assert sorted(os.listdir(tmp_path)) == ["m.engine", "m.engine.json"]


@pytest.mark.parametrize("existing", [(), ("a",), ("b",), ("a", "b")])
def test_a_rename_that_fails_undoes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: tuple[str, ...]
) -> None:
    for name in existing:
        (tmp_path / name).write_text(f"old {name}")
    right = Path.replace

    def fail(path: Path, to: Path) -> Path:
        if to == tmp_path / "b" and path.name == "b":
            raise OSError(errno.EACCES, "Permission denied")
        return right(path, to)

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(OutputError, match="cannot be written: Permission denied"),
        whole_files([tmp_path / "a", tmp_path / "b"], force=True) as temporaries,
    ):
        for path in temporaries:
            path.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted(existing)
    assert all((tmp_path / name).read_text() == f"old {name}" for name in existing)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_of_several_files_none_is_left_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "b").write_text("old")
    with pytest.raises(OutputError, match="b: exists already"), whole_files([tmp_path / "a", tmp_path / "b"]):
        pytest.fail("must not get here")
    with pytest.raises(error), whole_files([tmp_path / "a", tmp_path / "b"], force=True) as (first, _):
        first.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "old"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target, long = tmp_path / "model", "n" * 300
    for content in ("first", "second"):
        with whole_folder(target, force=True) as folder:
            (folder / "1").mkdir()
            (folder / "1" / content).write_text(content)
        assert [path.name for path in (target / "1").iterdir()] == [content]
        assert os.listdir(tmp_path) == ["model"]
    with pytest.raises(OutputError, match="model: exists already"), whole_folder(target):
        pytest.fail("must not get here")
    with pytest.raises(KeyboardInterrupt), whole_folder(target, force=True) as folder:
        (folder / "1").mkdir()
        raise KeyboardInterrupt
    assert (target / "1" / "second").is_file()
    with (
        pytest.raises(OutputError, match="no/model: the folder .* does not exist"),
        whole_folder(tmp_path / "no/model"),
    ):
        pytest.fail("must not get here")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: is a file"), whole_folder(tmp_path / "file", force=True):
        pytest.fail("must not get here")
    with pytest.raises(OutputError, match="nnn: cannot be written: File name too long"), whole_folder(tmp_path / long):
        pytest.fail("must not get here")
