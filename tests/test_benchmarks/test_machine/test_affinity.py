"""Core lists and siblings are read right, and what is refused is said."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.errors import SettingError
from benchmarks.machine.affinity import allowed_cores, format_cores, parse_cores, pin, read_topology

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen on this system")


def machine(root, cores):
    """Write a fake tree; `cores` maps a number to its siblings."""
    for index, siblings in cores.items():
        path = root / f"sys/devices/system/cpu/cpu{index}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{siblings}\n")
    return read_topology(root, allowed=cores)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), (" 4 , 2-2\n", (2, 4)), ("1,1,0-1", (0, 1))],
)
def test_core_lists_are_read_and_written(text, cores):
    assert parse_cores(text) == cores
    assert parse_cores(format_cores(cores)) == cores


def test_runs_are_written_short():
    assert format_cores([8, 3, 2, 1, 0, 10, 11]) == "0-3,8,10-11"


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "0,,1", "1-", "0-99999999999", "0 1"])
def test_what_is_no_list_is_refused_in_one_line(text):
    with pytest.raises(SettingError) as caught:
        parse_cores(text)
    assert "\n" not in str(caught.value).replace(repr(text), "")


def test_threads_of_one_physical_core_are_siblings(tmp_path):
    # The numbering of most servers: 0-3 are the first threads, 4-7 the second ones of the same cores.
    topology = machine(tmp_path, {i: f"{i % 4},{i % 4 + 4}" for i in range(8)})
    assert topology.physical == 4
    assert topology.cores[5].siblings == (1, 5)


def test_only_allowed_cores_are_read(tmp_path):
    machine(tmp_path, {i: f"{i // 2 * 2}-{i // 2 * 2 + 1}" for i in range(4)})
    topology = read_topology(tmp_path, allowed=[1, 2, 3])
    assert [core.index for core in topology.cores] == [1, 2, 3]
    assert topology.physical == 2


def test_where_nothing_is_said_every_core_stands_alone(tmp_path):
    topology = read_topology(tmp_path, allowed=[0, 1])
    assert topology.physical == 2
    assert [core.siblings for core in topology.cores] == [(0,), (1,)]


@linux
def test_a_process_stays_where_it_is_put_with_all_its_threads():
    code = """
import threading, time
from benchmarks.machine.affinity import allowed_cores, pin
gate = threading.Event()
early = threading.Thread(target=gate.wait); early.start()
core = allowed_cores()[-1]
pin([core])
late = threading.Thread(target=gate.wait); late.start()
print(core, allowed_cores())
gate.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    core = done.stdout.split()[0]
    assert done.stdout.strip() == f"{core} ({core},)"


@linux
def test_another_process_can_be_pinned():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        core = allowed_cores()[0]
        pin([core], child.pid)
        assert allowed_cores(child.pid) == (core,)
        child.communicate(b"\n")
    with pytest.raises(SettingError, match="process"):
        pin([core], child.pid)


@linux
@pytest.mark.parametrize("cores", [[], [4000], [-1], [10**9]])
def test_impossible_cores_are_refused_in_one_line_and_change_nothing(cores):
    before = allowed_cores()
    with pytest.raises(SettingError) as caught:
        pin(cores)
    assert "\n" not in str(caught.value)
    assert allowed_cores() == before


@linux
def test_cores_given_only_in_part_are_refused():
    before = allowed_cores()
    with pytest.raises(SettingError, match="core 4000 cannot be used here"):
        pin([before[0], 4000])
    assert allowed_cores() == before


@linux
def test_this_machine_can_be_read():
    topology = read_topology()
    assert tuple(core.index for core in topology.cores) == allowed_cores()
    assert 1 <= topology.physical <= len(topology.cores)
