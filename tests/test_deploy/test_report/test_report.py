"""Report promises: everything is told, no bare ratio, readable in 80 columns and on a page that needs nothing else."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.records.measurement import Interval, Measurement
from benchmarks.settings import NOT_A_VERDICT
from benchmarks.stats.summary import summarise
from deploy.errors import OutputError
from deploy.report.formatting import answer, duration, interval, rate, size
from deploy.report.page import page, write_page
from deploy.report.tables import doubts_table, tables
from deploy.report.terminal import print_results
from deploy.results.results import Results, load

GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"
EVIL = "<script>alert('x')</script> & [bold]\"quoted\"[/bold]"
VOID = {"meta", "link", "br", "hr", "img", "input"}


@pytest.fixture
def results() -> Results:
    return load(GOLDEN)


def changed(found: Measurement, **subject) -> Measurement:
    return found.model_copy(update={"subject": found.subject.model_copy(update=subject)})


def only(results: Results, backend: str, **pair) -> Results:
    """Keep one backend's comparison, with changes."""
    kept = next(one for one in results.comparisons if one.candidate.subject.backend == backend)
    return results.model_copy(update={"comparisons": (kept.model_copy(update=pair),), "skipped": ()})


def alone(results: Results, label: str = "small", doubts: tuple[str, ...] = ()) -> Results:
    """What `deploy bench` of a single model gives."""
    found = changed(results.comparisons[0].candidate, label=label).model_copy(update={"doubts": doubts})
    row = results.models[1].model_copy(update={"label": label})
    return results.model_copy(
        update={"comparisons": (), "measurements": (found,), "skipped": (), "models": (row,), "recipe": None}
    )


def evil(results: Results) -> Results:
    """Put markup everywhere where text comes from outside."""
    doubtful = results.comparisons[0].candidate.model_copy(update={"doubts": (EVIL,)})
    pair = results.comparisons[0].model_copy(
        update={
            "candidate": changed(doubtful, label=EVIL, backend=EVIL),
            "baseline": changed(results.comparisons[0].baseline, backend=EVIL),
        }
    )
    failing = results.comparisons[2].candidate.model_copy(update={"failure": EVIL})
    return results.model_copy(
        update={
            "title": EVIL,
            "notes": (EVIL,),
            "comparisons": (pair, results.comparisons[2].model_copy(update={"candidate": failing})),
            "models": tuple(row.model_copy(update={"file": EVIL, "method": EVIL}) for row in results.models),
            "skipped": (results.skipped[0].model_copy(update={"backend": EVIL, "reason": EVIL, "hint": EVIL}),),
            "environment": results.environment.model_copy(update={"cpu": EVIL, "packages": {EVIL: EVIL}}),
            "recipe": {EVIL: EVIL},
        }
    )


def printed(results: Results, width: int) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    print_results(results, Console(file=stream, width=width, highlight=False), verbose=True)
    stream.flush()
    return raw.getvalue().decode()


# The answer


def test_the_answer_tells_each_backend_with_interval_and_promise(results):
    said = answer(results)
    pair = results.comparisons[0]
    assert said.startswith("FLOPs fell 2.00x and test accuracy went from 97.50 % to 96.67 %; on this machine ort got ")
    assert f"{interval(pair.speedup)} faster ({100 * pair.realised:.0f} % of the promise)" in said
    assert "openvino got SLOWER: 0.8" in said
    assert "torch failed: the process was killed by signal 9" in said
    assert "trt was skipped: there is no NVIDIA GPU" in said
    assert said.endswith(".")
    assert "\n" not in said


def restored(results: Results) -> Results:
    """The same run of a network that restores images."""
    changes = {
        "dense": {"score_validation": 29.0, "score_test": 28.31, "backend_scores": {"ort": 28.31}},
        "pruned": {"score_validation": 28.5, "score_test": 28.1, "backend_scores": {"ort": 28.1, "openvino": 28.05}},
    }
    models = tuple(row.model_copy(update={"metric": "psnr", **changes[row.label]}) for row in results.models)
    return results.model_copy(update={"models": models})


def test_a_network_that_restores_images_is_told_in_decibels(results):
    found = restored(results)
    assert "test PSNR went from 28.31 dB to 28.10 dB" in answer(found)
    text = " ".join(printed(found, 160).split())
    assert "PSNR, validation 29.00 dB 28.50 dB -0.50 dB" in text
    assert "PSNR, test 28.31 dB 28.10 dB -0.21 dB" in text
    assert "executed test PSNR" in text
    assert "test PSNR differs from torch's 28.10 dB by -0.05 dB" in text
    assert "accuracy" not in text


