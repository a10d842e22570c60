"""Run one case: ``python -m deploy.studies.latency.case CASE ROW FOLDER``; an error becomes its row."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.process.serving import end_with_parent
from deploy.exporting.export import export_onnx
from deploy.files.atomic import write_file
from deploy.run.speed.pruning import prune_to_speed
from deploy.sources.boundary import versions
from deploy.studies.engine.reasons import reason_of
from deploy.studies.latency.competitors import at_the_time
from deploy.studies.latency.kept_share import KeptShare
from deploy.studies.latency.prepared import Prepared, prepared
from deploy.studies.latency.rows import Case, GridRow
from pruners.base import PruningMethod
from pruners.errors import TargetError
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.task import PruningTask

__all__ = ["main", "row_of"]

_LEAST = 0.1
"""Minimum share of a group to keep."""
_LIBRARIES = ("torch", "torchvision", "timm", "ultralytics", "onnxruntime", "openvino", "torch-pruning")


def row_of(case: Case, folder: Path) -> GridRow:
    """Prune one network to one speed and measure the result; see `main`."""
    begin, facts = time.monotonic(), dict[str, Any]()
    known = {
        "case": case,
        "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
        "versions": versions(*_LIBRARIES),
    }
    try:
        _fill(case, folder, facts)
    except Exception as error:  # noqa: BLE001 - any error of a network or a library becomes its row
        facts |= {"reason": reason_of(error), "refused": isinstance(error, TargetError)}
    return GridRow(**known, **facts, seconds=time.monotonic() - begin)


def _fill(case: Case, folder: Path, facts: dict[str, Any]) -> None:
    subject = prepared(case.network, folder, backend=case.backend, threads=case.threads, say=_say)
    table = subject.table
    facts |= {
        "block": table.block,
        "mape": table.held_out.mape,
        "rank_correlation": table.held_out.rank_correlation,
        "table_s": table.seconds,
        "dense_ms": table.measured_dense_ns / 1e6,
    }
    asked = subject.asked(case.asked, _say)
    task = PruningTask(
        model=subject.network,
        example_inputs=subject.inputs,
        target=Target(kept_fraction=case.asked, table=asked.model),
        constraints=Constraints(multiple_of=table.block, min_fraction=_LEAST),
        progress=lambda line, _: _say(line),
    )
    pruned, (landing,) = prune_to_speed(_method(case), task, [asked])
    _say(str(landing))
    facts["landing"] = landing
    if "gap" in (last := pruned.history[-1] if pruned.history else {}):
        facts |= {"gap": last["gap"], "solver_s": last["seconds"]}
    export_onnx(pruned.model, subject.inputs, folder / "pruned.onnx", dynamic_batch=subject.free_batch)
    facts["exported"] = _measured(subject, folder / "pruned.onnx")
    limit, compared = landing.measured[landing.kept_round], []
    for name in case.competitors:
        with subject.timer(_say) as timer:
            compared.append(at_the_time(name, task, subject.graph, timer.share, limit))
    facts["competitors"] = tuple(compared)


def _measured(subject: Prepared, path: Path) -> float:
    with subject.timer(_say) as timer:
        return timer.share_of(path)


def _method(case: Case) -> PruningMethod:
    return KeptShare() if case.method == KeptShare.name else create(case.method, **case.settings)


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main(case: str, row: str, folder: str) -> None:
    """Read a case, run it and write its row."""
    read = Case.model_validate_json(Path(case).read_text(encoding="utf-8"))
    write_file(Path(row), row_of(read, Path(folder)).model_dump_json() + "\n")


if __name__ == "__main__":
    end_with_parent()
    main(*sys.argv[1:])
