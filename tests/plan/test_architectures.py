"""Every family: its layers are found, PEFT builds what was planned, every adapter trains, hidden states are right."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from tqdm.auto import tqdm

import rankselect as rs
from architectures import FAMILIES, LAYERS, inputs_for
from rankselect.calibration.batches import encode
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.models.layers import find_layers
from rankselect.plan.targets import find_targets

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:.*smaller than the rank:rankselect.RankSelectWarning"),
]

ALL_LINEAR = {  # the last name parts that a person would list, where the layout has something to get wrong
    "gpt2": {"c_attn", "c_proj", "c_fc"},  # transposed weights
    "falcon": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},  # a subclass of Linear; no lm_head
    "bert": {"query", "key", "value", "dense"},  # the pooler's dense is outside the layers
    "roberta": {"query", "key", "value", "dense"},  # neither are the classifier's
    "torch": {"linear1", "linear2"},  # the attention never calls its out_proj
    "t5": {"q", "k", "v", "o", "wi", "wo"},
    "clip": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},  # no projections of the towers
    "mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},  # experts and router are parameters
    "deepseek_v3": {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},
    "llama4": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},  # no router
    "mamba": {"in_proj", "x_proj"},  # dt_proj and out_proj are used without being called
    "mamba2": {"in_proj"},
    "llama-4bit": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
}

BATCH_SIZE = {
    "clip": 1,  # nothing may be padded where there are images beside the text
    "llama-8bit": 1,  # bitsandbytes looks for outliers in the whole batch, which moves the others a little
}


@functools.cache
def _original(family):
    return FAMILIES[family]()


@pytest.fixture
def model(family):
    return copy.deepcopy(_original(family))


@dataclass(frozen=True)
class RandomRanks(rs.RankStrategy):
    """From 1 to 6, drawn for each module by itself."""

    seed: int = 0

    def ranks(self, targets, evidence):
        rng = np.random.default_rng(self.seed)
        return {target.name: int(rng.integers(1, 7)) for target in targets}


def per_layer_plan(model, target_modules):
    rng = np.random.default_rng(1)
    profile = rs.IDProfile.from_values({layer: float(rng.uniform(1, 8)) for layer in rs.layer_names(model)})
    plan = rs.PerLayerID().plan(model, profile, target_modules=target_modules)
    for module in plan.modules:
        assert module.rank == min(int(profile.value_of(module.target.layer) + 0.5), module.target.max_rank)
    return plan


def one_batch(family, sample):
    """A batch of one; where the model does it itself, the decoder's tokens are left to the model."""
    batch = {name: tensor[None] for name, tensor in sample.items()}
    return {**batch, "labels": batch["input_ids"]} if family in ("t5", "bart") else batch


