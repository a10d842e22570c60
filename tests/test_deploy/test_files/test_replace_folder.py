"""A folder is replaced as a whole: at every moment the earlier or the new one is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.files import atomic


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def plain_folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("killed", ["before the first rename", "between the renames", "after the second rename"])
def test_a_killed_replacement_is_mended_by_the_next(tmp_path: Path, killed: str) -> None:
    folder = tmp_path / "folder"
    if killed != "between the renames":
        plain_folder(folder, "current")
    if killed != "before the first rename":
        plain_folder(atomic.displaced(folder), "earlier")
    atomic.replace_folder(plain_folder(tmp_path / "stage", "new"), folder)
    assert (folder / "file").read_text() == "new"
    assert entries(tmp_path) == {"folder"}


def test_a_failed_rename_puts_the_earlier_folder_back(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "folder", "earlier")
    stage = plain_folder(tmp_path / "stage", "new")
    moves: list[Path] = []
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        moves.append(self)
        if self == stage:
            assert (atomic.displaced(folder) / "file").read_text() == "earlier"  # never a moment with neither
            raise PermissionError(1, "Operation not permitted")
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(Path, "replace", refuse)
        atomic.replace_folder(stage, folder)
    assert stage in moves
    assert (folder / "file").read_text() == "earlier"
