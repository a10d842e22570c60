"""Memory by phase: each phase has its own peak, and what cannot be read is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import SettingError
from benchmarks.process.memory import PhaseRecorder, forget_peak, pss_bytes
from benchmarks.records.memory import MemoryPhase

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


class FakeProcess:
    """A process whose resident size the test sets; it keeps its peak as the kernel does."""

    def __init__(self, *, forgets=True, pss=True):
        self.size, self.high, self.forgets, self.tells_pss = 0, 0, forgets, pss

    def grow(self, *sizes):
        for size in sizes:
            self.size = size
            self.high = max(self.high, size)

    def forget(self):
        if self.forgets:
            self.high = self.size
        return self.forgets

    def recorder(self):
        return PhaseRecorder(
            peak=lambda: self.high, forget=self.forget, pss=lambda: self.size // 2 if self.tells_pss else None
        )


def test_each_phase_has_its_own_peak():
    process = FakeProcess()
    recorder = process.recorder()
    process.grow(10)
    recorder.end("start")
    process.grow(50, 40)
    recorder.end("import")
    process.grow(200, 70)
    recorder.end("compile")
    process.grow(90)
    recorder.end("first_run")
    process.grow(80)
    recorder.end("steady")
    assert [(phase.name, phase.peak_bytes, phase.pss_bytes) for phase in recorder.phases] == [
        ("start", 10, 5), ("import", 50, 20), ("compile", 200, 35), ("first_run", 90, 45), ("steady", 90, 40),
    ]  # fmt: skip
    assert not any(phase.is_running_peak for phase in recorder.phases)
    assert recorder.baseline_bytes == 50
    assert recorder.peak_bytes == 200


def test_a_kernel_that_forgets_nothing_gives_running_peaks_and_that_is_said():
    process = FakeProcess(forgets=False, pss=False)
    recorder = process.recorder()
    for name, sizes in (("start", (10,)), ("import", (50, 40)), ("compile", (200, 70)), ("steady", (80,))):
        process.grow(*sizes)
        recorder.end(name)
    assert [phase.peak_bytes for phase in recorder.phases] == [10, 50, 200, 200]
    assert [phase.is_running_peak for phase in recorder.phases] == [False, True, True, True]
    assert {phase.pss_bytes for phase in recorder.phases} == {None}


def test_what_is_not_the_model_s_is_left_out_by_a_restart():
    process = FakeProcess()
    recorder = process.recorder()
    process.grow(40)
    recorder.end("import")
    process.grow(400, 60)  # the parity check's buffers
    recorder.restart()
    process.grow(70)
    assert recorder.end("steady").peak_bytes == 70


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("warm",), "phase 'warm' is not one of start, import"),
        (("compile", "import"), "phase 'import' cannot follow 'compile'"),
        (("steady", "steady"), "phase 'steady' cannot follow 'steady'"),
    ],
)
def test_phases_come_in_order(names, said):
    process = FakeProcess()
    process.grow(1)
    recorder = process.recorder()
    with pytest.raises(SettingError, match=said):
        for name in names:
            recorder.end(name)


def test_there_is_no_baseline_before_the_import_has_ended():
    process = FakeProcess()
    recorder = process.recorder()
    assert (recorder.baseline_bytes, recorder.peak_bytes) == (None, None)
    process.grow(10)
    recorder.end("start")
    assert recorder.baseline_bytes is None


def test_the_proportional_size_is_read_or_none(tmp_path):
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text("00400000-7fff [rollup]\nRss:   3000 kB\nPss:\t   1234 kB\nPss_Anon:  7 kB\n")
    assert pss_bytes(rollup) == 1234 * 1024
    assert pss_bytes(tmp_path / "absent") is None
    rollup.write_text("nothing of the kind\n")
    assert pss_bytes(rollup) is None


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM and smaps_rollup are Linux's")
def test_a_real_process_shows_a_peak_in_the_phase_where_it_was_and_no_other():
    # In a process of its own: how much this one holds depends on what was tested before.
    code = """
import json
from benchmarks.process.memory import PhaseRecorder
recorder = PhaseRecorder()
recorder.end("start")
block = bytearray(128 << 20)
block[::4096] = b"x" * len(block[::4096])
del block
recorder.end("compile")
kept = bytearray(32 << 20)
kept[::4096] = b"x" * len(kept[::4096])
recorder.end("steady")
print(json.dumps([phase.model_dump() for phase in recorder.phases]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    start, compiled, steady = (MemoryPhase(**phase) for phase in json.loads(done.stdout))
    assert compiled.peak_bytes - start.peak_bytes > 120 * MIB
    if forget_peak():
        assert not steady.is_running_peak
        assert 24 * MIB < steady.peak_bytes - start.peak_bytes < 64 * MIB
    else:
        assert steady.is_running_peak
    if steady.pss_bytes is not None:
        assert 24 * MIB < steady.pss_bytes - start.pss_bytes < 64 * MIB
