"""Structured pruning: a torch module in, a smaller dense torch module and the plan that made it out.

Importing this package imports no torch: the records and the registry only. `pruners.graph`, `pruners.surgery` and
`pruners.verify` are imported where they are needed.
"""

from pruners.errors import PruneError
from pruners.groups import ChannelGroup, Member
from pruners.plan import PruningPlan
from pruners.target import Constraints, Target

__all__ = ["ChannelGroup", "Constraints", "Member", "PruneError", "PruningPlan", "Target"]
