"""Structured pruning: a torch module in, a smaller dense torch module and the plan that made it out.

`methods` score by `importance` or train `gates`, `decide` makes a plan of that, over the groups of `channels`, and
`forms` cut the module. `reconstruct` and `recover` mend it, `transfer` carries a plan on, `weights` sets single weights
to zero, `modules` deals with torch modules as they are; `testing` holds what every method promises.

Importing this package imports no torch: the records and the registry only. `pruners.graph`, `pruners.surgery` and
`pruners.verify` are imported where they are needed.
"""

from pruners.errors import PruneError
from pruners.groups import ChannelGroup, Member
from pruners.plan import PruningPlan
from pruners.registry import PrunedNetwork, prune
from pruners.target import Constraints, Target

__all__ = ["ChannelGroup", "Constraints", "Member", "PruneError", "PrunedNetwork", "PruningPlan", "Target", "prune"]
