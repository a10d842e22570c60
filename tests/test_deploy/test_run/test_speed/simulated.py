"""Machines on which times follow a law, and a method whose plans do not stay in place."""

from __future__ import annotations

from dataclasses import replace

from deploy.run.speed.rounds import SpeedTable
from pruners.registry import create


def table_of(model, share, *, refine=None, **changes):
    def scaled(counts, measured):
        """Return the table as it would be if all plans were as far off as this one; nothing is learned by default."""
        return table if refine is None else replace(table, **refine(counts, measured))

    facts = {"asked": 0.5, "tolerance": 0.02, "threads": 1, "dense_ns": model.time_ns()}
    table = SpeedTable(model=model, share=share, refine=scaled, **facts | changes)
    return table


def measured_as(model, law, **changes):
    """Return a machine on which a plan takes `law` of the predicted share."""
    shares = []

    def share(counts):
        shares.append(law(model.time_ns(counts) / model.time_ns()))
        return shares[-1]

    return table_of(model, share, **changes), shares


class Restless:
    """Leave one group nearly whole, each time another one, as far as the ranges allow."""

    trains = ""

    def __init__(self, groups, *, removes_blocks=False, changes_form=False):
        self.groups, self.calls, self.removes_blocks, self.changes_form = list(groups), 0, removes_blocks, changes_form

    def prune(self, task):
        self.calls += 1
        wide = {self.groups[self.calls % 2]: (56, 64)} | task.constraints.ranges
        pruned = create("uniform").prune(replace(task, constraints=replace(task.constraints, ranges=wide)))
        return replace(pruned, form="graph") if self.changes_form and task.constraints.ranges else pruned
