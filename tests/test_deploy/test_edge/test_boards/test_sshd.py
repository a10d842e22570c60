"""Boards behind a real OpenSSH server on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from benchmarks.layers.comparison import LayerReport
from benchmarks.machine.lock import LOCK_VARIABLE
from benchmarks.records.file import load as load_record
from benchmarks.stats.summary import summarise
from benchmarks.subject.subject import content_sha256
from benchmarks.tables.plan_space import AxisPlace, GroupRange, PlanSpace, Size
from benchmarks.tables.table import LatencyTable
from deploy.edge.boards.resident.jobs import Job
from deploy.edge.profile.record import load as load_profile
from deploy.exit_codes import OK, USAGE
from deploy.results.load_rows import read_load
from deploy.results.results import load

FAST = ("--fast", "--accept-unfit", "-q")


@pytest.fixture
def board(over_ssh, prepared):
    """The address of a board that has an environment, and its folder there."""
    yield over_ssh(folder=prepared)
    for name in ("files", "jobs", "code"):
        shutil.rmtree(prepared / name, ignore_errors=True)


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ("other", "the host key of the board is not the known one"),
        ("", "its host key is not known here: run ssh -p"),
    ],
)
def test_a_host_key_is_always_verified(here, over_ssh, model, known, line):
    done = here("bench", model, "-q", "--on", over_ssh(known=known))
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert line in said


def test_nobody_listens(here, over_ssh, model):
    done = here("bench", model, "-q", "--on", over_ssh(port=1))
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert "Connection refused" in said


def test_a_key_that_is_not_taken(here, over_ssh, sshd, model, monkeypatch):
    board = over_ssh()
    (sshd.folder / "authorized").rename(sshd.folder / "taken away")
    try:
        done = here("bench", model, "-q", "--on", board)
    finally:
        (sshd.folder / "taken away").rename(sshd.folder / "authorized")
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert "Permission denied" in said
    assert "ssh-copy-id" in said


def test_a_configuration_that_trusts_everybody_does_not_count(here, over_ssh, model, tmp_path):
    board = over_ssh(known="")
    config = tmp_path / "ssh_config"
    config.write_text(config.read_text() + "  StrictHostKeyChecking no\n  ForwardAgent yes\n  RequestTTY force\n")
    done = here("bench", model, "-q", "--on", board)
    assert done.returncode == USAGE
    assert "its host key is not known here" in done.stderr
    assert (tmp_path / "known").read_text() == ""


def _same(one, other):
    """Compare records, numbers and what noise decides apart."""
    noisy = {"noise", "fitness", "doubts", "warmup_ended", "warmup_ns", "blocks_ns", "started_utc", "created_utc"}
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - noisy:
            _same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            _same(*pair)
    elif isinstance(one, str | bool):
        assert one == other
    else:
        assert (one is None) == (other is None)


def _alike(one_ns, other_ns):
    """See that two times are of the same work, on a machine that others may use too."""
    assert 1 / 4 < one_ns / other_ns < 4


@pytest.mark.slow
def test_a_comparison_there_is_what_one_here_is(here, board, model, tmp_path):
    other = tmp_path / "other.onnx"
    shutil.copy(model, other)
    results = []
    for name, more in (("here", ()), ("there", ("--on", board))):
        file = tmp_path / f"{name}.json"
        done = here("compare", model, other, "--trials", "2", "--no-check", "--accept-unfit", "-q", "-o", file, *more)
        assert done.stdout.startswith("other.onnx against small.onnx")
        results.append(load(file))
        (pair,) = results[-1].comparisons
        assert pair.verdict is not None
        assert len(pair.candidate.trials) == len(pair.baseline.trials) == 2
    one, there = (result.model_dump(mode="json") for result in results)
    _same(one, there)
    _alike(*(summarise(result.comparisons[0].candidate).p50_ns for result in results))
    assert one["models"] == there["models"]


def _of_profile(file):
    made = load_profile(file)
    facts = made.board.model_dump(include={"model", "cpu", "architecture", "physical_cores", "features", "runtimes"})
    points = [(one.label, one.point, one.failure) for one in made.sweep]
    parts = {one.part: one.why for one in made.absent}
    cold = [one.label for one in made.cold]
    told = (facts, points, made.left_out, made.refused, parts, cold, [one.asked_s for one in made.sustained])
    return told, summarise(made.results.measurements[0]).p50_ns


def _of_layers(file):
    (made,) = load_record(file, LayerReport, "report of layers").profiles
    return (made.subject, [(row.name, row.nodes, row.ops, row.macs) for row in made.rows]), made.latency_ns


def _of_load(file):
    (made,) = read_load(file)
    calls = [done - issued for issued, done in zip(made.result.issued_ns, made.result.done_ns, strict=True)]
    return (made.subject, made.agreement, made.result.scenario, made.result.batch), statistics.median(calls)


def _of_bench(file):
    (made,) = load(file).measurements
    return (made.subject, made.agreement, len(made.trials)), summarise(made).p50_ns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "read"),
    [
        (("bench", "--trials", "2", "--accept-unfit"), _of_bench),
        (("layers", "--duration", "0.5"), _of_layers),
        (("load", "--scenario", "offline", "--duration", "1", "--accept-unfit"), _of_load),
        (
            ("profile", "--backend", "ort", "--fast", "--sustain", "1", "--budget", "30", "--accept-unfit"),
            _of_profile,
        ),
    ],
    ids=["bench", "layers", "load", "profile"],
)
def test_what_a_command_gives_there_it_gives_here(here, board, prepared, model, tmp_path, words, read):
    found = []
    for name, more in (("here", ()), ("there", ("--on", board))):
        done = here(words[0], model, *words[1:], "-q", "-o", tmp_path / name, *more)
        assert (done.returncode, done.stderr) == (OK, "")
        found.append(read(tmp_path / name))
    (one, one_ns), (there, there_ns) = found
    assert one == there
    _alike(one_ns, there_ns)
    assert list((prepared / "jobs").glob("*-*")) == []


@pytest.mark.slow
def test_a_table_there_is_of_the_same_network(here, board, model, tmp_path):
    a = Size(terms=(("a", 1),))
    space = PlanSpace(
        model_sha256=content_sha256(model),
        graph="network",
        groups=(GroupRange(name="a", n_units=16),),
        places=(AxisPlace(node=0, input=1, axis=0, size=a), AxisPlace(node=2, input=1, axis=1, size=a)),
    )
    space.save(tmp_path / "space.json")
    tables = []
    for name, more in (("here", ()), ("there", ("--on", board))):
        file = tmp_path / f"{name}.json"
        done = here(
            "table", "build", model, "--plan-space", tmp_path / "space.json", "--plans", "20", "-q", "-o", file, *more
        )
        assert done.returncode == OK, done.stderr
        tables.append(LatencyTable.load(file))
    one, there = tables
    assert one.key.model_copy(update={"machine": ""}) == there.key.model_copy(update={"machine": ""})
    assert one.groups == there.groups
    # Later ones are drawn in the blocks of channels that the times show.
    assert one.plans[0].counts == there.plans[0].counts
    assert len(one.plans) == len(there.plans)
    assert {layer.name for layer in one.layers} == {layer.name for layer in there.layers}


@contextmanager
def _started(*words):
    """Start a command in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "deploy", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _running(folder):
    """Return the processes of jobs on the board."""
    jobs = [Job(one) for one in (folder / "jobs").glob("*-*")]
    pids = [job.state.get("pid") for job in jobs if job.runs()]
    return [psutil.Process(pid) for pid in pids if pid]


