"""What is read of the machine, and that nothing is guessed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine.environment import CpuTimes, Watch, cores_available
from benchmarks.process.memory import forget_peak, peak_bytes

ROOT = Path(__file__).parents[3]


def test_what_cannot_be_read_is_none(tmp_path):
    environment = Watch(tmp_path).finish(gpu=True)
    assert (environment.governor, environment.gpu, environment.driver) == (None, None, None)
    assert environment.virtual_machine is None
    assert environment.cpu_cores >= 1
    assert environment.memory_bytes > 2**20
    assert len(environment.hostname_sha256) == 64


def test_what_can_be_read_is(tmp_path):
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Example 9000\nflags\t\t: fpu avx2 hypervisor\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15\nGCC version: 13\n",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t Example GPU\nIRQ: 5\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = Watch(tmp_path).finish({"ort": "1.2"}, gpu=True)
    assert environment.cpu == "Example 9000"
    assert environment.virtual_machine is True
    assert environment.governor == "powersave"
    assert (environment.gpu, environment.driver) == ("Example GPU", "570.86.15")
    assert environment.packages["ort"] == "1.2"
    assert environment.cpu_cores == 1, "the quota of the container is not kept"
    assert Watch(tmp_path).finish().gpu is None
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert cores_available(tmp_path) >= 1


@pytest.mark.parametrize(
    ("later", "busy", "steal"),
    [
        (CpuTimes(total=200, busy=150, steal=10, own=70), 0.4, 0.1),
        (CpuTimes(total=200, busy=110, steal=0, own=75), 0.0, 0.0),
        (CpuTimes(total=100, busy=50, steal=0, own=20), None, None),
        (CpuTimes(total=200, busy=150, steal=None, own=70), 0.4, None),
    ],
)
def test_fractions_are_of_what_passed_between(later, busy, steal):
    start = CpuTimes(total=100, busy=60, steal=0, own=20) if later.total > 100 else later
    assert start.busy_fraction(later) == (busy if busy is None else pytest.approx(busy))
    assert start.steal_fraction(later) == (steal if steal is None else pytest.approx(steal))


def test_counters_exist_and_grow():
    first = CpuTimes.now()
    sum(range(1_000_000))
    second = CpuTimes.now()
    assert second.total >= first.total > 0
    assert second.own >= first.own > 0
    assert 0 <= first.busy <= first.total


def test_the_peak_is_resident_not_virtual(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n")
    assert peak_bytes(status) == 1234 * 1024
    assert peak_bytes(tmp_path / "absent") > 2**20, "getrusage stands in"


def test_the_peak_follows_what_is_touched():
    # In a process of its own: the peak of this one may lie far above what it holds now.
    code = """
from benchmarks.process.memory import peak_bytes
before = peak_bytes()
block = bytearray(64 << 20)
block[::4096] = b"x" * len(block[::4096])
print(peak_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) > 32 << 20


def test_forgetting_the_peak_says_whether_it_worked(tmp_path):
    assert forget_peak(tmp_path / "absent") is False
    assert not (tmp_path / "absent").exists()
