"""Run the tests marked `rounding` with the rounding of other processors and with other seeds; run by `make rounding`.

torch and oneDNN can be told to use other instruction sets, so one machine shows the results of several. A seed
redraws what a test leaves to chance, and changes the initial weights of layers by one part in a million.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Variable, value, flags that the processor must have.
KINDS = [
    ("ATEN_CPU_CAPABILITY", "default", ()),
    ("ATEN_CPU_CAPABILITY", "avx2", ("avx2", "fma")),
    ("ATEN_CPU_CAPABILITY", "avx512", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    ("ONEDNN_MAX_CPU_ISA", "AVX2", ("avx2",)),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
]
THREADS = (1, 2)
SEEDS = (1, 2)


def flags() -> set[str]:
    """Return the flags of the processor, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith("flags") for word in line.partition(":")[2].split()}


def run(name: str, variables: dict[str, str], arguments: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "rounding and not gpu", "-n", "2", "--dist", "loadfile"]
    command += arguments or ["tests"]
    print(f"== {name}", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, **variables}).returncode
    print(f"== {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def main(arguments: list[str]) -> int:
    can, failed, skipped = flags(), [], []
    runs: list[tuple[str, dict[str, str]]] = []
    for variable, value, needs in KINDS:
        lacks = [flag for flag in needs if flag not in can]
        if lacks:
            skipped.append(f"{variable}={value}: this processor ({platform.machine()}) lacks {', '.join(lacks)}")
            continue
        for threads in THREADS:
            runs.append((f"{variable}={value} OMP_NUM_THREADS={threads}", {variable: value}))
            runs[-1][1]["OMP_NUM_THREADS"] = str(threads)
    for seed in SEEDS:
        runs.append((f"PRUNE_DEPLOY_TEST_SEED={seed}", {"PRUNE_DEPLOY_TEST_SEED": str(seed), "OMP_NUM_THREADS": "1"}))
    failed = [name for name, variables in runs if not run(name, variables, arguments)]
    for line in skipped:
        print(f"skipped {line}")
    print(f"{len(runs) - len(failed)} of {len(runs)} kinds passed" + "".join(f"; FAILED: {name}" for name in failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
