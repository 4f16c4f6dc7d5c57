from __future__ import annotations

from pathlib import Path

import pytest

from edgecls_export.picture_files import files_beneath, pictures_beneath
from edgecls_runtime.errors import DataError


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    for path in (data / "cat" / "1.jpg", data / "notes.txt", store / "2.PNG"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (data / "dog").symlink_to(store)
    (store / "back").symlink_to(data)
    (data / "itself").symlink_to(data)
    (data / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (data / "loop.jpg").symlink_to("loop.jpg")
    assert pictures_beneath(data) == [data / "cat" / "1.jpg", data / "dog" / "2.PNG"]
    assert set(files_beneath(data)) == {*pictures_beneath(data), data / "notes.txt"}


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    (tmp_path / "dog").mkdir()
    iterdir = Path.iterdir

    def refusing(path: Path) -> object:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(DataError, match=r"dog: cannot be read: Permission denied"):
        pictures_beneath(tmp_path)
