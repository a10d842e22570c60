"""Run the tests of `make test` under the newest installed Python other than that of `.venv`; run by `make nightly`.

The environment is kept in `.venv-newest`, or in the folder NEWEST_VENV.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
TESTS = ["-m", "pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--benchmark-disable"]


def starts(program: str, version: str) -> bool:
    """Return whether a program is a Python of this version; a shim may stand for one that is not installed."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


def find(version: str) -> str | None:
    """Return a Python of this version, from PATH or from the versions of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python3"))]
    on_path = shutil.which(f"python{version}")
    return next((program for program in ([on_path] if on_path else []) + kept if starts(program, version)), None)


def main() -> int:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {version: program for version in PYTHONS if version != own and (program := find(version))}
    if not found:
        print(f"No Python of {', '.join(PYTHONS)} beside {own} is installed here: the tests ran under {own} alone.")
        return 0
    version = max(found, key=lambda name: int(name.partition(".")[2]))
    folder = Path(os.environ.get("NEWEST_VENV", ROOT / ".venv-newest"))
    python = folder / "bin" / "python"
    if not (python.exists() and starts(str(python), version)):
        subprocess.run([found[version], "-m", "venv", "--clear", str(folder)], check=True)
    print(f"Tests under Python {version} in {folder}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, "-c", "constraints.txt", "-e", ".[all]"], check=True, cwd=ROOT)
    return subprocess.run([str(python), *TESTS, *sys.argv[1:]], check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
