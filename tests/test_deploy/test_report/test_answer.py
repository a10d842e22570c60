"""The answer as data: verdicts, accuracy that is called what it is, grouped doubts, and every exit code in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.records.measurement import Fitness, Interval, Reason
from benchmarks.settings import NOT_A_VERDICT
from benchmarks.stats.caveats import is_noise
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.doubts import doubts_of, noise_of
from deploy.report.answer.records import AllowedDrop
from deploy.report.answer.scores import is_chance, score_verdict
from deploy.report.answer.wishes import wishes_of
from deploy.results.results import Results, load

GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"
UNFIT = Fitness(reasons=(Reason(severity="unfit", words="the hypervisor took 31 % of the cores' time"),))


@pytest.fixture
def results() -> Results:
    return load(GOLDEN)


def on_ort(results: Results, *, recipe=None, candidate=None, baseline=None, models=None, **pair) -> Results:
    """Keep the comparison on ort, with changes."""
    kept = results.comparisons[0]
    sides = {
        "candidate": kept.candidate.model_copy(update=candidate or {}),
        "baseline": kept.baseline.model_copy(update=baseline or {}),
    }
    rows = tuple(row.model_copy(update=change) for row, change in zip(results.models, models or ({}, {}), strict=True))
    return results.model_copy(
        update={
            "comparisons": (kept.model_copy(update={**sides, **pair}),),
            "skipped": (),
            "recipe": recipe,
            "models": rows,
        }
    )


def test_rows_carry_what_was_measured(results):
    answer = answer_of(results)
    pair, rows = results.comparisons[0], answer.backends
    assert [(row.place, row.verdict) for row in rows] == [
        ("ort", "faster"),
        ("openvino", "slower"),
        ("torch", "failed"),
        ("trt", "skipped"),
    ]
    assert rows[0].speedup == pair.speedup
    assert rows[0].promised == pair.flop_ratio
    assert rows[0].realised == pytest.approx(pair.realised)
    assert rows[0].baseline.p50_ns > rows[0].candidate.p50_ns
    assert (rows[2].candidate, rows[2].reason) == (None, "the process was killed by signal 9")
    assert rows[3].hint == "run on a machine that has one"
    assert answer.checked.right == ("ort", "openvino")
    assert answer.scores.on_backends == (("openvino", 0.9567),)
    assert (answer.size.before, answer.size.after) == (1_100_000, 580_000)
    assert answer.is_pair


# Accuracy


def test_a_fall_to_chance_is_called_that(results):
    models = ({"score_test": 0.95, "n_classes": 4}, {"score_test": 0.25, "n_classes": 4, "n_test": 300})
    answer = answer_of(on_ort(results, models=models))
    assert answer.scores.verdict == "fell to chance"
    assert answer.ending.sentence == "faster on ort, but its accuracy is that of guessing"
    assert answer.backends[0].realised is None
    unknown = answer_of(on_ort(results, models=tuple({**row, "n_classes": None} for row in models)))
    assert unknown.scores.verdict == "fell"
    assert unknown.backends[0].realised is not None


@pytest.mark.parametrize(
    ("before", "after", "n_examples", "n_classes", "verdict"),
    [
        (0.9777, 0.9749, 359, 10, "ok"),
        (0.9, 0.95, 300, 2, "ok"),
        (1.0, 1.0, 300, 2, "ok"),
        (0.95, 0.80, 300, 2, "fell"),
        (0.76, 0.74, 50_000, 1000, "fell"),
        (0.95, 0.52, 300, 2, "fell to chance"),
        (0.95, 0.0, 300, 10, "fell to chance"),
        (0.10, 0.11, 300, 10, "at chance"),
        (None, 0.11, 300, 10, "at chance"),
        (None, 0.97, 300, 10, ""),
        (0.95, 0.25, None, 4, ""),
        (0.95, None, 300, 4, ""),
    ],
)
def test_what_a_change_of_accuracy_shows(before, after, n_examples, n_classes, verdict):
    assert score_verdict("accuracy", before, after, n_examples, n_classes) == verdict


def test_guessing_is_rarely_taken_for_knowing():
    taken = [is_chance(right / 300, 300, 4) for right in range(301)]
    assert taken == sorted(taken, reverse=True)
    assert is_chance(75 / 300, 300, 4)
    assert not is_chance(100 / 300, 300, 4)


def test_of_decibels_no_verdict_is_made_up():
    assert score_verdict("psnr", 28.3, 20.0, 100, None) == ""


# Doubts


def test_doubts_that_differ_in_figures_are_said_once(results):
    few = "only 120 timed calls: too few for a p99"
    found = on_ort(
        results,
        baseline={"doubts": ("the processes' medians differ by 12 %", few)},
        candidate={"doubts": (few, "the processes' medians differ by 24 %", "latency moved by -7 % from")},
    )
    doubts = doubts_of(found)
    assert [doubt.words for doubt in doubts] == [
        "the processes' medians differ by 12 to 24 %",
        "latency moved by -7 % from",
        few,
    ]
    assert doubts[0].where == ("dense on ort", "pruned on ort")
    assert [doubt.noise for doubt in doubts] == [True, True, False]
    assert noise_of(found.all_measurements(), doubts).signs == 2


def test_noise_is_graded(results):
    def grade(**side):
        return answer_of(on_ort(results, baseline=side, candidate=side)).noise.grade

    trials = results.comparisons[0].candidate.trials
    slow = tuple(
        trial.model_copy(update={"blocks_ns": tuple(tuple(3 * ns for ns in block) for block in trial.blocks_ns)})
        for trial in trials
    )
    assert grade() is None  # nobody looked
    assert grade(fitness=Fitness()) == "LOW"
    assert grade(fitness=Fitness(), doubts=("other processes used 12 % of the cores' time",)) == "MODERATE"
    assert grade(fitness=Fitness(), doubts=("6 trials; a 95 % interval needs at least 6",)) == "LOW"
    assert grade(fitness=UNFIT) == "HIGH"
    assert grade(fitness=Fitness(), trials=(*trials[:3], *slow[3:])) == "HIGH"


def test_a_first_look_is_no_noise():
    assert not is_noise(NOT_A_VERDICT)
    assert is_noise("SMT siblings of the cores were busy 20 % of the time")


# The ending

WIDE = Interval(value=1.0, low=0.8, high=1.2, confidence=0.97, n=8)
WRONG = {"failure": "wrong answers: error 3", "failure_kind": "WrongAnswersError", "trials": ()}
DEAD = {"failure": "killed by SIGSEGV", "failure_kind": "WorkerError", "trials": ()}


@pytest.mark.parametrize(
    ("code", "changes", "sentence", "remedy"),
    [
        (0, {}, "faster on ort", ""),
        (0, {"verdict": "equivalent"}, "no difference of 3 % on ort", ""),
        (1, {"verdict": "slower"}, "slower on ort", "deploy explain"),
        (2, {"verdict": "failed", "speedup": None, "candidate": DEAD}, "not measured on ort", "leave it out"),
        (3, {"verdict": "inconclusive", "speedup": WIDE}, "not decided on ort: the interval holds both", "--budget"),
        (4, {"candidate": {"fitness": UNFIT}}, "not fit for measuring: the hypervisor took 31 %", "--accept-unfit"),
        (5, {"verdict": "failed", "speedup": None, "candidate": WRONG}, "wrong answers: pruned on ort", "--precision"),
    ],
)
def test_each_exit_code_says_itself_and_its_remedy(results, code, changes, sentence, remedy):
    ending = answer_of(on_ort(results, **changes)).ending
    assert ending.code == code
    assert sentence in ending.sentence
    assert remedy in ending.remedy
    assert bool(ending.remedy) == (code != 0)


def test_a_first_look_is_decided_by_a_longer_one(results):
    quick = on_ort(results, verdict="inconclusive", speedup=WIDE, candidate={"doubts": (NOT_A_VERDICT,)})
    assert "without --fast" in answer_of(quick).ending.remedy


def test_a_run_that_got_slower_is_an_answer(results):
    ending = answer_of(on_ort(results, recipe={"name": "demo"}, verdict="slower")).ending
    assert (ending.code, ending.sentence) == (0, "slower on ort")


def test_less_than_promised_names_the_command_that_explains_it(results):
    found = on_ort(results)
    paths = {"dense": "a b.onnx", "pruned": "pruned.onnx"}
    threads = found.comparisons[0].candidate.subject.threads
    command = f"deploy explain pruned.onnx --against 'a b.onnx' --backend ort --threads {threads}"
    assert answer_of(found, paths=paths).explain == command
    pair = found.comparisons[0]
    subject = pair.candidate.subject.model_copy(update={"precision": "fp16", "device": "cuda", "batch": 8})
    other = on_ort(results, candidate={"subject": subject})
    assert answer_of(other, paths=paths).explain == f"{command} --precision fp16 --device cuda --batch 8"
    sized = pair.candidate.subject.model_copy(update={"shapes": {"x": (1, 3, 640, 640)}})
    assert answer_of(on_ort(results, candidate={"subject": sized}), paths=paths).explain == (
        f"{command} --shape x=1,3,640,640"
    )
    compiled = pair.candidate.subject.model_copy(update={"backend": "torch-compile"})
    assert answer_of(on_ort(results, candidate={"subject": compiled}), paths=paths).explain == ""
    assert answer_of(found).explain == ""
    rose = found.comparisons[0].baseline_cost.model_copy(update={"macs": 1})
    assert answer_of(on_ort(results, baseline_cost=rose), paths=paths).explain == ""


def test_a_regression_names_the_command_for_what_became_slower(results):
    """Here it is faster on ort than before, if not as fast as promised, and slower on openvino."""
    paths = {"dense": "dense.onnx", "pruned": "pruned.onnx"}
    answer = answer_of(results, code=1, paths=paths)
    assert "--backend ort" in answer.explain
    assert answer.short_of == answer.backends[0].promised
    assert answer.ending.remedy.startswith(
        "keep the baseline, or see why: deploy explain pruned.onnx --against dense.onnx --backend openvino"
    )
    assert "deploy explain MODEL --against BASELINE --backend openvino" in answer_of(results, code=1).ending.remedy
    compiled = results.comparisons[0].candidate.subject.model_copy(update={"backend": "torch-compile"})
    alone = on_ort(results, verdict="slower", candidate={"subject": compiled})
    assert answer_of(alone, code=1, paths=paths).ending.remedy == "keep the baseline"


def test_nothing_lost_of_nothing_allowed_has_no_minus(results):
    drop = AllowedDrop(
        metric="accuracy", allowed=0.0, lost=0.0, kept="half", others=(("less", 1.0), ("least", None)), reached=False
    )
    *_, told = wishes_of(replace(answer_of(results), drop=drop))
    assert told.words == "half: +0.00 points on validation, 0 allowed; less: -1.00; least: out of reach"
