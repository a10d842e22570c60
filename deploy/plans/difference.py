"""Compare two plans of one network: kept and common units per group, and removed blocks."""

from __future__ import annotations

from dataclasses import dataclass

from pruners.errors import PlanError
from pruners.plan import PruningPlan

__all__ = ["GroupDifference", "PlanDifference", "differences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDifference:
    """Comparison of one group in two plans.

    Parameters
    ----------
    name : str
        Name of the group.
    of : int
        Units before pruning.
    kept_a, kept_b : int
        Units that each plan keeps.
    common : int
        Units that both keep.
    """

    name: str
    of: int
    kept_a: int
    kept_b: int
    common: int

    @property
    def jaccard(self) -> float:
        """Common units divided by units that either plan keeps: 1 if the plans agree."""
        return self.common / (self.kept_a + self.kept_b - self.common)

    @property
    def equal(self) -> bool:
        """True when both plans keep the same units."""
        return self.kept_a == self.kept_b == self.common


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDifference:
    """Comparison of two plans of one network.

    Parameters
    ----------
    groups : tuple of GroupDifference
        The groups that either plan names, also those in which the plans agree.
    blocks_a, blocks_b : tuple of str
        Residual blocks that one of the plans alone removes.
    """

    groups: tuple[GroupDifference, ...]
    blocks_a: tuple[str, ...]
    blocks_b: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """True when both plans keep the same units and remove the same blocks."""
        return all(group.equal for group in self.groups) and not self.blocks_a and not self.blocks_b


def differences(a: PruningPlan, b: PruningPlan) -> PlanDifference:
    """Compare two plans; a plan keeps all units of a group that it does not name.

    Raises
    ------
    PlanError
        The plans were made for different networks: their units cannot be compared.
    """
    if a.graph != b.graph:
        raise PlanError(
            f"the plans were made for different networks: the first names graph {a.graph[:12]}, the second "
            f"{b.graph[:12]}; units are compared within one network only"
        )
    groups = []
    for name in dict.fromkeys((*a.kept, *b.kept)):
        of = a.sizes.get(name) or b.sizes[name]
        first, second = (set(plan.kept.get(name, range(of))) for plan in (a, b))
        groups.append(
            GroupDifference(name=name, of=of, kept_a=len(first), kept_b=len(second), common=len(first & second))
        )
    return PlanDifference(
        groups=tuple(groups),
        blocks_a=tuple(name for name in a.blocks if name not in b.blocks),
        blocks_b=tuple(name for name in b.blocks if name not in a.blocks),
    )
