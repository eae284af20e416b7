"""`verify` passes what PEFT built from the plan, and names every difference otherwise."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

import rankselect as rs
from architectures import FAMILIES
from rankselect.testing import tiny_model

Q0, V0 = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"
Q1, V1 = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


@dataclass(frozen=True)
class Growing(rs.RankStrategy):
    """1, 2, 3, … in model order."""

    def ranks(self, targets, evidence):
        return {target.name: 1 + index for index, target in enumerate(targets)}


@pytest.fixture(scope="module")
def llama():
    return tiny_model()


@pytest.fixture(scope="module")
def plan(llama):
    plan = Growing().plan(llama)
    assert plan.ranks == {Q0: 1, V0: 2, Q1: 3, V1: 4}
    return plan


@pytest.fixture
def built(llama, plan):
    return get_peft_model(copy.deepcopy(llama), plan.to_lora_config())


def difference(plan, peft_model):
    with pytest.raises(rs.errors.PlanMismatchError) as caught:
        plan.verify(peft_model)
    assert caught.value.expected == "a PEFT model that is exactly the plan"
    assert "get_peft_model(model, plan.to_lora_config())" in caught.value.remedy
    return caught.value.got


def test_what_peft_built_passes_also_in_a_wrapper(plan, built):
    plan.verify(built)
    plan.verify(torch.compile(built))
    plan.verify(nn.DataParallel(built))


def test_an_injected_adapter_passes(plan, llama):
    plan.verify(inject_adapter_in_model(plan.to_lora_config(), copy.deepcopy(llama)))
    with_method = copy.deepcopy(llama)
    with_method.add_adapter(plan.to_lora_config())
    plan.verify(with_method)


def test_other_names_for_the_adapter_pass(plan, llama):
    plan.verify(get_peft_model(copy.deepcopy(llama), plan.to_lora_config(), adapter_name="mine"))


def test_embeddings_are_checked_too(llama):
    plan = Growing().plan(llama, target_modules=["embed_tokens", "q_proj"])
    peft_model = get_peft_model(copy.deepcopy(llama), plan.to_lora_config())
    plan.verify(peft_model)
    layer = peft_model.get_base_model().get_submodule("model.embed_tokens")
    layer.lora_embedding_A["default"] = nn.Parameter(torch.zeros(5, 25))
    assert difference(plan, peft_model) == "1 difference: model.embed_tokens has 5 rows in lora_A, not 1"


def test_a_wrong_rank(plan, llama):
    config = plan.to_lora_config()
    config.rank_pattern = {**config.rank_pattern, rf"^{Q1}": 7}
    config.rank_pattern = {key: rank for key, rank in config.rank_pattern.items() if rank != 3}
    assert f"{Q1} has rank 7, not 3" in difference(plan, get_peft_model(copy.deepcopy(llama), config))


def test_the_same_rank_everywhere_lists_each_module(plan, llama):
    config = LoraConfig(r=1, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    got = difference(plan, get_peft_model(copy.deepcopy(llama), config))
    for name, rank in ((V0, 2), (Q1, 3)):
        assert f"{name} has rank 1, not {rank}; " in got
    assert Q0 not in got
    assert got.startswith("6 differences: ")  # three ranks and three alphas, five of which are shown
    assert got.endswith("; and 1 more")


def test_a_missing_module(plan, llama):
    config = plan.to_lora_config()
    config.target_modules = ["q_proj"]
    got = difference(plan, get_peft_model(copy.deepcopy(llama), config))
    assert got == f"2 differences: {V0} has no adapter; {V1} has no adapter"


def test_an_extra_module(plan, llama):
    config = plan.to_lora_config()
    config.target_modules = ["q_proj", "v_proj", r"layers.1.self_attn.o_proj"]
    got = difference(plan, get_peft_model(copy.deepcopy(llama), config))
    assert got == "1 difference: model.layers.1.self_attn.o_proj has an adapter that was not planned"


def test_an_alpha_that_drifts_because_its_pattern_is_missing(plan, llama):
    config = plan.to_lora_config()
    config.alpha_pattern = {}
    got = difference(plan, get_peft_model(copy.deepcopy(llama), config))
    assert f"{V1} has alpha 8, not 32.0" in got


def test_a_scaling_that_was_changed(plan, built):
    built.get_base_model().get_submodule(V0).scale_layer(2)
    assert difference(plan, built) == f"1 difference: {V0} has scaling 16.0, not 8.0"


def test_a_matrix_of_another_rank(plan, built):
    built.get_base_model().get_submodule(Q1).lora_A["default"] = nn.Linear(32, 5, bias=False)
    assert difference(plan, built) == f"1 difference: {Q1} has 5 rows in lora_A, not 3"


def test_another_active_adapter(plan, built):
    built.add_adapter("other", LoraConfig(r=2, lora_alpha=16, target_modules=["q_proj"]))
    plan.verify(built)
    built.set_adapter("other")
    got = difference(plan, built)
    assert f"{V0} has no adapter" in got
    assert f"{Q0} has rank 2, not 1" in got
    built.set_adapter("default")
    plan.verify(built)


def test_two_active_adapters(plan, built):
    built.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"]))
    built.base_model.set_adapter(["default", "other"])
    with pytest.raises(rs.errors.PlanMismatchError, match="one active adapter, got a PeftModel with default and other"):
        plan.verify(built)


def test_a_model_without_adapters(plan, llama):
    with pytest.raises(
        rs.errors.PlanMismatchError, match="LoRA layers and one active adapter, got a LlamaForCausalLM with"
    ):
        plan.verify(llama)


def test_a_model_whose_own_attributes_look_like_an_adapters():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.Parameter(torch.zeros(3, 4))  # XLNet has one
            self.scaling = 0.5
            self.q = nn.Linear(4, 4)

    model = nn.ModuleDict({"layers": nn.ModuleList([Attention(), Attention()])})
    plan = rs.Fixed(2).plan(model)
    plan.verify(get_peft_model(model, plan.to_lora_config()))


@pytest.mark.parametrize("arguments", [{"use_rslora": True}, {"use_dora": True}, {"bias": "all", "lora_bias": True}])
def test_variants_of_lora_are_known(plan, llama, arguments):
    peft_model = get_peft_model(copy.deepcopy(llama), plan.to_lora_config(**arguments))
    plan.verify(peft_model)
    layer = peft_model.get_base_model().get_submodule(V1)
    assert isinstance(layer, LoraLayer)
    assert layer.scaling["default"] == (16 if "use_rslora" in arguments else 8)  # 32 / sqrt(4), 32 / 4


def test_rslora_that_was_not_asked_for(plan, llama):
    peft_model = get_peft_model(copy.deepcopy(llama), plan.to_lora_config(use_rslora=True))
    peft_model.peft_config["default"].use_rslora = False
    assert f"{V1} has scaling 16.0, not 8.0" in difference(plan, peft_model)


def test_experts_adapted_behind_the_plans_back():
    model = FAMILIES["mixtral"]()
    plan = rs.Fixed(2).plan(model)
    config = plan.to_lora_config()
    config.target_parameters = ["experts.down_proj"]
    assert "model.layers.0.mlp.experts has an adapter that was not planned" in difference(
        plan, get_peft_model(model, config)
    )
