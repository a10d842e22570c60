"""What comes out of a test that measures: the answer of the measuring process as an assertion, in one line."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

TESTS = """
    import json
    import numpy
    import pytest

    def asked(result):
        return json.loads(result.results_file.read_text())

    def test_faster(deploy_compare):
        found = deploy_compare("faster.onnx", "old.onnx", margin=0.05)
        assert found.verdict == "faster" and found.interval[0] < found.speedup < found.interval[1]
        assert found.candidate.p50_ms < found.baseline.p50_ms and found.candidate.peak_bytes > 1e6
        assert found.candidate.p90_ms and found.candidate.p99_ms is None and found.candidate.n_calls == 120
        assert asked(found)["margin"] == 0.05 and asked(found)["against"] == "old.onnx"

    def test_equivalent(deploy_compare):
        assert deploy_compare("equivalent.onnx", "old.onnx").verdict == "equivalent"

    @pytest.mark.parametrize("what", ["slower", "wrong", "failed", "inconclusive", "unfit"])
    def test_fails(deploy_compare, what):
        deploy_compare(f"{what}.onnx", "old.onnx")

    @pytest.mark.parametrize("what", ["inconclusive", "unfit"])
    def test_skips(deploy_compare, what):
        deploy_compare(f"{what}.onnx", "old.onnx", **{what: "skip"})

    @pytest.mark.model_speed(inconclusive="warn", unfit="warn")
    @pytest.mark.parametrize("what", ["inconclusive", "unfit"])
    def test_warns(deploy_compare, what):
        assert deploy_compare(f"{what}.onnx", "old.onnx").candidate.model == "pruned"

    def test_accepts(deploy_compare):
        assert asked(deploy_compare("faster.onnx", "old.onnx", unfit="accept"))["accept_unfit"]

    def test_measures(deploy_measure):
        sizes = numpy.ones(3, int)
        found = deploy_measure("alone.onnx", inputs={"x": 1.0}, threads=numpy.int64(2), shapes={"x": sizes})
        assert asked(found)["threads"] == 2 and asked(found)["shapes"] == {"x": [1, 1, 1]}
        assert found.p50_ms > 0 and found.n_processes > 1
        assert asked(found)["inputs"].endswith(".npz")
        assert deploy_measure("alone.onnx", percentile=90).p90_ms

    def test_too_short_for_p99(deploy_measure):
        deploy_measure("alone.onnx", percentile=99)

    def test_dies(deploy_measure):
        deploy_measure("dies.onnx")

    def test_cannot_run_here(deploy_measure):
        deploy_measure("unavailable.onnx", backend="trt", unavailable="skip")

    @pytest.mark.parametrize("arguments", [
        {"margin": 3}, {"margn": 0.1}, {"budget_s": "soon"}, {"backend": ["ort", "torch"]}, {"threads": 0},
        {"shapes": "x=1"}, {"input_ranges": {"x": 3}}, {"cores": 1}, {"check": "no"},
        {"inconclusive": "pass"}, {"unavailable": "warn"},
    ], ids=lambda arguments: next(iter(arguments)))
    def test_mistakes(deploy_compare, arguments):
        deploy_compare("faster.onnx", "old.onnx", **arguments)

    def test_missing_file(deploy_measure):
        deploy_measure("none.onnx")

    def test_no_file(deploy_measure):
        deploy_measure(None)

    @pytest.mark.model_speed(margins=0.1)
    def test_marker(deploy_compare):
        deploy_compare("faster.onnx", "old.onnx")
