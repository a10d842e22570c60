"""Paths of checked files from the root of the repository, for servers that show findings by file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from deploy.ci.check_report import CheckReport, CheckRow

__all__ = ["file_in_repository"]

_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")


def file_in_repository(report: CheckReport, row: CheckRow, environment: Mapping[str, str]) -> str:
    """Return the path of the row's model from the root of the repository.

    For a model outside the repository, such as one made during the job, it is the path of the check file; if that is
    outside too, it is the name of the check file.

    Parameters
    ----------
    report : CheckReport
        Report whose check file names the model, relative to its own folder.
    row : CheckRow
        Row of the model.
    environment : Mapping of str to str
        Environment of the job, which says where its repository is checked out; default: the working folder.
    """
    root = next((Path(environment[name]) for name in _ROOTS if environment.get(name)), Path.cwd()).resolve()
    check_file = Path(report.check_file)
    for path in (check_file.parent / row.file, check_file):
        try:
            return PurePosixPath(path.resolve().relative_to(root)).as_posix()
        except (ValueError, OSError):  # outside the repository, or not a valid file name
            continue
    return check_file.name
