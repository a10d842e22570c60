"""All formats by name: what ``deploy check --format NAME`` prints and ``--write NAME=PATH`` writes.

`FORMATS` lists them. Before the measurement, `writes_of` refuses files that cannot be written; afterwards, `show`
prints the report to stdout and `save_as` writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from deploy.ci.check_report import CheckReport
from deploy.ci.formats.comment import comment_body
from deploy.ci.formats.github import github_annotations, publish, without_commands
from deploy.ci.formats.gitlab import code_quality, open_metrics
from deploy.ci.formats.junit import junit_xml
from deploy.ci.formats.lines import print_check
from deploy.ci.formats.markdown import markdown_summary
from deploy.errors import OutputError
from deploy.files.atomic import require_writable, write_file
from deploy.files.printable import printable
from deploy.files.validation_errors import suggestion

__all__ = ["FORMATS", "Write", "require_format", "save_as", "show", "write_format", "writes_of"]

FORMATS = {
    "terminal": "the answer for people",
    "json": "the report itself",
    "junit": "JUnit XML",
    "markdown": "a summary in Markdown",
    "github": "annotations of GitHub; the job summary and the outputs of the step are written as well",
    "gitlab": "a Code Quality report of GitLab",
    "metrics": "a metrics report in OpenMetrics text",
    "comment": "the body of a comment on a pull or merge request",
}
"""Description of each format, by name."""
_LOG_COLUMNS = 120


class Write(NamedTuple):
    """A file to write in addition to the printed output.

    Parameters
    ----------
    name : str
        Name of the format.
    path : Path
        Path of the file.
    """

    name: str
    path: Path


def require_format(name: str) -> str:
    """Return the name of a format if it exists.

    Raises
    ------
    OutputError
        There is no format of this name.
    """
    if name not in FORMATS:
        raise OutputError(f"unknown format {name!r}{suggestion(name, list(FORMATS))}")
    return name


def writes_of(wishes: Iterable[str]) -> tuple[Write, ...]:
    """Parse ``FORMAT=PATH``, and check in advance that the files can be written.

    Raises
    ------
    OutputError
        A format is unknown, a path is missing, is given twice or cannot be written.
    """
    writes: list[Write] = []
    for wish in wishes:
        name, _, path = wish.partition("=")
        if not path:
            raise OutputError(f"--write {wish}: it takes FORMAT=PATH, as junit=check.xml")
        write = Write(require_format(name), Path(path))
        if any(one.path == write.path for one in writes):
            raise OutputError(f"--write {wish}: two formats cannot share a file; name another one")
        require_writable(write.path)
        writes.append(write)
    return tuple(writes)


def write_format(
    report: CheckReport, name: str, *, environment: Mapping[str, str] | None = None, page: str = ""
) -> str:
    """Return the report in a format, without writing anything.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    name : str
        One of `FORMATS`.
    environment : Mapping of str to str, optional
        Environment of the job, for paths from the root of its repository; default: that of this process.
    page : str, optional
        Path of the page, for the terminal.

    Raises
    ------
    OutputError
        There is no format of this name.
    """
    around = os.environ if environment is None else environment
    match require_format(name):
        case "json":
            return report.model_dump_json(indent=1) + "\n"
        case "junit":
            return junit_xml(report)
        case "markdown":
            return markdown_summary(report)
        case "github":
            return without_commands(_plain(report, page)) + github_annotations(report, around)
        case "gitlab":
            return code_quality(report, around)
        case "metrics":
            return open_metrics(report)
        case "comment":
            return comment_body(report)
        case _:
            return _plain(report, page)


def show(
    report: CheckReport,
    name: str = "terminal",
    *,
    environment: Mapping[str, str] | None = None,
    page: str = "",
    files: Mapping[str, str] | None = None,
    console: Console | None = None,
    verbose: bool = False,
) -> None:
    """Print the report to stdout; the format ``github`` also writes the job summary and the step outputs.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    name : str
        One of `FORMATS`.
    environment : Mapping of str to str, optional
        Environment of the job; default: that of this process.
    page : str, optional
        Path of the page.
    files : Mapping of str to str, optional
        Other files written, by name, for the step outputs: ``{"report": "check.json"}``.
    console : Console, optional
        Defaults to stdout.
    verbose : bool, default=False
        Whether the terminal shows everything measured.

    Raises
    ------
    OutputError
        There is no format of this name, or a file of the runner cannot be written.
    """
    around = os.environ if environment is None else environment
    console = console or Console(highlight=False)
    if require_format(name) == "terminal":
        print_check(report, console, page=page, verbose=verbose)
        return
    text = write_format(report, name, environment=around, page=page)
    console.file.write(text if name == "junit" else printable(text, "\n"))
    if name == "github":
        publish(report, around, {**({"page": page} if page else {}), **(files or {})})


def save_as(report: CheckReport, writes: Iterable[Write], *, environment: Mapping[str, str] | None = None) -> None:
    """Write the files, each atomically.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    for write in writes:
        write_file(write.path, write_format(report, write.name, environment=environment))


def _plain(report: CheckReport, page: str) -> str:
    stream = StringIO()
    print_check(report, Console(file=stream, width=_LOG_COLUMNS, highlight=False), page=page)
    return stream.getvalue()