def test_what_was_not_shown_is_not_claimed(results):
    near = Interval(value=1.005, low=0.97, high=1.04, confidence=0.96, n=6)
    few = near.model_copy(update={"confidence": 0.5, "n": 2})
    equivalent = answer(only(results, "ort", verdict="equivalent", speedup=near))
    assert "ort showed no difference of 3 %: 1.00x [0.97, 1.04]" in equivalent
    assert "faster" not in equivalent
    inconclusive = answer(only(results, "ort", verdict="inconclusive", speedup=few))
    assert "ort was INCONCLUSIVE, 2 pairs of processes are too few for a verdict: 1.00x" in inconclusive
    wide = near.model_copy(update={"low": 0.9, "high": 1.1})
    said = answer(only(results, "ort", verdict="inconclusive", speedup=wide))
    assert "the interval holds both faster and slower" in said
    small = near.model_copy(update={"value": 1.02, "low": 1.01, "high": 1.05})
    said = answer(only(results, "ort", verdict="inconclusive", speedup=small))
    assert "a difference, but not surely one of 3 %" in said


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(5, 10, "FLOPs ROSE 2.00x"), (10, 10, "FLOPs stayed the same (1.00x)"), (0, 10, "FLOPs cannot be compared")],
)
def test_other_changes_of_flops_are_told_as_they_are(results, before, after, words):
    pair = results.comparisons[0]
    found = only(
        results,
        "ort",
        baseline_cost=pair.baseline_cost.model_copy(update={"macs": before}),
        candidate_cost=pair.candidate_cost.model_copy(update={"macs": after}),
    )
    assert words in answer(found)
    printed(found, 80)
    assert "<svg" in page(found)


def test_pairs_of_different_networks_carry_their_own_promise(results):
    second = results.comparisons[1]
    other = second.model_copy(update={"candidate_cost": second.candidate_cost.model_copy(update={"macs": 2_500_000})})
    said = answer(results.model_copy(update={"comparisons": (results.comparisons[0], other)}))
    assert "where FLOPs fell 2.00x" in said
    assert "where FLOPs fell 4.00x" in said


def test_a_single_model_is_told_without_a_ratio(results):
    said = answer(alone(results))
    told = summarise(alone(results).measurements[0])
    assert said.startswith(f"On this machine small takes {duration(told.p50_ns)} on ort (median of 120 calls in 6 ")
    assert "FLOP" not in said


# Tables


def test_no_speed_up_without_interval_and_flop_ratio(results):
    for table in tables(results):
        assert ("speed-up" in table.columns) == ("FLOP ratio" in table.columns)
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            if "speed-up" in cells and cells["verdict"] != "failed [1]":
                assert re.fullmatch(r"\d+\.\d\dx \[\d+\.\d\d, \d+\.\d\d\]", cells["speed-up"])
                assert cells["FLOP ratio"] == "2.00x"


def test_every_measured_number_is_in_the_tables(results):
    text = printed(results, 120)
    for found in results.all_measurements():
        if found.failure is not None:
            assert found.failure in text
            continue
        told = summarise(found)
        assert told.p99_ns is None, "120 calls show no p99"
        for ns in (told.p50_ns, told.p90_ns, told.mean_ns, told.load_ns, told.first_run_ns):
            assert duration(ns) in text
        for number in (told.peak_bytes, told.model_bytes):
            assert size(number) in text
        assert rate(told.throughput_per_s) in text
    for words in ("FLOPs", "MACs", "parameters", "ONNX file", "97.50 %", "-0.83 points", "taylor", "SLOWER"):
        assert words in text
    assert "other processes used 31%" in text
    assert "there is no NVIDIA GPU; run on a machine that has one" in text
    assert "test accuracy differs from torch's 96.67 % by -1.00 points" in " ".join(text.split())
    assert "note       The samples are simulated." in text


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", [lambda results: results, alone])
def test_tables_stand_without_wrapped_cells(results, width, kind):
    found = kind(results)
    lines = printed(found, width).splitlines()
    assert max(map(len, lines)) <= width
    for table in tables(found):
        for row in table.rows:
            pattern = r"\s+".join(re.escape(cell) for cell in row if cell)
            assert any(re.fullmatch(rf"\s*{pattern}\s*", line) for line in lines), f"{row} is not on one line"


def test_percentiles_that_the_sample_cannot_show_are_left_out(results):
    short = alone(results).measurements[0]
    trial = short.trials[0].model_copy(update={"blocks_ns": ((1000, 1100, 1200),)})
    few = alone(results).model_copy(update={"measurements": (short.model_copy(update={"trials": (trial,)}),)})
    latency = next(table for table in tables(few) if "p99" in table.columns)
    assert latency.rows[0][2:6] == ("1.10 us", "-", "-", "-")
    assert "<svg" in page(few)
    assert "in 1 process)" in answer(few)


def test_wrong_answers_are_told(results):
    pair = only(results, "torch").comparisons[0]
    bad = pair.candidate.model_copy(update={"failure": "wrong answers: error 3", "failure_kind": "WrongAnswersError"})
    found = only(results, "torch", candidate=bad)
    table = next(table for table in tables(found) if "answers" in table.columns)
    assert table.rows[1][:3] == ("torch", "pruned", "WRONG [1]")
    assert table.notes == ("wrong answers: error 3",)


