"""`target_modules`, resolved against real models: what is taken, what is left out, and what is refused with a hint."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn
from transformers import AutoModel, BertConfig

import rankselect as rs
from architectures import FAMILIES
from rankselect.plan.targets import Target, find_targets
from rankselect.testing import tiny_model


@pytest.fixture(scope="module")
def llama():
    return tiny_model()


def names(model, target_modules=None):
    return [target.name for target in find_targets(model, target_modules)]


def test_none_is_pefts_default_of_the_family(llama):
    assert names(llama) == [f"model.layers.{i}.self_attn.{part}" for i in (0, 1) for part in ("q_proj", "v_proj")]


def test_none_is_all_linear_where_peft_has_no_default():
    model = FAMILIES["distilbert"]()
    assert names(model) == names(model, "all-linear")


def test_none_is_all_linear_where_pefts_default_does_not_fit():
    model = FAMILIES["torch"]()
    model.config = BertConfig()  # its default names query and value
    assert names(model) == names(model, "all-linear")


def test_all_linear_leaves_out_what_lies_outside_the_layers_and_says_so(caplog):
    bert = FAMILIES["bert"]()
    with caplog.at_level(logging.INFO, logger="rankselect.plan.targets"):
        found = names(bert, "ALL-linear")
    assert len(found) == 12
    assert "pooler.dense" not in found
    assert "outside the layers or refused by PEFT: pooler.dense" in caplog.text


def test_names_are_taken_at_the_end_of_the_full_name_in_model_order(llama):
    assert names(llama, ["up_proj", "q_proj"]) == [
        f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.up_proj")
    ]
    assert names(llama, ("layers.1.mlp.up_proj",)) == ["model.layers.1.mlp.up_proj"]


def test_a_string_is_an_expression_over_the_full_name(llama):
    assert names(llama, r".*\.1\..*\.(q|k)_proj") == [f"model.layers.1.self_attn.{part}_proj" for part in "qk"]


def test_a_target_knows_its_layer_and_its_sizes(llama):
    found = {target.name: target for target in find_targets(llama, ["k_proj", "embed_tokens", "lm_head"])}
    assert found["model.layers.0.self_attn.k_proj"] == Target(
        "model.layers.0.self_attn.k_proj", "model.layers.0", d_in=32, d_out=16
    )
    assert found["model.embed_tokens"] == Target("model.embed_tokens", None, d_in=25, d_out=32)
    assert found["lm_head"] == Target("lm_head", None, d_in=32, d_out=25)
    assert found["lm_head"].max_rank == 25
    assert found["lm_head"].parameters(3) == 3 * 57


@pytest.mark.parametrize("family", ["gpt2", "llama-4bit", "llama-8bit"])
def test_sizes_are_those_of_the_layer_and_not_of_the_stored_weight(family):
    model = FAMILIES[family]()
    wanted = {"gpt2": ("c_fc", 32, 128), "llama-4bit": ("up_proj", 64, 128), "llama-8bit": ("up_proj", 64, 128)}
    name, d_in, d_out = wanted[family]
    assert {(target.d_in, target.d_out) for target in find_targets(model, [name])} == {(d_in, d_out)}


def test_weights_are_not_read():
    config = BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    with torch.device("meta"):
        assert len(find_targets(AutoModel.from_config(config))) == 2


class TestRefusals:
    def test_a_name_that_matches_nothing_gets_near_matches(self, llama):
        with pytest.raises(rs.errors.TargetError) as caught:
            find_targets(llama, ["q_proj", "vproj"])
        assert str(caught.value) == (
            "expected target_modules that name modules of this model, got 'vproj', which matches no module. "
            "Did you mean v_proj or q_proj or o_proj? Modules that LoRA can adapt here end in: "
            "down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj."
        )

    def test_a_bare_string_is_told_apart_from_a_list(self, llama):
        with pytest.raises(rs.errors.TargetError, match=r"A string is one regular expression .* write \['q_proj'\]"):
            find_targets(llama, "q_proj")

    def test_a_broken_expression(self, llama):
        with pytest.raises(rs.errors.TargetError, match=r"expected a regular expression .*, got '\(q' \(missing \)"):
            find_targets(llama, "(q")

    def test_an_empty_list(self, llama):
        with pytest.raises(
            rs.errors.TargetError, match=r"at least one target module, got an empty list\. Name modules"
        ):
            find_targets(llama, [])

    @pytest.mark.parametrize("container", ["self_attn", "mlp", "layers", "input_layernorm"])
    def test_a_module_that_lora_cannot_adapt(self, llama, container):
        with pytest.raises(rs.errors.TargetError, match=f"{container}, a .*Name the modules inside it"):
            find_targets(llama, [container])

    def test_a_model_without_layers(self):
        with pytest.raises(
            rs.errors.TargetError, match=r"linear modules inside a list of layers, got Linear.*Name the"
        ):
            find_targets(nn.Linear(2, 2))

    @pytest.mark.parametrize(
        ("family", "name", "reason"),
        [
            ("mamba", "out_proj", "uses its weight without calling it"),
            ("mamba", "dt_proj", "uses its weight without calling it"),
            ("jamba", "dt_proj", "uses its weight without calling it"),
            ("torch", "self_attn.out_proj", "uses its weight without calling it"),
            ("llama4", "router", "It is a router"),
            ("deepseek_v3", "shared_experts.up_proj", "PEFT redirects this name to the fused experts"),
            ("deepseek_v3", "0.mlp.down_proj", "PEFT redirects this name to the fused experts"),
        ],
    )
    def test_a_module_whose_adapter_would_have_no_effect(self, family, name, reason):
        with pytest.raises(rs.errors.TargetError, match=f"{name} .*{reason}.* Leave them out of target_modules"):
            find_targets(FAMILIES[family](), [name])

    def test_a_model_that_carries_adapters(self, llama):
        config = LoraConfig(target_modules=["q_proj"])
        with pytest.raises(rs.errors.ModelError, match=r"inside a wrapper \(PeftModel\).*merge or unload an adapter"):
            find_targets(get_peft_model(copy.deepcopy(llama), config))
        with pytest.raises(rs.errors.ModelError, match=r"a model without adapters, got one with LoRA layers\. Merge"):
            find_targets(inject_adapter_in_model(config, copy.deepcopy(llama)))

    def test_a_model_in_a_wrapper(self, llama):
        for wrapped in (torch.compile(llama), nn.DataParallel(llama)):
            with pytest.raises(rs.errors.ModelError, match=f"the bare model.*{type(wrapped).__name__}"):
                find_targets(wrapped)


def test_bounds_of_the_plan_and_the_size_of_the_module():
    target = Target("layers.0.q", "layers.0", 16, 24, at_least=3, at_most=20)
    assert [target.within_plan(rank) for rank in (1, 3, 17, 20, 21)] == [3, 3, 17, 20, 20]
    assert [target.clipped(rank) for rank in (1, 9, 17, 99)] == [3, 9, 16, 16]
    assert Target("layers.0.q", "layers.0", 16, 24).within_plan(99) == 99


def test_an_embedding_reads_its_vocabulary():
    model = nn.ModuleDict(
        {"words": nn.Embedding(50, 8), "layers": nn.ModuleList([nn.ModuleDict({"q": nn.Linear(8, 4)})])}
    )
    (target,) = find_targets(model, ["words"])
    assert (target.d_in, target.d_out, target.layer) == (50, 8, None)


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("self_attn.q_prj", "Did you mean q_proj or v_proj or o_proj? "),
        ("model.layers.0.self_attn.down_prj", "Did you mean down_proj or o_proj? "),
    ],
)
def test_the_near_names_are_those_of_the_last_part(llama, wanted, hint):
    with pytest.raises(rs.errors.TargetError) as caught:
        find_targets(llama, [wanted])
    assert hint in str(caught.value)


def test_a_name_like_no_other_gets_no_hint(llama):
    with pytest.raises(rs.errors.TargetError) as caught:
        find_targets(llama, ["zzz"])
    assert "Did you mean" not in str(caught.value)
