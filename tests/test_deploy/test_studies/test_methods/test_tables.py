"""Means, deviations, intervals, the winner's sentence, tables and plot, on cells made by hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.records.file import load_comparison
from benchmarks.records.measurement import Interval
from deploy.bundles.pruning import SpeedLanding
from deploy.studies.methods.formatting import answers, failures
from deploy.studies.methods.page import plots, write_page
from deploy.studies.methods.plot import front, points
from deploy.studies.methods.results import Cell, MeasuredRow, Scores, StudyResults, load_results
from deploy.studies.methods.summary import mean_of, paired, wins
from deploy.studies.methods.tables import paper_table, tables

N_TEST = 1000
GOLDEN = Path(__file__).parents[3] / "golden" / "comparison-1.json"


def scores(score, metric="accuracy"):
    return Scores(
        metric=metric,
        score_validation=score - 0.01,
        score_test=score,
        loss_validation=0.1,
        loss_test=0.1,
        n_validation=100,
        n_test=N_TEST,
    )


def cell(method, seed, accuracy, *, recovery="fine-tuned", budget="50 % flops", **changes):
    facts = {
        "method": method,
        "removes": "channels",
        "budget": budget,
        "recovery": recovery,
        "from_scratch": recovery != "fine-tuned",
        "seed": seed,
        "key": "key",
        "folder": "jobs/recover-key",
        "plan_folder": "jobs/prune-key",
        "outcome": "ok",
        "dense": scores(0.98),
        "pruned": scores(0.5),
        "recovered": scores(accuracy),
        "lr": 0.02,
        "epochs": 3,
        "kept_epoch": 3,
        "macs": (1_000_000, 499_000),
        "params": (20_000, 11_000),
        "training_seconds": 12.0,
    }
    return Cell(**{**facts, **changes})


def results(*cells):
    return StudyResults(name="made", recipe={}, split="The split rule.", cells=cells)


def two_seeds(a, b, **changes):
    return [
        cell(name, seed, value, **changes)
        for name, pair in {"l1": a, "uniform": b}.items()
        for seed, value in enumerate(pair)
    ]


def failed(method, seed, reason, **changes):
    return cell(method, seed, 0.5, outcome="failed", reason=reason, recovered=None, **changes)


def test_mean_and_deviation_by_hand():
    found = mean_of([0.90, 0.92, 0.97])
    assert found.value == pytest.approx(0.93)
    assert found.deviation == pytest.approx((0.0013) ** 0.5)  # (0.03^2 + 0.01^2 + 0.04^2) / 2
    assert mean_of([0.9]).deviation is None
    assert mean_of([]) is None


def test_paired_interval_by_hand():
    found = paired({0: 0.95, 1: 0.97, 2: 0.96}, {0: 0.94, 1: 0.95, 2: 0.93, 9: 0.1}, N_TEST)
    assert (found.value, found.n) == (pytest.approx(0.02), 3)
    assert found.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert found.exceeds is False
    assert paired({0: 0.95}, {0: 0.94}, N_TEST).exceeds is None
    assert paired({0: 0.95}, {1: 0.94}, N_TEST) is None


def test_equal_differences_count_as_known_to_half_an_image():
    found = paired({0: 0.951, 1: 0.961}, {0: 0.95, 1: 0.96}, N_TEST)
    assert found.half_width == pytest.approx(12.706 * 0.0005 / 2**0.5)
    assert found.exceeds is False
    assert paired({0: 0.96, 1: 0.97}, {0: 0.95, 1: 0.96}, N_TEST).exceeds is True


def test_the_sentence_says_whether_the_margin_exceeds_the_noise():
    (clear,) = answers(results(*two_seeds((0.970, 0.981), (0.950, 0.960))))
    assert "l1 is best with 97.55 +- 0.78 %" in clear
    assert "2.05 points above uniform, which exceeds the seed noise of +-0.64 (2 seeds)" in clear
    (close,) = answers(results(*two_seeds((0.970, 0.981), (0.965, 0.970))))
    assert "does NOT exceed the seed noise" in close
    (single,) = answers(results(cell("l1", 0, 0.97), cell("uniform", 0, 0.96)))
    assert "1.00 points above uniform; with one seed the noise is not known" in single
    assert "One test image is 0.1 points." in single


def test_a_tie_is_called_one():
    (tie,) = answers(results(*two_seeds((0.97, 0.98), (0.97, 0.98))))
    assert "l1 is best with 97.50 +- 0.71 % of the test images right, and uniform is as good" in tie


def test_a_baseline_may_win():
    (win,) = wins(results(*two_seeds((0.95, 0.96), (0.97, 0.98))))
    assert (win.method, win.second) == ("uniform", "l1")


def test_each_budget_and_recovery_has_its_sentence_and_controls_do_not_compete():
    cells = [
        *two_seeds((0.95, 0.96), (0.94, 0.95)),
        *two_seeds((0.93, 0.94), (0.92, 0.93), recovery="Scratch-E"),
        *two_seeds((0.90, 0.91), (0.92, 0.93), budget="25 % flops"),
        cell(
            "magnitude", 0, 0.99, removes="weights", zeros=9_000, macs=(1_000_000, 1_000_000), params=(20_000, 20_000)
        ),
    ]
    found = [(win.budget, win.recovery, win.method) for win in wins(results(*cells))]
    assert found == [
        ("50 % flops", "fine-tuned", "l1"),
        ("50 % flops", "Scratch-E", "l1"),
        ("25 % flops", "fine-tuned", "uniform"),
    ]


def test_a_method_that_lacks_a_seed_does_not_win():
    cells = [cell("l1", 0, 0.99), failed("l1", 1, "the loss is nan"), *two_seeds((0.9, 0.9), (0.95, 0.96))[2:]]
    (win,) = wins(results(*cells))
    assert (win.method, win.margin) == ("uniform", None)
    assert wins(results(failed("l1", 0, "no BatchNorm"))) == ()


def test_the_paper_table_has_every_column():
    cells = [
        *two_seeds((0.970, 0.981), (0.950, 0.960)),
        *two_seeds((0.960, 0.970), (0.950, 0.960), recovery="Scratch-E")[:3],
        failed("uniform", 1, "the loss is nan", recovery="Scratch-E"),
        cell(
            "magnitude", 0, 0.98, removes="weights", zeros=9_000, macs=(1_000_000, 1_000_000), params=(20_000, 20_000)
        ),
    ]
    table = paper_table(results(*cells))
    assert table.columns == ("method", "budget", "dense", "as pruned", "fine-tuned", "Scratch-E", "MACs", "params")
    l1, uniform, magnitude = table.rows
    assert l1[:4] == ("l1", "50 % flops", "98.00 +- 0.00", "50.00 +- 0.00")
    assert l1[4:] == ("97.55 +- 0.78", "96.50 +- 0.71", "499 k (50 %)", "11.0 k (55 %)")
    assert uniform[5] == "95.00 [1]"
    assert table.notes[0] == "seed 1: the loss is nan"
    assert magnitude[6:] == ("1.00 M (100 %)", "20.0 k (100 %) [2]")
    assert "45 % of them are 0" in table.notes[1]
    assert "The split rule." in table.caption
    assert failures(results(*cells)) == ("uniform, 50 % flops (Scratch-E; seed 1): the loss is nan",)


def test_learning_rate_and_epochs_stand_beside_every_recovery():
    (table,) = [
        one for one in tables(results(*two_seeds((0.97, 0.98), (0.95, 0.96)))) if one.title == "How they were trained"
    ]
    assert ("fine-tuned", "l1", "50 % flops", "0.02", "3", "96.50 +- 0.71", "12 s") in table.rows


def test_terminal_tables_stand_in_80_columns(capsys):
    from rich.console import Console

    from deploy.report.terminal import print_table

    recoveries = ("fine-tuned", "Scratch-E", "Scratch-B")
    cells = [c for name in recoveries for c in two_seeds((0.97, 0.98), (0.95, 0.96), recovery=name)]
    for table in tables(results(*cells)):
        print_table(table, Console(width=80, highlight=False))
    lines = capsys.readouterr().out.splitlines()
    assert any("97.50 +- 0.71  97.50 +- 0.71  97.50 +- 0.71" in line for line in lines)


def test_the_front_holds_what_nothing_beats():
    cells = [
        cell("l1", 0, 0.97),
        cell("uniform", 0, 0.95),
        cell("l1", 0, 0.93, budget="25 % flops", macs=(1_000_000, 250_000)),
        cell("uniform", 0, 0.92, budget="25 % flops", macs=(1_000_000, 250_000)),
    ]
    found = front(points(results(*cells), "fine-tuned"))
    assert [(point.method, point.budget) for point in found] == [("l1", "25 % flops"), ("l1", "50 % flops")]


def test_the_plot_is_read_alone():
    ((name, svg),) = plots(results(*two_seeds((0.97, 0.98), (0.95, 0.96)))).items()
    assert name == "pareto-macs.svg"
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(node.text or "" for node in root.iter())
    assert "1 l1" in words
    assert "dense" in words
    assert "uniform at 50 % flops: 95.50 % with 50 % of the MACs" in words
    assert plots(results(failed("l1", 0, "no"))) == {}


def measured(method, seed, speedup, budget="50 % flops"):
    pair = load_comparison(GOLDEN)
    close = Interval(value=speedup, low=0.9 * speedup, high=1.25 * speedup, confidence=0.95, n=5)
    pair = pair.model_copy(update={"speedup": close})
    return MeasuredRow(method=method, budget=budget, seed=seed, backend="ort", comparison=pair)


def at_a_speed(method, seed, accuracy, share, **changes):
    landing = SpeedLanding(
        backend="ort",
        threads=1,
        asked=0.5,
        tolerance=0.01,
        predicted=(0.5, 0.5),
        measured=(0.6, share),
        kept_round=1,
        macs=0.4,
    )
    return cell(method, seed, accuracy, budget="2x on ort", speeds=(landing,), landing=str(landing), **changes)


def test_at_equal_time_the_best_is_first_and_who_takes_longer_is_told():
    cells = [
        *(at_a_speed("uniform", seed, score, 0.505) for seed, score in enumerate((0.95, 0.96))),
        *(at_a_speed("l1", seed, score, 0.495 + 0.01 * seed) for seed, score in enumerate((0.97, 0.98))),
        *(at_a_speed("torch-pruning", seed, 0.96, share) for seed, share in enumerate((0.5, 0.56))),
        failed("taylor", 0, "out of reach", budget="2x on ort", macs=None, params=None),
        cell("l1", 0, 0.99),
    ]
    rows = (measured("l1", 0, 2.0, "2x on ort"), measured("l1", 1, 1.6, "2x on ort"))
    found = results(*cells).model_copy(update={"measured": rows})
    timed, scored, *_ = tables(found)
    assert timed.title == "At equal time, 2x on ort"
    assert timed.columns[1:] == ("when pruned", "measured", "MACs", "fine-tuned", "minus l1")
    told = {row[0]: row[1:] for row in timed.rows}
    assert list(told) == ["l1", "torch-pruning", "uniform", "taylor"]
    assert told["l1"][:3] == ("50.0 % (49.5 % to 50.5 %)", "56.2 % (50.0 % to 62.5 %)", "499 k (50 %)")
    assert told["torch-pruning"][0] == "53.0 % (50.0 % to 56.0 %) [1]"
    assert timed.notes[0] == "not at equal time: 56.0 % where 50.0 % were asked for"
    assert told["uniform"][-1] == "-2.00 +- 0.45 *"
    assert told["taylor"] == ("-", "-", "-", "- [2]", "-")
    assert "50.0 % of the dense network's time were asked for" in timed.caption
    assert scored.title == "Accuracy on test images in %, at 50 % flops"


def test_a_network_slower_than_asked_for_does_not_win():
    cells = [
        *(at_a_speed("uniform", seed, 0.95, 0.495) for seed in (0, 1)),
        *(at_a_speed("taylor", seed, 0.96, 0.45) for seed in (0, 1)),
        *(at_a_speed("l1", seed, 0.98, share) for seed, share in enumerate((0.5, 0.9))),
    ]
    (win,) = wins(results(*cells))
    assert (win.method, win.second, win.slower) == ("taylor", "uniform", ("l1",))
    (said,) = answers(results(*cells))
    assert "not compared, as slower than asked for: l1." in said
    timed = next(iter(tables(results(*cells))))
    assert timed.columns[-1] == "minus taylor"
    assert [row[0] for row in timed.rows] == ["l1", "taylor", "uniform"]


def test_where_every_network_is_slower_than_asked_for_the_study_says_so():
    cells = [at_a_speed(name, seed, 0.95, 0.9) for name in ("uniform", "l1") for seed in (0, 1)]
    (said,) = answers(results(*cells))
    assert said.endswith(": no method done with all seeds is as fast as asked for; slower: uniform, l1.")
    assert said.startswith("At 2x on ort, ")


def test_a_method_that_lacks_a_seed_is_not_called_slow():
    slow = [at_a_speed("l1", seed, 0.95, 0.9) for seed in (0, 1)]
    unfinished = [at_a_speed("exact", 0, 0.95, 0.5), failed("exact", 1, "the loss is nan", budget="2x on ort")]
    (said,) = answers(results(*slow, *unfinished))
    assert said.endswith(": no method done with all seeds is as fast as asked for; slower: l1.")


def test_a_method_that_is_done_but_slower_is_not_called_missing():
    cells = [at_a_speed(name, seed, 0.95, share) for name, share in (("exact", 0.5), ("l1", 0.9)) for seed in (0, 1)]
    (said,) = answers(results(*cells))
    assert "no other method is done" not in said
    assert "; not compared, as slower than asked for: l1" in said


def test_a_lucky_seed_alone_is_not_what_others_are_compared_with():
    cells = [
        at_a_speed("l1", 0, 0.99, 0.5),
        failed("l1", 1, "the loss is nan", budget="2x on ort"),
        *(at_a_speed("uniform", seed, 0.95, 0.5) for seed in (0, 1)),
        *(at_a_speed("taylor", seed, 0.96, 0.5) for seed in (0, 1)),
    ]
    timed = next(iter(tables(results(*cells))))
    assert timed.columns[-1] == "minus taylor"
    assert "+-" in {row[0]: row[-1] for row in timed.rows}["uniform"]


def test_the_score_is_drawn_against_the_time_that_was_measured_and_against_macs():
    rows = (measured("l1", 0, 2.0), measured("l1", 1, 4.0), measured("uniform", 0, 1.6))
    found = results(*two_seeds((0.97, 0.98), (0.95, 0.96))).model_copy(update={"measured": rows})
    drawn = {point.method: point.cost for point in points(found, "fine-tuned", "ort")}
    assert drawn == {
        "l1": pytest.approx((0.2, 0.375, 1 / 1.8)),
        "uniform": pytest.approx((0.5, 0.625, 1 / 1.44)),
    }
    assert plots(found).keys() == {"pareto-macs.svg", "pareto-ort.svg"}
    words = " ".join(node.text or "" for node in ElementTree.fromstring(plots(found)["pareto-ort.svg"]).iter())
    assert "time on ort, as a share of the dense network's (2.00 ms)" in words
    assert "l1 at 50 % flops: 97.50 % with 38 % of the time on ort" in words


def in_decibels(*pairs):
    return results(
        *(
            cell(
                name,
                seed,
                0,
                dense=scores(29.5, "psnr"),
                pruned=scores(20, "psnr"),
                recovered=scores(value, "psnr"),
            )
            for name, pair in zip(("l1", "uniform"), pairs, strict=True)
            for seed, value in enumerate(pair)
        )
    )


def test_a_study_of_images_is_told_in_decibels(tmp_path):
    found = in_decibels((28.31, 28.35), (28.11, 28.05))
    (said,) = answers(found)
    assert "l1 is best with 28.33 +- 0.03 dB on the test images, 0.25 dB above uniform" in said
    assert "does NOT exceed the seed noise of +-0.64 (2 seeds)" in said
    page = tmp_path / "page.md"
    write_page(found, page)
    text = page.read_text()
    assert "### PSNR on test images, cost and speed" in text
    assert "### Test PSNR minus that of the baselines, in dB" in text
    assert "| +0.25 +- 0.64 |" in text
    assert "PSNR in dB. Mean +- standard deviation over 2 seeds." in text
    assert "ccuracy" not in text
    assert "half a test image" not in text
    svg = (tmp_path / "page-pareto-macs.svg").read_text()
    assert "test PSNR [dB]" in svg
    assert "l1 at 50 % flops: 28.33 dB with" in svg
    assert tables(found)[0].title == "PSNR on test images in dB, at 50 % flops"


def test_images_have_no_least_difference():
    found = paired({0: 28.3, 1: 28.4}, {0: 28.2, 1: 28.3}, N_TEST, "psnr")
    assert found.half_width == pytest.approx(0, abs=1e-9)


def test_a_study_of_version_1_is_read(tmp_path):
    found = results(*two_seeds((0.97, 0.98), (0.95, 0.96)))
    old = (
        found.model_dump_json().replace('"schema_version":2', '"schema_version":1').replace('"metric":"accuracy",', "")
    )
    (tmp_path / "study.json").write_text(old.replace('"score_', '"accuracy_'))
    assert load_results(tmp_path / "study.json") == found


def test_results_and_page_are_written_and_read(tmp_path):
    found = results(*two_seeds((0.97, 0.98), (0.95, 0.96)), failed("l1", 2, "killed"))
    found.save(tmp_path / "study.json")
    assert load_results(tmp_path / "study.json") == found
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- study: begin -->\n<!-- study: end -->\nafter\n")
    write_page(found, page)
    write_page(found, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("### Accuracy on test images") == 1
    assert "![" in text
    assert (tmp_path / "page-pareto-macs.svg").exists()
    assert "- l1, 50 % flops (fine-tuned; seed 2): killed" in text
