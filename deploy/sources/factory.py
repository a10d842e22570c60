"""Networks from a user's own file: loaded under a private name, errors reported with file and line."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import decode_source
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any

from deploy.errors import SourceError
from deploy.files.validation_errors import suggestion
from deploy.sources.boundary import cause

if TYPE_CHECKING:
    from torch import nn

__all__ = ["call_factory", "explain", "load_module", "read_source"]

_CLASSES = ("n_classes", "num_classes")
_CHANNELS = ("in_channels", "in_chans")


def read_source(path: Path) -> bytes:
    """Read a network's file.

    Raises
    ------
    SourceError
        It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"network file {path}: {error.strerror or cause(error)}") from error


def load_module(path: Path) -> ModuleType:
    """Run a Python file as a module named after its path and content, once for each content.

    As with a script, the file may import its neighbours; their content is not part of the name. The code that runs is
    the source that was hashed: no byte code is read or written.

    Raises
    ------
    SourceError
        The file is missing, is not Python, or raises.
    """
    source = read_source(path)
    resolved = str(path.resolve())
    name = f"_prune_deploy_network_{hashlib.sha256(resolved.encode() + b'|' + source).hexdigest()[:24]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = resolved
    sys.modules[name] = module
    try:
        with _neighbours_of(path):
            exec(compile(decode_source(source), resolved, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SourceError(f"network file {explain(error, path)}") from error
    return module


def call_factory(
    path: Path, name: str, options: Mapping[str, Any], *, n_classes: int | None, input_shape: tuple[int, int, int]
) -> nn.Module:
    """Call the factory `name` of the file, with the arguments that its signature asks for and the data defines.

    A factory may take ``n_classes`` (or ``num_classes``), ``in_channels`` (or ``in_chans``) and ``input_shape``.

    Raises
    ------
    SourceError
        There is no such factory, it raises, or it returns something that is not a Module.
    """
    from torch import nn

    module = load_module(path)
    factory: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(factory):
        local = sorted(
            k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__
        )
        raise SourceError(f"network file {path} has no factory {name!r}{suggestion(name, local)}")
    arguments = dict(options)
    accepted = _parameters(factory)
    known = {
        **dict.fromkeys(_CLASSES, n_classes),
        **dict.fromkeys(_CHANNELS, input_shape[0]),
        "input_shape": input_shape,
    }
    for parameter, value in known.items():
        if parameter in accepted and value is not None:
            arguments.setdefault(parameter, value)
    try:
        with _neighbours_of(path):
            network = factory(**arguments)
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, TypeError) and error.__traceback__ is not None and error.__traceback__.tb_next is None:
            hint = "; give its arguments defaults, or say them in a recipe, network: {options: {...}}"
        raise SourceError(f"network {name!r} of file {explain(error, path)}{hint}") from error
    if not isinstance(network, nn.Module):
        raise SourceError(f"{path}:{name} gave {type(network).__name__}; a factory returns a torch.nn.Module")
    return network


def explain(error: BaseException, path: Path) -> str:
    """Return ``path, line N: ErrorClass: message``; the line is the innermost one inside the user's file."""
    resolved = str(path.resolve())
    if isinstance(error, SyntaxError) and error.filename == resolved:
        return f"{path}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == resolved]
    where = f"{path}, line {lines[-1]}" if lines else f"{path}"
    return f"{where}: {cause(error)}"


def _parameters(factory: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(factory).parameters)
    except ValueError:  # a callable written in C may have no signature
        return frozenset()


@contextmanager
def _neighbours_of(path: Path) -> Iterator[None]:
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