"""
INI = "[pytest]\ndeploy_results = kept\naddopts = --strict-markers\n"


@pytest.fixture(scope="module")
def run(make_repository, answers):
    """Run all of them once: the repository, the output, and of each test how it ended and with which words."""
    repository = make_repository(answers)
    repository.write("tests/test_speed.py", TESTS)
    repository.write("pytest.ini", INI)
    arguments = ["--junitxml=junit.xml", "--benchmark-json=rows.json", "--benchmark-autosave"]
    code, output = repository.run(*arguments)
    assert code == 1, output
    return repository, output, _outcomes(repository.folder / "junit.xml")


def _outcomes(file):
    ended = {}
    for case in ElementTree.parse(file).iter("testcase"):
        found = [(child.tag, child.get("message"), child.text) for child in case if child.tag != "system-out"]
        ended[case.get("name")] = found[0] if found else ("passed", "", "")
    return ended


@pytest.mark.parametrize(
    "test",
    ["faster", "equivalent", "warns[inconclusive]", "warns[unfit]", "accepts", "measures"],
)
def test_passes(run, test):
    assert run[2][f"test_{test}"][0] == "passed", run[1]


@pytest.mark.parametrize("what", ["slower", "wrong", "failed", "inconclusive", "unfit"])
def test_fails_with_the_answer_and_what_to_do(run, answers, what):
    kind, message, text = run[2][f"test_fails[{what}]"]
    assert kind == "failure"
    assert message.splitlines()[0] == f"AssertionError: {answers[what]['line']}"
    remedy = answers[what]["remedy"]
    assert [line.strip() for line in message.splitlines()[1:]] == [f"to do: {remedy}"] * bool(remedy)
    for option in ("--against", "--backend", "--threads"):  # those of the deploy explain command
        remedy = remedy.replace(option, "")
    assert "--" not in remedy
    assert text.splitlines()[-1] == "tests/test_speed.py:21: AssertionError", "the traceback ends in the test"


def test_the_lines_say_what_happened(answers):
    assert "got SLOWER: 0.80x [0.78, 0.82]" in answers["slower"]["line"]
    assert "wrong answers: output 'y' differs by 0.31" in answers["wrong"]["line"]
    assert "the machine was not fit for measuring: the hypervisor took 31 %" in answers["unfit"]["line"]
    assert all("\n" not in answer.get("line", "") for answer in answers.values())


def test_what_the_policy_lets_pass(run, answers):
    for what in ("inconclusive", "unfit"):
        assert run[2][f"test_skips[{what}]"][:2] == ("skipped", answers[what]["line"])
        assert f"ModelSpeedWarning: {answers[what]['line']}" in run[1]
    assert run[2]["test_cannot_run_here"][:2] == ("skipped", "backend 'trt' cannot run here: no GPU")


def test_a_budget_too_short_for_the_percentile_is_inconclusive(run):
    kind, message, _ = run[2]["test_too_short_for_p99"]
    assert kind == "failure"
    assert "120 calls are too few for p99." in message


def test_a_measuring_process_that_dies_is_no_verdict(run):
    _, message, _ = run[2]["test_dies"]
    assert message.endswith(
        "ModelSpeedError: prune-deploy could not measure, its process ended with exit code 1: this is a bug"
    )


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("mistakes[margin]", "deploy_compare: margin must lie between 0 and 1, for example 0.03 for 3 %, got 3"),
        ("mistakes[margn]", "deploy_compare has no argument 'margn'; did you mean 'margin'?"),
        ("mistakes[budget_s]", "deploy_compare: budget_s must be a positive number of seconds, got 'soon'"),
        ("mistakes[backend]", "deploy_compare: backend is one name, for example 'ort'; parametrize a test of several"),
        ("mistakes[threads]", "deploy_compare: threads must be a whole number of at least 1, got 0"),
        ("mistakes[shapes]", "deploy_compare: shapes must be sizes by the names of inputs, for example {'input'"),
        ("mistakes[input_ranges]", "deploy_compare: input_ranges must be two numbers by the names of inputs"),
        ("mistakes[cores]", "deploy_compare: cores must be whole numbers, for example [0, 1], got 1"),
        ("mistakes[check]", "deploy_compare: check must be True or False, got 'no'"),
        ("mistakes[inconclusive]", "deploy_compare: inconclusive must be one of fail, warn, skip, got 'pass'"),
        ("mistakes[unavailable]", "deploy_compare: unavailable must be one of fail, skip, got 'warn'"),
        ("missing_file", "deploy_measure: none.onnx: no such file"),
        ("no_file", "deploy_measure: model is the path of an ONNX file or bundle, not None"),
        ("marker", "model_speed has no argument 'margins'; did you mean 'margin'?"),
    ],
)
def test_mistakes_are_one_line_at_the_call(run, test, words):
    _, message, text = run[2][f"test_{test}"]
    assert message.startswith(f"pytest.UsageError: {words}"), message
    assert "\n" not in message
    assert re.fullmatch(r"tests/test_speed.py:\d+: UsageError", text.splitlines()[-1]), text


def test_the_summary_has_one_line_for_each_answer(run, answers):
    section = run[1].partition("speed of models (prune-deploy)")[2]
    assert f"SLOWER        tests/test_speed.py::test_fails[slower]: {answers['slower']['line']}\n" in section
    assert f"FASTER        tests/test_speed.py::test_faster: {answers['faster']['line']}\n" in section
    assert f"UNFIT         tests/test_speed.py::test_warns[unfit]: {answers['unfit']['line']}\n" in section
    assert section.count("tests/test_speed.py::test_measures: ") == 2


def test_results_are_kept_by_the_names_of_tests(run):
    folder = run[0].folder / "kept" / "tests" / "test_speed.py"
    names = {file.name for file in folder.iterdir()}
    assert {"test_faster.json", "test_fails[wrong].json", "test_measures.json", "test_measures.2.json"} <= names
    assert "kept/tests/test_speed.py/test_faster.json" in run[1]


def test_rows_stand_in_the_table_and_the_json(run, answers):
    repository, output, _ = run
    document = json.loads((repository.folder / "rows.json").read_text())
    rows = {row["fullname"]: row for row in document["benchmarks"]}
    row = rows["tests/test_speed.py::test_faster[candidate]"]
    (theirs,) = (one for one in answers["faster"]["document"]["benchmarks"] if one["extra_info"]["role"] == "candidate")
    assert row["extra_info"] == theirs["extra_info"]
    assert row["extra_info"]["verdict"] == "faster"
    assert row["stats"] == {name: pytest.approx(value) for name, value in theirs["stats"].items()} | {
        "outliers": theirs["stats"]["outliers"]
    }
    assert row["group"] == "test_faster"
    parametrized = rows["tests/test_speed.py::test_fails[slower-baseline]"]
    assert parametrized["param"] == "slower-baseline"
    assert parametrized["params"] == {"what": "slower", "role": "baseline"}
    assert rows.keys() >= {"tests/test_speed.py::test_measures", "tests/test_speed.py::test_measures[2]"}
    assert "tests/test_speed.py::test_fails[wrong-candidate]" not in rows, "what was not timed has no row"
    assert re.search(r"^test_faster\[candidate\] +\d", output, re.MULTILINE)


def test_pytest_benchmark_compare_reads_them(run, capsys, monkeypatch):
    cli = pytest.importorskip("pytest_benchmark.cli")
    (saved,) = (run[0].folder / ".benchmarks").rglob("0001_*.json")
    monkeypatch.chdir(run[0].folder)
    for file in ("rows.json", str(saved)):
        monkeypatch.setattr("sys.argv", ["pytest-benchmark", "compare", file, "--group-by=fullname"])
        cli.main()
        assert "test_faster[candidate]" in capsys.readouterr().out
