"""What a person sees in a terminal, held to golden files: at 80 and 120 columns, on a tty and in a pipe.

``pytest tests/test_deploy/test_report/test_terminal.py --remake`` writes the golden files anew; read the difference.
"""

from __future__ import annotations

import io
import lzma
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from benchmarks.layers.comparison import LayerReport
from benchmarks.layers.explanation import Explanation
from benchmarks.records.measurement import Fitness, Interval, Reason
from benchmarks.scenarios.load import LoadMeasurement
from deploy.bundles.pruning import DropSearch, DropTry, MaskedCheck, Proof, PruningRecord
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.wishes import wishes_of
from deploy.report.explanation import explanation_tables
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.report.load_table import load_table
from deploy.report.page import page
from deploy.report.table import Table
from deploy.report.terminal import print_results, print_table
from deploy.results.results import Results, load

RECORDED = Path(__file__).parents[2] / "golden"
GOLDEN = Path(__file__).parent / "golden"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
PATHS = {"dense": "runs/demo/export/dense", "pruned": "runs/demo/export/pruned"}
PAGE = "runs/demo/report.html"
UNFIT = Fitness(reasons=(Reason(severity="unfit", words="the hypervisor took 31 % of the cores' time"),))
WIDE = Interval(value=1.02, low=0.9, high=1.15, confidence=0.97, n=8)
SLOW = Interval(value=0.82, low=0.79, high=0.86, confidence=0.97, n=8)
WRONG = "wrong answers: output 'y' differs by 0.31 where 0.001 is allowed"


@pytest.fixture(scope="module")
def recorded() -> Results:
    return load(RECORDED / "results-v1.json")


def on_ort(found: Results, *, fit: Fitness = Fitness(), failure: str = "", score: float = 0.9667, **pair) -> Results:  # noqa: B008
    """Keep the comparison on ort: a run on a machine that was looked at, with changes."""
    kept = found.comparisons[0]
    failed = {"failure": failure, "failure_kind": "WrongAnswersError", "trials": ()} if failure else {}
    sides = {
        "baseline": kept.baseline.model_copy(update={"fitness": fit}),
        "candidate": kept.candidate.model_copy(update={"fitness": fit, **failed}),
    }
    dense, pruned = (row.model_copy(update={"n_classes": 10, "backend_scores": {}}) for row in found.models)
    models = (dense, pruned.model_copy(update={"score_test": score}))
    kept = kept.model_copy(update={**sides, **pair})
    return found.model_copy(
        update={"comparisons": (kept,), "models": models, "skipped": (), "notes": (), "recipe": None}
    )


def alone(found: Results) -> Results:
    pair = on_ort(found)
    measured = (pair.comparisons[0].candidate,)
    return pair.model_copy(update={"comparisons": (), "measurements": measured, "models": pair.models[1:]})


def searched(found: Results, *, kept: int = 1) -> Results:
    """Make a run that was allowed to lose 1 point."""
    pair = on_ort(found)
    tries = (
        DropTry(asked="2.00x the speed on ort", reach=1, drop=2.7 if kept else 0.8),
        DropTry(asked="1.41x the speed on ort", reach=0.5, drop=0.4),
    )
    search = DropSearch(allowed=1, tries=tries[: kept + 1], kept=kept)
    form = Proof(verification=MaskedCheck(reference="masked parameters"), form="module", drop=search)
    pruned = pair.models[1].model_copy(update={"pruning": PruningRecord(groups=(), proof=form)})
    return pair.model_copy(update={"models": (pair.models[0], pruned), "recipe": {"name": "own"}})


def cases(found: Results, tmp_path: Path) -> Iterator[tuple[str, Results, int | None]]:
    """Yield what is shown: its name, the results, and the exit code where results do not tell it."""
    yield "faster", on_ort(found), None
    yield "slower", on_ort(found, verdict="slower", speedup=SLOW), None
    yield "one backend failed, one is missing, one is slower", found, None
    yield "inconclusive", on_ort(found, verdict="inconclusive", speedup=WIDE), None
    yield "unfit", on_ort(found, fit=UNFIT), None
    yield "wrong answers", on_ort(found, failure=WRONG, verdict="failed", speedup=None), None
    yield "target not reached", searched(found), None
    yield "within the allowed drop", searched(found, kept=0), None
    yield "fell to chance", on_ort(found, score=0.1), None
    yield "one model", alone(found), None
    run = tmp_path / "run.json"
    run.write_bytes(lzma.decompress((RECORDED / "run-v3" / "results.json.xz").read_bytes()))
    yield "a run on a busy machine", load(run), None


def shown(found: Results, width: int, *, tty: bool = False, code: int | None = None, verbose: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, highlight=False, force_terminal=tty, color_system="standard" if tty else None
    )
    print_results(found, console, code=code, paths=PATHS, page=PAGE, verbose=verbose)
    return stream.getvalue()


def neat(text: str, width: int) -> list[str]:
    """Return the lines without styles; none is wider than the terminal or ends in blanks."""
    lines = STYLE.sub("", text).splitlines()
    for line in lines:
        assert cell_len(line) <= width, line
        assert line == line.rstrip(), repr(line)
    return lines


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
@pytest.mark.parametrize("width", [80, 120])
def test_the_answer_is_as_in_the_golden_file(recorded, tmp_path, width, tty, request):
    told = "\n".join(
        f"=== {name}\n{shown(found, width, tty=tty, code=code)}" for name, found, code in cases(recorded, tmp_path)
    )
    golden = GOLDEN / f"{'tty' if tty else 'pipe'}-{width}.txt"
    if request.config.getoption("--remake"):
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")
    neat(told, width)
    assert tty or told.isascii()
    assert tty == ("\x1b[" in told)


