"""How often a finder is right: ``python -m deploy.studies.changes.study --otava PYTHON --markdown docs/ci/history.md``.

The constants of `deploy.ci.history.steps` were tuned on the histories of `TUNED_ON`; the table uses others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from deploy.ci.history.steps import FEWEST, find_changes
from deploy.errors import DeployError
from deploy.report.formatting import percent
from deploy.report.markdown import markdown, require_block, write_block
from deploy.report.table import Table, left
from deploy.studies.changes.finders import SMALLEST, Finder, finders
from deploy.studies.changes.histories import CASES, Case, History, simulated

__all__ = ["BLOCK", "TUNED_ON", "Rates", "histories", "main", "rates"]

BLOCK = "changes"
"""Name of the block of a page that receives the table."""
TUNED_ON = 1
_SHOWN_OF = 2
_NEAR = 3
"""Maximum number of commits between a step and the change that matches it."""
_LONGEST = 30
"""Maximum number of commits to wait for a step to be reported."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one finder on the histories of one case.

    Parameters
    ----------
    found : float or None
        Share of the steps with a change within three commits; None if there are no steps.
    wrong : float
        Share of the histories with a false change.
    """

    found: float | None
    wrong: float


def histories(case: Case, count: int, seed: int, *, n: int = 60) -> list[History]:
    """Draw histories, different for each case and seed."""
    return [
        simulated(case, np.random.default_rng([seed, crc32(case.name.encode()), number]), n=n)
        for number in range(count)
    ]


def rates(finder: Finder, drawn: Sequence[History]) -> Rates:
    """Return how often a finder is right and wrong."""
    reported = finder([one.values for one in drawn])
    steps = found = wrong = 0
    for history, changes in zip(drawn, reported, strict=True):
        steps += len(history.steps)
        found += sum(any(abs(at - step) <= _NEAR for at in changes) for step in history.steps)
        wrong += any(all(abs(at - step) > _NEAR for step in history.steps) for at in changes)
    return Rates(found / steps if steps else None, wrong / len(drawn))


def _table(named: dict[str, Finder], count: int, n: int) -> Table:
    rows, seconds = [], dict.fromkeys(named, 0.0)
    for case in CASES:
        drawn = histories(case, count, _SHOWN_OF, n=n)
        cells = []
        for name, finder in named.items():
            begun = time.perf_counter()
            got = rates(finder, drawn)
            seconds[name] += time.perf_counter() - begun
            found = "" if got.found is None else f"{percent(got.found, 1)} found, "
            cells.append(f"{found}{percent(got.wrong, 1)} false")
        rows.append((case.name, *cells))
    each = tuple(f"{1e3 * spent / (count * len(CASES)):.1f} ms" for spent in seconds.values())
    return Table(
        "Changes found in simulated histories",
        (*left("history"), *named),
        (*rows, ("time for one history", *each)),
        caption=f"{count} histories of {n} commits a row, noise 1 %, steps of 5 % at random commits, at least 3 from "
        "either end. Found: steps with a change within 3 commits. False: histories with a change that is none.",
    )


def _delays(count: int) -> Table:
    """Tabulate how many commits after a step it is reported, by the number of commits before it."""
    rows = []
    for before in (8, 12, 20, 40):
        waited = []
        for number in range(count):
            flat = simulated(CASES[0], np.random.default_rng([_SHOWN_OF, before, number]), n=before + _LONGEST)
            values = [*flat.values[:before], *(1.05 * one for one in flat.values[before:])]
            seen = (k for k in range(FEWEST, _LONGEST + 1) if find_changes(values[: before + k], SMALLEST))
            waited.append(next(seen, _LONGEST))
        middle, most = (int(np.quantile(waited, share, method="inverted_cdf")) for share in (0.5, 0.95))
        rows.append((str(before), str(middle), str(most)))
    return Table(
        "Commits until a step of 5 % is reported",
        ("commits before it", "half of them after", "95 % after"),
        tuple(rows),
        caption=f"{count} histories a row, noise 1 %.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, print its tables, and write them into a page."""
    parser = argparse.ArgumentParser(prog="python -m deploy.studies.changes.study", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="histories of each case")
    parser.add_argument("--commits", type=int, default=60, help="in each history")
    parser.add_argument("--otava", metavar="PYTHON", help="a Python in whose environment Apache Otava is installed")
    parser.add_argument("--markdown", type=Path, help="page that receives the tables, between its two marks")
    given = parser.parse_args(arguments)
    try:
        if given.markdown is not None:
            require_block(given.markdown, BLOCK)
        tables = [_table(finders(given.otava), given.count, given.commits), _delays(given.count)]
        text = "\n".join(f"### {table.title}\n\n{markdown(table)}" for table in tables)
        print(text)  # noqa: T201 - a program of its own
        if given.markdown is not None:
            write_block(given.markdown, BLOCK, text)
    except DeployError as error:
        print(f"study: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
