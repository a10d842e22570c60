"""What a command's exit code says: the gravest of what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.testing import small_cnn
from benchmarks.records.measurement import Fitness, Reason
from deploy.bundles.pruning import DropSearch, DropTry, MaskedCheck, Proof, PruningRecord
from deploy.exit_codes import exit_code, measured_code, run_code, sides
from deploy.results.results import load

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"
ZEROS = """
from backends.null import NullBackend


class Zeros(NullBackend):
    name = "zeros"
"""
UNFIT = Fitness(reasons=(Reason(severity="unfit", words="swap"),))
DOUBTFUL = Fitness(reasons=(Reason(severity="doubtful", words="others"),))


@pytest.fixture
def pair():
    """Give a comparison in which nothing went wrong, on a fit machine."""
    found = next(one for one in load(GOLDEN).comparisons if one.candidate.failure is None)
    fine = {"fitness": Fitness()}
    return found.model_copy(
        update={
            "verdict": "equivalent",
            "baseline": found.baseline.model_copy(update=fine),
            "candidate": found.candidate.model_copy(update=fine),
        }
    )


def results(pair, *, verdict="equivalent", **candidate):
    """Give results that hold the pair, with changes."""
    side = pair.candidate.model_copy(update=candidate)
    changed = pair.model_copy(update={"verdict": verdict, "candidate": side})
    return load(GOLDEN).model_copy(update={"comparisons": (changed,), "skipped": ()})


def searched(pair, *, drop, reach=1.0, beyond=False, **candidate):
    """Give results of a run that was allowed to lose 1 point, and kept the only network it tried."""
    tries = (DropTry(asked="2.00x the speed on ort", reach=reach, drop=drop),)
    search = DropSearch(allowed=1, tries=tries, kept=0, beyond_target=beyond)
    proof = Proof(verification=MaskedCheck(reference="masked parameters"), form="module", drop=search)
    found = results(pair, **candidate)
    pruned = found.models[1].model_copy(update={"pruning": PruningRecord(groups=(), proof=proof)})
    return found.model_copy(update={"models": (found.models[0], pruned)})


WRONG = {"failure": "wrong answers", "failure_kind": "WrongAnswersError"}
DEAD = {"failure": "killed by SIGSEGV", "failure_kind": "WorkerError"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"verdict": "faster"}, 0),
        ({"verdict": "slower"}, 1),
        ({"verdict": "inconclusive"}, 3),
        ({"fitness": DOUBTFUL}, 0),
        ({"fitness": UNFIT}, 4),
        ({"fitness": UNFIT, "verdict": "slower"}, 4),
        ({"verdict": "failed", **DEAD}, 2),
        ({"verdict": "failed", "fitness": UNFIT, **DEAD}, 2),
        ({"verdict": "failed", **WRONG}, 5),
        ({"verdict": "failed", "fitness": UNFIT, **WRONG}, 5),
    ],
)
def test_the_gravest_decides(pair, changes, code):
    assert exit_code(results(pair, **changes)) == code


def test_wrong_answers_are_graver_than_a_process_that_died(pair):
    found = results(pair, verdict="failed", **DEAD)
    both = (found.comparisons[0].candidate, found.comparisons[0].baseline.model_copy(update=WRONG))
    assert measured_code(both) == measured_code(both[::-1]) == 5


@pytest.mark.parametrize(("verdict", "code"), [("slower", 1), ("inconclusive", 3), ("equivalent", 0)])
def test_who_accepts_an_unfit_machine_gets_the_verdict(pair, verdict, code):
    assert exit_code(results(pair, verdict=verdict, fitness=UNFIT).model_copy(update={"accepts_unfit": True})) == code


def test_a_study_asks_for_nothing_but_that_all_is_there_and_right(pair):
    slower = pair.model_copy(update={"verdict": "slower"})
    assert measured_code(sides([slower, None])) == 0
    assert measured_code(sides([slower]), missing=True) == 2
    unfit = pair.model_copy(update={"baseline": pair.baseline.model_copy(update={"fitness": UNFIT})})
    assert [measured_code(sides([unfit]), accept_unfit=accepted) for accepted in (False, True)] == [4, 0]
    wrong = pair.model_copy(update={"candidate": pair.candidate.model_copy(update=WRONG)})
    assert measured_code(sides([wrong, unfit]), missing=True) == 5


@pytest.mark.parametrize(
    "command", [("bench", "--trials", "2", "--budget", "5"), ("load", "--scenario", "offline", "--duration", "1")]
)
def test_wrong_answers_end_with_5_from_the_command_line(tmp_path, install_backends, command, here):
    install_backends(ZEROS, {"zeros": "Zeros"})
    model = small_cnn(tmp_path / "m.onnx")
    done = here(*command, model, "-b", "zeros")
    assert done.returncode == 5, done.stderr
    assert "wrong answers" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_machine_that_is_far_slower_than_at_its_best_ends_with_4(tmp_path, monkeypatch, here):
    state = tmp_path / "state"
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(state))
    model = small_cnn(tmp_path / "m.onnx")
    command = ("bench", model, "-b", "ort", "--trials", "2", "--budget", "5")
    assert here(*command).returncode in (0, 4)  # as busy as it is
    (best,) = (state / "probe").glob("*.json")
    known = json.loads(best.read_text())
    best.write_text(json.dumps({**known, "spin_ns": known["spin_ns"] // 1000}))
    done = here(*command)
    assert done.returncode == 4, done.stderr
    assert "x slower than this machine's best" in " ".join((done.stdout + done.stderr).split())
    assert here(*command, "--accept-unfit").returncode == 0


def test_a_quick_comparison_claims_nothing(tmp_path, here):
    model = small_cnn(tmp_path / "m.onnx")
    saved = tmp_path / "results.json"
    done = here("compare", model, model, "--fast", "--accept-unfit", "--output", saved)
    assert done.returncode == 3, done.stderr
    assert "measure without --fast" in " ".join(done.stdout.split())
    (found,) = load(saved).comparisons
    assert found.verdict == "inconclusive"
    assert all("not a verdict: measured with --fast" in side.doubts for side in found.sides)
    assert here("bench", model, "--fast", "--accept-unfit").returncode == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"drop": 1.0}, 0),
        ({"drop": -0.5}, 0),
        ({"drop": 1.01}, 6),
        ({"drop": 0.5, "reach": 0.5}, 6),
        ({"drop": 0.5, "reach": 0.5, "beyond": True}, 0),
        ({"drop": 0.5, "verdict": "slower"}, 0),
        ({"drop": 3, **WRONG}, 5),
        ({"drop": 3, **DEAD}, 2),
        ({"drop": 3, "fitness": UNFIT}, 4),
    ],
)
def test_a_run_whose_target_is_not_reached_within_the_allowed_drop_says_so(pair, changes, code):
    assert run_code(searched(pair, **changes)) == code
