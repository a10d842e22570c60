"""Check that the tests catch a bug planted in each rule of the label engine, one at a time; run by `make nightly`.

Each mutant is one small edit of a copy of `pruners/`; a mutant survives if the tests named with it still pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LONGEST = 600
"""Seconds after which a mutant counts as hanging, and so as caught."""
CHANNELS = "pruners/channels"
IDIOMS, OPERATORS, COMPUTED, GRAPH, LABELS, RECURRENT, PACKED, SPECTRAL = (
    "tests/test_pruners/test_channels/test_idioms.py",
    "tests/test_pruners/test_channels/test_operators.py",
    "tests/test_pruners/test_channels/test_computed_weights.py",
    "tests/test_pruners/test_graph.py",
    "tests/test_pruners/test_channels/test_labels.py",
    "tests/test_pruners/test_channels/test_recurrent.py",
    "tests/test_pruners/test_channels/test_packed.py",
    "tests/test_pruners/test_channels/test_spectral.py",
)


class Mutant(NamedTuple):
    """An edit of a file from `old` to `new`, and the tests that must fail."""

    file: str
    old: str
    new: str
    tests: str


MUTANTS = {
    "labels: uniting with no label does not lock": Mutant(
        "labels.py", "self.lock(pairs[:, one_is_none].amax(0), lock)", "pass", LABELS
    ),
    "labels: a tensor that would vanish is free": Mutant(
        "labels.py", "if not slots.axes[key] and int(roots.reshape(-1)[0]):", "if False:", LABELS
    ),
    "labels: what was united is not looked at again": Mutant(
        "labels.py", "other[:known] = roots[:known] != self._roots", "other[:known] = False", LABELS
    ),
    "labels: floors are forgotten": Mutant(
        "labels.py", "self.floors.append((labels.reshape(-1), least))", "pass", IDIOMS
    ),
    "labels: statistics are not flagged": Mutant(
        "labels.py", "self._flagged.append((slot, tuple(axes)))", "pass", GRAPH
    ),
    "labels: sums in weights are not weighed": Mutant("labels.py", "self._weighed.append(slot)", "pass", COMPUTED),
    "propagation: outputs are free": Mutant(
        "propagation.py", 'self.lock(item.slots, Lock("its channels are an output of the network"))', "pass", GRAPH
    ),
    "propagation: unknown operators pass": Mutant(
        "propagation.py", "self.lock(self.refused[self.node.name], Lock(reason))", "pass", GRAPH
    ),
    "propagation: a comparison with a weight is exact": Mutant(
        "propagation.py", "self.flag(value, [axis % len(value.shape)])", "pass", COMPUTED
    ),
    "contraction: nothing is tied along the sum": Mutant(
        "rules/contraction.py", "    walk.join(parts, wait=False)\n", "", GRAPH
    ),
    "contraction: convolutions of few groups have no floor": Mutant(
        "rules/contraction.py", "walk.labels.floor(slot, 2)  # with one channel", "pass  # with one channel", IDIOMS
    ),
    "contraction: convolutions of many groups have no floor": Mutant(
        "rules/contraction.py", "walk.labels.floor(slot, 2)  # with one group", "pass  # with one group", GRAPH
    ),
    "contraction: groups that go whole lose channels, too": Mutant(
        "rules/contraction.py",
        'walk.lock(second, Lock(f"{walk.node.name} is a grouped convolution that loses whole groups only"))',
        "pass",
        IDIOMS,
    ),
    "contraction: distances are exact": Mutant(
        "rules/contraction.py", "walk.flag_compared([x, y], -1)", "pass", COMPUTED
    ),
    "contraction: rows that are looked up are free": Mutant(
        "rules/contraction.py", 'walk.labels.lock(slot, Lock(f"{walk.node.name} looks its rows up"))', "pass", IDIOMS
    ),
    "contraction: groups are not tied": Mutant(
        "rules/contraction.py", "tied = axis + 1 if whole else axis", "tied = axis if whole else axis + 1", GRAPH
    ),
    "contraction: positions that a convolution reads are free": Mutant(
        "rules/contraction.py", "walk.lock((*offset.slots, *mask.slots)", "walk.lock((*mask.slots,)", OPERATORS
    ),
    "contraction: offset groups are not tied": Mutant(
        "rules/contraction.py", "_by_group(walk, slot, 1, False, offset_groups)", "pass", OPERATORS
    ),
    "contraction: bilinear layers sum over the first side only": Mutant(
        "rules/contraction.py",
        'contract(walk, half, y, (free + "jm", free + "j", free + "m"))',
        "Value(walk.shape, tuple(s.squeeze(-2) for s in half.slots if s.shape[-2] == 1))",
        OPERATORS,
    ),
    "contraction: einsum forgets an operand": Mutant(
        "rules/contraction.py",
        "for place, (operand, side) in enumerate(others):",
        "for place, (operand, side) in enumerate(others[:1]):",
        OPERATORS,
    ),
    "contraction: grouped queries are not repeated": Mutant(
        "rules/contraction.py", "s.repeat_interleave(times, s.ndim - 3)", "s.repeat(1, times, 1, 1)", IDIOMS
    ),
    "elementwise: norms of few groups have no floor": Mutant(
        "rules/elementwise.py", "walk.labels.floor(tied, 2)", "pass", IDIOMS
    ),
    "elementwise: norms of groups are exact": Mutant(
        "rules/elementwise.py",
        "walk.flag(result, range(2, len(x.shape)) if groups > 1 else range(1, len(x.shape)))",
        "pass",
        GRAPH,
    ),
    "elementwise: statistics of an input of its own are exact": Mutant(
        "rules/elementwise.py", "walk.flag(joined, [axis for axis in x.axes if axis != 1])", "pass", COMPUTED
    ),
    "elementwise: slopes are apart from their channels": Mutant(
        "rules/elementwise.py", "walk.join([x, along(weight, 1, len(x.shape))])", "x", IDIOMS
    ),
    "elementwise: a scale is not joined": Mutant(
        "rules/elementwise.py", "joined = walk.join([x, *own])", "joined = x", GRAPH
    ),
    "elementwise: layer norms are exact": Mutant(
        "rules/elementwise.py",
        "walk.flag(joined, range(len(x.shape) - len(normalized_shape), len(x.shape)))",
        "pass",
        GRAPH,
    ),
    "elementwise: operands are not united": Mutant(
        "rules/elementwise.py", "joined = walk.join(tensors)", "joined = tensors[0]", GRAPH
    ),
    "movement: a shuffle stays in place": Mutant(
        "rules/movement.py", "turned = [slot.transpose(1, 2) for slot in apart]", "turned = apart", IDIOMS
    ),
    "movement: equal pieces are not tied": Mutant(
        "rules/movement.py", "for part in parts[1:] if len(set(sizes)) == 1 else ():", "for part in ():", IDIOMS
    ),
    "movement: gated halves are apart": Mutant(
        "rules/movement.py",
        'walk.labels.unite(left, right, Lock(f"{walk.node.name} gates it by a tensor that cannot shrink"))',
        "pass",
        IDIOMS,
    ),
    "movement: pieces of a concatenation lie in turn": Mutant(
        "rules/movement.py",
        "slots.append(compact(torch.cat(parts, axis)))",
        "slots.append(compact(torch.cat(parts[::-1], axis)))",
        IDIOMS,
    ),
    "movement: a part of an axis starts at its first entry": Mutant(
        "rules/movement.py", "s.narrow(axis, start, walk.shape[axis])", "s.narrow(axis, 0, walk.shape[axis])", IDIOMS
    ),
    "movement: what is taken apart is not tied": Mutant(
        "rules/movement.py",
        "tied = [walk.tie(slot, [axis]).squeeze(axis) for slot in x.slots]\n    if position",
        "tied = [slot.narrow(axis, 0, 1).squeeze(axis) for slot in x.slots]\n    if position",
        IDIOMS,
    ),
    "movement: positions that are named are free": Mutant(
        "rules/movement.py", 'walk.labels.lock(slot, Lock(f"{walk.node.name} {what}"))', "pass", GRAPH
    ),
    "movement: negative padding is free": Mutant(
        "rules/movement.py", "if any(amount < 0 for amount in amounts):", "if False:", IDIOMS
    ),
    "movement: squeezed axes have no floor": Mutant("rules/movement.py", "_keep_wide(walk, x, *args)", "pass", IDIOMS),
    "recurrent: gates of a unit are apart": Mutant(
        "rules/recurrent.py", "for piece in pieces if width > 1]", "for piece in pieces[:1] if width > 1]", RECURRENT
    ),
    "recurrent: the state is apart from its gates": Mutant(
        "rules/recurrent.py",
        "walk.join([*units, *(state[1:] if projects else state)], wait=False)",
        "walk.join(units, wait=False)",
        RECURRENT,
    ),
    "recurrent: a projection is apart from its state": Mutant(
        "rules/recurrent.py",
        "walk.join([contract(walk, held, cell.projection, rows), state[0]], wait=False)",
        "contract(walk, held, cell.projection, rows)",
        RECURRENT,
    ),
    "recurrent: biases are left out": Mutant(
        "rules/recurrent.py", ", *(along(bias, 1, 2) for bias in cell.biases)]", "]", RECURRENT
    ),
    "recurrent: a projection has no floor": Mutant(
        "rules/recurrent.py", "walk.labels.floor(slot, cell.projection.shape[0] + 1)", "pass", IDIOMS
    ),
    "recurrent: packed sequences lose their second direction": Mutant(
        "rules/recurrent.py", "has_biases, 1, 2 if bidirectional else 1)", "has_biases, 1, 1)", PACKED
    ),
    "reduction: means are exact": Mutant(
        "rules/reduction.py",
        "            walk.labels.flag(slot, axes)\n            if spread",
        "            if spread",
        COMPUTED,
    ),
    "reduction: positions of the largest are free": Mutant(
        "rules/reduction.py", 'walk.labels.lock(slot, Lock(f"{walk.node.name} gives positions of it"))', "pass", IDIOMS
    ),
    "reduction: a softmax is free": Mutant(
        "rules/reduction.py",
        'walk.labels.lock(slot, Lock(f"{walk.node.name} reduces over its channels"))',
        "pass",
        GRAPH,
    ),
    "reduction: a deviation has no floor": Mutant("rules/reduction.py", "walk.labels.floor(slot, 2)", "pass", IDIOMS),
    "reduction: cosines are exact": Mutant(
        "rules/reduction.py", "walk.flag_compared([both, both], axis)", "pass", COMPUTED
    ),
    "spectral: transformed positions are free": Mutant(
        "rules/spectral.py", 'lock_along(walk, x, axes, "mixes its positions").slots', "x.slots", SPECTRAL
    ),
    "spectral: axes are counted from the first": Mutant(
        "rules/spectral.py", 'range(rank - len(given.get("s") or x.shape), rank)', "range(1)", SPECTRAL
    ),
    "spectral: pairs stand before their number": Mutant(
        "rules/spectral.py", "slot.unsqueeze(-1)", "slot.unsqueeze(0)", SPECTRAL
    ),
    "spectral: parts of a number are apart": Mutant(
        "rules/spectral.py",
        'lock_along(walk, x, [len(x.shape) - 1], "makes one number of them")',
        "Value(x.shape, tuple(slot.narrow(-1, 0, 1) for slot in x.slots))",
        SPECTRAL,
    ),
    "windows: windows of a channel are apart": Mutant(
        "rules/windows.py",
        "repeat_interleave(cells if tied.shape[1] > 1 else 1, 1)",
        "repeat(1, cells if tied.shape[1] > 1 else 1, 1)",
        IDIOMS,
    ),
    "windows: rows of a channel are not tied": Mutant(
        "rules/windows.py", "walk.tie(tied.reshape(tied.shape[0], -1, cells), (2,))", "tied[:, ::cells, None]", IDIOMS
    ),
    "windows: what is taken in order is free": Mutant(
        "rules/windows.py",
        'lock_along(walk, x, [int(dim) % len(x.shape)], "takes its channels in order")',
        "x",
        GRAPH,
    ),
    "windows: positions of samples are free": Mutant(
        "rules/windows.py",
        'walk.lock(grid.slots, Lock(f"{walk.node.name} reads positions from it"))',
        "pass",
        IDIOMS,
    ),
    "windows: weight norms are exact": Mutant(
        "rules/windows.py", "walk.flag(joined, [axis for axis in joined.axes if axis != dim])", "pass", COMPUTED
    ),
}


def fate(mutant: Mutant) -> str:
    """Run the tests of a mutant on a copy of the project with the edit; return whether they caught it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "docs", "recipes")
        shutil.copytree(ROOT, copy, ignore=ignored)
        file = copy / CHANNELS / mutant.file
        text = file.read_text(encoding="utf-8")
        if mutant.old not in text:
            raise SystemExit(f"{mutant.file} has no {mutant.old!r}; bring tools/mutants.py up to date")
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not gpu", mutant.tests]
        variables = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, check=False, cwd=copy, env=variables, capture_output=True, text=True, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:  # no fixpoint is reached
            return f"caught, hangs for {LONGEST} s"
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return "caught" if done.returncode else "SURVIVES"


def main(words: list[str]) -> int:
    chosen = {name: mutant for name, mutant in MUTANTS.items() if all(word in name for word in words)}
    survivors = []
    for name, mutant in chosen.items():
        end = fate(mutant)
        print(f"{end}: {name}", flush=True)
        survivors += [name] * (end == "SURVIVES")
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
