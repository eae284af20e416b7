"""Controls keep what they promise to keep (ranks, parameters, bounds) and take away what they promise to take."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rankselect as rs
from rankselect.plan.targets import Target
from rankselect.registry import create
from rankselect.strategies._control import closest_ranks
from rankselect.strategies.controls import SameParameters, Shuffled, Tilted
from rankselect.testing import check_strategy, tiny_model

QK = ["q_proj", "k_proj"]
LLAMA = tiny_model()
FIRST, SECOND = rs.layer_names(LLAMA)
PROFILE = rs.IDProfile.from_values({FIRST: 3.0, SECOND: 8.0})
CONTROLS = [
    SameParameters,
    Shuffled,
    lambda strategy: Tilted(strategy, "early"),
    lambda strategy: Tilted(strategy, "late"),
]


@dataclass(frozen=True)
class Given(rs.RankStrategy):
    """Wishes in model order, over and over."""

    wishes: tuple[float, ...]

    def ranks(self, targets, evidence):
        return {target.name: self.wishes[index % len(self.wishes)] for index, target in enumerate(targets)}


def model(*widths: int, head: bool = False) -> nn.Module:
    """A layer for each width, with a square module q and a wide one f."""
    layers = [nn.ModuleDict({"q": nn.Linear(w, w), "f": nn.Linear(w, 4 * w)}) for w in widths]
    whole: dict[str, Any] = {"layers": nn.ModuleList(layers)}
    return nn.ModuleDict({**whole, "head": nn.Linear(16, 8)} if head else whole)


SIX = model(*[16] * 6)
MIXED = model(8, 32, 16, 16, 24)
MODELS = st.sampled_from([SIX, MIXED])
WISHES = st.lists(st.floats(-3, 40), min_size=1, max_size=12).map(tuple)
BOUNDS = st.tuples(st.integers(1, 6), st.none() | st.integers(6, 30)).map(
    lambda bounds: {"min_rank": bounds[0], "max_rank": bounds[1]}
)
STEEPNESS = st.floats(0.01, 1.0)


def quietly(strategy, on, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.RankSelectWarning)
        return strategy.plan(on, target_modules=["q", "f"], **arguments)


def by_layer(plan):
    """``{layer: the ranks of its modules}``."""
    ranks: dict[Any, tuple[int, ...]] = {}
    for module in plan.modules:
        ranks[module.target.layer] = (*ranks.get(module.target.layer, ()), module.rank)
    return ranks


class TestSameParameters:
    @given(on=MODELS, wishes=WISHES, bounds=BOUNDS)
    def test_no_other_uniform_rank_comes_nearer(self, on, wishes, bounds):
        wrapped = quietly(Given(wishes), on, **bounds)
        control = quietly(SameParameters(Given(wishes)), on, **bounds)
        targets = [module.target for module in control.modules]
        rank = max(control.ranks.values())
        assert all(control.ranks[target.name] == min(rank, target.max_rank) for target in targets)
        top = min(max(target.max_rank for target in targets), bounds["max_rank"] or 1000)
        uniform = [
            sum(target.parameters(min(rank, target.max_rank)) for target in targets)
            for rank in range(bounds["min_rank"], top + 1)
        ]
        nearest = min(uniform, key=lambda count: abs(count - wrapped.trainable_parameters))
        assert control.trainable_parameters == nearest  # of two, the smaller

    def test_it_follows_the_plan_within_its_bounds_and_not_the_wishes(self):
        wished = SameParameters(Given((4.0, 30.0))).plan(LLAMA, target_modules=["q_proj"])
        within = SameParameters(Given((4.0, 30.0))).plan(LLAMA, target_modules=["q_proj"], max_rank=8)
        above = SameParameters(Given((4.0, 12.0))).plan(LLAMA, target_modules=["q_proj"], min_rank=6)
        assert [set(plan.ranks.values()) for plan in (wished, within, above)] == [{17}, {6}, {9}]


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_the_closest_ranks_do_not_depend_on_the_unit_of_the_weights(unit):
    targets = [Target(f"layers.{index}.fc1", f"layers.{index}", 64, 64) for index in range(2)]
    assert closest_ranks(targets, [3 * unit, unit], 12 * 128) == {"layers.0.fc1": 9, "layers.1.fc1": 3}


def test_of_ranks_that_rise_at_once_the_greater_weight_goes_first_and_of_two_equally_near_the_smaller_is_taken():
    """At a scale of 1.5, ranks of 4 and 1 become 5 and 2."""
    targets = [Target(f"layers.{index}.fc1", f"layers.{index}", 64, 64) for index in range(2)]
    found = [tuple(closest_ranks(targets, [3.0, 1.0], int(128 * total)).values()) for total in (5, 5.5, 6, 6.5, 7)]
    assert found == [(4, 1), (4, 1), (5, 1), (5, 1), (5, 2)]


class TestShuffled:
    @given(on=MODELS, wishes=WISHES, bounds=BOUNDS, seed=st.integers(0, 10))
    def test_the_layers_have_the_same_ranks_and_exactly_as_many_parameters(self, on, wishes, bounds, seed):
        wrapped = quietly(Given(wishes), on, **bounds)
        control = quietly(Shuffled(Given(wishes), seed), on, **bounds)
        assert control.trainable_parameters == wrapped.trainable_parameters
        assert Counter(by_layer(control).values()) == Counter(by_layer(wrapped).values())
        assert quietly(Shuffled(Given(wishes), seed), on, **bounds) == control

    def test_a_layer_moves_as_a_whole_and_each_rank_to_the_module_of_its_name(self):
        ranks = tuple(range(1, 13))
        before = by_layer(quietly(Given(ranks), SIX))
        after = by_layer(quietly(Shuffled(Given(ranks), seed=1), SIX))
        assert before != after
        assert sorted(after.values()) == [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)]

    def test_only_layers_of_the_same_shapes_change_places(self):
        ranks = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
        before = by_layer(quietly(Given(ranks), MIXED))
        plans = [by_layer(quietly(Shuffled(Given(ranks), seed), MIXED)) for seed in range(10)]
        moved = {layer for plan in plans for layer in plan if plan[layer] != before[layer]}
        assert moved == {"layers.2", "layers.3"}

    def test_layers_with_other_modules_stay_apart(self):
        first, second = quietly(Given((2, 5)), SIX).modules[:2]
        names = [first.target.name, second.target.name, "layers.1.q"]
        seeds = [Shuffled(Given((2, 5, 9)), seed) for seed in range(10)]
        with pytest.warns(rs.RankSelectWarning, match="repeats that one"):
            found = {tuple(each.plan(SIX, target_modules=names).ranks.values()) for each in seeds}
        assert found == {(2, 5, 9)}

    def test_layers_whose_modules_have_other_names_stay_apart_though_shapes_agree(self):
        names = ["layers.0.q", "layers.1.k", "layers.2.q"]
        targets = [Target(name, name.rpartition(".")[0], 16, 16) for name in names]
        ranks = dict(zip(names, (2, 5, 9), strict=True))
        found = {Shuffled(rs.Fixed(1), seed).rearranged(targets, ranks)["layers.1.k"] for seed in range(10)}
        assert found == {5}
        assert {Shuffled(rs.Fixed(1), seed).rearranged(targets, ranks)["layers.0.q"] for seed in range(10)} == {2, 9}

    def test_every_order_is_as_likely_as_any_other(self):
        three = model(16, 16, 16)
        orders = Counter(
            tuple(quietly(Shuffled(Given((1, 1, 2, 2, 3, 3)), seed), three).ranks.values()) for seed in range(300)
        )
        assert len(orders) == 6
        assert min(orders.values()) > 25  # 50 expected, standard deviation 6.5

    def test_a_module_outside_the_layers_keeps_its_rank(self):
        on = model(16, 16, 16, head=True)
        wishes = Given((1, 2, 3, 7))
        for seed in range(5):
            plan = Shuffled(wishes, seed).plan(on, target_modules=["q", "head"], max_rank=16)
            assert plan.ranks["head"] == 7

    @pytest.mark.parametrize("seed", [-1, 1.5, "one", True, None])
    def test_a_seed_is_a_whole_number(self, seed):
        with pytest.raises(rs.RankSelectError, match=r"expected a seed that is an integer of at least 0, got"):
            Shuffled(rs.Fixed(4), seed)


class TestTilted:
    @given(on=MODELS, wishes=WISHES, bounds=BOUNDS, steepness=STEEPNESS, towards=st.sampled_from(["early", "late"]))
    def test_ranks_never_rise_against_the_tilt_and_stay_within_the_bounds(self, on, wishes, bounds, steepness, towards):
        plan = quietly(Tilted(Given(wishes), towards, steepness), on, **bounds)
        for kind in ("q", "f"):
            if on is SIX:
                ranks = [rank for name, rank in plan.ranks.items() if name.endswith(kind)]
                assert ranks == sorted(ranks, reverse=towards == "early")
        for module in plan.modules:
            top = min(bounds["max_rank"] or module.target.max_rank, module.target.max_rank)
            assert min(bounds["min_rank"], top) <= module.rank <= top

    @given(ids=st.lists(st.floats(0.5, 9), min_size=6, max_size=6), steepness=STEEPNESS)
    def test_the_parameters_differ_by_half_a_rank_of_a_layer_at_most(self, ids, steepness):
        wishes = Given(tuple(value for value in ids for _ in range(2)))  # up to 18: above the modules' size of 16
        wrapped = quietly(wishes, SIX)
        plan = quietly(Tilted(wishes, "late", steepness), SIX)
        one_rank = 16 + 16 + 16 + 64
        if max(plan.ranks.values()) < 16:
            assert abs(plan.trainable_parameters - wrapped.trainable_parameters) <= one_rank / 2

    @given(rank=st.integers(2, 9), steepness=STEEPNESS)
    def test_ranks_lie_on_a_straight_line_but_for_rounding(self, rank, steepness):
        ranks = [found[0] for found in by_layer(quietly(Tilted(rs.Fixed(rank), "late", steepness), SIX)).values()]
        weights = [1 - steepness + 2 * steepness * index / 5 for index in range(6)]
        inner = [(each, weight) for each, weight in zip(ranks, weights, strict=True) if 1 < each < 16]
        low = max(((each - 0.5) / weight for each, weight in inner), default=0)
        high = min(((each + 0.5) / weight for each, weight in inner), default=1)
        assert low <= high * (1 + 1e-9)

    def test_early_is_late_backwards(self):
        plans = [quietly(Tilted(rs.Fixed(8), end, 0.5), SIX) for end in ("early", "late")]
        early, late = (list(by_layer(plan).values()) for plan in plans)
        assert early == late[::-1]
        assert late == [(4, 4), (6, 6), (7, 7), (9, 9), (10, 10), (12, 12)]

    def test_the_steepest_leaves_the_least_rank_at_one_end(self):
        ranks = by_layer(quietly(Tilted(rs.Fixed(6), "early", 1), SIX, min_rank=2))
        assert (ranks["layers.0"], ranks["layers.5"]) == ((11, 11), (2, 2))

    @pytest.mark.parametrize("towards", ["early", "late"])
    @pytest.mark.parametrize("steepness", [0.5, 1])
    def test_one_layer_has_no_depth(self, towards, steepness):
        assert set(quietly(Tilted(rs.Fixed(5), towards, steepness), model(16)).ranks.values()) == {5}

    def test_a_target_outside_the_layers_has_no_depth(self):
        with pytest.raises(rs.errors.TargetError, match="expected target modules inside the model's layers, got head"):
            Tilted(rs.Fixed(4), "early").plan(model(16, 16, head=True), target_modules=["q", "head"])

    def test_towards_is_early_or_late(self):
        with pytest.raises(rs.RankSelectError, match='expected towards "early" or "late", got \'middle\''):
            Tilted(rs.Fixed(4), "middle")

    @pytest.mark.parametrize("steepness", [0, -0.5, 1.01, float("nan"), float("inf"), True, "steep", None])
    def test_a_steepness_is_a_share(self, steepness):
        with pytest.raises(rs.RankSelectError, match="expected a steepness above 0 and at most 1, got"):
            Tilted(rs.Fixed(4), "early", steepness)


@pytest.mark.parametrize("control", CONTROLS)
class TestEveryControl:
    def test_keeps_the_contract_of_strategies(self, control):
        check_strategy(control(rs.PerLayerID()))
        check_strategy(control(rs.Fixed(4)))

    def test_wraps_a_strategy_or_its_name(self, control):
        assert control("per-layer-id") == control(rs.PerLayerID())
        assert "strategy=Fixed(rank=8)" in repr(control("fixed:rank=8"))
        assert control("gelora").evidence is rs.IDProfile
        assert control("fixed:rank=8").evidence is None

    def test_asks_for_the_evidence_of_the_wrapped_strategy(self, control):
        with pytest.raises(rs.errors.EvidenceError, match=r"the class IDProfile for .*strategy=PerLayerID\(\)"):
            control(rs.PerLayerID()).plan(LLAMA)

    def test_wraps_another_control_too(self, control):
        plan = control(Shuffled(rs.PerLayerID(), seed=3)).plan(LLAMA, PROFILE, target_modules=QK)
        wrapped = rs.PerLayerID().plan(LLAMA, PROFILE, target_modules=QK)
        unit = sum(module.target.parameters(1) for module in plan.modules)
        assert abs(plan.trainable_parameters - wrapped.trainable_parameters) <= unit / 2

    @pytest.mark.not_under_mutants
    def test_says_when_it_changes_nothing(self, control):
        one = model(16)
        with pytest.warns(rs.RankSelectWarning, match=r"the rank that Fixed\(rank=5\) gives it") as caught:
            control(rs.Fixed(5)).plan(one, target_modules=["q", "f"])
        (warning,) = caught
        assert warning.filename == __file__

    def test_an_error_of_the_wrapped_strategy_names_it(self, control):
        with pytest.raises(rs.RankSelectError, match=r"expected a finite rank from Given\(wishes=\(nan,\)\), got nan"):
            control(Given((float("nan"),))).plan(LLAMA)

    @pytest.mark.parametrize(
        ("wrapped", "error", "message"),
        [
            ("per-layer", rs.errors.UnknownNameError, "got 'per-layer'. Did you mean per-layer-id?"),
            ("fixed", rs.errors.ArgumentError, "expected arguments that fixed takes"),
            (
                8,
                rs.errors.ArgumentError,
                r"expected a strategy, or the name of one, got 8\. Known names: .*per-layer-id",
            ),
            (
                rs.PerLayerID,
                rs.errors.ArgumentError,
                r"got the class PerLayerID\. Create an instance: PerLayerID\(…\)\.",
            ),
        ],
    )
    def test_wraps_nothing_else(self, control, wrapped, error, message):
        with pytest.raises(error, match=message):
            control(wrapped)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("same-parameters:strategy=per-layer-id", SameParameters(rs.PerLayerID())),
        ("shuffled:strategy=per-layer-id,seed=1", Shuffled(rs.PerLayerID(), seed=1)),
        ("tilted:strategy=fixed:rank=8,towards=late,steepness=1", Tilted(rs.Fixed(8), "late", 1)),
        ("same-parameters:strategy=shuffled:strategy=gelora", SameParameters(Shuffled(rs.GeLoRA()))),
        ("shuffled:same-parameters:fixed:8", Shuffled(SameParameters(rs.Fixed(8)))),
    ],
)
def test_the_command_line_can_name_them(typed, meant):
    assert create("strategy", typed) == meant
