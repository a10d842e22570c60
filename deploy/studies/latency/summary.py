"""Tables of the grid: the cases, the competitors, and the shares that sum it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploy.report.table import Table, left
from deploy.studies.latency.rows import Competitor, GridRow

__all__ = ["grid_tables"]

_CLOSE, _CLOSE_AT_ONCE, _ABOVE = 0.01, 0.025, 0.03
_MAPE, _RANK, _GAP, _SOLVER_S = 0.04, 0.99, 0.001, 30.0


def grid_tables(rows: Sequence[GridRow]) -> tuple[Table, ...]:
    """Return the tables of cases, competitors and shares."""
    landed = [row for row in rows if row.landing is not None]
    return _cases(rows), _competitors(landed), _shares(landed)


def _cases(rows: Sequence[GridRow]) -> Table:
    columns = (*left("network", "backend"), "threads", "asked", "predicted", "measured", "exported", "held-out error")
    return Table(
        title="Asked, predicted, measured",
        columns=(*columns, "rank correlation", "table", "solver", "gap", "dense", *left("why not")),
        rows=tuple(_case(row) for row in rows),
        caption="Shares of the dense network's time, measured in turn with it. An arrow is a correction; `exported` is "
        "the pruned network itself, from torch.",
    )


def _case(row: GridRow) -> tuple[str, ...]:
    landing, case = row.landing, row.case
    return (
        case.network.name,
        case.backend,
        str(case.threads),
        f"{case.asked:g}",
        "" if landing is None else " → ".join(f"{share:.3f}" for share in landing.predicted),
        "" if landing is None else " → ".join(f"{share:.3f}" for share in landing.measured),
        _number(row.exported, "{:.3f}"),
        _number(row.mape, "{:.1%}"),
        _number(row.rank_correlation, "{:.3f}"),
        _number(row.table_s, "{:.0f} s"),
        _number(row.solver_s, "{:.1f} s"),
        _number(row.gap, "{:.2%}"),
        _number(row.dense_ms, "{:.3g} ms"),
        row.reason or ("" if landing is None else landing.why_off),
    )


def _number(value: float | None, how: str) -> str:
    return "" if value is None else how.format(value)


def _competitors(rows: Sequence[GridRow]) -> Table:
    rows = [row for row in rows if row.competitors]
    names = list(dict.fromkeys(each.name for row in rows for each in row.competitors))
    return Table(
        title="Importance kept at the same measured time",
        columns=(*left("network", "backend"), "threads", "asked", "ours", *names),
        rows=tuple(
            (
                row.case.network.name,
                row.case.backend,
                str(row.case.threads),
                f"{row.case.asked:g}",
                f"{row.landing.importance or 0:.3f} at {_kept(row):.3f}" if row.landing else "",
                *(_competitor(next((each for each in row.competitors if each.name == name), None)) for name in names),
            )
            for row in rows
        ),
        caption="Mean over the channel groups of the square root of the share of units kept, at a measured share of "
        "the dense time.",
    )


def _competitor(found: Competitor | None) -> str:
    if found is None:
        return ""
    return found.reason if found.measured is None else f"{found.importance or 0:.3f} at {found.measured:.3f}"


def _kept(row: GridRow) -> float:
    """Return the measured share of the dense time of the kept plan."""
    assert row.landing is not None
    return row.landing.measured[row.landing.kept_round]


def _shares(rows: Sequence[GridRow]) -> Table:
    def share(good: Callable[[GridRow], bool], among: Sequence[GridRow] = rows) -> str:
        n_good = sum(good(row) for row in among)
        return f"{n_good} of {len(among)} ({n_good / len(among):.0%})" if among else "none was tried"

    rivals = [row for row in rows if any(each.measured is not None for each in row.competitors)]
    solved = [row for row in rows if row.gap is not None]
    lines = (
        (f"within {_CLOSE:.0%} after two corrections at most", share(_met_soon)),
        (f"within {_CLOSE_AT_ONCE:.1%} before any", share(lambda row: abs(_apart(row, 0)) <= _CLOSE_AT_ONCE)),
        (f"above by more than {_ABOVE:.0%}", share(lambda row: _apart(row) > _ABOVE)),
        (f"held-out error of at most {_MAPE:.0%}", share(lambda row: (row.mape or 0) <= _MAPE)),
        (f"rank correlation of at least {_RANK:g}", share(lambda row: (row.rank_correlation or 0) >= _RANK)),
        (f"solver's gap of at most {_GAP:.1%}", share(lambda row: (row.gap or 0) <= _GAP, solved)),
        (f"solver ended within {_SOLVER_S:g} s", share(lambda row: (row.solver_s or 0) <= _SOLVER_S + 1, solved)),
        ("keeps more than every competitor", share(_best, rivals)),
    )
    return Table(title="Shares", columns=left("of the cases that landed", "how many"), rows=lines)


def _apart(row: GridRow, index: int | None = None) -> float:
    """Return how far a round, by default the kept one, is from the requested share."""
    assert row.landing is not None
    return (_kept(row) if index is None else row.landing.measured[index]) - row.landing.asked


def _met_soon(row: GridRow) -> bool:
    assert row.landing is not None
    return any(abs(share - row.landing.asked) <= _CLOSE for share in row.landing.measured[:3])


def _best(row: GridRow) -> bool:
    assert row.landing is not None
    return all((row.landing.importance or 0) > (each.importance or 0) for each in row.competitors)
