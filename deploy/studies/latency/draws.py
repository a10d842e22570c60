"""Test on random draws whether a network pruned to a speed is ever slower than the dense one.

    python -m deploy.studies.latency.draws --output draws.jsonl
    python -m deploy.studies.latency.draws --output draws.jsonl --draws 20 --only '*:openvino:*'

A draw is a network, a backend, a method and a share of the dense time. The pruned network is exported from torch and
measured in turn with the dense one, in a process that made no decisions; a refused speed gives no network. Each draw is
a line of the output, so an interrupted run resumes. Exit code 1 if a network is slower, or a draw ended with neither a
network nor a refusal.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import SourceError
from deploy.report.markdown import markdown
from deploy.report.table import Table, left
from deploy.studies.coverage.rows import ListedNetwork
from deploy.studies.latency.rows import Case, GridRow
from deploy.studies.latency.running import chosen, run_cases
from deploy.user_errors import guarded

__all__ = ["draws", "main"]

_SMALL, _MIDDLE = (2, 3, 96, 96), (2, 3, 160, 160)
_NETWORKS = (
    ("torchvision", "resnet18", _SMALL),
    ("torchvision", "mobilenet_v2", _SMALL),
    ("torchvision", "mobilenet_v3_small", _MIDDLE),
    ("torchvision", "squeezenet1_1", _MIDDLE),
    ("torchvision", "mnasnet0_5", _MIDDLE),
    ("timm", "test_byobnet", _MIDDLE),
    ("timm", "test_convnext2", _MIDDLE),
    ("timm", "test_efficientnet", _MIDDLE),
    ("timm", "test_resnet", _MIDDLE),
    ("timm", "test_vit3", _MIDDLE),
)
_METHODS: tuple[tuple[str, dict[str, str]], ...] = (
    ("kept share", {}),
    ("l1", {}),
    ("uniform", {}),
    ("random", {}),
    ("criterion", {"criterion": "l2", "decision": "exact"}),
    ("criterion", {"criterion": "l2", "decision": "greedy"}),
    ("criterion", {"criterion": "fpgm", "decision": "global"}),
)
_BACKENDS, _ASKED = ("ort", "openvino"), (0.3, 0.95)


def draws(n: int, seed: int) -> tuple[Case, ...]:
    """Draw different cases, sorted by network and backend, which share a table.

    Raises
    ------
    SourceError
        There are not as many, or none is asked for.
    """
    shares = round(100 * (_ASKED[1] - _ASKED[0])) + 1
    most = len(_NETWORKS) * len(_METHODS) * len(_BACKENDS) * shares
    if not 1 <= n <= most:
        raise SourceError(f"--draws takes 1 to {most}, got {n}")
    rng = random.Random(seed)
    drawn: dict[str, Case] = {}
    while len(drawn) < n:
        maker, name, shape = rng.choice(_NETWORKS)
        method, settings = rng.choice(_METHODS)
        case = Case(
            network=ListedNetwork(set="latency", name=name, maker=maker, inputs=(shape,), millions=1.0),
            backend=rng.choice(_BACKENDS),
            threads=1,
            asked=round(rng.uniform(*_ASKED), 2),
            method=method,
            settings=settings,
        )
        drawn[case.name] = case
    return tuple(sorted(drawn.values(), key=lambda case: (case.network.name, case.backend)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="lines of JSON, one a draw")
    parser.add_argument("--draws", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="repeat for several")
    parser.add_argument("--time-limit", type=float, default=300.0, metavar="SECONDS", help="for one draw")
    given = parser.parse_args(arguments)
    rows = run_cases(chosen(draws(given.draws, given.seed), given.only), given.output, time_s=given.time_limit)
    table = _told(rows)
    sys.stdout.write(markdown(table))
    if any((row.exported or 0) >= 1 or _failed(row) for row in rows):
        raise SystemExit(1)


def _failed(row: GridRow) -> bool:
    return row.exported is None and not row.refused


def _told(rows: Sequence[GridRow]) -> Table:
    handed = [row for row in rows if row.exported is not None]
    slower = [row for row in handed if (row.exported or 0) >= 1]
    longest = max((row.exported or 0 for row in handed), default=0.0)
    reasons = list(dict.fromkeys(row.reason for row in rows if row.refused))
    lines = (
        ("draws", str(len(rows))),
        ("handed out", str(len(handed))),
        ("of these slower than the dense network", str(len(slower))),
        ("longest time of these, of the dense network's", f"{longest:.3f}"),
        ("met the speed asked for, up to 1 %", str(sum(row.landing is not None and row.landing.met for row in rows))),
        *((f"slower: {row.case.name}", f"{row.exported:.3f}") for row in slower),
        *((f"failed: {row.case.name}", row.reason) for row in rows if _failed(row)),
        *((f"refused: {reason}", str(sum(row.reason == reason for row in rows))) for reason in reasons),
    )
    return Table(title="Draws", columns=left("what", "how many"), rows=lines)


if __name__ == "__main__":
    guarded(main)
