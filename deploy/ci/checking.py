"""Run ``deploy check``: from the check file through measuring and judging to the report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine.environment import Watch
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.machine.noise_floor import hardware_fingerprint
from benchmarks.process.measured import Launch, MeasuredProcess
from benchmarks.runner import Progress
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import require_backends
from deploy.ci.budget import PatientMachine, Task, share_out
from deploy.ci.check_file import CheckFile
from deploy.ci.check_report import CheckReport
from deploy.ci.git import commit_of
from deploy.ci.job import Job
from deploy.ci.measuring import Terms
from deploy.files.advice import CHECK, advised

__all__ = ["check"]

_S_PER_TASK = 60.0


@advised(CHECK)
def check(
    file: CheckFile,
    path: Path,
    *,
    budget_s: float | None = None,
    accept_unfit: bool = False,
    say: Progress = lambda _: None,
    so_far: Callable[[CheckReport], object] | None = None,
    launch: Launch = MeasuredProcess,
    machine: Machine | None = None,
) -> CheckReport:
    """Measure the models of a check file and judge each limit.

    Parameters
    ----------
    file : CheckFile
        The check file.
    path : Path
        Path of the check file; paths in it are relative to its folder.
    budget_s : float, optional
        Seconds for the whole job; default: those of the check file, or 60 per measurement. Waiting for another
        measurement on the machine does not count.
    accept_unfit : bool, default=False
        Whether to accept the numbers of an unfit machine.
    say : callable
        Called with one short line for each step.
    so_far : callable, optional
        Called with the report so far after each measurement, in case the job is killed.
    launch, machine
        See `benchmarks.runner.measure`.

    Raises
    ------
    CheckFileError
        A file it names is missing, or a baseline cannot be obtained.
    BackendError
        A backend is not usable here.
    """
    machine = PatientMachine(machine or ThisMachine())
    now_s, watch = machine.now_s, Watch()
    started_s = now_s()
    folder = path.resolve().parent
    for model in file.models:
        require_backends(model.backends, model.device)
    jobs = [Job.of(file, model, name, folder) for model, name in zip(file.models, file.names(), strict=True)]
    given_s = budget_s or file.budget or _S_PER_TASK * max(1, sum(job.n_tasks for job in jobs))
    n_limits = max(1, sum(job.n_limits for job in jobs))
    terms = Terms(Settings(seed=file.seed), n_limits, say, accept_unfit, launch, machine)
    commit = commit_of(folder)

    def report(*, retried: bool) -> CheckReport:
        environment = watch.finish()
        found = {job.name: job.results(accept_unfit=accept_unfit) for job in jobs}
        return CheckReport(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=version("prune-deploy"),
            title=file.title or "deploy check",
            check_file=str(path),
            commit=commit,
            environment=environment,
            machine=hardware_fingerprint(environment),
            budget_s=given_s,
            took_s=now_s() - started_s,
            retried=retried,
            rows=tuple(row for job in jobs for row in job.rows(file)),
            results={name: results for name, results in found.items() if results is not None},
        )

    def tell() -> None:
        if so_far is not None:
            so_far(report(retried=False))

    for job in jobs:
        job.prepare(terms)
    tasks = [task for job in jobs for task in job.tasks]
    share_out(tasks, started_s + given_s, now_s, tell)
    retried = False
    if again := [task for task in tasks if _retries(file, task)]:
        say(f"once more: {len(again)} of {len(tasks)} measurements have no verdict")
        for task in again:
            if file.unfit == "retry" and any(one.verdict == "unfit" for one in task.findings):
                task.anew()
        retried = share_out(again, now_s() + given_s, now_s, tell)
    for task in tasks:
        task.close()
    return report(retried=retried)


def _retries(file: CheckFile, task: Task) -> bool:
    """Return whether the policy asks for a retry that could help."""
    verdicts = {one.verdict for one in task.findings}
    anew = "unfit" in verdicts and file.unfit == "retry"
    return anew or ("inconclusive" in verdicts and file.inconclusive == "retry" and task.open)
