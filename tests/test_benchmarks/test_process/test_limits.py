"""What a process may take."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.process.child import Child
from benchmarks.process.limits import memory_bytes
from benchmarks.process.measured import MeasuredProcess
from benchmarks.subject.subject import SubjectSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"proc/meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n"}, 2048 * 1024),
        ({"proc/meminfo": "MemTotal: 2048 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 2048 * 1024),
        ({"proc/meminfo": "MemTotal: 2048 kB\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1048576),
        (
            {
                "proc/meminfo": "MemTotal: 2048 kB\n",
                "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n",
            },
            1048576,
        ),
        ({}, None),
    ],
)
def test_a_container_may_have_less_memory_than_its_machine(files, wanted, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_bytes(tmp_path) == wanted


def test_more_memory_than_there_is_is_an_error_of_the_process_itself(tmp_path):
    log = tmp_path / "log"
    code = """
from benchmarks.process import limits
limits.memory_bytes = lambda: 2**29
limits.limit_memory()
held = []
try:
    while len(held) < 8:
        held.append(bytearray(2**27))
except MemoryError:
    print("refused after", len(held))
"""
    with Child(["-c", code], log=log) as child:
        assert child.wait(60) == 0
    assert log.read_text().startswith("refused after ")


def test_a_stricter_limit_of_the_user_stays():
    code = """
import resource
from benchmarks.process.limits import limit_memory
resource.setrlimit(resource.RLIMIT_DATA, (2**28, resource.getrlimit(resource.RLIMIT_DATA)[1]))
limit_memory()
raise SystemExit(resource.getrlimit(resource.RLIMIT_DATA)[0] != 2**28)
"""
    with Child(["-c", code]) as child:
        assert child.wait(60) == 0


def test_a_measured_process_is_limited_and_the_first_to_end_where_memory_runs_out(conv_model):
    process = MeasuredProcess(SubjectSpec(model=conv_model, backend="null"), timeout_s=60)
    try:
        process.load({"x": np.zeros((1, 3, 8, 8), np.float32)})
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
        assert line.split()[3] == str(memory_bytes())
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"
    finally:
        process.close()
