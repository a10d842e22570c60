"""The smallest network within an allowed drop: which targets are tried, which network is kept, and what is recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bundles.bundle import read_bundle
from deploy.errors import RecipeError
from deploy.recipe import Recipe, load_recipe
from deploy.run import prepare, smaller
from deploy.run.progress import Progress
from deploy.run.run_stages import stages_of
from deploy.run.smaller import MOST_TRIES, make_smaller, next_reach
from deploy.run.stages import StageStore
from deploy.run.steps import StepContext
from deploy.sources.datasets.data import load
from pruners.errors import TargetError

NETWORK = """
from torch import nn


def make(*, n_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes),
    )
"""


@given(st.floats(0.01, 20), st.booleans())
def test_the_search_closes_in_on_what_is_within(limit, beyond):
    tried = []
    while (reach := next_reach(tried, beyond=beyond)) is not None:
        assert reach not in [one for one, _ in tried]
        assert beyond or reach <= 1
        tried.append((reach, reach <= limit))
    assert tried[0][0] == 1.0
    assert len(tried) <= MOST_TRIES
    within = [reach for reach, is_within in tried if is_within]
    failed = [reach for reach, is_within in tried if not is_within]
    if limit >= 1 and not beyond:
        assert tried == [(1.0, True)]
    else:
        assert len(tried) == MOST_TRIES
    if failed:
        assert max(within, default=0) < min(failed)
        assert min(failed) - max(within, default=0) <= 2.0 ** -(len(failed) - 1)


def recipe_of(tmp_path, **more):
    (tmp_path / "net.py").write_text(NETWORK)
    return Recipe.model_validate(
        {
            "name": "drop",
            "network": {"name": f"{tmp_path / 'net.py'}:make"},
            "data": {"name": "digits", "limit": 60},
            "prune": {"method": "l1", "target": {"flops": 0.25}},
            **more,
        }
    )


def context_of(recipe):
    return StepContext(recipe=recipe, data=load(recipe.data), progress=Progress(quiet=True))


@pytest.fixture
def losing(monkeypatch):
    """Losses by target in the place of networks: ``losing(points)`` gets the share of FLOPs that is kept."""
    state = {}

    def prune(context, stages, trained, tables):
        state["share"] = context.recipe.prune.target.flops
        if state["points"](state["share"]) is None:
            raise TargetError("the smallest plan keeps more")

    monkeypatch.setattr(smaller, "_prune_and_finetune", prune)
    monkeypatch.setattr(smaller, "load_compact", lambda *args, **places: None)
    monkeypatch.setattr(smaller, "dense_scores", lambda *args: type("Scores", (), {"validation": 0.9}))
    monkeypatch.setattr(smaller, "validation_score", lambda *args: 0.9 - state["points"](state["share"]) / 100)

    def losing(points):
        state["points"] = points

    return losing


def search(tmp_path, **keys):
    recipe = recipe_of(tmp_path, **keys)
    return make_smaller(context_of(recipe), stages_of(recipe, StageStore(tmp_path / "run"))), tmp_path / "run"


def test_a_target_within_the_drop_is_the_only_one_tried(tmp_path, losing):
    losing(lambda share: 1.0)
    found, run = search(tmp_path, max_drop=1)
    assert (len(found.search.tries), found.search.reached) == (1, True)
    assert found.pruned == run / "tries" / "1" / "prune"
    assert found.search.best.asked == "25.0% of the FLOPs"


def test_milder_targets_are_tried_and_the_smallest_within_the_drop_is_kept(tmp_path, losing):
    losing(lambda share: 4 * (1 - share))
    found, run = search(tmp_path, max_drop=2.2)  # from 0.45 on
    assert [one.reach for one in found.search.tries] == [1, 0.5, 0.75, 0.625]
    assert [one.drop for one in found.search.tries] == pytest.approx(
        [3, 2, 4 * (1 - 0.25**0.75), 4 * (1 - 0.25**0.625)]
    )
    assert found.search.kept == 1
    assert found.tuned == run / "tries" / "2" / "finetune"
    assert not found.search.reached


def test_where_all_lose_more_the_one_that_loses_least_is_kept(tmp_path, losing):
    losing(lambda share: 10 + share)
    found, _ = search(tmp_path, max_drop=1)
    assert (found.search.best.reach, found.search.reached) == (1, False)


def test_the_smallest_goes_beyond_the_target(tmp_path, losing):
    losing(lambda share: None if share < 0.05 else 1 - share)
    found, _ = search(tmp_path, max_drop=1, beyond_target=True)
    assert [one.reach for one in found.search.tries] == [1, 2, 3, 2.5]
    assert found.search.tries[2].reason == "the smallest plan keeps more"
    assert (found.search.best.reach, found.search.reached) == (2, True)


def test_targets_that_are_all_out_of_reach_are_an_error(tmp_path, losing):
    losing(lambda share: None)
    with pytest.raises(TargetError, match="the smallest plan keeps more"):
        search(tmp_path, max_drop=1)


def test_the_bundle_tells_what_was_tried_and_a_second_call_does_nothing_again(tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, max_drop=100)
    stages = stages_of(recipe, StageStore(tmp_path / "run"))
    prepare.prepare(context_of(recipe), stages)
    search = read_bundle(stages.export.folder / "pruned").manifest.pruning.proof.drop
    assert (len(search.tries), search.allowed, search.reached) == (1, 100, True)
    monkeypatch.setattr(smaller, "prune_dense", lambda *args, **places: pytest.fail("pruned again"))
    assert make_smaller(context_of(recipe), stages).search == search


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("max_drop: 1\nprune: {target: {ratios: {'*': 0.5}}}", "ratios have none"),
        ("beyond_target: true\nprune: {target: {flops: 0.5}}", "give max_drop too"),
        ("max_drop: -1\nprune: {target: {flops: 0.5}}", "max_drop"),
    ],
)
def test_a_drop_that_means_nothing_is_refused(tmp_path, keys, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\nnetwork: {{name: 'cifar:resnet20'}}\ndata: {{name: digits}}\n{keys}\n")
    with pytest.raises(RecipeError, match=words):
        load_recipe(path)
