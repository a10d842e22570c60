"""What each kind of machine tells of itself, and what it is silent about."""

from __future__ import annotations

import pytest

from benchmarks.machine.board.identity import read_board


@pytest.fixture
def board(tree):
    def read(name):
        made = tree(name)
        return read_board(made.root, made.machine)

    return read


def kinds(board):
    return [(kind.title, kind.cores, kind.min_khz, kind.max_khz, kind.governor) for kind in board.kinds]


def test_a_raspberry_pi_4(board):
    found = board("raspberry-pi-4")
    assert (found.model, found.soc) == ("Raspberry Pi 4 Model B Rev 1.5", "brcm,bcm2711")
    assert kinds(found) == [("Cortex-A72", (0, 1, 2, 3), 600_000, 1_800_000, "ondemand")]
    assert found.features == ("asimd",), "no dot product: int8 gains little there"
    sizes = [(one.level, one.kind, one.bytes >> 10, one.number) for one in found.caches]
    assert sizes == [(1, "data", 32, 4), (1, "instruction", 48, 4), (2, "unified", 1024, 1)]
    assert found.memory_bytes == 3_884_348 << 10
    assert found.memory_limit_bytes is None
    assert (found.system, found.kernel) == ("Debian GNU/Linux 12 (bookworm)", "6.6.51+rpt-rpi-v8")
    assert [one.name for one in found.temperatures] == ["cpu-thermal"], "its sensor is that of the zone"
    assert found.throttling == ("the firmware (get_throttled)",)
    assert [(one.kind, one.name, one.driver) for one in found.accelerators] == [("GPU", "brcm,2711-v3d", "v3d")]
    assert found.untold == ("energy",)
    assert found.no_energy == "this machine has no energy counter"
    assert found.within == ()


def test_a_raspberry_pi_5_with_a_hailo(board):
    found = board("raspberry-pi-5")
    assert kinds(found) == [("Cortex-A76", (0, 1, 2, 3), 1_500_000, 2_400_000, "ondemand")]
    assert "asimddp" in found.features
    assert "i8mm" not in found.features
    assert found.throttling == ("the firmware (get_throttled)",)
    assert [one.name for one in found.accelerators] == ["brcm,2712-v3d", "Hailo-8"]
    assert found.untold == ("caches", "energy")


def test_an_agx_orin_with_cores_switched_off(board):
    found = board("jetson-agx-orin")
    assert (found.soc, found.cpu) == ("nvidia,tegra234", "Cortex-A78AE")
    [kind] = found.kinds
    assert (kind.name, len(kind.cores)) == ("Cortex-A78AE", 8), "four of the twelve are off in this power mode"
    assert {one.name for one in found.temperatures} == {"cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal"}
    assert found.energy == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert [one.name for one in found.accelerators] == ["NVIDIA Jetson (17000000.ga10b)"]


def test_an_orin_nano_has_a_rail_for_the_whole_board(board):
    found = board("jetson-orin-nano")
    assert found.energy == ("VDD_IN",)
    assert found.kinds[0].governor == "schedutil"
    assert found.physical_cores is None, "no topology is told: nothing is guessed"


def test_a_big_little_board(board):
    found = board("rockchip-rk3588")
    assert kinds(found) == [
        ("Cortex-A76 (big)", (4, 5, 6, 7), 408_000, 2_288_000, "ondemand"),
        ("Cortex-A55 (little)", (0, 1, 2, 3), 408_000, 1_800_000, "ondemand"),
    ]
    assert [kind.capacity for kind in found.kinds] == [1024, 414]
    assert [kind.now_khz for kind in found.kinds] == [1_416_000, 1_800_000]
    assert {kind.role_from for kind in found.kinds} == {"the scheduler's capacity"}
    assert found.cpu == "Cortex-A76 and Cortex-A55"
    assert [(one.level, one.bytes >> 10, one.number) for one in found.caches] == [
        (2, 128, 4),
        (2, 512, 4),
        (3, 3072, 1),
    ]
    assert [(one.kind, one.driver) for one in found.accelerators] == [("GPU", "mali"), ("NPU", "RKNPU")]
    assert found.throttling == ("the kernel's cooling devices",)


def test_a_big_little_board_without_capacities_is_ordered_by_its_clocks(tree):
    made = tree("rockchip-rk3588")
    for path in made.root.rglob("cpu_capacity"):
        path.unlink()
    found = read_board(made.root, made.machine)
    assert [kind.title for kind in found.kinds] == ["Cortex-A76 (big)", "Cortex-A55 (little)"]
    assert {kind.role_from for kind in found.kinds} == {"the highest clock"}


@pytest.mark.parametrize(
    ("capacities", "found"),
    [
        ((1024, 1009, 1024, 1009), [((0, 1, 2, 3), None)]),
        ((600, 600, 1024, 1009), [((2, 3), "big"), ((0, 1), "little")]),
        ((1024, 500, 500, 250), [((0,), "big"), ((1, 2), "middle"), ((3,), "little")]),
    ],
)
def test_cores_of_one_design_are_told_apart_by_what_the_scheduler_thinks_of_them(tree, capacities, found):
    made = tree("raspberry-pi-5")
    for core, capacity in enumerate(capacities):
        made.write(f"sys/devices/system/cpu/cpu{core}/cpu_capacity", capacity)
    kinds = read_board(made.root, made.machine).kinds
    assert [(kind.cores, kind.role) for kind in kinds] == found


