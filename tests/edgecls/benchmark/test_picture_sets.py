from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest

from edgecls.benchmark import drawn_pictures, picture_sets
from edgecls.benchmark.picture_sets import open_pictures
from edgecls_runtime.errors import BenchmarkError, ImageError


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few drawn pictures, which are quick to draw."""
    monkeypatch.setattr(picture_sets, "draw_jpegs", lambda: drawn_pictures.draw_jpegs(3))


def test_drawn_pictures_are_files_for_as_long_as_they_are_needed() -> None:
    with open_pictures() as found:
        files = [Path(path) for path in found.paths]
        assert (found.description.source, found.description.count, found.left_out) == ("drawn", 3, 0)
        assert found.description.bytes == sum(path.stat().st_size for path in files)
    assert not any(path.exists() for path in files)
    with pytest.raises(KeyboardInterrupt), open_pictures() as found:
        raise KeyboardInterrupt
    assert not Path(found.paths[0]).parent.exists()


def test_no_place_for_drawn_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(BenchmarkError, match="the drawn pictures cannot be written: No such file"), open_pictures():
        pass


def test_a_folder(tmp_path: Path, pictures: tuple[str, ...]) -> None:
    folder = Path(pictures[0]).parent
    (folder / "notes.txt").write_text("no picture")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "A.PNG").write_bytes(Path(pictures[0]).read_bytes())
    with open_pictures(folder) as found:
        assert sorted(found.paths) == sorted([*pictures, str(folder / "deeper" / "A.PNG")])
        assert list(found.paths) != sorted(found.paths)  # no order of classes
        assert (found.description.source, found.description.count) == ("folder", 6)
        digests = sorted(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in found.paths)
        assert found.description.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert folder.exists()
    with open_pictures(folder) as again:
        assert again == found
    (folder / "deeper" / "A.PNG").write_bytes(Path(pictures[1]).read_bytes())
    with open_pictures(folder) as other:
        assert other.description.sha256 != found.description.sha256


def test_a_large_folder_gives_a_sample(
    tmp_path: Path, pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_sets, "MAX_PICTURES", 2)
    with open_pictures(Path(pictures[0]).parent) as found:
        assert (len(found.paths), found.description.count, found.left_out) == (2, 2, 3)


def test_what_is_no_folder_of_pictures(tmp_path: Path, pictures: tuple[str, ...]) -> None:
    (tmp_path / "empty").mkdir()
    for folder, cause in ((tmp_path / "missing", "is not a folder"), (tmp_path / "empty", "no pictures there")):
        with pytest.raises(BenchmarkError, match=cause), open_pictures(folder):
            pass
    bad = Path(pictures[0])
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"0\.png: cannot be decoded"), open_pictures(bad.parent):
        pass


def test_a_picture_that_goes_while_a_folder_is_read(pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_sets, "decode", lambda path, *_: Path(path).unlink())
    with pytest.raises(ImageError, match="cannot be read: No such file") as caught:
        open_pictures(Path(pictures[0]).parent).__enter__()
    assert caught.value.remedy == "Leave the pictures as they are while they are measured."