def assert_built(plan, peft_model):
    """What PEFT built, read from its own layers."""
    built = {n: m for n, m in peft_model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert built.keys() == plan.ranks.keys()
    for module in plan.modules:
        layer, target = built[module.target.name], module.target
        assert layer.r == {"default": module.rank}
        assert layer.lora_alpha["default"] == module.alpha
        assert layer.scaling["default"] == module.alpha / module.rank == 8
        assert layer.lora_A["default"].weight.shape == (module.rank, target.d_in)
        assert layer.lora_B["default"].weight.shape == (target.d_out, module.rank)
    trained, everything = peft_model.get_nb_trainable_parameters()
    assert (trained, everything) == (plan.trainable_parameters, plan.trainable_parameters + plan.base_parameters)
    assert plan.trainable_percentage == pytest.approx(100 * trained / everything)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_are_those_a_person_would_name(family, model):
    assert rs.layer_names(model) == LAYERS[family]
    assert tuple(find_layers(model)) == LAYERS[family]


@pytest.mark.parametrize("family", ALL_LINEAR)
def test_all_linear_takes_the_modules_a_person_would_list(family, model):
    targets = find_targets(model, "all-linear")
    assert {target.name.rsplit(".", 1)[-1] for target in targets} == ALL_LINEAR[family]
    assert {target.layer for target in targets} == set(LAYERS[family])


@pytest.mark.parametrize("target_modules", [None, "all-linear"])
@pytest.mark.parametrize("make", [RandomRanks().plan, per_layer_plan], ids=["random ranks", "PerLayerID"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_builds_the_plan(family, model, make, target_modules):
    plan = make(model, target_modules=target_modules)
    peft_model = get_peft_model(model, plan.to_lora_config())
    plan.verify(peft_model)
    assert_built(plan, peft_model)
    assert rs.layer_names(peft_model) == LAYERS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_builds_a_plan_for_some_modules_of_some_layers(family, model):
    every = [target.name for target in find_targets(model, "all-linear")]
    for wanted in (every[:1], every[::3]):
        plan = RandomRanks().plan(model, target_modules=wanted)
        assert list(plan.ranks) == wanted
        peft_model = get_peft_model(copy.deepcopy(model), plan.to_lora_config())
        plan.verify(peft_model)
        assert_built(plan, peft_model)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_adapter_takes_part_in_the_forward_pass_and_trains(family, model):
    plan = RandomRanks().plan(model, target_modules="all-linear")
    peft_model = get_peft_model(model, plan.to_lora_config())
    peft_model.train(family in ("torch", "llama-4bit"))  # others may drop layers, these two bypass modules otherwise
    output = peft_model(**one_batch(family, inputs_for(family)[1]))
    sum(tensor.float().square().sum() for tensor in _differentiable(output)).backward()
    idle = [n for n, p in peft_model.named_parameters() if ".lora_B." in n and (p.grad is None or not p.grad.any())]
    assert idle == []


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_states_are_those_of_single_unpadded_inputs(family, model):
    inputs = inputs_for(family)
    states = streamed(model, inputs, BATCH_SIZE.get(family, 3))
    assert list(states.layers) == list(LAYERS[family])
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    for row, sample in enumerate(inputs):
        outputs, entering = hooked(model, family, sample)
        for layer in LAYERS[family]:
            torch.testing.assert_close(states.layers[layer][row], outputs[layer], **tolerance)
        assert states.stack_inputs.keys() == entering.keys()
        for layer, expected in entering.items():
            torch.testing.assert_close(states.stack_inputs[layer][row], expected, **tolerance)
    assert all(vectors.std(dim=0).max() > 1e-3 for vectors in states.layers.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_streaming_leaves_the_model_as_it_was(family, model):
    model.train()
    next(iter(find_layers(model).values())).eval()
    before = snapshot(model)
    streamed(model, inputs_for(family), BATCH_SIZE.get(family, 3))
    after = snapshot(model)
    assert after.keys() == before.keys()
    assert [key for key in before if not _equal(before[key], after[key])] == []
    assert not any(t.is_inference() for t in (*model.parameters(), *model.buffers()))


def streamed(model, inputs, batch_size):
    samples = encode(None, inputs, 64, None, 0)
    assert len(samples) == len(inputs)
    states = HiddenStates(model, samples, None, pooling=("mean",), batch_size=batch_size)
    states.read(np.arange(len(samples)), tqdm(disable=True))
    return states


@torch.no_grad()
def hooked(model, family, sample):
    """What leaves each layer and what enters each stack, in one pass of the whole model with its head."""
    outputs, entering, handles = {}, {}, []
    for name, layer in find_layers(model).items():

        def leave(_, __, output, name=name):
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            outputs[name] = hidden[0].float().mean(dim=0)

        def enter(_, args, kwargs, name=name):
            hidden = args[0] if args else kwargs["hidden_states"]
            entering.setdefault(name, hidden[0].float().mean(dim=0))

        handles.append(layer.register_forward_hook(leave))
        if name.endswith(".0"):
            handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
    model.train(family == "llama-4bit")  # it has no dropout, and in evaluation mode its weights would be repacked
    model(**one_batch(family, sample))
    for handle in handles:
        handle.remove()
    return outputs, entering


def snapshot(model):
    found = {("tensor", name): tensor.clone() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found["module", name] = (module.training, *(len(kind) for kind in hooks))
    for name, parameter in model.named_parameters():
        found["parameter", name] = (id(parameter), parameter.dtype, parameter.shape, parameter.requires_grad)
    for name, buffer in model.named_buffers():
        found["buffer", name] = buffer.clone()
    config = getattr(model, "config", None)
    found["config", ""] = None if config is None else config.to_dict()
    return found


def _equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def _differentiable(output):
    if isinstance(output, torch.Tensor):
        return [output] if output.requires_grad else []
    parts = output.values() if hasattr(output, "values") else output if isinstance(output, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _differentiable(part)]
