"""Tests remember nothing of this machine, and wait for no measurement that somebody makes on it.

Each test process has a lock of its own, so that its measurements wait for nobody, not for those of the test process
beside it either: no test depends on how long something takes.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import textwrap
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure. All else is as it comes: under CI the same examples each time, elsewhere new ones.
settings.register_profile("suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SEED = int(os.environ.get("PRUNE_DEPLOY_TEST_SEED", "0"))
"""Other than 0, it is another draw of all that a test leaves to chance; `make rounding` sets it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden files be written anew."""
    parser.addoption(
        "--remake", action="store_true", help="write the golden files of tests anew, from what is shown now"
    )


def pytest_configure() -> None:
    """With a seed, draw the first weights of every layer as they are, but for one part in a million."""
    if not SEED:
        return
    import torch
    from torch import nn

    def nudge(kind: type[nn.Module]) -> None:
        draw = kind.reset_parameters

        def reset_parameters(self: nn.Module) -> None:
            draw(self)
            generator = torch.Generator().manual_seed(SEED)
            with torch.no_grad():
                for parameter in self.parameters(recurse=False):
                    if parameter.device.type == "cpu" and parameter.is_floating_point():
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter.mul_(1 + 1e-6 * noise.to(parameter.dtype))

        kind.reset_parameters = reset_parameters

    nudge(nn.modules.conv._ConvNd)
    nudge(nn.Linear)


def pytest_runtest_setup() -> None:
    """With a seed, begin each test at another place of torch's random numbers."""
    if SEED:
        import torch

        torch.manual_seed(SEED)


def pytest_collection_finish() -> None:
    """Take what has been imported out of the searches for cyclic garbage, which took a sixth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Leave nothing out of the last search: extensions complain of what outlives the interpreter."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="session")
def _children_heed_ctrl_c():
    """Undo what a shell does to a command in the background: it and its children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    names = {"PRUNE_DEPLOY_STATE": str(folder), "PRUNE_DEPLOY_LOCK": str(folder / "lock")}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True, scope="session")
def _children_save_their_coverage():
    """While coverage measures child processes as well, let each save what it ran before it is killed."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        yield
        return
    from benchmarks.process.child import Child

    kill = Child.kill

    def save_and_kill(child):
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child.pid, signal.SIGTERM)
            os.kill(child.pid, signal.SIGCONT)
            deadline = time.monotonic() + 2
            while not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
        kill(child)

    Child.kill = save_and_kill
    yield
    Child.kill = kill


@pytest.fixture
def install_backends(tmp_path, monkeypatch):
    """Install backends as somebody else's package, for this process and its children: source, and name -> class."""

    def install(source, kinds):
        package = tmp_path / "site"
        module = f"odd_{secrets.token_hex(8)}"  # this process remembers modules that it has imported
        info = package / "odd-1.0.dist-info"
        info.mkdir(parents=True)
        (package / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        points = [f"{name} = {module}:{kind}" for name, kind in kinds.items()]
        (info / "entry_points.txt").write_text("\n".join(["[prune_deploy.backends]", *points]) + "\n")
        monkeypatch.syspath_prepend(package)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]))

    return install
