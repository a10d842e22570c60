"""What was measured before a run died is still there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from benchmarks.errors import RecordError
from benchmarks.journal import INTERRUPTED, Begun, Journal, journal_path, recover
from benchmarks.records.measurement import (
    Agreement,
    Comparison,
    Conditions,
    Cost,
    Environment,
    Fitness,
    Measurement,
    Memory,
    Reason,
    Subject,
    Trial,
)
from benchmarks.runner import compare
from deploy.exit_codes import UNFIT as UNFIT_CODE
from deploy.exit_codes import measured_code

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
UNFIT = Fitness(reasons=(Reason(severity="unfit", words="the hypervisor took 40% of the cores' time"),))
COST = Cost(macs=10, parameters=1, weight_bytes=4, activation_bytes=4, file_bytes=9)
AGREEMENT = Agreement(reference="r", max_abs_error=float("inf"), output_range=1.0, tolerance=1e-3, n_inputs=1, ok=False)


def trial(order=0, call_ns=1000):
    return Trial(
        order=order, import_ns=1, load_ns=2, first_run_ns=3, warmup_ns=(4,), warmup_ended="steady",
        blocks_ns=((call_ns, call_ns), (call_ns,)), cpu_ns=1, memory=Memory(baseline_bytes=1, peak_bytes=2),
        executed_precision="fp32", properties={"threads": "1"},
    )  # fmt: skip


def begun(label="m", **more):
    environment = Environment(
        hostname_sha256=None, system="s", cpu=None, cpu_cores=1, memory_bytes=1, python="3", packages={}
    )
    subject = Subject(label=label, model="m.onnx", sha256="0", backend="ort")
    return Begun(subject=subject, environment=environment, seed=7, started_utc="then", **more)


@pytest.fixture
def path(tmp_path):
    return journal_path(tmp_path / "result.json")


def write_pairs(path, baseline, candidate, fitness=None, **more):
    """Write a comparison of which so many trials of each side had ended."""
    with Journal(path) as journal:
        for side in ("baseline", "candidate"):
            journal.begin(side, begun(side, cost=COST, margin=0.03, **more))
        for index in range(max(baseline, candidate)):
            if index < baseline:
                journal.trial("baseline", trial(2 * index, 2000 + index))
            if index < candidate:
                journal.trial("candidate", trial(2 * index + 1, 1000 + index))
        if fitness is not None:
            journal.conditions(Conditions(environment=begun().environment, fitness=fitness))


def test_a_measurement_is_rebuilt_from_its_trials(path):
    with Journal(path) as journal:
        journal.begin("m", begun())
        journal.checked("m", AGREEMENT, "1.2")
        for order in range(3):
            journal.trial("m", trial(order))
    found, torn = recover(path)
    assert isinstance(found, Measurement)
    assert torn == ""
    assert found.trials == tuple(trial(order) for order in range(3))
    assert (found.subject, found.seed, found.started_utc) == (begun().subject, 7, "then")
    assert (found.backend_version, found.agreement) == ("1.2", AGREEMENT)
    assert found.doubts[0] == "the run was interrupted after 3 trials"
    assert "whether the machine was fit for measuring is not known: the journal does not say" in found.doubts


def test_a_failure_and_an_early_end_are_rows_with_a_reason(path, tmp_path):
    with Journal(path) as journal:
        journal.begin("m", begun())
    early, _ = recover(path)
    assert (early.trials, early.failure_kind) == ((), INTERRUPTED)
    other = tmp_path / "other"
    with Journal(other) as journal:
        journal.begin("m", begun())
        journal.trial("m", trial())
        journal.failure("m", "it broke", "RunError")
    failed, _ = recover(other)
    assert (failed.failure, failed.failure_kind, failed.trials) == ("it broke", "RunError", ())
    assert Journal.read(other).arms["m"].trials == [trial()]


@pytest.mark.parametrize(
    ("baseline", "candidate", "pairs", "verdict"),
    [(7, 7, 7, "faster"), (7, 6, 6, "faster"), (3, 2, 2, "inconclusive"), (1, 1, 1, "inconclusive"),
     (1, 0, 0, "failed")],
)  # fmt: skip
def test_a_comparison_is_rebuilt_from_the_pairs_that_ended(path, baseline, candidate, pairs, verdict):
    write_pairs(path, baseline, candidate)
    found, _ = recover(path)
    assert isinstance(found, Comparison)
    assert found.verdict == verdict
    assert len(found.log_ratios) == len(found.candidate.trials) == pairs
    assert found.baseline.subject.label == "baseline"
    if pairs > 1:
        assert found.speedup.value == pytest.approx(2, rel=0.01)
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_a_quick_run_is_recovered_without_a_verdict(path):
    write_pairs(path, 7, 7, fast=True)
    found, _ = recover(path)
    assert (found.verdict, found.speedup.n) == ("inconclusive", 7)
    assert "not a verdict: measured with --fast" in found.candidate.doubts


def test_an_unfit_run_is_recovered_as_unfit(path):
    write_pairs(path, 7, 7, UNFIT)
    found, _ = recover(path)
    assert found.unfit
    assert found.verdict == "faster"
    assert UNFIT.reasons[0].words in found.candidate.doubts
    assert measured_code(found.sides) == UNFIT_CODE


def test_a_killed_comparison_on_an_unfit_machine_is_recovered_as_unfit(path, new_world, specs):
    class Killed(BaseException):
        pass

    def progress(line):
        if line.startswith("trial 4"):
            raise Killed

    world = new_world(latency_ns={"baseline": 2e6, "candidate": 1e6}, fitness=UNFIT)
    with pytest.raises(Killed), Journal(path) as journal:
        compare(*specs, launch=world.launch, machine=world, journal=journal, progress=progress)
    found, _ = recover(path)
    assert len(found.log_ratios) == 3
    assert found.unfit


def test_a_journal_that_kept_no_conditions_is_read_and_its_fitness_unknown():
    found, torn = recover(GOLDEN / "comparison-1.journal")
    assert (torn, found.verdict, len(found.log_ratios)) == ("", "faster", 7)
    assert found.baseline.fitness is None
    assert not found.unfit


def test_the_other_side_of_a_failure_keeps_its_trials(path):
    write_pairs(path, 3, 3)
    path.rename(path.with_name("kept"))
    with Journal(path) as journal:
        for side in ("baseline", "candidate"):
            journal.begin(side, begun(side, cost=COST, margin=0.03))
        journal.failure("candidate", "killed", "WorkerError")
        for order in range(3):
            journal.trial("baseline", trial(order))
    found, _ = recover(path)
    assert (found.verdict, found.candidate.failure, len(found.baseline.trials)) == ("failed", "killed", 3)


def test_a_cut_at_any_byte_loses_at_most_the_last_trial(path, tmp_path):
    write_pairs(path, 2, 2)
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    cut = tmp_path / "cut"
    for length in range(ends[0], len(whole) + 1):
        cut.write_bytes(whole[:length])
        contents = Journal.read(cut)
        n_lines = sum(end <= length for end in ends)
        assert sum(len(side.trials) for side in contents.arms.values()) == max(0, n_lines - 3)
        assert bool(contents.torn) == (length not in ends)


def test_a_damaged_line_is_refused_and_a_damaged_last_one_ignored(path):
    write_pairs(path, 2, 2)
    whole = path.read_bytes()
    rng = random.Random(0)
    last = whole[:-1].rindex(b"\n") + 1
    for _ in range(200):
        at = rng.randrange(len(whole) - 1)
        changed = bytes([whole[at] ^ (1 << rng.randrange(8))])
        path.write_bytes(whole[:at] + changed + whole[at + 1 :])
        if at < last:
            with pytest.raises(RecordError, match=r"line \d+ does not fit its checksum"):
                Journal.read(path)
        elif changed != b"\n":
            contents = Journal.read(path)
            assert contents.torn
            assert len(contents.arms["candidate"].trials) == 1


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00\xff\n\n", b'{"schema_version": 1}'])
def test_another_file_is_refused_in_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        recover(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        b'{"not": "json"',
        b'{"entry": "checked", "side": "measurement", "agreement": null, "backend_version": 3}',
        b'{"entry": "failure", "side": "measurement", "reason": 3, "kind": "k"}',
        b'{"entry": "failure", "side": "measurement", "reason": "r", "kind": "k", "more": 1}',
        b'{"entry": "failure", "side": ["measurement"], "reason": "r", "kind": "k"}',
        b'{"entry": "failure", "side": "nobody", "reason": "r", "kind": "k"}',
        b'{"entry": "trial", "side": "measurement", "data": {}}',
        b'{"entry": "unheard of"}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"{}",
    ],
    ids=lambda line: line[:30],
)
def test_a_line_with_a_right_checksum_is_not_believed(path, line):
    with Journal(path) as journal:
        journal.begin("measurement", begun())
        journal.trial("measurement", trial())
    sealed = line[:-1] + f',"crc32":"{zlib.crc32(line[:-1]):08x}"}}\n'.encode()
    for content in (path.read_bytes() + sealed, sealed):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=r"damaged|not a journal") as error:
            recover(path)
        assert "\n" not in str(error.value)


def test_a_missing_journal_or_folder_is_one_line(tmp_path):
    with pytest.raises(RecordError, match="No such file"):
        recover(tmp_path / "absent")
    with pytest.raises(RecordError, match="cannot write the journal"):
        Journal(tmp_path / "absent" / "j")


def test_a_finished_run_leaves_no_journal_and_an_older_one_is_kept(path):
    write_pairs(path, 1, 1)
    journal = Journal(path)
    assert len(Journal.read(path.with_name(f"{path.name}.1")).arms) == 2
    with pytest.raises(RecordError, match="another run is writing"):
        Journal(path)
    journal.finish()
    journal.finish()
    assert not path.exists()
    write_pairs(path, 1, 1)
    write_pairs(path, 1, 1)
    assert path.with_name(f"{path.name}.2").exists()


_ENDLESS = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_journal import begun, trial
from benchmarks.journal import Journal
journal = Journal(Path({path!r}))
journal.begin("m", begun())
for order in range(10**6):
    journal.trial("m", trial(order))
    print(order, flush=True)
"""


def test_a_killed_run_keeps_every_trial_that_it_reported(path):
    code = _ENDLESS.format(tests=str(Path(__file__).parent), path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        for _ in range(5):
            run.stdout.readline()
        time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
        reported = 5 + len(run.stdout.read().splitlines())
    found, _ = recover(path)
    assert len(found.trials) >= reported
    assert [each.order for each in found.trials] == list(range(len(found.trials)))
    Journal(path).finish()  # the lock died with its holder
