"""The table of a board says what is told, and what is not."""

from __future__ import annotations

from benchmarks.machine.board.identity import read_board
from benchmarks.machine.board.records import Board, Cache, CoreKind
from deploy.edge.profile.identity import board_table, clock, runtimes


def told(board):
    return dict(board_table(board).rows)


def test_a_board_with_two_kinds_of_cores():
    kinds = [
        CoreKind(name="Cortex-A76", role="big", role_from="the scheduler's capacity", cores=(4, 5), max_khz=2_400_000),
        CoreKind(name="Cortex-A55", role="little", cores=(0, 1, 2, 3), min_khz=408_000, max_khz=1_800_000),
    ]
    rows = told(
        Board(
            model="Some Board",
            architecture="aarch64",
            kinds=kinds,
            memory_bytes=8 << 30,
            memory_limit_bytes=1 << 30,
            caches=(
                Cache(level=2, kind="unified", bytes=128 << 10, number=4),
                Cache(level=1, kind="data", bytes=1024, number=1),
            ),
            no_energy="a reason",
        )
    )
    assert rows["Cortex-A76 (big)"] == "cores 4-5: to 2.40 GHz, by the scheduler's capacity"
    assert rows["Cortex-A55 (little)"] == "cores 0-3: 408 MHz to 1.80 GHz"
    assert rows["memory"] == "8.00 GiB, of which this container may use 1.00 GiB"
    assert rows["caches"] == "L2 4 x 128 KiB, L1d 1.00 KiB"
    assert rows["energy"] == "not told by this machine: a reason"
    assert rows["temperatures"] == "not told by this machine"


def test_nothing_known_is_said(tmp_path):
    rows = told(read_board(tmp_path, "riscv64"))
    assert rows["processor"] == "riscv64"
    assert {rows[name] for name in ("board", "cores", "caches", "memory", "throttling")} == {"not told by this machine"}


def test_runtimes_are_those_that_can_run_something():
    found = runtimes()
    assert {"Python", "ort", "numpy"} <= found.keys()
    assert "null" not in found


def test_a_clock_has_a_unit():
    assert (clock(600_000), clock(1_500_000)) == ("600 MHz", "1.50 GHz")