def _measuring(folder):
    """Return them once they measure, with what they have started."""
    return [child for one in _running(folder) for child in one.children(recursive=True)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_here_is_ended_there(board, prepared, model, wait_until, wait_until_gone, number):
    with _started("bench", model, "--budget", "100", "--trials", "50", "--on", board) as process:
        wait_until(lambda: _measuring(prepared))
        there = [*_running(prepared), *_measuring(prepared), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].endswith("what was finished is kept")
    wait_until_gone(there)
    assert list((prepared / "jobs").glob("*-*")) == []


@pytest.mark.slow
def test_killed_here_it_goes_on_and_is_picked_up(here, board, prepared, model, tmp_path, wait_until, wait_until_gone):
    words = ("bench", model, "--trials", "3", "--no-check", "--accept-unfit")
    with _started(*words, "--on", board) as process:
        wait_until(lambda: _measuring(prepared))
        ours = psutil.Process(process.pid).children(recursive=True)
        (job,) = _running(prepared)
        process.kill()
    wait_until_gone(ours)
    assert job.is_running()
    done = here(*words, "-o", tmp_path / "out.json", "--on", board)
    assert done.returncode == OK, done.stderr
    assert "picked up" in done.stderr
    assert len(load(tmp_path / "out.json").measurements[0].trials) == 3
    assert list((prepared / "jobs").glob("*-*")) == []


@pytest.mark.slow
def test_killed_there_is_one_line_here(board, prepared, model, wait_until, wait_until_gone):
    with _started("bench", model, "--budget", "100", "--trials", "50", "-q", "--on", board) as process:
        wait_until(lambda: _measuring(prepared))
        there = _measuring(prepared)
        (job,) = _running(prepared)
        job.kill()
        _, said = process.communicate(timeout=60)
    assert process.returncode == USAGE
    (line,) = said.splitlines()
    assert "the command ended there without a result: it was killed" in line
    wait_until_gone(there)
    assert list((prepared / "jobs").glob("*-*")) == []


@pytest.mark.slow
def test_a_link_that_drops_is_one_line_and_the_result_is_picked_up(
    here, board, sshd, prepared, model, tmp_path, wait_until
):
    words = ("bench", model, "--trials", "3", "--no-check", "--accept-unfit", "-q")
    with _started(*words, "--on", board) as process:
        wait_until(lambda: _measuring(prepared))
        for session in psutil.Process(sshd.process.pid).children(recursive=True):
            if session.name().startswith("sshd"):
                session.kill()
        _, said = process.communicate(timeout=90)
    assert process.returncode == USAGE
    (line,) = said.splitlines()
    assert "the command keeps running there: the same command picks it up" in line
    done = here(*words, "-o", tmp_path / "out.json", "--on", board)
    assert done.returncode == OK, done.stderr
    assert len(load(tmp_path / "out.json").measurements[0].trials) == 3


@pytest.mark.slow
def test_two_callers_take_turns_and_each_gets_its_own(board, prepared, model, tmp_path):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    words = ("bench", model, "--trials", "2", "--no-check", "--accept-unfit", "-q", "--on", board)
    with _started(*words, "-o", files[0]) as one, _started(*words, "-o", files[1]) as other:
        assert [process.communicate(timeout=200)[1] for process in (one, other)] == ["", ""]
    assert (one.returncode, other.returncode) == (OK, OK)
    starts = [load(file).measurements[0].trials for file in files]
    assert starts[0] != starts[1]
    assert list((prepared / "jobs").glob("*-*")) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_there_is_one_line(here, over_ssh, prepared, model, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this container mounts nothing")
    try:
        board = over_ssh(folder=small / "board")
        done = here("bench", model, *FAST, "--on", board)
        assert "and the environment takes 450 MB" in done.stderr
        # Where that is there, what is sent and what is written has to fit.
        shutil.copytree(prepared, small / "board", symlinks=True)
        ballast = small / "ballast"
        for left_mb, line in ((0, "0 MB are free where"), (30, "results take up to 64 MB"), (80, "")):
            ballast.write_bytes(bytes(max(0, shutil.disk_usage(small).free - (left_mb << 20))))
            done = here("bench", model, *FAST, "--on", board)
            assert done.returncode == (USAGE if line else OK), done.stderr
            assert len(done.stderr.splitlines()) == bool(line)
            assert line.lower() in done.stderr.lower()
            assert not list((small / "board").rglob("*.part"))
            ballast.unlink()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.slow
def test_a_board_that_hangs_is_given_up(here, board, sshd, prepared, model, monkeypatch):
    """The server is stopped while the command waits for it."""
    monkeypatch.setenv(LOCK_VARIABLE, str(prepared / "lock"))
    stopped = []

    def stop():
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and not stopped:
            if _measuring(prepared):
                stopped.extend(psutil.Process(sshd.process.pid).children(recursive=True))
                for one in stopped:
                    one.suspend()
            time.sleep(0.05)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        done = here("bench", model, "--trials", "50", "--budget", "100", "-q", "--on", board)
    finally:
        thread.join()
        for one in stopped:
            one.resume()
    assert done.returncode == USAGE
    assert "the same command picks it up" in done.stderr.splitlines()[-1]
    for one in _running(prepared):
        one.kill()
