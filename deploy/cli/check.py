"""``deploy check``: measure the models of a check file and judge its limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import InputError
from deploy.ci.check_file import find_check_file, load_check_file, schema
from deploy.ci.check_report import CheckReport
from deploy.ci.checking import check as check_models
from deploy.ci.formats.github import command
from deploy.ci.formats.page import check_page
from deploy.ci.formats.registry import FORMATS, Write, require_format, save_as, show, writes_of
from deploy.ci.history.store import add_report, require_history
from deploy.cli import options as given
from deploy.cli.output import leave, note, print_json, print_line, tell
from deploy.errors import OutputError, is_mistake
from deploy.files.atomic import require_writable, write_file

__all__ = ["check"]


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Check file; default: deploy-check.yaml, or the check table of pyproject.toml."
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=1, help="Seconds for the whole job; default: the check file's, or 60 per measurement."
        ),
    ] = None,
    only: given.Only = None,
    format_: Annotated[str, typer.Option("--format", help=f"Format of the output: {', '.join(FORMATS)}.")] = "terminal",
    write: Annotated[
        list[str] | None, typer.Option("--write", help="FORMAT=PATH: a file in another format; repeat for several.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option("--history", help="Add the result to this SQLite file, see deploy history.")
    ] = None,
    page: given.PageFile = None,
    accept_unfit: given.AcceptUnfit = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report as JSON here.")] = None,
    json: given.Json = False,
    verbose: given.Verbose = False,
    schema_: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of check files, for editors, and exit.")
    ] = False,
) -> None:
    """Measure the models of a check file against their baselines, and judge every limit.

    Exit code 0: all limits are kept, 1: one is broken, 3: not decided, 4: the machine was not fit, 5: wrong answers.
    """
    if schema_:
        print_json(schema())
        return
    if json and format_ != "terminal":
        raise InputError("--json means --format json: leave one of them out")
    wanted = "json" if json else require_format(format_)
    with _annotated(wanted):
        path = file or find_check_file(Path())
        asked = load_check_file(path)
        if only:
            asked = asked.only(only)
        writes = writes_of(write or ())
        _require_apart([*filter(None, (output, page, history)), *(one.path for one in writes)])
        for target in filter(None, (output, page)):
            require_writable(target)
        if history is not None:
            require_history(history)

        def keep(so_far: CheckReport) -> None:
            if output is not None:
                with suppress(OutputError):  # writing the report at the end will say so
                    so_far.save(output)

        report = check_models(asked, path, budget_s=budget, accept_unfit=accept_unfit, say=tell, so_far=keep)
        written: dict[str, str] = {}
        try:
            _write(report, output, page, writes, history, written)
        finally:  # show minutes of measuring even if a file cannot be written
            show(report, wanted, page=written.pop("page", ""), files=written, verbose=verbose)
    leave(report.exit_code, told=True)


@contextmanager
def _annotated(format_: str) -> Iterator[None]:
    """Also show an error as an annotation of the GitHub run, as few people open the log."""
    try:
        yield
    except Exception as error:
        if format_ == "github" and is_mistake(error):
            print_line(command("error", " ".join(str(error).split()), title="deploy check"))
        raise


def _require_apart(targets: Sequence[Path]) -> None:
    places = [os.path.realpath(target) for target in targets]
    if twice := next((one for one, place in zip(targets, places, strict=True) if places.count(place) > 1), None):
        raise OutputError(f"{twice} is given for two outputs: name another file for one of them")


def _write(
    report: CheckReport,
    output: Path | None,
    page: Path | None,
    writes: Sequence[Write],
    history: Path | None,
    written: dict[str, str],
) -> None:
    """Write all files, and note in `written` those that were written."""
    if output is not None:
        report.save(output)
        written["report"] = str(output)
    if page is not None:
        write_file(page, check_page(report))
        written["page"] = str(page)
    save_as(report, writes)
    if history is not None:
        if not add_report(history, report):
            note(f"deploy: {history} got no points: no limit of this check has a number that a history keeps")
        written["history"] = str(history)
