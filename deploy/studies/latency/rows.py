"""Records of these studies: JSON lines, appended as cases end; the last result of a case counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from benchmarks.records.base import Record
from deploy.bundles.pruning import SpeedLanding
from deploy.errors import ResultsError
from deploy.files.atomic import output_errors
from deploy.studies.coverage.rows import ListedNetwork

__all__ = ["Case", "Competitor", "GridRow", "append", "read"]


class Case(Record):
    """One network to prune to one speed by one method on one backend.

    Parameters
    ----------
    network : ListedNetwork
        The network, with the input shape it is measured at.
    backend : str
        Backend of the speed.
    threads : int
        Threads of one call.
    asked : float
        Share of the dense network's time.
    method : str
        Pruning method; ``"kept share"`` is that of the grid.
    settings : dict of str to str
        Settings of the method.
    competitors : tuple of str
        Competitors brought to the same measured time, see `deploy.studies.latency.competitors`.
    """

    network: ListedNetwork
    backend: str
    threads: PositiveInt
    asked: PositiveFloat
    method: str = "kept share"
    settings: dict[str, str] = Field(default_factory=dict)
    competitors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name for patterns, shared by the rows of the same case."""
        method = "" if self.method == "kept share" else f":{self.method}"
        settings = "".join(f",{key}={value}" for key, value in sorted(self.settings.items()))
        return f"{self.network.name}:{self.backend}:{self.threads}:{self.asked:g}{method}{settings}"


class Competitor(Record):
    """What another way to choose kept counts keeps at our measured time."""

    name: str
    measured: PositiveFloat | None = Field(None, description="share of the dense time; None: no network was found")
    importance: PositiveFloat | None = None
    reason: str = ""


class GridRow(Record):
    """Result of one case."""

    case: Case
    reason: str = Field("", description="the error that ended the case; empty if it has all results")
    landing: SpeedLanding | None = None
    exported: PositiveFloat | None = Field(
        None, description="measured time of the exported pruned network, as a share of the dense time"
    )
    block: PositiveInt | None = None
    mape: NonNegativeFloat | None = Field(None, description="on held-out plans")
    rank_correlation: float | None = None
    table_s: NonNegativeFloat | None = None
    solver_s: NonNegativeFloat | None = None
    gap: NonNegativeFloat | None = Field(None, description="the solver's, for the kept plan")
    dense_ms: PositiveFloat | None = None
    competitors: tuple[Competitor, ...] = ()
    seconds: NonNegativeFloat = 0.0
    started_utc: str = ""
    load: NonNegativeFloat = Field(0.0, description="processes that wanted a core in the minute before it began")
    versions: dict[str, str] = Field(default_factory=dict)
    refused: bool = Field(False, description="the speed was refused, as `reason` says: no network was handed out")

    @property
    def extent(self) -> tuple[bool, bool, int]:
        """How far it got: a landing or a refusal, a measured export, and with how many competitors it was compared."""
        return self.refused or self.landing is not None, self.exported is not None, len(self.competitors)

    def answers(self, case: Case) -> bool:
        """Return whether it has a measured network, compared with all competitors of `case`, or a refusal."""
        compared = {each.name for each in self.competitors}
        measured = self.exported is not None and compared.issuperset(case.competitors)
        return self.case.name == case.name and (self.refused or measured)


def append(row: GridRow, path: Path) -> None:
    """Append a row as one line.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json() + "\n")


def read(path: Path) -> tuple[GridRow, ...]:
    """Read the last row of each case, without those that got less far than an earlier one and were not refused.

    Raises
    ------
    ResultsError
        A line is not a row.
    """
    rows: dict[str, GridRow] = {}
    lines: Sequence[str] = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ()
    for number, line in enumerate(lines, 1):
        try:
            row = GridRow.model_validate_json(line)
        except ValidationError as error:
            raise ResultsError(f"{path}: line {number} is not a row of this study; delete it") from error
        before = rows.get(row.case.name)
        if before is None or row.refused or row.extent >= before.extent:
            rows[row.case.name] = row
    return tuple(rows.values())
