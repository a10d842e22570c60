"""Run the missing jobs, each after those that it needs; a failed job does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.files.atomic import output_errors, write_file
from deploy.report.formatting import score_brief
from deploy.run.stages import Stage
from deploy.studies.engine.schedule import RunningJob, run_jobs
from deploy.studies.methods.executor import Executor, LocalProcesses
from deploy.studies.methods.jobs import JOB, StudyJob
from deploy.studies.methods.results import RESULT, JobResult, read_result, write_result

__all__ = ["do_jobs", "finished"]

Say = Callable[[str], None]
_STANDS_ON = "stands on "


def finished(root: Path, job: StudyJob) -> JobResult | None:
    """Read the result of a finished job; None if it is not finished."""
    if not Stage(root / job.folder, job.key).done:
        return None
    result = read_result(root / job.folder, job.key)
    return result if result is not None and not result.reason else None


def do_jobs(
    jobs: Sequence[StudyJob],
    root: Path,
    executor: Executor,
    say: Say,
    step: Say = lambda _: None,
    *,
    chosen: frozenset[str],
    after: Callable[[dict[str, JobResult]], None] = lambda _: None,
) -> dict[str, JobResult]:
    """Run the unfinished jobs, and return the result of every job that has one, by folder.

    A job that measures runs alone, on this machine.
    A failed job is tried again the next time. Jobs still running when this function exits, for any reason, are killed,
    and resume from their last checkpoint the next time.

    Parameters
    ----------
    jobs : sequence of StudyJob
        Jobs, each after those that it needs.
    root : Path
        Folder of the study.
    executor : Executor
        Executor that runs them.
    say : callable
        Called with one line for each job.
    step : callable
        Called with a line whenever the running jobs change.
    chosen : frozenset of str
        Folders of the jobs to run; others are only read.
    after : callable
        Called with all results whenever there is a new one.
    """
    results = {job.folder: result for job in jobs if (result := finished(root, job)) is not None}
    waiting = [job for job in jobs if job.folder not in results and job.folder in chosen]
    total, n_done = len(waiting), 0
    if results:
        say(f"{len(results)} jobs were done before, {total} are left")
    after(results)
    running: list[str] = []

    def tell() -> None:
        step(f"{n_done} of {total} jobs done, at work: {'; '.join(running) or 'none'}")

    def start(job: StudyJob) -> RunningJob:
        running.append(job.title)
        tell()
        return (here if job.measures else executor).start(root, _begin(root, job))

    def done(job: StudyJob, result: JobResult) -> None:
        nonlocal n_done
        n_done += 1
        results[job.folder] = result
        if not result.reason.startswith(_STANDS_ON):
            say(f"[{n_done}/{total}] {job.title}: {_outcome(result)}")
        after(results)
        if job.title in running:
            running.remove(job.title)
            tell()

    def skip(job: StudyJob) -> JobResult | None:
        broken = next((results[name] for name in job.needs if name in results and results[name].reason), None)
        return None if broken is None else _failure(job, _of_need(broken))

    here = LocalProcesses() if executor.remote else executor
    run_jobs(
        waiting,
        start,
        lambda job, _, reason: _collect(root, job, reason),
        done,
        slots=executor.slots,
        ready=lambda job: all(folder in results for folder in job.needs),
        skip=skip,
        fit=lambda jobs: not any(job.measures for job in jobs),
    )
    return results


def _collect(root: Path, job: StudyJob, reason: str) -> JobResult:
    """Read the result of an ended job; its process may die after its work, or write the reason itself."""
    result = read_result(root / job.folder, job.key)
    if result is None:
        result = _failure(job, reason or "its process left no result")
        write_result(root / job.folder, result)
    return result


def _begin(root: Path, job: StudyJob) -> Path:
    """Prepare the folder of a job, keeping an unfinished training of the same job."""
    with output_errors(root / job.folder):
        folder = Stage(root / job.folder, job.key).begin()
    (folder / RESULT).unlink(missing_ok=True)
    write_file(folder / JOB, job.model_dump_json(by_alias=True) + "\n")
    return folder


def _failure(job: StudyJob, reason: str) -> JobResult:
    return JobResult(kind=job.kind, title=job.title, key=job.key, reason=reason)


def _of_need(broken: JobResult) -> str:
    """Return the root failure of a chain of dependent jobs, named once."""
    return (
        broken.reason if _STANDS_ON in broken.reason else f"{_STANDS_ON}{broken.title}, which failed: {broken.reason}"
    )


def _outcome(result: JobResult) -> str:
    if result.reason:
        return f"FAILED: {result.reason}"
    scores = result.scores
    scored = "" if scores is None else f"validation {score_brief(scores.metric, scores.score_validation)}, "
    return f"{scored}{result.seconds:.0f} s"