# The page


class Checker(HTMLParser):
    """Follows the tags of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.names: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.words: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names.append(tag)
        assert not any(key.startswith("on") for key in given), f"{tag} carries a script"
        assert not given.keys() & {"src", "href", "srcset", "data"}, f"{tag} fetches something"
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "svg":
            self.figures += 1
            self.labelled += given["aria-labelledby"].split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.labelled) <= set(checker.ids)
    assert "script" not in checker.names
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "nan" not in re.findall(r'="([^"]*)"', text)
    return checker


@pytest.mark.parametrize("kind", [lambda results: results, alone, evil])
def test_the_page_is_whole_and_needs_nothing_else(results, kind):
    checked(page(kind(results)))


def test_the_page_tells_what_the_tables_tell(results):
    checker = checked(page(results))
    words = " ".join(" ".join(checker.words).split())
    assert words.index(answer(results)) < words.index("FLOP ratio")
    for table in tables(results):
        for row in table.rows:
            assert all(cell in words for cell in row)
        assert all(note in words for note in table.notes)
    for part in ("Simulated CPU", "cifar:resnet20", "deploy run", "VmHWM", "2 x MACs"):
        assert part in words


def test_both_reasons_are_told_where_both_sides_failed(results):
    pair = results.comparisons[2]
    baseline = pair.baseline.model_copy(update={"trials": (), "failure": "out of memory"})
    assert "torch failed: pruned: the process was killed by signal 9; dense: out of memory" in answer(
        only(results, "torch", baseline=baseline)
    )
    assert "torch failed: the process was killed by signal 9." in answer(
        only(results, "torch", baseline=pair.candidate)
    )


def test_each_backend_has_its_plots(results):
    text = page(results)
    assert checked(text).figures == 8  # both plots of two pairs, half of a third; two bars, one in a tile
    for name in ("ort", "openvino"):
        assert f">Latency on {name}</title>" in text
        assert f">FLOPs against time on {name}</title>" in text
    assert "Had time followed FLOPs, it would take" in text
    assert text.count("prefers-color-scheme: dark") == 1


def test_a_candidate_without_its_baseline_is_not_drawn_as_one(results):
    pair = results.comparisons[2]  # its candidate failed
    swapped = only(results, "torch", baseline=pair.candidate, candidate=pair.baseline)
    picture = page(swapped).split("<svg", 1)[1].split("</svg>", 1)[0]
    assert "candidate line" in picture
    assert "baseline" not in picture


def test_points_of_the_plots_lie_inside(results):
    text = page(results)
    assert "polyline" in text
    for points in re.findall(r'<polyline points="([^"]*)"', text):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 440
            assert 0 <= y <= 300


def test_a_bench_says_how_to_repeat_it(results):
    assert "deploy bench small --backend ort --precision fp32 --threads 2" in page(alone(results))
    assert "deploy compare dense pruned --backend ort" in page(results.model_copy(update={"recipe": None}))
    assert "--fast" not in page(alone(results))
    assert re.search("deploy bench small .* --fast\\b", page(alone(results, doubts=(NOT_A_VERDICT,))))


def test_the_same_results_give_the_same_page(results):
    assert page(results) == page(load(GOLDEN))


def test_markup_from_outside_stays_text(results):
    text = page(evil(results))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_page_appears_whole_or_not_at_all(results, tmp_path):
    write_page(results, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(results)
    with pytest.raises(OutputError, match="cannot write"):
        write_page(results, tmp_path / "missing" / "report.html")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_long_tail_does_not_press_the_rest_against_the_edge(results):
    found = alone(results).measurements[0]
    trials = tuple(
        trial.model_copy(update={"blocks_ns": ((100_000,) * 15, (105_000, 110_000, 400_000, 3_000_000, 16_000_000))})
        for trial in found.trials
    )
    tailed = alone(results).model_copy(update={"measurements": (found.model_copy(update={"trials": trials}),)})
    text = page(tailed)
    checked(text)
    assert ", logarithmic<" in text
    assert ", logarithmic<" not in page(alone(results))


def test_a_doubt_of_both_sides_is_told_once(results):
    pair = results.comparisons[0]
    sides = {side: getattr(pair, side).model_copy(update={"doubts": ("busy",)}) for side in ("baseline", "candidate")}
    found = only(results, "ort", **sides)
    assert doubts_table(found).rows == (("1", "busy", "everywhere"),)
    assert "[1]" not in str([table for table in tables(found) if "verdict" in table.columns])


def test_zeros_are_told_with_what_they_buy(results):
    rows = tuple(row.model_copy(update={"zeros": row.cost.parameters // 2}) for row in results.models[1:])
    paper = tables(results.model_copy(update={"models": (results.models[0], *rows)}))[0]
    assert ("parameters that are 0", "-", "50.0 %", "") in paper.rows
    assert "dense runtimes multiply by them" in paper.caption
    assert "are 0" not in str(tables(results)[0])
