"""Find which attributes of the user's modules must follow a change of size, by trial, judging the whole module.

Modules of one class with the same attributes in question share the answer: a network of a hundred blocks takes as many
trials as one block.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pruners.errors import FOREIGN, PruneError, first_line
from pruners.modules.attributes import SizeChange, Slots, slots_of

__all__ = ["Disagreement", "Misfit", "fit_"]

Disagreement: TypeAlias = Callable[[nn.Module], str]
"""Tells why a module is not the wanted network; an empty string if it is. May raise what the module raises."""

_TRIALS = 64
"""Most settings of the attributes of one class that are tried."""

_Pattern: TypeAlias = tuple[type[nn.Module], tuple[Any, ...]]
_Choice: TypeAlias = tuple[int, ...]
_Read: TypeAlias = tuple[type[nn.Module], str]
"""A class, and the name of an attribute of one of its modules."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a module is not the wanted network.

    Parameters
    ----------
    reason : str
        In one line.
    module : str, optional
        Path of the module whose code failed; None if all of it ran.
    ran : bool
        Whether the network was run; if not, the reason follows from what is known about a layer's code.
    """

    reason: str
    module: str | None = None
    ran: bool = True


def fit_(
    module: nn.Module, changes: Sequence[SizeChange], settled: frozenset[str], disagreement: Disagreement
) -> Misfit | None:
    """Set the attributes of a resized module in place so that it agrees.

    Parameters
    ----------
    changes : sequence of SizeChange
        Sizes in the modules' code that changed.
    settled : frozenset of str
        Paths of layers whose attributes are known to be right.
    disagreement : callable
        Judges the whole module.

    Returns
    -------
    Misfit or None
        Why none of the settings tried agrees: which module, and torch's message. None if `module` agrees.
    """
    slots = slots_of(module, changes, settled)
    with _followed(module) as calls:
        scales = _OldScales({(change.module, change.new): change.old for change in changes}, calls)
        outcome = _Search(module, slots, disagreement, calls, scales).run()
        if scales.used is None or outcome.failed:
            return outcome.misfit
        if outcome.reason:
            return _Search(module, slots, disagreement, calls).run().misfit
        if not _judge(module, disagreement, calls).reason:
            return None
    return Misfit(
        f"{_named(module, scales.used)}: scaled_dot_product_attention takes its scale from the size of a head, "
        "which is another one now",
        scales.used,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    reason: str
    finished: int
    failed: tuple[str, ...] = ()
    read: frozenset[_Read] = frozenset()

    @property
    def misfit(self) -> Misfit | None:
        return Misfit(self.reason, self.failed[-1] if self.failed else None) if self.reason else None


@dataclass(eq=False)
class _Search:
    """Improves the choices one pattern at a time; the `finished` calls of modules tell how far a choice gets."""

    module: nn.Module
    slots: Slots
    disagreement: Disagreement
    calls: _Calls
    scales: _OldScales | None = None
    _members: dict[_Pattern, list[str]] = field(default_factory=dict)
    _choice: dict[_Pattern, _Choice] = field(default_factory=dict)
    _spent: dict[_Pattern, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, own in self.slots.items():
            present = [slot.present for slot in own]
            alike = tuple(
                (slot.keys, len(slot.options), slot.options.index(slot.present), present.index(slot.present))
                for slot in own
            )
            pattern = type(self.module.get_submodule(path)), alike
            self._members.setdefault(pattern, []).append(path)
            self._choice[pattern] = (0,) * len(own)
            self._spent[pattern] = 0

    def run(self) -> _Outcome:
        best = self._judge()
        better: _Outcome | None = best
        while best.reason and better is not None:
            better = self._improve(best)
            best = better or best
        self._set()
        return best

    def _improve(self, best: _Outcome) -> _Outcome | None:
        """Return the first better outcome, with its choice made, or None."""
        for pattern in self._suspects(best):
            present, slots = self._choice[pattern], self.slots[self._members[pattern][0]]
            # An attribute that the code did not read before it failed is not the cause: changing it does not help.
            read = [(pattern[0], slot.keys[0]) in best.read for slot in slots]
            for choice in _choices([len(slot.options) for slot in slots]):
                changed = [now != before for now, before in zip(choice, present, strict=True)]
                if not any(changed) or any(change and not known for change, known in zip(changed, read, strict=True)):
                    continue
                if self._spent[pattern] >= _TRIALS:
                    break
                self._spent[pattern] += 1
                self._choice[pattern] = choice
                outcome = self._judge()
                if not outcome.reason or outcome.finished > best.finished:
                    return outcome
            self._choice[pattern] = present
        return None

    def _suspects(self, outcome: _Outcome) -> list[_Pattern]:
        """Order the patterns: first the modules that were running when it failed, the innermost first."""
        running = {path: depth for depth, path in enumerate(outcome.failed)}
        return sorted(self._members, key=lambda pattern: -max(running.get(path, -1) for path in self._members[pattern]))

    def _set(self) -> None:
        for pattern, paths in self._members.items():
            for path in paths:
                for slot, option in zip(self.slots[path], self._choice[pattern], strict=True):
                    slot.put(self.module.get_submodule(path), slot.options[option])

    def _judge(self) -> _Outcome:
        self._set()
        with _followed_reads({kind for kind, _ in self._members}) as read:
            outcome = _judge(self.module, self.disagreement, self.calls, self.scales)
        return replace(outcome, read=frozenset(read))


def _choices(n_options: Sequence[int]) -> Iterator[_Choice]:
    """Yield all choices, those closest to the likeliest option of each slot first."""
    n = len(n_options)
    for n_other in range(n + 1):
        for where in itertools.combinations(range(n), n_other):
            for others in itertools.product(*(range(1, n_options[position]) for position in where)):
                placed = dict(zip(where, others, strict=True))
                yield tuple(placed.get(position, 0) for position in range(n))


@dataclass(eq=False)
class _Calls:
    """Tracks which modules are running, with forward hooks, which copies of the module inherit."""

    running: list[str] = field(default_factory=list)
    finished: int = 0
    failed: tuple[str, ...] = ()

    def restart(self) -> None:
        self.running.clear()
        self.finished, self.failed = 0, ()

    def entering(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            if not name and self.running:  # the previous run ended in an exception
                self.failed = self.failed or tuple(self.running)
                self.running.clear()
            self.running.append(name)

        return enter

    def leaving(self) -> Callable[..., None]:
        def leave(*_: Any) -> None:
            self.finished += 1
            if self.running:
                self.running.pop()

        return leave


@contextlib.contextmanager
def _followed(module: nn.Module) -> Iterator[_Calls]:
    calls = _Calls()
    handles: list[Any] = []
    for name, layer in module.named_modules():
        handles.append(layer.register_forward_pre_hook(calls.entering(name), prepend=True))
        handles.append(layer.register_forward_hook(calls.leaving()))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _followed_reads(kinds: Iterable[type[nn.Module]]) -> Iterator[set[_Read]]:
    """Note which attributes are read of modules of these classes, and of their copies."""
    read: set[_Read] = set()

    def noting(plain: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        def get(module: Any, name: str) -> Any:
            read.add((type(module), name))
            return plain(module, name)

        return get

    before = {kind: vars(kind).get("__getattribute__") for kind in kinds}
    try:
        for kind in before:
            kind.__getattribute__ = noting(kind.__getattribute__)  # type: ignore[method-assign]
        yield read
    finally:
        for kind, own in before.items():
            if own is None:
                del kind.__getattribute__
            else:
                kind.__getattribute__ = own  # type: ignore[method-assign]


class _OldScales(TorchFunctionMode):
    """Gives attention that leaves its scale to torch the scale of the unpruned network's heads.

    With it, a search finds the right attributes even if that scale is the only thing wrong.
    """

    def __init__(self, sizes: Mapping[tuple[str, int], int], calls: _Calls) -> None:
        super().__init__()
        self.calls, self.sizes = calls, sizes
        self.used: str | None = None  # path of the module: empty for the network itself

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and kwargs.get("scale") is None and self.calls.running:
            query = args[0] if args else kwargs["query"]
            path = self.calls.running[-1]
            old = self.sizes.get((path, query.shape[-1]))
            if old is not None:
                self.used = path
                kwargs["scale"] = old**-0.5
        return func(*args, **kwargs)


def _judge(module: nn.Module, disagreement: Disagreement, calls: _Calls, scales: _OldScales | None = None) -> _Outcome:
    calls.restart()
    try:
        with scales or contextlib.nullcontext():
            reason = disagreement(module)
    except (*FOREIGN, PruneError) as error:
        reason = first_line(error)
    failed = (calls.failed or tuple(calls.running)) if reason else ()
    if failed:
        reason = f"{_named(module, failed[-1])}: {reason}"
    return _Outcome(reason, calls.finished, failed)


def _named(module: nn.Module, path: str) -> str:
    return f"{path or 'the network'} ({type(module.get_submodule(path)).__name__})"
