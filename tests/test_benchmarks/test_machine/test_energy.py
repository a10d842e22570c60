"""Energy is counted once, across the end of a counter, and is None with a reason where it cannot be known."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from benchmarks.machine.energy import EnergyMeter

RAPL = "sys/class/powercap/intel-rapl"


class Board:
    """A fake tree; readings by the meter's own thread are off unless asked for."""

    def __init__(self, root):
        self.root = root

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def zone(self, index, name, energy_uj, most=10**6):
        self.write(f"{RAPL}:{index}/name", name)
        self.write(f"{RAPL}:{index}/energy_uj", energy_uj)
        self.write(f"{RAPL}:{index}/max_energy_range_uj", most)

    def rail(self, chip, channel, label, millivolts, milliamperes, name="ina3221"):
        folder = f"sys/class/hwmon/{chip}"
        self.write(f"{folder}/name", name)
        self.write(f"{folder}/in{channel}_label", label)
        self.write(f"{folder}/in{channel}_input", millivolts)
        self.write(f"{folder}/curr{channel}_input", milliamperes)

    def meter(self, **settings):
        return EnergyMeter(self.root, **{"period_s": 3600, **settings})


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def test_packages_and_memory_are_added_and_their_parts_are_not(board):
    for index, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys")):
        board.zone(index, name, 1000)
    board.zone("0", "package-0", 1000)
    board.write("sys/class/powercap/intel-rapl-mmio:0/name", "package-0")
    meter = board.meter().start()
    assert meter.sources == ("package-0", "dram", "package-1")
    for index, name, energy_uj in (("0", "package-0", 1500), ("0:0", "core", 9999), ("0:1", "dram", 1020)):
        board.zone(index, name, energy_uj)
    board.zone("1", "package-1", 1003)
    board.zone("2", "psys", 9999)
    assert meter.stop() == 500 + 20 + 3
    assert meter.why is None
    assert len(meter.sources) == 3


def test_a_counter_that_runs_over_goes_on(board):
    board.zone("0", "package-0", 999_000)
    meter = board.meter().start()
    board.zone("0", "package-0", 500)
    assert meter.stop() == 1500


def test_a_counter_that_runs_over_twice_is_followed(board):
    board.zone("0", "package-0", 0)
    written = itertools.cycle([600_000, 100_000])  # each pair of readings runs over once
    seen = threading.Semaphore(0)
    meter = EnergyMeter(board.root, period_s=0.001)
    add = []

    def read(source, original=meter._read):
        value = next(written)
        board.zone("0", "package-0", value)
        add.append(value)
        seen.release()
        return original(source)

    meter._read = read
    meter.start()
    for _ in range(6):
        assert seen.acquire(timeout=30)
    energy_uj = meter.stop()
    steps = [later - first if later >= first else 10**6 - first + later for first, later in itertools.pairwise(add)]
    assert energy_uj == sum(steps) > 10**6


def test_a_meter_can_be_used_again(board):
    board.zone("0", "package-0", 100)
    meter = board.meter()
    for expected in (10, 20):
        board.zone("0", "package-0", 100)
        meter.start()
        board.zone("0", "package-0", 100 + expected)
        assert meter.stop() == expected


