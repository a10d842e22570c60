"""Structured pruning: takes a torch module, returns a smaller dense one and the plan that made it.

`methods` score units by `importance` or train `gates`, `decide` turns that into a plan over the groups of `channels`,
and `forms` cut the module. `reconstruct` and `recover` repair it, `transfer` carries a plan to another network,
`weights` sets single weights to zero, `modules` holds helpers for torch modules; `testing` checks what every method
promises.

Importing this package imports only the records and the registry, no torch. Import `pruners.graph`, `pruners.surgery`
and `pruners.verify` where they are needed.
"""

from pruners.errors import PruneError
from pruners.groups import ChannelGroup, Member
from pruners.plan import PruningPlan
from pruners.registry import PrunedNetwork, prune
from pruners.target import Constraints, Target

__all__ = ["ChannelGroup", "Constraints", "Member", "PruneError", "PrunedNetwork", "PruningPlan", "Target", "prune"]
