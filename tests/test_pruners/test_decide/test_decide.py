"""What may be decided, what is asked, and decisions that one can follow by hand."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices, choices_of, excluded_groups, groups_by_ratio
from pruners.decide.counts import ratio_counts
from pruners.decide.decisions import decide, decision_names
from pruners.decide.goal import budget_of, goal_of, removal_limit, require_one_removal
from pruners.decide.greedy import greedy_counts
from pruners.decide.landing import landing_of
from pruners.decide.uniform import uniform_counts
from pruners.decide.units import top_units
from pruners.errors import MethodError, NothingToPruneError, SelectorError, TargetError
from pruners.groups import ChannelGroup, Member
from pruners.target import Constraints, Target


def group(name, n_units, *, layers=(), width=1, fixed="", min_units=1):
    members = tuple(
        Member(
            path=f"{layer}.weight",
            axis=0,
            indices=tuple(tuple(range(unit * width, (unit + 1) * width)) for unit in range(n_units)),
            produces=True,
        )
        for layer in (name, *layers)
    )
    return ChannelGroup(name=name, n_units=n_units, members=members, fixed=fixed, min_units=min_units)


def units_left(choices, limit):
    """Make a budget in which every unit costs the same."""
    return Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=limit, of="units")


def test_lowest_first_by_hand():
    choices = choices_of([group("a", 3), group("b", 3)], Constraints())
    scores = {"a": [5.0, 1.0, 3.0], "b": [2.0, 9.0, 4.0]}
    budget = units_left(choices, 3)
    assert greedy_counts(choices, scores, budget) == {"a": 1, "b": 2}
    assert top_units(scores, {"a": 1, "b": 2}) == {"a": (0,), "b": (1, 2)}


def test_units_that_still_fit_are_given_back():
    """Removing the cheap unit was needed only until the dear one went: it comes back."""
    choices = Choices({"cheap": (1, 2), "dear": (1, 2)})
    budget = Budget(
        cost=lambda counts: {**choices.whole, **counts}["cheap"] + 10 * {**choices.whole, **counts}["dear"],
        limit=13,
        of="flops",
    )
    assert greedy_counts(choices, {"cheap": [1.0, 2.0], "dear": [1.5, 3.0]}, budget) == {"cheap": 2, "dear": 1}


def test_uniform_gives_back_where_groups_step_at_once():
    choices = choices_of([group("a", 4), group("b", 4)], Constraints())
    budget = units_left(choices, 7)
    assert uniform_counts(choices, budget) == {"a": 3, "b": 4}


def test_a_block_falls_by_the_mean_of_its_units():
    choices = choices_of([group("a", 4), group("b", 4)], Constraints(multiple_of=2))
    scores = {"a": [0.0, 10.0, 20.0, 20.0], "b": [3.0, 4.0, 20.0, 20.0]}
    budget = units_left(choices, 6)
    assert greedy_counts(choices, scores, budget) == {"a": 4, "b": 2}


def test_equal_scores_fall_from_all_groups_alike():
    """Dead units all score zero: no group is emptied because it comes first."""
    assert top_units({"a": [1.0, 1.0, 1.0, 1.0]}, {"a": 2}) == {"a": (0, 1)}
    choices = choices_of([group("a", 4), group("b", 8)], Constraints())
    flat = {"a": [1.0] * 4, "b": [1.0] * 8}
    for decision in ("greedy", "global"):
        assert decide(decision, choices, flat, units_left(choices, 6)) == {"a": 2, "b": 4}


def test_a_threshold_and_the_mean_of_a_block_differ_where_counts_are_aligned():
    """With one of four units below the threshold both 2 and 4 are next, and the smaller one is taken."""
    choices = choices_of([group("a", 4), group("b", 4)], Constraints(multiple_of=2))
    scores = {"a": [0.0, 10.0, 20.0, 20.0], "b": [3.0, 4.0, 20.0, 20.0]}
    assert decide("global", choices, scores, units_left(choices, 6)) == {"a": 2, "b": 4}
    assert decide("greedy", choices, scores, units_left(choices, 6)) == {"a": 4, "b": 2}


def test_local_lets_the_scores_settle_who_takes_the_odd_step():
    choices = choices_of([group("a", 4), group("b", 4)], Constraints())
    scores = {"a": [5.0, 6.0, 7.0, 8.0], "b": [1.0, 2.0, 9.0, 9.0]}
    assert decide("local", choices, scores, units_left(choices, 7)) == {"a": 4, "b": 3}
    assert decide("local", choices, scores, units_left(choices, 6)) == {"a": 3, "b": 3}
    assert decide("greedy", choices, scores, units_left(choices, 6)) == {"a": 4, "b": 2}


def test_an_unknown_decision_says_what_was_meant():
    choices = choices_of([group("a", 4)], Constraints())
    assert decision_names() == ("local", "uniform", "global", "greedy")
    with pytest.raises(MethodError, match="unknown decision 'gredy'; did you mean 'greedy'"):
        decide("gredy", choices, {}, units_left(choices, 2))


def test_scores_of_another_length_are_our_own_mistake():
    choices = Choices({"a": (1, 2)})
    with pytest.raises(ValueError, match="2 units but 3 scores"):
        greedy_counts(choices, {"a": [1.0, 2.0, 3.0]}, Budget(cost=lambda counts: 1, limit=1, of="flops"))


@pytest.mark.parametrize(
    ("n_units", "width", "constraints", "legal"),
    [
        (8, 1, Constraints(), (1, 2, 3, 4, 5, 6, 7, 8)),
        (8, 1, Constraints(min_units=6), (6, 7, 8)),
        (8, 1, Constraints(min_units=20), (8,)),
        (10, 1, Constraints(min_fraction=0.7), (7, 8, 9, 10)),
        (20, 1, Constraints(multiple_of=8), (8, 16, 20)),
        (4, 1, Constraints(multiple_of=8), (4,)),
        (12, 2, Constraints(multiple_of=8), (4, 8, 12)),
        (6, 8, Constraints(multiple_of=8), (1, 2, 3, 4, 5, 6)),
        (6, 3, Constraints(multiple_of=4), (4, 6)),
    ],
)
def test_legal_counts(n_units, width, constraints, legal):
    other = group("other", 64)
    assert choices_of([group("a", n_units, width=width), other], constraints).legal["a"] == legal


def test_a_groups_own_floor_counts():
    choices = choices_of([group("a", 4, min_units=2)], Constraints())
    assert choices.legal["a"] == (2, 3, 4)


def test_units_of_unequal_width_are_not_aligned():
    ragged = ChannelGroup(
        name="a",
        n_units=3,
        members=(Member(path="a.weight", axis=0, indices=((0,), (1, 2), (3,)), produces=True),),
    )
    assert choices_of([ragged, group("b", 8)], Constraints(multiple_of=2)).legal["a"] == (3,)
    assert choices_of([ragged], Constraints()).legal["a"] == (1, 2, 3)


@pytest.mark.parametrize(
    ("bounds", "multiple_of", "legal", "forced"),
    [
        ({"a": (0.25, 1.0)}, 1, (2, 3, 4, 5, 6, 7, 8), {}),
        ({"a": (0.25, 0.75)}, 1, (2, 3, 4, 5, 6), {"a": 8}),
        ({"a": (0.3, 0.7)}, 1, (3, 4, 5), {"a": 8}),
        ({"a": (0.5, 0.5)}, 1, (4,), {"a": 8}),
        ({"a": (0.25, 0.75)}, 4, (4,), {"a": 8}),
        ({"*": (0.5, 0.75), "a": (0.0, 1.0)}, 4, (4, 8), {"b": 16}),
        ({"b": (0.0, 1.0), "layer": (0.5, 1.0)}, 2, (4, 6, 8), {}),
    ],
)
def test_bounds(bounds, multiple_of, legal, forced):
    groups = [group("a", 8, layers=("layer",)), group("b", 16)]
    choices = choices_of(groups, Constraints(bounds=bounds, multiple_of=multiple_of))
    assert choices.legal["a"] == legal
    assert choices.forced == forced
    assert choices.whole == {"a": 8, "b": 16}


def test_bounds_are_meant_as_they_are_written():
    """0.07 * 100 and 0.29 * 100 are a little off 7 and 29 in floating point."""
    legal = choices_of([group("a", 100)], Constraints(bounds={"a": (0.07, 0.29)})).legal["a"]
    assert (legal[0], legal[-1]) == (7, 29)


def test_bounds_that_cannot_hold_are_refused():
    groups = [group("a", 20), group("b", 16), group("fc", 10, fixed="it is an output")]
    with pytest.raises(TargetError, match=r"'a' to keep 10 to 11 of its 20 units, .* are 8, 16, 20; widen"):
        choices_of(groups, Constraints(bounds={"a": (0.5, 0.55)}, multiple_of=8))
    with pytest.raises(SelectorError, match="bounds: pattern 'c' matches no layer"):
        choices_of(groups, Constraints(bounds={"c": (0.5, 0.55)}))
    with pytest.raises(SelectorError, match="only 'fc', which stays whole: it is an output"):
        choices_of(groups, Constraints(bounds={"fc": (0.5, 1.0)}))


def test_an_excluded_group_is_not_bounded():
    groups = [group("a", 8), group("b", 8)]
    assert choices_of(groups, Constraints(bounds={"*": (0.5, 0.5)}, exclude=("a",))).legal == {"b": (4,)}


def test_bounds_prune_what_the_target_would_leave():
    groups = [group("a", 8), group("b", 8)]
    choices = choices_of(groups, Constraints(bounds={"a": (0.25, 0.5)}))
    scores = {"a": [9.0] * 8, "b": [1.0] * 8}
    for decision in decision_names():
        assert decide(decision, choices, scores, units_left(choices, 15)) == {"a": 4, "b": 8}
    assert choices.movable == ("a", "b")
    assert not choices.allow({"b": 4})
    assert choices.allow({"a": 4})


def test_what_must_go_goes_first_and_takes_several_removals():
    groups = [group("a", 8), group("b", 8), group("c", 8)]
    choices = choices_of(groups, Constraints(bounds={"[ab]": (0.0, 0.5)}))
    scores = {"a": [9.0] * 8, "b": [9.0] * 8, "c": [0.0] * 8}
    first = decide("greedy", choices, scores, units_left(choices, 20), max_removed=4)
    assert first == {"a": 4, "b": 8, "c": 8}
    left = choices.left(first)
    scores["a"] = [9.0] * 4
    assert decide("greedy", left, scores, units_left(choices, 20), max_removed=4) == {"a": 4, "b": 4, "c": 8}


@pytest.mark.parametrize(
    ("given", "legal", "forced"),
    [((5, 11), (8,), {"a": 20}), ((8, 20), (8, 16, 20), {}), ((9, 11), (8,), {"a": 20}), ((40, 50), (20,), {})],
)
def test_ranges_keep_the_legal_counts_in_them_or_the_nearest(given, legal, forced):
    groups = [group("a", 20), group("b", 16), group("fc", 10, fixed="it is an output")]
    choices = choices_of(groups, Constraints(ranges={"a": given, "fc": (1, 2)}, multiple_of=8))
    assert choices.legal == {"a": legal, "b": (8, 16)}
    assert choices.forced == forced


@pytest.mark.parametrize("given", [(8, 4), (-1, 4)])
def test_ranges_that_are_none_are_refused(given):
    with pytest.raises(TargetError, match=r"ranges of 'a' are the fewest and the most units kept"):
        Constraints(ranges={"a": given})


def test_ratios_stay_within_bounds():
    groups = [group("a", 8), group("b", 8)]
    choices = choices_of(groups, Constraints(bounds={"*": (0.5, 0.75)}))
    assert ratio_counts(choices, groups, {"a": 0.9}) == {"a": 4, "b": 6}


def test_exact_only_leaves_groups_under_a_norm_whole():
    loose = ChannelGroup(name="a", n_units=8, members=group("a", 8).members, exact=False)
    assert choices_of([loose, group("b", 8)], Constraints()).whole == {"a": 8, "b": 8}
    assert choices_of([loose, group("b", 8)], Constraints(exact_only=True)).whole == {"b": 8}
    with pytest.raises(NothingToPruneError, match="exact_only"):
        choices_of([loose], Constraints(exact_only=True))


class Costs:
    """Stands for a graph; each cost is a weight for every unit of each group."""

    groups = (group("a", 8), group("b", 8))
    whole: ClassVar[dict[str, str]] = {}

    def macs(self, kept=None):
        return self._sum(kept, 1, 1)

    def parameters(self, kept=None):
        return self._sum(kept, 1, 3)

    def weight_bytes(self, kept=None):
        return self._sum(kept, 4, 2)

    def activation_bytes(self, kept=None):
        return self._sum(kept, 0, 1)

    def _sum(self, kept, a, b):
        counts = {"a": 8, "b": 8} | dict(kept or {})
        return a * counts["a"] + b * counts["b"]


@pytest.mark.parametrize(
    ("of", "dense", "with_half_of_a"),
    [("flops", 16, 12), ("macs", 16, 12), ("params", 32, 28), ("weight_bytes", 48, 32), ("activation_bytes", 8, 8)],
)
def test_each_target_counts_its_own_cost(of, dense, with_half_of_a):
    budget = budget_of(Target(of=of, kept_fraction=0.5), Costs())
    assert (budget.of, budget.limit, budget.dense, budget.cost({"a": 4})) == (of, dense / 2, dense, with_half_of_a)


def test_ratios_are_a_goal_of_units():
    target = Target(of="ratios", ratios={"a": 0.5})
    choices, budget = goal_of(target, Constraints(), Costs())
    assert greedy_counts(choices, {"a": [1.0] * 8, "b": [0.0] * 8}, budget) == {"a": 4, "b": 8}
    with pytest.raises(TargetError, match="no budget"):
        budget_of(target, Costs())


@pytest.mark.parametrize(
    ("constraints", "limit"),
    [
        (Constraints(), None),
        (Constraints(max_units_per_step=3), 3),
        (Constraints(max_fraction_per_step=0.25), 4),
        (Constraints(max_fraction_per_step=0.01), 1),
        (Constraints(max_units_per_step=5, max_fraction_per_step=0.25), 4),
    ],
)
def test_the_most_of_one_removal(constraints, limit):
    choices = choices_of(Costs.groups, constraints)
    assert removal_limit(constraints, choices) == limit
    require_one_removal(constraints, choices, {"a": 8 - (limit or 4)})
    if limit:
        with pytest.raises(TargetError, match=f"takes {limit + 1} units at once, .* allow {limit}: take a method"):
            require_one_removal(constraints, choices, {"a": 8 - limit, "b": 7})


def test_landing_says_where_and_why():
    choices = Choices({"a": (8, 16), "b": (4, 8)})
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=18, of="params")
    counts = decide("greedy", choices, {"a": [1.0] * 16, "b": [2.0] * 8}, budget)
    assert counts == {"a": 8, "b": 8}
    landing = landing_of(choices, counts, budget)
    assert not landing.close
    assert str(landing) == (
        "params: 66.67% of the dense network are kept, at most 75.00% were asked for; the smallest legal step up, of "
        "'a', would give 100.00%"
    )
    on_target = Budget(cost=budget.cost, limit=16, of="params")
    assert landing_of(choices, counts, on_target).close
    assert str(landing_of(choices, counts, on_target)).endswith("at most 66.67% were asked for")
    forced = Choices({"a": (4, 8)}, {"a": 16})
    assert "every group is at the largest count" in str(landing_of(forced, {"a": 8}, units_left(forced, 12)))


def test_a_layer_is_excluded_with_all_that_share_its_channels():
    stage = group("stem", 8, layers=("block1.conv2", "block2.conv2"))
    groups = [stage, group("block1.conv1", 8), group("block2.conv1", 8)]
    assert excluded_groups(groups, ["block2.*"]) == {"stem", "block2.conv1"}
    assert excluded_groups(groups, ["stem"]) == {"stem"}
    assert excluded_groups(groups, ["block2"]) == {"stem", "block2.conv1"}
    assert excluded_groups(groups, ["block?"]) == {"stem", "block1.conv1", "block2.conv1"}
    with pytest.raises(SelectorError, match="'block' matches no layer"):
        excluded_groups(groups, ["block"])
    assert choices_of(groups, Constraints(exclude=("block2.*",))).whole == {"block1.conv1": 8}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("layr1.conv1", "did you mean 'layer1.conv1'"), ("zzz", "there are: layer1.conv1, fc")],
)
def test_a_pattern_that_matches_nothing_is_an_error(pattern, said):
    groups = [group("layer1.conv1", 8), group("fc", 10, fixed="it is an output")]
    with pytest.raises(SelectorError, match=said):
        excluded_groups(groups, [pattern])
    with pytest.raises(SelectorError, match="matches no group"):
        groups_by_ratio(groups, {pattern: 0.5})


def test_ratios_name_groups():
    groups = [group("stem", 8, layers=("block.conv2",)), group("block.conv1", 10), group("fc", 5, fixed="an output")]
    assert groups_by_ratio(groups, {"*": 0.5, "stem": 0.0}) == {"stem": 0.0, "block.conv1": 0.5}
    with pytest.raises(SelectorError, match="may not be pruned: an output"):
        groups_by_ratio(groups, {"fc": 0.5})
    with pytest.raises(SelectorError, match="group 'stem', name that"):
        groups_by_ratio(groups, {"block.conv2": 0.5})


@pytest.mark.parametrize(
    ("n_units", "removed", "kept"),
    [(64, 0.5, 32), (16, 0.1, 14), (64, 0.3, 44), (10, 0.9, 1), (3, 0.99, 1), (5, 0.2, 4), (10, 0.8, 2)],
)
def test_ratios_round_as_li_2017(n_units, removed, kept):
    groups = [group("a", n_units), group("b", 4)]
    assert ratio_counts(choices_of(groups, Constraints()), groups, {"a": removed}) == {"a": kept, "b": 4}


def test_ratios_take_the_nearest_legal_count():
    groups = [group("a", 16), group("b", 32)]
    choices = choices_of(groups, Constraints(multiple_of=8, exclude=("b",)))
    assert ratio_counts(choices, groups, {"*": 0.3}) == {"a": 8}
    with pytest.raises(NothingToPruneError, match="remove no unit"):
        ratio_counts(choices, groups, {"*": 0.1})


def test_an_unreachable_target_says_how_far_one_gets():
    choices = choices_of([group("a", 8)], Constraints(min_units=4))
    budget = Budget(cost=lambda counts: {**choices.whole, **counts}["a"], limit=2, of="params")
    for decision in decision_names():
        with pytest.raises(TargetError, match=r"params: at most 0\.25 .* 0\.5 is left"):
            decide(decision, choices, {"a": [1.0] * 8}, budget)


@pytest.mark.parametrize(
    ("groups", "constraints", "said"),
    [
        ([], Constraints(), "no group"),
        ([group("a", 4, fixed="an output")], Constraints(), "fixed, e.g. 'a': an output"),
        ([group("a", 4)], Constraints(exclude=("*",)), "excluded"),
        ([group("a", 4)], Constraints(multiple_of=8), "multiple_of=8"),
        ([group("a", 4)], Constraints(min_fraction=1.0), "min_fraction=1.0"),
    ],
)
def test_nothing_to_prune_says_why(groups, constraints, said):
    with pytest.raises(NothingToPruneError, match=said):
        choices_of(groups, constraints)
