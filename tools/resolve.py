"""Check that pip resolves the dependencies for every supported Python and processor; run by `make nightly`.

Nothing is installed. Everything must exist as wheels, within the ranges of `pyproject.toml` and the versions of
`constraints.txt`. What a board needs, the core alone, must exist for the oldest glibc that `deploy --on` supports.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
PROCESSORS = ("x86_64", "aarch64")
AT_A_TIME = 4  # pip waits for downloads most of the time
OLDEST_GLIBC, BOARD_GLIBC, NEWEST_GLIBC = 5, 28, 39
# Published as source that only requires these packages, whose wheels are checked instead.
STANDS_FOR = {"tensorrt-rtx": ("tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs")}

# pip selects wheels for the given Python and processor, but evaluates the markers of requirements for those it runs on.
PIP = """
import runpy, sys
import pip._vendor.packaging.markers as markers
own, version, processor = markers.default_environment, sys.argv[1], sys.argv[2]
told = {"python_version": version, "python_full_version": version + ".0", "platform_machine": processor}
markers.default_environment = lambda: {**own(), **told}
sys.argv = ["pip", *sys.argv[3:]]
runpy.run_module("pip", run_name="__main__")
"""


def requirements(extra: str) -> list[str]:
    """Return the requirements of an extra, with references to our other extras resolved."""
    wanted = []
    for requirement in PROJECT["optional-dependencies"][extra]:
        own = re.fullmatch(r"prune-deploy\[(.+)\]", requirement)
        if own:
            wanted += [line for name in own[1].split(",") for line in requirements(name)]
            continue
        named = re.match(r"[\w-]+", requirement)
        marker = requirement.partition(";")[2]
        wheels = STANDS_FOR.get(named[0] if named else "")
        wanted += [f"{wheel};{marker}" if marker else wheel for wheel in wheels] if wheels else [requirement]
    return wanted


def resolve(python: str, processor: str, *, board: bool) -> tuple[int, str]:
    """Return pip's exit code and error messages, for everything or for the core on a board."""
    newest, wanted_lines = (BOARD_GLIBC, []) if board else (NEWEST_GLIBC, requirements("all"))
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux2014_{processor}", f"linux_{processor}"]
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("\n".join([*PROJECT["dependencies"], *wanted_lines]) + "\n", encoding="utf-8")
        command = [sys.executable, "-c", PIP, python, processor, "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        command += [word for platform in platforms for word in ("--platform", platform)]
        command += ["--target", f"{folder}/nowhere", "-c", str(ROOT / "constraints.txt"), "-r", str(wanted)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
        )
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "Traceback" in line]
    return done.returncode, "\n".join(errors) or done.stderr[-2000:]


def main() -> int:
    kinds = [(python, processor, board) for python in PYTHONS for processor in PROCESSORS for board in (True, False)]
    failed = 0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = pool.map(lambda kind: resolve(kind[0], kind[1], board=kind[2]), kinds)
        for (python, processor, board), (code, errors) in zip(kinds, answers, strict=True):
            failed += code != 0
            what = f"the core, glibc 2.{BOARD_GLIBC}" if board else "everything"
            answer = f"not resolved:\n{errors}" if code else "resolved"
            print(f"Python {python} on {processor}, {what}: {answer}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
