"""Run one network with one engine: ``python -m deploy.studies.coverage.child JOB ROW EVENTS``.

Its row is written atomically. If it cannot write one (killed, out of memory), the parent does, from the events.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.process.memory import peak_bytes
from benchmarks.process.serving import end_with_parent
from deploy.errors import DeployError
from deploy.files.atomic import write_file
from deploy.files.printable import printable_streams
from deploy.studies.coverage import checks, ours, tp
from deploy.studies.coverage.clock import Clock
from deploy.studies.coverage.models import build, inputs_of
from deploy.studies.coverage.rows import RUNTIMES, CoverageJob, CoverageRow, Outcome
from deploy.studies.engine.reasons import REFUSALS, reason_of

__all__ = ["main", "measure"]

_ENGINES = {"ours": ours.prune, "torch-pruning": tp.prune}


class _RefusedError(DeployError):
    """The pruned network does not meet the request."""


def measure(job: CoverageJob, clock: Clock) -> CoverageRow:
    """Build, prune, prove, export and run one network; any failure is in the row.

    Parameters
    ----------
    job : CoverageJob
        What to do.
    clock : Clock
        Clock that times the phases.
    """
    facts: dict[str, Any] = {}
    outcome: Outcome = "ok"
    reason = ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(job, facts, clock, Path(folder))
    except checks.WrongAnswerError as error:
        outcome, reason = "wrong", str(error)
    except Exception as error:  # noqa: BLE001 - any error of a network or a library becomes its row
        outcome = "refused" if job.engine == "ours" and isinstance(error, REFUSALS) else "failed"
        reason = reason_of(error)
    return CoverageRow(
        job=job,
        outcome=outcome,
        reason=reason,
        phase="" if outcome == "ok" else clock.phase,
        seconds=clock.seconds,
        cpu_s=round(sum(os.times()[:4]), 2),
        peak_bytes=peak_bytes(),
        **facts,
    )


def _run(job: CoverageJob, facts: dict[str, Any], clock: Clock, folder: Path) -> None:
    settings, entry = job.settings, job.entry
    with clock.measure("build"):
        network, inputs = build(entry, seed=settings.seed), inputs_of(entry, seed=settings.seed + 2)
    with clock.measure("cost"):
        facts["macs_before"], facts["parameters_before"] = checks.cost(network, inputs)
    compact = _ENGINES[job.engine](network, inputs, entry, settings, facts, clock)
    with clock.measure("cost"):
        facts["macs_after"], facts["parameters_after"] = checks.cost(compact, inputs)
    _serve(network, compact, inputs, folder, facts, clock, settings.tolerance)
    _train(network, compact, inputs, facts, clock)
    saved = 1 - facts["macs_after"] / facts["macs_before"]
    if saved < settings.least_saved:
        raise _RefusedError(
            f"only {saved:.1%} fewer multiply-accumulates; most fixed units: {facts.get('fixed') or 'none are fixed'}"
        )


def _serve(
    network: nn.Module,
    compact: nn.Module,
    inputs: tuple[Tensor, ...],
    folder: Path,
    facts: dict[str, Any],
    clock: Clock,
    tolerance: float,
) -> None:
    """Export and run with a free batch, or with that of the inputs if the unpruned network supports no other."""
    for free_batch in (True, False):
        facts["free_batch"] = free_batch
        step = "free batch" if free_batch else "onnx"
        try:
            with clock.measure(step):
                path = checks.export(compact, inputs, folder / "model.onnx", free_batch=free_batch)
            facts["onnx_bytes"] = path.stat().st_size
            for step in RUNTIMES:
                facts[f"{step}_error"] = checks.runtime_error(step, path, compact, inputs, clock)
                checks.require(step, facts[f"{step}_error"], tolerance)
        except Exception:
            facts["dense_error"] = _dense(step, network, inputs, folder, facts, clock, tolerance)
            if not free_batch or not facts["dense_error"]:
                raise
            facts["beside"] = (f"free batch: {facts.pop('dense_error')}",)
        else:
            return


def _train(
    network: nn.Module, compact: nn.Module, inputs: tuple[Tensor, ...], facts: dict[str, Any], clock: Clock
) -> None:
    """Train the pruned network one step; a failure that the unpruned one shares is only noted."""
    with clock.measure("training step"):
        try:
            facts["loss"] = checks.training_step(compact, inputs)
        except Exception:
            try:
                checks.training_step(network, inputs)
            except Exception as dense:  # noqa: BLE001 - its message is the answer
                facts["beside"] = (*facts.get("beside", ()), f"training step: {reason_of(dense)}")
                return
            raise


def _dense(
    step: str,
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    folder: Path,
    facts: dict[str, Any],
    clock: Clock,
    tolerance: float,
) -> str:
    """Return why the unpruned network fails at the step where the pruned one stopped; empty if it does not."""
    phase = clock.phase
    try:
        with clock.measure("dense"):
            path = checks.export(network, inputs, folder / "dense.onnx", free_batch=facts["free_batch"])
        if step not in RUNTIMES:
            return ""
        apart = checks.runtime_error(step, path, network, inputs, clock)
    except Exception as error:  # noqa: BLE001 - its message is the answer
        return reason_of(error)
    finally:
        clock.phase = phase
    return f"differs by {apart:.1e} of the output's range" if apart > tolerance else ""


def main(arguments: list[str]) -> None:
    """Run the job that the first file describes; write the row to the second and events to the third."""
    job_file, row_file, events = map(Path, arguments)
    job = CoverageJob.model_validate_json(job_file.read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with Path(os.devnull).open("w") as silence, contextlib.redirect_stdout(silence):
        row = measure(job, Clock(events))
    write_file(row_file, row.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    end_with_parent()
    with printable_streams():  # for its log
        main(sys.argv[1:])
