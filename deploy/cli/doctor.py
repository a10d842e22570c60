"""``deploy doctor``: show what is usable on this machine, and why the rest is not."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from backends import registry
from backends.reading.files import read_text
from benchmarks.machine.board.identity import read_board
from benchmarks.machine.environment import cores_available
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.output import print_line
from deploy.edge.profile.identity import board_table
from deploy.errors import ResultsError
from deploy.exit_codes import OK
from deploy.report.formatting import size
from deploy.report.terminal import as_text, print_table
from deploy.sources.datasets.data import data_availability
from prune_deploy import how_to_install

__all__ = ["EXTRAS", "doctor", "show_fetched"]

_MOST_TEXT_BYTES = 1 << 20

EXTRAS = {
    "prune": ("torch", "training, pruning and exporting networks; the backends torch and torch-compile"),
    "openvino": ("openvino", "the backend openvino"),
    "pandas": ("pandas", "results as a frame, to_frame()"),
    "history": ("ruptures", "change points in deploy history"),
    "pytest": ("pytest_benchmark", "speed of models as tests: rows in the table of pytest-benchmark"),
    "notebook": ("ipykernel", "notebooks, which show results as tables"),
    "tensorrt-rtx": ("tensorrt_rtx", "the backend trt, with TensorRT-RTX"),
    "tensorrt": ("tensorrt", "the backend trt, with TensorRT"),
    "lightning": ("pytorch_lightning", "gates in a training of Lightning"),
    "cluster": ("distributed", "studies on a Dask cluster"),
    "compare": ("torch_pruning", "Torch-Pruning, to compare with"),
    "loadgen": ("mlperf_loadgen", "MLPerf LoadGen, to check the load generator against"),
    "libraries": ("transformers", "the networks of other libraries, for deploy study coverage --set libraries"),
}
"""Name of an extra -> one of its modules, and what it adds."""


def doctor(
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Directory of the data sets.")] = None,
) -> None:
    """Describe this machine, and list backends and data sets, with a remedy for each one that is unusable."""
    console = Console(highlight=False, markup=False)
    program = f"prune-deploy {version('prune-deploy')}, Python {python_version()}, {sys.platform}"
    memory = size(psutil.virtual_memory().total)
    console.print(as_text(f"{program}, {cores_available()} usable cores, {memory} memory"))
    # The runtimes are in the table of backends, with the reasons for those that are missing.
    board = board_table(read_board())
    print_table(replace(board, rows=tuple(row for row in board.rows if row[0] != "runtimes")), console)
    why_not = "why not, and what to do"
    table = Table("backend", "device", "version", "usable", why_not, title="Backends", title_justify="left")
    for name in registry.names():
        state = registry.probe(name)
        why = "" if state.ok else f"{state.reason}; {state.hint}"
        cells = (name, ", ".join(state.devices) or "-", state.version or "-", "yes" if state.ok else "no", why)
        table.add_row(*map(as_text, cells))
    console.print(table)
    table = Table("extra", "installed", "what it adds", "how", title="Extras", title_justify="left")
    for extra, (module, adds) in EXTRAS.items():
        there = find_spec(module) is not None
        table.add_row(*map(as_text, (extra, "yes" if there else "no", adds, "" if there else how_to_install(extra))))
    console.print(table)
    table = Table("data set", "usable", "where", why_not, title="Data", title_justify="left")
    for row in data_availability(data_root):
        why = "" if row.ok else f"{row.reason}; {row.hint}"
        table.add_row(*map(as_text, (row.name, "yes" if row.ok else "no", str(row.where or "-"), why)))
    console.print(table)


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what the command printed on a board.

    Raises
    ------
    ResultsError
        It is not text.
    BoardError
        The command ended with an error there.
    """
    command.require((), OK)
    try:
        lines = read_text(file, max_bytes=_MOST_TEXT_BYTES).splitlines()
    except ValueError as error:
        raise ResultsError(f"{command.address}: what it printed is not shown: {error}") from error
    for line in lines:
        print_line(line)
