"""Each counter of a fake machine is read as what happened in between, and an absent one is None."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.machine.interference import NoiseWatch
from benchmarks.records.noise import Noise

HZ = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SECOND = 10**9


class Machine:
    """A tree of files that a test changes between two looks; its clock is set by hand."""

    def __init__(self, root):
        self.root, self.now = root, 0

    def put(self, **files):
        for name, text in files.items():
            self.write(name.replace("__", "/"), text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def stat(self, **cores):
        """Write /proc/stat; each core is (busy, idle, steal) in ticks."""
        lines = ["cpu  1 2 3 4 5 6 7 8 0 0"]
        lines += [f"{name} {busy} 0 0 {idle} 0 0 0 {steal} 99 0" for name, (busy, idle, steal) in cores.items()]
        self.write("proc/stat", "\n".join([*lines, "intr 12345 0 0", "ctxt 99", "procs_running 7"]))

    def process(self, pid, ticks, **threads):
        """Write a process; each thread is (involuntary switches, waited ns)."""
        fields = " ".join(["S", *["0"] * 10, str(ticks), "0", *["0"] * 10])
        self.write(f"proc/{pid}/stat", f"{pid} (a (strange) name) {fields}")
        for name, (switches, waited_ns) in threads.items():
            folder = f"proc/{pid}/task/{name[1:]}"
            self.write(
                f"{folder}/status", f"Name:\tx\nvoluntary_ctxt_switches:\t77\nnonvoluntary_ctxt_switches:\t{switches}"
            )
            self.write(f"{folder}/schedstat", f"1000 {waited_ns} 5")

    def watch(self, **settings):
        watch = NoiseWatch(self.root, clock=lambda: self.now, **{"cores": [0], **settings})
        watch.start()
        return watch


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_what_the_system_does_not_tell_is_none(machine):
    noise = machine.watch(pids=[1]).finish()
    told = {name for name, value in noise.model_dump().items() if value is not None}
    assert told == {"duration_ns", "cores", "physical_cores"}


def test_an_interval_needs_a_beginning(tmp_path):
    with pytest.raises(RuntimeError, match="start"):
        NoiseWatch(tmp_path).finish()


def test_time_of_the_cores_is_shared_out_between_us_others_and_the_hypervisor(machine):
    machine.stat(cpu0=(1000, 5000, 100), cpu1=(2000, 5000, 100), cpu2=(0, 0, 0))
    machine.process(7, 500, t7=(0, 0))
    watch = machine.watch(pids=[7], cores=[0, 1])
    machine.stat(cpu0=(1000 + 60, 5000 + 30, 100 + 10), cpu1=(2000 + 40, 5000 + 60, 100), cpu2=(9999, 0, 9999))
    machine.process(7, 550, t7=(0, 0))
    noise = watch.finish()
    assert noise.steal_fraction == pytest.approx(10 / 200)
    assert noise.others_fraction == pytest.approx((60 + 40 - 50) / 200)
    assert noise.cpu_ns == 50 * SECOND // HZ


def test_without_measured_processes_all_work_is_that_of_others(machine):
    machine.stat(cpu0=(0, 0, 0))
    watch = machine.watch()
    machine.stat(cpu0=(25, 75, 0))
    assert watch.finish().others_fraction == 0.25


def test_a_process_that_cannot_be_seen_leaves_the_share_of_others_open(machine):
    machine.stat(cpu0=(0, 0, 0))
    machine.process(7, 0, t7=(0, 0))
    watch = machine.watch(pids=[7, 8])
    machine.stat(cpu0=(50, 50, 0))
    assert watch.finish().others_fraction is None


def test_processes_that_come_and_go_count_as_long_as_they_were_seen(machine):
    machine.stat(cpu0=(0, 0, 0))
    machine.process(7, 100, t7=(10, 1000))
    watch = machine.watch(pids=[7])
    machine.process(7, 120, t7=(15, 4000), t8=(3, 500))  # a thread of its own appears
    machine.process(9, 1000, t9=(40, 0))
    watch.follow(9)
    machine.process(9, 1010, t9=(41, 10))
    watch.sample()
    for pid, threads in ((7, (7, 8)), (9, (9,))):  # both end
        (machine.root / f"proc/{pid}/stat").unlink()
        for thread in threads:
            (machine.root / f"proc/{pid}/task/{thread}/status").unlink()
    machine.stat(cpu0=(100, 0, 0))
    noise = watch.finish()
    assert noise.involuntary_switches == 5 + 3 + 1
    assert noise.waited_ns == 3000 + 500 + 10
    assert noise.cpu_ns == 30 * SECOND // HZ
    assert noise.others_fraction == pytest.approx(0.7)


def test_pressure_is_the_share_of_the_interval(machine):
    def pressure(cpu, io, memory):
        for name, total in (("cpu", cpu), ("io", io), ("memory", memory)):
            some = f"some avg10=99.00 avg60=99.00 avg300=99.00 total={total}"
            machine.write(f"proc/pressure/{name}", f"{some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=77777777")

    pressure(1_000_000, 500, 0)
    watch = machine.watch()
    machine.now = 2 * SECOND
    pressure(1_500_000, 20_500, 0)
    noise = watch.finish()
    assert (noise.cpu_pressure, noise.io_pressure, noise.memory_pressure) == (0.25, 0.01, 0.0)
    assert noise.duration_ns == 2 * SECOND


def test_runnable_threads_are_counted_at_the_looks_without_the_one_that_looks(machine):
    machine.put(proc__loadavg="9.99 9.99 9.99 1/500 123")
    watch = machine.watch()
    for running in (2, 6):
        machine.put(proc__loadavg=f"9.99 9.99 9.99 {running}/500 123")
        watch.sample()
    machine.put(proc__loadavg="9.99 9.99 9.99 2/500 123")
    noise = watch.finish()
    assert (noise.runnable_median, noise.runnable_max) == (1, 5)


def test_clock_and_heat(machine):
    cpu = "sys/devices/system/cpu/cpu0"
    machine.write(f"{cpu}/cpufreq/cpuinfo_max_freq", 3_000_000)
    machine.write(f"{cpu}/cpufreq/scaling_cur_freq", 2_900_000)
    machine.write(f"{cpu}/thermal_throttle/core_throttle_count", 5)
    machine.write(f"{cpu}/thermal_throttle/package_throttle_count", 100)
    machine.write("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
    machine.write("sys/class/thermal/cooling_device0/cur_state", 0)
    machine.write("sys/class/thermal/cooling_device1/type", "Fan")
    machine.write("sys/class/thermal/cooling_device1/cur_state", 3)
    watch = machine.watch()
    assert watch.finish().cooling is False, "a fan does not slow anything down"
    machine.write(f"{cpu}/cpufreq/scaling_cur_freq", 1_200_000)
    machine.write("sys/class/thermal/cooling_device0/cur_state", 2)
    watch.sample()
    machine.write("sys/class/thermal/cooling_device0/cur_state", 0)
    machine.write(f"{cpu}/thermal_throttle/core_throttle_count", 8)
    noise = watch.finish()
    assert noise.throttled_events == 3
    assert noise.cooling is True
    assert (noise.frequency_min_khz, noise.frequency_max_khz) == (1_200_000, 2_900_000)
    assert noise.frequency_limit_khz == 3_000_000


def v2(machine, group, periods, throttled, usec, quota=None):
    stat = f"usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {usec}"
    machine.write(f"sys/fs/cgroup{group}/cpu.stat", stat)
    if quota:
        machine.write(f"sys/fs/cgroup{group}/cpu.max", quota)


def test_the_quota_may_be_that_of_a_group_above(machine):
    machine.put(proc__self__cgroup="0::/pod/box")
    v2(machine, "/pod/box", 0, 0, 0, "max 100000")
    v2(machine, "/pod", 100, 10, 5000, "150000 100000")
    v2(machine, "", 0, 0, 0)
    watch = machine.watch()
    v2(machine, "/pod", 140, 30, 9000)
    noise = watch.finish()
    assert noise.quota_cores == 1.5
    assert (noise.quota_periods, noise.quota_throttled_periods, noise.quota_throttled_ns) == (40, 20, 4_000_000)


@pytest.mark.parametrize("said", ["/not/mounted/here", "/../../host", "/"])
def test_a_container_that_sees_only_its_own_group(machine, said):
    machine.put(proc__self__cgroup=f"0::{said}")
    machine.write("sys/host/cpu.max", "10000 100000")  # not a control group at all
    v2(machine, "", 10, 0, 0, "50000 100000")
    assert machine.watch().finish().quota_cores == 0.5


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_the_older_control_groups(machine, mount):
    machine.put(proc__self__cgroup="5:memory:/m\n4:cpu,cpuacct:/docker/abc\n0::/")
    folder = f"sys/fs/cgroup/{mount}/docker/abc"
    machine.write(f"{folder}/cpu.cfs_quota_us", 200000)
    machine.write(f"{folder}/cpu.cfs_period_us", 100000)
    machine.write(f"{folder}/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 100")
    watch = machine.watch()
    machine.write(f"{folder}/cpu.stat", "nr_periods 11\nnr_throttled 3\nthrottled_time 900")
    noise = watch.finish()
    assert noise.quota_cores == 2.0
    assert (noise.quota_periods, noise.quota_throttled_periods, noise.quota_throttled_ns) == (10, 2, 800)
    machine.write(f"{folder}/cpu.cfs_quota_us", -1)
    assert machine.watch().finish().quota_cores is None


def test_siblings_of_the_measured_cores(machine):
    for core in range(4):
        machine.write(f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list", f"{core % 2},{core % 2 + 2}")
    machine.stat(cpu0=(0, 0, 0), cpu1=(0, 0, 0), cpu2=(0, 0, 0), cpu3=(0, 0, 0))
    watch, whole = machine.watch(cores=[0]), machine.watch(cores=[0, 1, 2])
    machine.stat(cpu0=(0, 100, 0), cpu1=(100, 0, 0), cpu2=(30, 70, 0), cpu3=(90, 10, 0))
    assert watch.finish().siblings_busy_fraction == pytest.approx(0.3)
    noise = whole.finish()
    assert (len(noise.cores), noise.physical_cores) == (3, 2)
    assert noise.siblings_busy_fraction == pytest.approx(0.9)


def test_swapping(machine):
    machine.put(proc__vmstat="nr_free_pages 5\npswpin 100\npswpout 200\npgmajfault 9")
    watch = machine.watch()
    machine.put(proc__vmstat="nr_free_pages 5\npswpin 103\npswpout 210\npgmajfault 9")
    noise = watch.finish()
    assert (noise.swapped_in_bytes, noise.swapped_out_bytes) == (3 * PAGE, 10 * PAGE)


def test_a_second_interval_begins_anew(machine):
    machine.put(proc__loadavg="0 0 0 9/9 1")
    machine.process(7, 100, t7=(10, 0))
    watch = machine.watch(pids=[7])
    machine.put(proc__loadavg="0 0 0 1/9 1")
    machine.process(7, 200, t7=(20, 0))
    watch.start()
    noise = watch.finish()
    assert (noise.runnable_max, noise.involuntary_switches, noise.cpu_ns) == (0, 0, 0)


def test_broken_counters_are_absent_ones(machine):
    machine.put(proc__stat="cpu0 1 2", proc__loadavg="?", proc__vmstat="pswpin x", proc__pressure__cpu="some total=?")
    machine.put(proc__self__cgroup="nonsense\n\n0::")
    noise = machine.watch().finish()
    assert noise.steal_fraction is None
    assert noise.cpu_pressure is None
    assert noise.swapped_in_bytes is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_tells_what_a_busy_process_used():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            watch = NoiseWatch(pids=[busy.pid])
            watch.start()
            spent_ns = time.process_time_ns()
            for _ in range(5):
                time.sleep(0.1)
                watch.sample()
            spent_ns = time.process_time_ns() - spent_ns
            noise = watch.finish()
        finally:
            busy.kill()
    assert noise.cpu_ns is not None
    assert 0 < noise.cpu_ns <= noise.duration_ns * 1.1
    assert 0 <= noise.others_fraction <= 1
    assert spent_ns / 5 < 20_000_000, "a look takes a noticeable part of a block"
    assert Noise.model_validate_json(noise.model_dump_json()) == noise