def test_the_tables_are_as_in_the_golden_file(recorded, request):
    told = shown(recorded, 80, verbose=True)
    golden = GOLDEN / "verbose-pipe-80.txt"
    if request.config.getoption("--remake"):
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")
    assert told.isascii()
    assert told.startswith(shown(recorded, 80).replace("; -v)", " [1])").partition("  note")[0])


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_answer_comes_first(recorded, tmp_path, width):
    for name, found, code in cases(recorded, tmp_path):
        lines = neat(shown(found, width, code=code), width)
        assert re.match(r"(\w+: )?pruned( against dense)?\b", lines[0]), name
        answer = "\n".join(lines[:12])
        assert all(pair.candidate.subject.backend in answer for pair in found.comparisons)
        assert re.search(r"accuracy .*%", answer), name
        assert len(lines) <= 24, name


@pytest.mark.parametrize(
    ("name", "sentence", "remedy"),
    [
        ("faster", "exit 0: faster on ort", None),
        ("slower", "exit 1: slower on ort", "keep the baseline, or see why: deploy explain"),
        ("one backend failed, one is missing, one is slower", "exit 2: not measured on torch, trt", "NVIDIA"),
        ("inconclusive", "exit 3: not decided on ort: the interval holds both faster and slower", "measure longer"),
        ("unfit", "exit 4: the machine was not fit for measuring: the hypervisor took 31 %", "--accept-unfit"),
        ("wrong answers", "exit 5: wrong answers: pruned on ort", "do not use it there"),
        ("target not reached", "exit 6: target not reached", "allow a larger max_drop"),
    ],
)
def test_each_exit_code_says_itself_in_words(recorded, tmp_path, name, sentence, remedy):
    found, code = {name: (found, code) for name, found, code in cases(recorded, tmp_path)}[name]
    text = " ".join(shown(found, 80, code=code).split())
    assert sentence in text
    assert remedy is None or remedy in text.partition(sentence)[2] or remedy in text


def test_the_page_says_what_the_terminal_says(recorded, tmp_path):
    """Exit codes 3 to 6 stand above all of it, with what to do; what was asked for is told in the same words."""
    alarmed = set()
    for name, found, code in cases(recorded, tmp_path):
        answer, terminal = answer_of(found, code), " ".join(shown(found, 300, code=code).split())
        written = " ".join(unescape(re.sub("<[^>]*>", "", page(found))).split())
        for wish in wishes_of(answer):
            assert f"{wish.words} {wish.verdict}" in terminal, name
            assert f"{wish.words} {wish.verdict}" in written, name
        if '<p class="banner"' in page(found):
            alarmed.add(name)
            for words in (answer.ending.sentence, answer.ending.remedy):
                assert words in terminal, name
                assert words.casefold() in written.casefold(), name
            assert f"(exit code {answer.ending.code})" in written
    assert alarmed == {"inconclusive", "unfit", "wrong answers", "target not reached", "a run on a busy machine"}


def test_what_was_not_promised_is_not_realised(recorded):
    def realised(found: Results) -> str:
        return re.search(r"ort +\S+ +1\.58x \[1\.50, 1\.62\] +(.*?) +faster", shown(found, 80, verbose=True))[1]

    rose = recorded.comparisons[0].baseline_cost.model_copy(update={"macs": 1})
    assert realised(on_ort(recorded)) == "79 % [75, 81]"
    assert realised(on_ort(recorded, baseline_cost=rose)) == "-"
    assert realised(on_ort(recorded, score=0.1)) == "-"
    assert "FELL TO CHANCE" in shown(on_ort(recorded, score=0.1), 80)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_whatever_things_are_called_no_line_is_too_wide(recorded, width):
    pair = recorded.comparisons[0]
    name = "模型[bold]\x1b[31m" * 9
    side = pair.candidate.model_copy(
        update={
            "subject": pair.candidate.subject.model_copy(update={"backend": name, "label": name}),
            "doubts": (f"{name} was busy",),
        }
    )
    found = recorded.model_copy(
        update={
            "comparisons": (*recorded.comparisons, pair.model_copy(update={"candidate": side})),
            "models": tuple(row.model_copy(update={"label": name, "file": name}) for row in recorded.models),
            "notes": (name,),
            "environment": recorded.environment.model_copy(update={"cpu": name}),
        }
    )
    text = shown(found, width)
    assert "\x1b" not in text
    assert "[bold]" in text.replace("\n", "").replace(" ", "")
    neat(text, width)


def test_no_color_leaves_no_colour(recorded, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {code for style in STYLE.findall(shown(recorded, 80, tty=True)) for code in style[2:-1].split(";")}
    assert codes <= {"0", "1"}, "bold is no colour"


def recorded_tables() -> Iterator[Table]:
    """Yield the tables of `load`, `layers` and `explain`."""
    lines = (RECORDED / "load-1.jsonl").read_text(encoding="utf-8").splitlines()
    yield load_table([LoadMeasurement.model_validate_json(line) for line in lines])
    report = LayerReport.model_validate_json((RECORDED / "layers-1.json").read_text(encoding="utf-8"))
    for profile in report.profiles:
        yield from profile_tables(profile)
    for pair in report.comparisons:
        yield from comparison_tables(pair)
    yield from explanation_tables(
        Explanation.model_validate_json((RECORDED / "explanation-1.json").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
def test_tables_of_every_kind_are_neat(recorded, width, tty):
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, force_terminal=tty, color_system=None)
    for table in recorded_tables():
        print_table(table, console)
    neat(stream.getvalue() + shown(recorded, width, tty=tty, verbose=True), width)
