"""Budgets: the number of parameters that each kind means, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from peft import get_peft_model

import rankselect as rs
from architectures import FAMILIES
from rankselect.errors import ArgumentError, OutOfMemoryError, UnknownNameError
from rankselect.plan.budget import budget_of
from rankselect.testing import tiny_model

STEP = {"batch_size": 2, "length": 32}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def profile():
    return rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})


def step_of(plan):
    """The parameters of the cheapest further rank."""
    return min(m.target.parameters(1) for m in plan.modules if m.rank < m.target.max_rank)


def test_each_kind_means_a_number_of_parameters(model, profile):
    uniform = rs.Fixed(6).plan(model, target_modules="all-linear")
    share = uniform.trainable_parameters / uniform.base_parameters
    for budget in (
        rs.Budget(parameters=uniform.trainable_parameters),
        rs.Budget(like=uniform),
        rs.Budget(rank=6),
        rs.Budget(fraction=share * 1.0001),
    ):
        plan = rs.PerLayerID().plan(model, profile, budget=budget, target_modules="all-linear")
        assert 0 <= uniform.trainable_parameters - plan.trainable_parameters < step_of(plan)
        assert plan.ranks["model.layers.0.mlp.up_proj"] < plan.ranks["model.layers.1.mlp.up_proj"]
        assert plan.strategy == f"PerLayerID() within {budget!r}"


def test_fixed_ranks_follow_the_budget_up_and_down(model):
    small, large = (rs.Fixed(8).plan(model, budget=rs.Budget(rank=rank)) for rank in (3, 11))
    assert set(small.ranks.values()) == {3}
    assert set(large.ranks.values()) == {11}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_is_planned_and_built_within_a_budget(family):
    model = FAMILIES[family]()
    full = rs.Fixed(2).plan(model, target_modules="all-linear")
    budget = full.trainable_parameters // 2
    plan = rs.Fixed(2).plan(model, target_modules="all-linear", budget=rs.Budget(parameters=budget), min_rank=0)
    left = budget - plan.trainable_parameters
    unused = [module.target.parameters(1) for module in full.modules if module.target.name not in plan.ranks]
    assert 0 <= left < min([step_of(plan), *unused])
    plan.verify(get_peft_model(model, plan.to_lora_config()))


def test_without_a_minimum_modules_are_left_out(model, profile):
    plan = rs.PerLayerID().plan(model, profile, budget="600", min_rank=0, target_modules="all-linear")
    assert len(plan.ranks) < 14
    assert min(plan.ranks.values()) == 1
    plan.verify(get_peft_model(tiny_model(), plan.to_lora_config()))


@pytest.mark.parametrize(
    "control", [rs.SameParameters("per-layer-id"), rs.Shuffled("per-layer-id", 3), rs.Tilted("per-layer-id")]
)
@pytest.mark.parametrize("parameters", [2000, 5003, 9999])
@pytest.mark.filterwarnings("ignore:.*gives every module the rank:rankselect.RankSelectWarning")
def test_controls_keep_the_budget_of_their_strategy(model, profile, control, parameters):
    plan = control.plan(model, profile, budget=rs.Budget(parameters=parameters), target_modules="all-linear")
    assert plan.trainable_parameters <= parameters


def test_shuffled_ranks_are_those_of_the_plan_within_the_same_budget(model, profile):
    within = rs.PerLayerID().plan(model, profile, budget=rs.Budget(parameters=6001), target_modules="all-linear")
    shuffled = rs.Shuffled("per-layer-id", seed=3).plan(
        model, profile, budget=rs.Budget(parameters=6001), target_modules="all-linear"
    )
    assert shuffled.trainable_parameters == within.trainable_parameters
    assert sorted(shuffled.ranks.values()) == sorted(within.ranks.values())
    assert shuffled.ranks != within.ranks


def test_memory_buys_the_largest_plan_that_fits(model):
    small, large = (rs.Fixed(rank).plan(model) for rank in (2, 12))
    between = (rs.estimate_memory(model, small, **STEP).peak + rs.estimate_memory(model, large, **STEP).peak) // 2
    plan = rs.Fixed(8).plan(model, budget=rs.Budget(memory=between, step=STEP))
    assert rs.estimate_memory(model, plan, **STEP).peak <= between
    more = rs.Fixed(8).plan(model, budget=rs.Budget(parameters=plan.trainable_parameters + 2 * step_of(plan)))
    assert rs.estimate_memory(model, more, **STEP).peak > between


def test_too_little_memory_says_how_much_is_needed(model):
    with pytest.raises(OutOfMemoryError, match="a budget of at least .* which the smallest plan takes"):
        rs.Fixed(8).plan(model, budget=rs.Budget(memory=5000, step=STEP))
    with pytest.raises(UnknownNameError, match="expected the name of a setting of a training step, got 'rows'"):
        rs.Fixed(8).plan(model, budget=rs.Budget(memory="1GB", step={"rows": 3}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected one of parameters, like, fraction, rank and memory for a Budget, got none"),
        ({"rank": 8, "parameters": 9}, "got parameters and rank"),
        ({"rank": 0}, "expected rank of a Budget as an integer of at least 1, got 0"),
        ({"parameters": 1e6}, "expected parameters of a Budget as an integer of at least 1, got 1000000.0. Round it"),
        ({"fraction": 25}, "expected fraction of a Budget as a number above 0 and below 1, got 25. 0.01 is 1 %"),
        ({"fraction": float("nan")}, "got nan"),
        ({"like": 8}, "expected a RankPlan as like of a Budget, got an int. Pass a plan"),
        ({"rank": 8, "step": {}}, "expected step only together with memory, got rank"),
    ],
)
def test_budgets_that_are_none(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        rs.Budget(**arguments)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            "99",
            r"expected a budget of at least 224 parameters, rank 1 for each of the 4 target modules, got 99 \(Budget",
        ),
        ("rank:999", None),
        ("50%", r"expected a budget of at most [\d,]+ parameters, the maximum ranks, got "),
        ("twelve", "expected a Budget, or its text, got 'twelve'. Write for example 2000000 or 2M"),
        ("0%", "fraction of a Budget as a number above 0"),
        (8, "expected a Budget, or its text, got 8"),
    ],
)
def test_budgets_that_do_not_fit_the_model(model, budget, message):
    targets = ["q_proj", "v_proj"]
    if message is None:  # a rank above the widths of the modules is clipped, as everywhere
        plan = rs.Fixed(8).plan(model, budget=budget, target_modules=targets)
        assert all(module.rank == module.target.max_rank for module in plan.modules)
        return
    with pytest.raises(ArgumentError, match=message):
        rs.Fixed(8).plan(model, budget=budget, target_modules=targets)


def test_a_budget_below_one_rank(model):
    with pytest.raises(ArgumentError, match="one rank in the smallest module, got 10"):
        rs.Fixed(8).plan(model, budget=rs.Budget(parameters=10), min_rank=0)


def test_a_plan_for_another_model(model):
    other = rs.Fixed(4).plan(tiny_model("gpt2"))
    with pytest.raises(
        ArgumentError, match=r"a budget like a plan for this model, .* got one for .* Use Budget\(param"
    ):
        rs.Fixed(8).plan(model, budget=rs.Budget(like=other))


@pytest.mark.parametrize(("bounds", "budget"), [({"min_rank": 0}, None), ({"min_rank": -1}, "rank:4")])
def test_minimum_ranks_that_are_refused(model, bounds, budget):
    with pytest.raises(ArgumentError, match=f"a min_rank of at least {int(budget is None)}, got {bounds['min_rank']}"):
        rs.Fixed(8).plan(model, budget=budget, **bounds)


def test_texts_of_budgets():
    texts = ["1500000", "1.5M", "20k", "0.5%", "rank:16", "rank=16", "24GiB", "8 GB"]
    kinds = [vars(budget_of(text)) for text in texts]
    found = [next((name, value) for name, value in each.items() if value is not None) for each in kinds]
    assert found == [
        *itertools.repeat(("parameters", 1_500_000), 2),
        ("parameters", 20_000),
        ("fraction", 0.005),
        *itertools.repeat(("rank", 16), 2),
        ("memory", "24GiB"),
        ("memory", "8 GB"),
    ]