def test_a_laptop_with_two_kinds_of_cores_on_battery(board):
    found = board("intel-hybrid-laptop")
    assert found.model == "LENOVO 21AH00BSGE"
    assert kinds(found) == [
        ("performance core (performance)", tuple(range(8)), 400_000, 4_700_000, "powersave"),
        ("efficient core (efficient)", tuple(range(8, 16)), 400_000, 3_400_000, "powersave"),
    ]
    assert (found.cores, found.physical_cores) == (16, 12)
    assert "avx_vnni" in found.features
    assert found.energy == ("battery BAT0",), "only root may read the processor's counters"
    assert found.throttling == ("the processor's counters (thermal_throttle)", "the kernel's cooling devices")
    assert [(one.name, one.driver) for one in found.accelerators] == [("Intel 0x46a6", "i915")]


def test_a_laptop_at_the_mains_says_why_there_is_no_energy(tree):
    made = tree("intel-hybrid-laptop")
    made.write("sys/class/power_supply/BAT0/status", "Charging")
    found = read_board(made.root, made.machine)
    assert found.energy == ()
    assert "energy_uj may not be read by this user" in found.no_energy
    assert "battery BAT0 is not being discharged (Charging)" in found.no_energy


def test_a_server(board):
    found = board("amd-server")
    assert (found.cores, found.physical_cores) == (48, 24)
    assert [(one.level, one.number) for one in found.caches] == [(3, 4)]
    assert found.energy == ("package-0",), "the processor's own counter before the meter of the machine"
    assert [one.name for one in found.temperatures] == ["k10temp Tctl", "k10temp Tccd1"], "not that of a disk"
    assert [(one.name, one.driver) for one in found.accelerators] == [("NVIDIA A10", "nvidia")]
    assert found.kinds[0].role is None


def test_an_amd_laptop_with_dense_cores(board):
    found = board("amd-hybrid-laptop")
    assert kinds(found) == [
        ("performance core (performance)", (0, 1, 2, 3, 12, 13, 14, 15), 605_263, 5_157_895, "powersave"),
        ("dense core (efficient)", (*range(4, 12), *range(16, 24)), 605_263, 3_289_474, "powersave"),
    ]
    assert (found.cores, found.physical_cores) == (24, 12)
    assert [(one.bytes >> 20, one.number) for one in found.caches] == [(8, 1), (16, 1)]
    assert all("the kernel names no kinds" in kind.role_from for kind in found.kinds)


def test_without_cppc_the_clocks_tell_dense_cores_and_without_both_nothing_does(tree):
    made = tree("amd-hybrid-laptop")
    for path in made.root.rglob("highest_perf"):
        path.unlink()
    found = read_board(made.root, made.machine).kinds
    assert [(len(kind.cores), kind.role) for kind in found] == [(8, "performance"), (16, "efficient")]
    assert "highest clock" in found[0].role_from
    for path in made.root.rglob("cpuinfo_max_freq"):  # as acpi-cpufreq has it: the same for all
        path.write_text("2000000")
    [kind] = read_board(made.root, made.machine).kinds
    assert (len(kind.cores), kind.role, kind.name) == (24, None, "AMD Ryzen AI 9 HX 370 w/ Radeon 890M")


@pytest.mark.parametrize(
    ("ranks", "file"),
    [
        # As Linux told them on a Ryzen 9 5900X, whose cores are alike.
        ((216, 216, 211, 206, 201, 196, 191, 186, 181, 171, 166, 176), "acpi_cppc/highest_perf"),
        # Highest clocks that Linux 4.18 gave on a Threadripper 7975WX.
        ((5352, 5517, 5677, 5837, 6001, 6161, 6321, 6482, 6482, 5352, 5352, 5352), "cpufreq/cpuinfo_max_freq"),
    ],
)
def test_preferred_cores_of_amd_are_of_one_kind(tree, ranks, file):
    made = tree("amd-hybrid-laptop")
    for path in (*made.root.rglob("highest_perf"), *made.root.rglob("cpuinfo_max_freq")):
        path.unlink()
    for core in range(24):
        made.write(f"sys/devices/system/cpu/cpu{core}/{file}", ranks[core % 12])
    [kind] = read_board(made.root, made.machine).kinds
    assert (kind.role, len(kind.cores)) == (None, 24)


def test_the_same_gap_on_another_make_is_no_kind(tree):
    made = tree("amd-hybrid-laptop")
    cpuinfo = made.root / "proc/cpuinfo"
    cpuinfo.write_text(cpuinfo.read_text().replace("AuthenticAMD", "CentaurHauls"))
    assert len(read_board(made.root, made.machine).kinds) == 1


def test_a_container_has_limits_and_hides_the_rest(board):
    found = board("container")
    assert found.within == ("container (Docker)",)
    assert (found.memory_limit_bytes, found.quota_cores) == (512 << 20, 1.5)
    assert found.untold == ("the board's name", "caches", "temperatures", "throttling", "energy")


def test_a_virtual_machine_tells_next_to_nothing(board):
    found = board("virtual-machine")
    assert found.within == ("virtual machine",)
    assert found.cpu == "AMD EPYC"
    assert found.kinds[0].max_khz is None, "/proc/cpuinfo names a clock that never changes: that is no measurement"
    assert found.memory_limit_bytes is None
    assert set(found.untold) >= {"clock frequencies", "frequency governor", "temperatures", "throttling", "energy"}


@pytest.mark.parametrize("name", ["raspberry-pi-4", "jetson-agx-orin", "rockchip-rk3588", "amd-hybrid-laptop"])
def test_a_tree_of_garbage_is_no_error(tree, name):
    made = tree(name)
    for path in made.root.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\xff\x00 garbage: \xfe = - \n")
    found = read_board(made.root, made.machine)
    assert not found.energy
    assert not found.temperatures


def test_an_empty_tree_is_no_error(tmp_path):
    found = read_board(tmp_path, "riscv64")
    assert (found.kinds, found.cores, found.architecture) == ((), 0, "riscv64")
    assert len(found.untold) == 7