def test_a_counter_that_only_root_may_read_is_none_and_said(board, monkeypatch):
    board.zone("0", "package-0", 100)
    read = Path.read_text

    def refuse(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = board.meter().start()
    assert meter.stop() is None
    assert meter.why.endswith("energy_uj may not be read by this user")


def test_a_counter_that_vanishes_is_none_and_said(board):
    board.zone("0", "package-0", 100)
    meter = board.meter().start()
    (board.root / f"{RAPL}:0/energy_uj").unlink()
    assert meter.stop() is None
    assert "cannot be read" in meter.why


def test_no_counter_is_none_and_said(board):
    meter = board.meter().start()
    assert meter.stop() is None
    assert meter.why == "this machine has no energy counter"
    assert meter.sources == ()


def test_a_measurement_needs_a_beginning(board):
    with pytest.raises(RuntimeError, match="start"):
        board.meter().stop()
    with pytest.raises(RuntimeError, match="stop"):
        board.meter().start().start()


def readings(board, meter, powers):
    """Let the meter see one power after another (5 V, milliamperes), 100 ms apart."""
    source = meter._source
    for milliamperes in powers:
        board.rail("hwmon0", 1, "VDD_IN", 5000, milliamperes)
        source.add()


def ticking():
    ticks = itertools.count()
    return lambda: next(ticks) * 100_000_000


def test_the_rail_of_the_whole_board_is_integrated(board):
    board.rail("hwmon0", 1, "VDD_IN", 5000, 1000)
    board.rail("hwmon0", 2, "VDD_CPU_GPU_CV", 5000, 9000)
    meter = board.meter(clock=ticking()).start()
    assert meter.sources == ("VDD_IN",)
    readings(board, meter, [1000] * 5 + [2000] * 5)
    # 5 W over 5 steps, a step from 5 W to 10 W, 10 W over 5 steps (the last reading is that of stop).
    assert meter.stop() == 500_000 * 5 + 750_000 + 1_000_000 * 5


def test_a_single_rail_needs_no_known_name(board):
    board.write("sys/class/hwmon/hwmon3/name", "ina226")
    board.write("sys/class/hwmon/hwmon3/power1_input", 3_000_000)
    board.write("sys/class/hwmon/hwmon4/name", "nvme")
    board.write("sys/class/hwmon/hwmon4/power1_input", 9_000_000)
    meter = board.meter(clock=ticking()).start()
    for _ in range(9):
        meter._source.add()
    assert meter.stop() == 3_000_000


def test_the_rails_that_feed_a_module_between_them_are_added(board):
    for channel, label in enumerate(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 1):
        board.rail("hwmon3", channel, label, 5000, 200)
    board.rail("hwmon4", 2, "VDDQ_VDD2_1V8AO", 5000, 9000)
    meter = board.meter(clock=ticking()).start()
    for _ in range(9):
        meter._source.add()
    assert meter.stop() == 3_000_000, "3 W for a second"
    assert meter.sources == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")


@pytest.mark.parametrize(
    "told",
    [{"power_now": 11_250_000}, {"current_now": -1_000_000, "voltage_now": 11_250_000}],
    ids=["power", "current"],
)
def test_a_battery_counts_while_it_is_discharged(board, told):
    for name, text in {"type": "Battery", "status": "Discharging", **told}.items():
        board.write(f"sys/class/power_supply/BAT0/{name}", text)
    board.write("sys/class/power_supply/hidpp_battery_0/type", "Battery")
    board.write("sys/class/power_supply/hidpp_battery_0/scope", "Device")
    board.write("sys/class/power_supply/hidpp_battery_0/status", "Discharging")
    meter = board.meter(clock=ticking()).start()
    for _ in range(9):
        meter._source.add()
    assert meter.stop() == 11_250_000
    assert meter.sources == ("battery BAT0",)


def test_the_power_meter_of_a_server_counts_where_nothing_else_does(board):
    board.write("sys/class/hwmon/hwmon2/name", "power_meter")
    board.write("sys/class/hwmon/hwmon2/power1_average", 212_000_000)
    meter = board.meter()
    assert meter.sources == ("power meter of the machine (ACPI)",)
    assert meter.why is None


def test_what_counts_is_known_before_the_start(board):
    """The runner asks before it measures whether anything does."""
    board.zone("0", "package-0", 100)
    assert board.meter().sources == ("package-0",)


def test_rails_that_may_be_parts_of_each_other_are_not_added(board):
    board.rail("hwmon0", 1, "A", 5000, 1000)
    board.rail("hwmon0", 2, "B", 5000, 1000)
    meter = board.meter().start()
    assert meter.stop() is None
    assert "several power rails (A, B)" in meter.why


def test_two_readings_of_a_rail_are_no_energy(board):
    board.rail("hwmon0", 1, "VDD_IN", 5000, 1000)
    meter = board.meter(clock=ticking()).start()
    assert meter.stop() is None
    assert "too short" in meter.why


def test_this_machine_gives_a_figure_or_a_reason():
    before = threading.active_count()
    meter = EnergyMeter().start()
    sum(range(1_000_000))
    energy_uj = meter.stop()
    assert (energy_uj is None) != (meter.why is None)
    assert energy_uj is None or energy_uj >= 0
    assert threading.active_count() == before
