"""Jobs of a study: done once, in order; a failure is a row; a kill loses little and leaves no process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from backends.errors import BackendError
from benchmarks.records.file import load_comparison, save
from deploy.cli.study import run as study_command
from deploy.errors import OutputError, SourceError
from deploy.run.stages import Stage, StageStore
from deploy.studies.methods import schedule
from deploy.studies.methods.executor import LocalProcesses
from deploy.studies.methods.jobs import StudyJob, jobs_of
from deploy.studies.methods.page import study_page
from deploy.studies.methods.recipe import StudyRecipe, load_study
from deploy.studies.methods.results import JobResult, Scores, StudyResults, load_results, read_result, write_result
from deploy.studies.methods.schedule import do_jobs
from deploy.studies.methods.study import RESULTS, run_study
from pruners.errors import TargetError
from pruners.methods import group_norm

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "comparison-1.json"
TINY = {
    "name": "tiny",
    "network": {"name": "cifar:resnet20", "options": {"width": 0.25}},
    "data": {"name": "digits", "image_size": 8, "limit": 200},
    "train": {"epochs": 1, "batch_size": 50},
    "budgets": {"flops": [0.5]},
    "methods": ["l1"],
    "baselines": False,
    "recoveries": [{"fine-tune": {"epochs": 1, "batch_size": 50, "lr": 0.01}}],
}


def recipe(**changes) -> StudyRecipe:
    return StudyRecipe.model_validate({**TINY, **changes})


class Pretends:
    """Does jobs at once: writes results that need no training; `broken` jobs end as they are told."""

    remote = False

    def __init__(self, broken=None, slots=1, loss=0.1):
        self.broken = broken or {}
        self.loss = loss
        self.slots = slots
        self.processes = 1
        self.done = []
        self.at_once = 0
        self.alone = False
        self.running = 0

    def start(self, root, folder):
        job = StudyJob.model_validate_json((folder / "job.json").read_text())
        assert all((root / need / "done.json").exists() for need in job.needs)
        self.running += 1
        assert self.running == 1 or not (job.measures or self.alone)
        self.alone = job.measures
        self.at_once = max(self.at_once, self.running)
        return _Pretended(self, job, folder)


class _Pretended:
    def __init__(self, executor, job, folder):
        self.executor, self.job, self.folder = executor, job, folder

    def poll(self):
        self.executor.running -= 1
        self.executor.done.append(self.job.title)
        for title, why in self.executor.broken.items():
            if self.job.title.startswith(title):
                return why
        facts = {}
        if self.job.kind not in ("export", "table"):
            facts["scores"] = Scores(
                score_validation=0.9,
                score_test=0.9,
                loss_validation=self.executor.loss,
                loss_test=0.1,
                n_validation=100,
                n_test=100,
            )
        if self.job.kind == "recover":
            facts |= {"lr": 0.01, "epochs": 1, "kept_epoch": 1}
        write_result(self.folder, JobResult(kind=self.job.kind, title=self.job.title, key=self.job.key, **facts))
        Stage(self.folder, self.job.key).finish()
        return ""

    def close(self):
        pass


def study(folder, executor, found=None, **options):
    lines = []
    results = run_study(found or recipe(), folder, executor, lines.append, measured=False, **options)
    return results, lines


def test_what_is_done_is_not_done_again(tmp_path):
    first = Pretends()
    results, lines = study(tmp_path, first)
    assert lines[0].endswith("write budgets: [{speed_up: 2, on: ort}], or multiple_of: 8")
    assert [cell.outcome for cell in results.cells] == ["ok"]
    assert [title.split()[0] for title in first.done] == ["dense", "prune", "fine-tuned"]
    again = Pretends()
    same, lines = study(tmp_path, again)  # nothing is pruned: nothing is said of counts that are not aligned
    assert (again.done, same) == ([], results)
    assert lines == ["3 jobs were done before, 0 are left"]
    assert load_results(tmp_path / RESULTS) == results
    more = Pretends()
    study(tmp_path, more, recipe(recoveries=[*TINY["recoveries"], "scratch-e"]))
    assert [title.split()[0] for title in more.done] == ["Scratch-E"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_a_result(tmp_path, loss):
    results, _ = study(tmp_path, Pretends(loss=loss))
    (cell,) = results.cells
    assert (cell.outcome, cell.recovered.score_test) == ("ok", 0.9)
    assert (cell.recovered.loss_validation, cell.recovered.loss_test) == (None, 0.1)
    assert load_results(tmp_path / RESULTS) == results
    assert read_result(tmp_path / cell.folder, cell.key).scores == cell.recovered
    assert "90.00" in study_page(results)
    again = Pretends()
    assert (study(tmp_path, again)[0], again.done) == (results, [])


def test_other_settings_do_not_take_the_place_of_finished_work(tmp_path):
    study(tmp_path, Pretends())
    study(tmp_path, Pretends(), recipe(train={"epochs": 2}))
    back = Pretends()
    study(tmp_path, back)
    assert back.done == []


def test_a_failure_is_a_row_and_the_others_go_on(tmp_path):
    found = recipe(methods=["l1", "taylor"], seeds=[0, 1])
    results, _ = study(tmp_path, Pretends({"prune by l1 to 50 % flops, seed 0": "killed by SIGKILL"}), found)
    told = {(cell.method, cell.seed): (cell.outcome, cell.reason) for cell in results.cells}
    assert told[("l1", 0)][0] == "failed"
    assert told[("l1", 0)][1].endswith("prune by l1 to 50 % flops, seed 0, which failed: killed by SIGKILL")
    assert {told[key][0] for key in (("l1", 1), ("taylor", 0), ("taylor", 1))} == {"ok"}
    again = Pretends()
    results, _ = study(tmp_path, again, found)
    assert [title.split()[0] for title in again.done] == ["prune", "fine-tuned"]
    assert {cell.outcome for cell in results.cells} == {"ok"}


def test_a_job_that_leaves_no_result_has_failed(tmp_path):
    class Silent(Pretends):
        def start(self, root, folder):
            running = super().start(root, folder)
            running.poll = lambda: ""
            return running

    results, _ = study(tmp_path, Silent())
    assert [cell.outcome for cell in results.cells] == ["failed"]
    assert "left no result" in results.cells[0].reason


def test_no_more_jobs_run_at_once_than_there_are_slots(tmp_path):
    executor = Pretends(slots=2)
    study(tmp_path, executor, recipe(methods=["l1", "taylor"], seeds=[0, 1]))
    assert executor.at_once == 2


FASTER = {"budgets": [{"speed_up": 2, "on": "ort"}, {"flops": 0.5}], "bench": {"backends": ["ort"], "threads": 1}}


def test_what_measures_runs_alone_and_comes_first(tmp_path):
    executor = Pretends(slots=3)
    results, _ = study(tmp_path, executor, recipe(methods=["l1", "magnitude"], seeds=[0, 1], **FASTER))
    assert executor.done[0] == "latency table of ort"
    assert executor.at_once > 1
    told = {(cell.method, cell.budget): (cell.outcome, cell.reason) for cell in results.cells}
    zeros = "single weights set to zero make no network faster"
    assert told.pop(("magnitude", "2x on ort")) == ("not run", zeros)
    assert set(told.values()) == {("ok", "")}


def test_a_competitor_whose_library_is_missing_is_left_out_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(group_norm, "find_spec", lambda name: None)
    results, lines = study(tmp_path, executor := Pretends(), recipe(methods=["l1", "torch-pruning"]))
    assert lines[0].startswith("torch-pruning is left out: the library is not installed: pip install")
    told = {cell.method: cell.outcome for cell in results.cells}
    assert told == {"l1": "ok", "torch-pruning": "not run"}
    assert results.cells[1].reason.startswith("the library is not installed")
    assert len(executor.done) == 3


def test_without_a_table_no_speed_is_pruned_to(tmp_path):
    broken = {"latency table": "no layer times"}
    results, _ = study(tmp_path, Pretends(broken), recipe(**FASTER))
    told = {cell.budget: (cell.outcome, cell.reason) for cell in results.cells}
    assert told["50 % flops"] == ("ok", "")
    assert told["2x on ort"] == ("failed", "stands on latency table of ort, which failed: no layer times")


def test_speed_is_measured_here_where_jobs_run_elsewhere(tmp_path, monkeypatch):
    here, there = Pretends(), Pretends()
    there.remote = True
    monkeypatch.setattr(schedule, "LocalProcesses", lambda: here)
    study(tmp_path, there, recipe(**FASTER))
    assert here.done == ["latency table of ort", "prune by l1 to 2x on ort, seed 0"]
    assert len(there.done) == 4


def test_only_works_on_some_methods_and_shows_the_others(tmp_path):
    found = recipe(methods=["l1", "taylor"])
    study(tmp_path, Pretends(), found, only=["l1"])
    executor = Pretends()
    results, _ = study(tmp_path, executor, found, only=["tay*"])
    assert {cell.method: cell.outcome for cell in results.cells} == {"l1": "ok", "taylor": "ok"}
    assert len(executor.done) == 2


def test_networks_that_nobody_asked_for_are_not_missed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise BackendError("the backend refuses the file")

    monkeypatch.setattr("deploy.studies.methods.measuring.measure_pair", refuse)
    found = recipe(methods=["l1", "taylor"])
    results = run_study(found, tmp_path, Pretends(), lambda _: None, only=["l1"])
    assert {row.method for row in results.measured} == {"l1"}
    assert {cell.method: cell.outcome for cell in results.cells} == {"l1": "ok", "taylor": "not run"}
    # One that was there before is shown with the others.
    results = run_study(found, tmp_path, Pretends(), lambda _: None, only=["taylor"])
    assert {row.method for row in results.measured} == {"l1", "taylor"}


def test_what_was_measured_stays_in_the_results(tmp_path, monkeypatch):
    pair, bench = load_comparison(GOLDEN), {"backends": ["ort"]}

    def measured(stage, *_, **__):
        save(pair, stage.begin() / "comparison.json")
        stage.finish()
        return pair

    monkeypatch.setattr("deploy.studies.methods.measuring.measure_pair", measured)
    whole = run_study(recipe(bench=bench), tmp_path, Pretends(), lambda _: None, keep_unfit=True)
    assert [row.comparison for row in whole.measured] == [pair]
    assert study(tmp_path, Pretends(), recipe(bench=bench))[0].measured == whole.measured
    assert load_results(tmp_path / RESULTS).measured == whole.measured

    class Interrupted(Pretends):
        def start(self, root, folder):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(recipe(methods=["l1", "taylor"], bench=bench), tmp_path, Interrupted(), lambda _: None)
    assert load_results(tmp_path / RESULTS).measured == whole.measured


def test_mistakes_are_found_before_any_work(tmp_path):
    executor = Pretends()
    with pytest.raises(SourceError, match="unknown data set 'digit'; did you mean 'digits'"):
        study(tmp_path, executor, recipe(data={"name": "digit"}))
    with pytest.raises(SourceError, match="resnet20"):
        study(tmp_path, executor, recipe(network={"name": "cifar:resnet21"}))
    with StageStore(tmp_path).locked(), pytest.raises(OutputError, match="in use"):
        study(tmp_path, executor)
    unprofiled = {"budgets": [{"speed_up": 2, "on": "torch-compile"}], "bench": {"backends": ["torch-compile"]}}
    with pytest.raises(TargetError, match="so no latency table can be made; ask for the speed on another backend"):
        study(tmp_path, executor, recipe(**unprofiled))
    assert executor.done == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["study", "missing.yaml"], "missing.yaml: no such file"),
        (["study", "run", "missing"], "missing: no such file"),
        (["study", "--jobs", "2", "missing.yaml"], "missing.yaml: no such file"),
        (["study", "covrage"], "covrage"),
    ],
)
def test_the_command_line_tells_mistakes_in_one_line(arguments, told, here):
    done = here(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("broken", [{}, {"prune": "killed by SIGKILL"}])
def test_json_is_all_that_stands_on_stdout(tmp_path, here, monkeypatch, broken):
    monkeypatch.setattr(study_command, "_executor", lambda *_: Pretends(broken))
    asked = ("study", _written(tmp_path), "--output", tmp_path / "out", "--no-measure", "--json")
    done = here(*asked)
    assert StudyResults.model_validate_json(done.stdout) == load_results(tmp_path / "out" / RESULTS)
    assert done.returncode == (2 if broken else 0)
    assert "[1/3] dense" in done.stderr
    assert "Page: " in done.stderr
    quiet = here(*asked, "-q")
    assert (quiet.stdout, quiet.stderr, quiet.returncode) == (done.stdout, "", done.returncode)


def _written(tmp_path, **changes):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


@pytest.mark.slow
def test_a_real_study_from_the_command_line(tmp_path, here):
    mended = {"reconstruct": True, "recalibrate": True}
    before = [{"fine-tune": {"epochs": 1, "batch_size": 50, "lr": 0.01}, **mended}]
    whole = {"name": "whole", "method": "l1", "constraints": {"exclude": ["*"]}}
    methods, recoveries = ["l1", "magnitude", whole], [*before, {"mend": {}, "fold_bias": True}, "scratch-b"]
    path = _written(tmp_path, methods=methods, recoveries=recoveries, train={"epochs": 2})
    done = here("study", path, "--output", tmp_path / "out", "--no-measure", "--markdown", tmp_path / "page.md")
    results = load_results(tmp_path / "out" / RESULTS)
    assert (tmp_path / "out" / "study.html").read_text(encoding="utf-8") == study_page(results)
    cells = {(cell.method, cell.recovery.split()[-1]): cell for cell in results.cells}
    assert done.returncode == 2  # rows are missing: see below
    assert cells[("l1", "fine-tuned")].outcome == "ok"
    mended_only = cells[("l1", "training")]
    assert (mended_only.recovery, mended_only.epochs, mended_only.lr) == ("fold bias + no training", 0, None)
    assert mended_only.recovered.loss_validation != mended_only.pruned.loss_validation
    assert cells[("l1", "fine-tuned")].recovery == "reconstruct + recalibrate + fine-tuned"
    result = json.loads((tmp_path / "out" / cells[("l1", "fine-tuned")].folder / "result.json").read_text())
    assert {name: "layers" in found for name, found in result["before"].items()} == dict.fromkeys(mended, True)
    assert cells[("l1", "Scratch-B")].epochs == 4  # half of the FLOPs: twice as many epochs
    assert cells[("l1", "Scratch-B")].lr == 0.1
    assert cells[("magnitude", "fine-tuned")].outcome == "ok"  # no layer lost inputs: nothing is reconstructed
    assert cells[("magnitude", "Scratch-B")].outcome == "ok"
    assert cells[("whole", "Scratch-B")].outcome == "failed"
    assert "### What failed" in (tmp_path / "page.md").read_text()
    from safetensors.torch import load_file

    folder = tmp_path / "out" / cells[("magnitude", "Scratch-B")].folder
    weights = load_file(folder / "weights.safetensors")
    share = sum(int((value == 0).sum()) for name, value in weights.items() if value.ndim > 1) / sum(
        value.numel() for name, value in weights.items() if value.ndim > 1
    )
    assert 0.45 < share < 0.55  # zeros stayed zeros, from new weights too
    assert not list(folder.rglob("checkpoints"))


@pytest.mark.slow
def test_a_killed_study_leaves_no_process_and_goes_on_from_its_checkpoint(tmp_path, wait_until, wait_until_gone):
    changes = {"train": {"epochs": 30, "batch_size": 50}, "recoveries": ["scratch-e"]}
    path, out = _written(tmp_path, **changes), tmp_path / "out"
    command = [sys.executable, "-m", "deploy", "study", str(path), "--output", str(out), "--no-measure"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as parent:
        wait_until(lambda: list(out.glob("jobs/dense-*/checkpoints/last.pt")))
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(children)
    (dense,) = out.glob("jobs/dense-*")
    assert not (dense / "done.json").exists()
    killed = run_study(load_study(path), out, LocalProcesses(1), lambda _: None, measured=False)
    whole = run_study(load_study(path), tmp_path / "whole", LocalProcesses(1), lambda _: None, measured=False)
    assert "epoch 30/30" in (dense / "log.txt").read_text()
    for job in killed.cells:
        ours, theirs = (folder / job.folder / "weights.safetensors" for folder in (out, tmp_path / "whole"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert [cell.recovered for cell in killed.cells] == [cell.recovered for cell in whole.cells]
    rows = json.loads((dense / "history.json").read_text())["epochs"]
    assert len(rows) == 30


@pytest.mark.slow
def test_a_job_finds_us_where_the_folder_holds_packages_of_our_names(tmp_path, monkeypatch):
    for name in ("deploy", "pruners", "backends", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger was imported')")
    monkeypatch.chdir(tmp_path)
    (dense,) = jobs_of(recipe()).dense.values()
    results = do_jobs([dense], tmp_path / "out", LocalProcesses(1), lambda _: None, chosen=frozenset({dense.folder}))
    assert results[dense.folder].reason == ""
    assert results[dense.folder].epochs == 1


def test_ctrl_c_ends_the_jobs(tmp_path, wait_until, wait_until_gone):
    path, out = _written(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "deploy", "study", str(path), "--output", str(out), "--no-measure"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as parent:
        wait_until(lambda: list(out.glob("jobs/dense-*/log.txt")))
        wait_until(lambda: psutil.Process(parent.pid).children(recursive=True))
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGINT)
    assert parent.returncode == 130
    wait_until_gone(children)
    assert not list(out.glob("jobs/dense-*/done.json"))
