"""Clocks, temperatures and throttling are read from the files that each board has for them."""

from __future__ import annotations

import pytest

from benchmarks.machine.board.identity import read_board
from benchmarks.machine.board.watch import BoardWatch


@pytest.fixture
def watched(tree):
    def watch(name, **settings):
        made = tree(name)
        return made, BoardWatch(read_board(made.root, made.machine), made.root, **settings)

    return watch


def test_a_hot_raspberry_pi(watched):
    made, watch = watched("raspberry-pi-4")
    read = watch.read()
    assert (read.khz, read.celsius, read.sensor) == ({"Cortex-A72": 1_800_000}, 81.303, "cpu-thermal")
    assert read.throttled == ("soft temperature limit",), "what was since the start of the system is not now"
    made.write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005")
    assert watch.read().throttled == ("under-voltage", "the firmware throttles")


def test_each_kind_of_core_has_its_clock_and_the_neural_processor_is_no_core(watched):
    made, watch = watched("rockchip-rk3588")
    read = watch.read()
    assert read.khz == {"Cortex-A76 (big)": 1_416_000, "Cortex-A55 (little)": 1_800_000}
    assert (read.celsius, read.sensor) == (85.9, "bigcore0-thermal")
    assert read.throttled == ("cooling device thermal-cpufreq-1",)
    made.write("sys/class/thermal/cooling_device1/cur_state", 0)
    assert watch.read().throttled == ()


def test_only_the_clocks_of_loaded_cores_count(watched):
    made, watch = watched("rockchip-rk3588", cores=(4, 0))
    made.write("sys/devices/system/cpu/cpu4/cpufreq/scaling_cur_freq", 1_200_000)
    assert watch.read().khz == {"Cortex-A76 (big)": 1_200_000, "Cortex-A55 (little)": 1_800_000}


def test_the_counters_of_an_intel_processor(watched):
    made, watch = watched("intel-hybrid-laptop")
    read = watch.read()
    assert (read.celsius, read.sensor) == (74.0, "coretemp Core 0")
    made.write("sys/devices/system/cpu/cpu3/thermal_throttle/core_throttle_count", 5)
    assert watch.read().events - read.events == 2


def test_the_fan_is_no_throttling(watched):
    _, watch = watched("raspberry-pi-5")
    assert watch.read().throttled == ()


def test_what_vanishes_meanwhile_is_not_told(watched):
    made, watch = watched("raspberry-pi-5")
    for path in (*made.root.rglob("scaling_cur_freq"), *made.root.rglob("temp")):
        path.unlink()
    read = watch.read()
    assert (read.khz, read.celsius) == ({}, None)


def test_a_virtual_machine_tells_nothing(watched):
    _, watch = watched("virtual-machine")
    read = watch.read()
    assert (read.khz, read.celsius, read.throttled, read.events) == ({}, None, (), None)
