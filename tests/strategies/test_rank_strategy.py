"""What the base class guarantees, whatever a strategy wishes: rounding, bounds, alpha, and one precise error."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rankselect as rs
from rankselect.plan.targets import Target, find_targets
from rankselect.strategies.planning import count_parameters
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

QK = ["q_proj", "k_proj"]  # 32 x 32 and 32 x 16
LLAMA = tiny_model()
NAMES = tuple(target.name for target in find_targets(LLAMA, QK))


@dataclass(frozen=True)
class Wish(rs.RankStrategy):
    """The same wish for every module, or those given."""

    wish: float = 4.0
    special: dict = field(default_factory=dict)
    left_out: tuple = ()

    def ranks(self, targets, evidence):
        wishes = dict.fromkeys((target.name for target in targets), self.wish)
        return {name: wish for name, wish in {**wishes, **self.special}.items() if name not in self.left_out}


def ranks_for(wish, **arguments):
    return set(Wish(wish).plan(LLAMA, target_modules=QK, **arguments).ranks.values())


class TestRounding:
    @pytest.mark.parametrize(
        ("wish", "rank"),
        [(2.5, 3), (2.4999, 2), (3.5, 4), (3, 3), (0.4, 1), (0.0, 1), (-7.0, 1), (15.5, 16)],
    )
    def test_is_to_the_nearest_whole_rank_half_up_and_at_least_one(self, wish, rank):
        assert ranks_for(wish) == {rank}

    def test_stays_between_the_bounds(self):
        assert ranks_for(0.4, min_rank=3) == {3}
        assert ranks_for(2.5, min_rank=3) == {3}
        assert ranks_for(9.7, max_rank=8) == {8}
        assert ranks_for(5, min_rank=5, max_rank=5) == {5}

    @pytest.mark.not_under_mutants
    def test_a_module_is_never_given_more_than_its_size_and_that_is_said(self):
        with pytest.warns(rs.RankSelectWarning) as caught:
            plan = Wish(1e9).plan(LLAMA, target_modules=QK)
        assert set(plan.ranks.values()) == {32, 16}
        (warning,) = caught
        assert warning.filename == __file__
        assert str(warning.message) == (
            "4 modules are smaller than the rank for them, which was clipped to their size: "
            "model.layers.0.self_attn.q_proj (32 x 32) gets 32."
        )

    def test_min_rank_bows_to_the_size_of_a_module(self):
        with pytest.warns(rs.RankSelectWarning, match=r"2 modules .*k_proj \(32 x 16\) gets 16"):
            plan = Wish(1).plan(LLAMA, target_modules=QK, min_rank=20)
        assert set(plan.ranks.values()) == {20, 16}

    def test_max_rank_is_the_callers_wish_and_needs_no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ranks_for(1e9, max_rank=16) == {16}
            assert ranks_for(12) == {12}

    @given(
        wish=st.floats(-1e12, 1e12),
        min_rank=st.integers(1, 40),
        extra=st.none() | st.integers(0, 40),
        alpha_ratio=st.floats(0.01, 100),
    )
    def test_bounds_and_alpha_hold_for_every_wish(self, wish, min_rank, extra, alpha_ratio):
        max_rank = None if extra is None else min_rank + extra
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rs.RankSelectWarning)
            plan = Wish(wish).plan(
                LLAMA, target_modules=QK, min_rank=min_rank, max_rank=max_rank, alpha_ratio=alpha_ratio
            )
        assert list(plan.ranks) == list(NAMES)
        for module in plan.modules:
            size = module.target.max_rank
            assert min(min_rank, size) <= module.rank <= min(max_rank or size, size)
            assert module.alpha == alpha_ratio * module.rank
            if min_rank <= wish <= min(max_rank or size, size):
                assert abs(module.rank - wish) <= 0.5


class TestAlpha:
    def test_is_alpha_ratio_times_the_rank_of_each_module(self):
        plan = Wish(4, {NAMES[0]: 7}).plan(LLAMA, target_modules=QK, alpha_ratio=0.5)
        assert [plan.alphas[name] for name in NAMES] == [3.5, 2.0, 2.0, 2.0]

    def test_a_whole_ratio_gives_the_same_plan_as_a_float(self):
        whole, fraction = (
            Wish(4, {NAMES[0]: 7}).plan(LLAMA, target_modules=QK, alpha_ratio=ratio) for ratio in (2, 2.0)
        )
        assert whole.to_dict() == fraction.to_dict()
        assert {type(alpha) for alpha in whole.alphas.values()} == {float}
        assert whole.to_lora_config().alpha_pattern == {f"^{re.escape(NAMES[0])}": 14}

    def test_is_eight_times_the_rank_unless_told(self):
        assert set(Wish(4).plan(LLAMA, target_modules=QK).alphas.values()) == {32.0}


class TestArguments:
    @pytest.mark.parametrize("alpha_ratio", [0, -2.0, float("nan"), float("inf")])
    def test_alpha_ratio_must_be_a_scale(self, alpha_ratio):
        message = re.escape(f"expected an alpha_ratio above 0, got {alpha_ratio!r}. Alpha is alpha_ratio x rank")
        with pytest.raises(rs.errors.ArgumentError, match=message):
            Wish().plan(LLAMA, alpha_ratio=alpha_ratio)

    def test_min_rank_must_be_one_at_least(self):
        with pytest.raises(rs.errors.ArgumentError, match=r"a min_rank of at least 1, got 0\. PEFT has no rank 0"):
            Wish().plan(LLAMA, min_rank=0)

    @pytest.mark.parametrize("rank", [1.5, float("nan"), True, "4"])
    @pytest.mark.parametrize("name", ["min_rank", "max_rank"])
    def test_bounds_must_be_whole(self, name, rank):
        with pytest.raises(rs.errors.ArgumentError, match=f"an integer {name}, got {rank!r}. Ranks are integers"):
            Wish().plan(LLAMA, **{name: rank})

    def test_max_rank_must_not_be_below_min_rank(self):
        with pytest.raises(rs.errors.ArgumentError, match=r"a max_rank of at least min_rank \(4\), got 3\. Raise it"):
            Wish().plan(LLAMA, min_rank=4, max_rank=3)


class TestBrokenStrategies:
    @pytest.mark.parametrize("wish", [float("nan"), float("inf"), -float("inf")])
    def test_a_wish_that_is_no_number_names_the_strategy_and_the_module(self, wish):
        with pytest.raises(rs.errors.ArgumentError, match=rf"a finite rank from Wish\(.*\), got {wish} for {NAMES[1]}"):
            Wish(4, {NAMES[1]: wish}).plan(LLAMA, target_modules=QK)

    def test_a_target_without_a_wish(self):
        with pytest.raises(
            rs.errors.TargetError, match=rf"each of the 4 target modules, got 3; first difference: {NAMES[2]}"
        ):
            Wish(left_out=(NAMES[2],)).plan(LLAMA, target_modules=QK)

    def test_a_wish_without_a_target(self):
        with pytest.raises(
            rs.errors.TargetError, match=r"each of the 4 target modules, got 5; first difference: lm_head\."
        ):
            Wish(special={"lm_head": 4}).plan(LLAMA, target_modules=QK)

    def test_a_class_cannot_plan(self):
        with pytest.raises(rs.errors.ArgumentError) as caught:
            rs.PerLayerID.plan(LLAMA, rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 8.0}))
        assert str(caught.value) == (
            "expected a strategy to plan with, got its class, called with a LlamaForCausalLM. "
            "Create an instance first, for example PerLayerID().plan(model, profile)."
        )

    def test_the_base_class_cannot_be_used_itself(self):
        with pytest.raises(TypeError, match="abstract"):
            rs.RankStrategy()


class TestWhatThePlanRecords:
    def test_the_strategy_as_python_writes_it_and_the_model(self):
        plan = rs.Fixed(4).plan(LLAMA)
        assert plan.strategy == "Fixed(rank=4)"
        assert plan.model_name == "LlamaForCausalLM"
        assert plan.base_parameters == sum(p.numel() for p in LLAMA.parameters())

    def test_the_models_path_where_it_has_one(self, tmp_path):
        LLAMA.save_pretrained(tmp_path)
        loaded = type(LLAMA).from_pretrained(tmp_path)
        assert rs.Fixed(4).plan(loaded).model_name == str(tmp_path)

    def test_target_modules_are_an_expression_or_a_tuple(self):
        assert rs.Fixed(4).plan(LLAMA, target_modules=QK).target_modules == ("q_proj", "k_proj")
        one = rs.Fixed(4).plan(LLAMA, target_modules=[NAMES[0]])
        assert isinstance(one.target_modules, str)
        assert one.target_modules.startswith("^model")

    def test_a_model_without_a_config_by_its_class(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.ModuleDict({"q": nn.Linear(8, 8)}) for _ in range(2)])

        assert rs.Fixed(4).plan(Block(), target_modules=["q"]).model_name == "Block"

    def test_four_bit_weights_count_for_what_they_stand_for(self):
        bnb = pytest.importorskip("bitsandbytes")

        def of(kind, dtype):
            model = nn.Module()
            model.weight = kind(torch.zeros(6, dtype=dtype), requires_grad=False)
            return count_parameters(model)

        assert (of(bnb.nn.Params4bit, torch.uint8), of(bnb.nn.Params4bit, torch.int16)) == (12, 24)
        assert (of(bnb.nn.Params4bit, torch.float32), of(nn.Parameter, torch.uint8)) == (6, 6)

    def test_modules_outside_the_layers_are_fine_for_one_rank_everywhere(self):
        plan = rs.Fixed(4).plan(LLAMA, target_modules=["lm_head", "q_proj"])
        assert plan.ranks["lm_head"] == 4


@dataclass(frozen=True)
class TokenCount(rs.Evidence):
    """How many tokens the texts have: evidence of a third party."""

    tokens: int
    layers: int

    @classmethod
    def measure(cls, calibration):
        ids = calibration.tokenizer(list(calibration.texts))["input_ids"]
        return cls(sum(map(len, ids)), len(rs.layer_names(calibration.model)))

    def check(self, model):
        if len(rs.layer_names(model)) != self.layers:
            raise rs.errors.EvidenceError("a count for this model", f"one for {self.layers} layers", "Count again.")


@dataclass(frozen=True)
class ByTokens(rs.RankStrategy):
    per_token: float = 0.1
    evidence: ClassVar = TokenCount

    def ranks(self, targets, evidence):
        return {target.name: self.per_token * evidence.tokens for target in targets}


class TestEvidenceOfAThirdParty:
    TEXTS: ClassVar = tiny_texts(10)
    TOKENS = sum(len(text.split()) for text in TEXTS)

    def test_is_measured_from_a_calibration(self):
        calibration = rs.Calibration(LLAMA, tiny_tokenizer(), self.TEXTS, progress=False)
        plan = ByTokens().plan(LLAMA, calibration, target_modules=["q_proj"])
        assert set(plan.ranks.values()) == {int(0.1 * self.TOKENS + 0.5)}

    def test_is_taken_as_it_is_where_it_was_measured_before(self):
        plan = ByTokens(1.0).plan(LLAMA, TokenCount(7, layers=2), target_modules=["q_proj"])
        assert set(plan.ranks.values()) == {7}

    def test_may_refuse_another_model(self):
        with pytest.raises(
            rs.errors.EvidenceError, match=r"a count for this model, got one for 3 layers\. Count again\."
        ):
            ByTokens().plan(LLAMA, TokenCount(7, layers=3))

    def test_must_be_there(self):
        with pytest.raises(rs.errors.EvidenceError) as caught:
            ByTokens().plan(LLAMA)
        assert str(caught.value) == (
            "expected evidence of the class TokenCount for ByTokens(per_token=0.1), got None. "
            "Pass it as the second argument of plan, or a Calibration(model, tokenizer, texts) to measure it."
        )

    @pytest.mark.parametrize("wrong", [rs.IDProfile.from_values({"model.layers.0": 3.0}), {"tokens": 7}, 7])
    def test_must_be_of_its_class(self, wrong):
        with pytest.raises(rs.errors.EvidenceError, match=f"the class TokenCount .* got a {type(wrong).__name__}"):
            ByTokens().plan(LLAMA, wrong)

    def test_its_class_is_not_it(self):
        with pytest.raises(
            rs.errors.EvidenceError, match=r"the class TokenCount for .*, got the class TokenCount\. Pass it"
        ):
            ByTokens().plan(LLAMA, TokenCount)

    def test_is_ignored_by_strategies_that_need_none(self):
        assert rs.Fixed(2).plan(LLAMA, TokenCount(7, layers=99)).ranks == rs.Fixed(2).plan(LLAMA).ranks


def test_targets_reach_the_strategy_in_model_order_with_their_layers():
    seen = []

    class Watching(rs.RankStrategy):
        def ranks(self, targets, evidence):
            seen.extend(targets)
            assert evidence is None
            return {target.name: 1 for target in targets}

    block = nn.ModuleDict({"fc": nn.Linear(4, 6)})
    model = nn.ModuleDict({"layers": nn.ModuleList([block]), "head": nn.Linear(4, 2)})
    plan = Watching().plan(model, target_modules=["fc"], min_rank=2, max_rank=3)
    Watching().plan(model, target_modules=["fc"])
    unbounded = Target("layers.0.fc", "layers.0", 4, 6)
    assert seen == [replace(unbounded, at_least=2, at_most=3), unbounded]
    assert plan.modules[0].target == unbounded  # the bounds were those of the planning
    assert plan.scaled(2).ranks == {"layers.0.fc": 4}


def test_a_target_clips_to_the_bounds_of_the_plan_and_its_size_has_the_last_word():
    bounds = {(1, None): (1, 4, 8, 8), (5, None): (5, 5, 8, 8), (1, 6): (1, 4, 6, 6), (20, 30): (8, 8, 8, 8)}
    for (at_least, at_most), clipped in bounds.items():
        target = Target("fc", None, 8, 16, at_least, at_most)
        assert tuple(target.clipped(rank) for rank in (-3, 4, 8, 99)) == clipped
        assert target.max_rank == 8
