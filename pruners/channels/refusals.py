"""Explain why torch.export refuses a network: the line of the user's code, and what helps."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb

import torch
from torch import nn

from pruners.errors import first_line

__all__ = ["refusal"]

_OURS = Path(__file__).parents[1]
_TORCH = Path(torch.__file__).parent
_STANDARD = Path(sysconfig.get_paths()["stdlib"])
_BY_VALUE = re.compile("data-dependent|unbacked|zuf?[0-9]|u[0-9]+ ")
_CHOOSE = "compute both sides and choose with torch.where or torch.cond, or take the decision out of what is pruned"
_HELP = (
    (r"^(if|elif|while|assert)\b| if .* else ", f"it decides by the values of a tensor: {_CHOOSE}"),
    (r"\.item\(|\.tolist\(|\b(int|float|bool)\(", "it makes Python numbers of a tensor: keep them tensors"),
    ("", "sizes or counts depend on the values of a tensor: compute with masks, or leave that part out"),
)


def refusal(error: BaseException, network: nn.Module) -> str:
    """Return in one line why torch.export refused a network.

    Parameters
    ----------
    error : BaseException
        The exception as raised, with its traceback.
    network : Module
        Tells which libraries its modules come from: their lines are named too, lines of helper libraries are not.

    Returns
    -------
    str
        ``file:line: `source`: reason``; the reason alone if no line of the network is at fault.
    """
    if unknown := re.search(r"Found <class '(.*?)'> in output, which is not a known type", str(error)):
        kind = unknown[1].rpartition(".")[2]
        cache = " (call it with use_cache=False)" if kind.endswith("Cache") else ""
        return f"it returns a {kind}{cache}: return tensors, or tuples, dictionaries or dataclasses of them"
    lines = list(_lines(error, network))
    if not lines:
        return first_line(error)
    path, number = lines[-1]
    source = linecache.getline(path, number).strip()
    if _BY_VALUE.search(first_line(error)):
        reason = next(remedy for pattern, remedy in _HELP if re.search(pattern, source))
    elif ".numpy()" in str(error):
        reason = "numpy cannot be traced: compute it with torch"
    else:
        reason = first_line(error)
    return f"{_short(path)}:{number}: `{source}`: {reason}"


def _lines(error: BaseException, network: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the lines of the network's code on the way to the error, the innermost one last."""
    libraries = {type(module).__module__.partition(".")[0] for module in network.modules()}
    for frame, number in walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if not path.is_file() or path.is_relative_to(_TORCH) or path.is_relative_to(_OURS):
            continue
        installed = next((root for root in _installed() if path.is_relative_to(root)), None)
        if installed is not None:
            if path.relative_to(installed).parts[0].removesuffix(".py") in libraries:
                yield str(path), number
        elif not path.is_relative_to(_STANDARD):
            yield str(path), number


def _installed() -> list[Path]:
    return [Path(root) for root in sys.path if Path(root).name in {"site-packages", "dist-packages"}]


def _short(path: str) -> str:
    """Return a path relative to the current folder or to where libraries are installed, if it is inside one."""
    for root in (*_installed(), Path.cwd()):
        if Path(path).is_relative_to(root):
            return str(Path(path).relative_to(root))
    return path
