"""Files of a check as the repository of the job names them, for servers that show a finding beside its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from deploy.ci.check_report import CheckReport, CheckRow

__all__ = ["file_in_repository"]

_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")


def file_in_repository(report: CheckReport, row: CheckRow, environment: Mapping[str, str]) -> str:
    """Return the path of the row's model from the root of the repository.

    A model that lies elsewhere, as one that was made during the job may, is shown at the check file; where that lies
    elsewhere too, its name alone stands there.

    Parameters
    ----------
    report : CheckReport
        Whose check file names the model, relative to its own folder.
    row : CheckRow
        Of the model.
    environment : Mapping of str to str
        Of the job: where its repository was checked out; by default the working folder.
    """
    root = next((Path(environment[name]) for name in _ROOTS if environment.get(name)), Path.cwd()).resolve()
    check_file = Path(report.check_file)
    for path in (check_file.parent / row.file, check_file):
        try:
            return PurePosixPath(path.resolve().relative_to(root)).as_posix()
        except (ValueError, OSError):  # outside of the repository, or a name that no file can have
            continue
    return check_file.name
