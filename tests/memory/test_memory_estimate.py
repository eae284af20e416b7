"""The parts of an estimate against sizes known from elsewhere, and the errors."""

import json
from dataclasses import replace

import bitsandbytes as bnb
import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn

import rankselect as rs
from rankselect.memory import estimate_memory, savings
from rankselect.memory.model_copy import weightless_copy
from rankselect.memory.quantized import QuantizedLinear
from rankselect.memory.step import optimizer_and_states
from rankselect.testing import tiny_model
from rankselect.training.small_phi import small_phi

PHI_2 = {
    "vocab_size": 51200,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}


@pytest.fixture(scope="module")
def phi2():
    with torch.device("meta"):
        return tf.AutoModelForCausalLM.from_config(tf.PhiConfig(**PHI_2))


@pytest.fixture(scope="module")
def phi2_plan(phi2):
    return rs.Fixed(14).plan(phi2, target_modules=["q_proj", "k_proj", "v_proj", "fc1", "fc2"])


@pytest.fixture(scope="module")
def shallow():
    """Eight of Phi-2's layers."""
    with torch.device("meta"):
        return tf.AutoModelForCausalLM.from_config(tf.PhiConfig(**{**PHI_2, "num_hidden_layers": 8}))


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def plan(model):
    return rs.Fixed(8).plan(model, target_modules="all-linear")


def test_phi_2_from_its_config(phi2, phi2_plan):
    estimate = rs.estimate_memory(phi2, phi2_plan, batch_size=4, length=512, dtype="bfloat16")
    trained = 14 * 32 * (3 * (2560 + 2560) + 2 * (2560 + 10240))
    assert estimate.base_weights == pytest.approx(2_779_683_840 * 2, rel=1e-3)  # Phi-2's parameters, 2 bytes each
    assert estimate.adapters == trained * 4
    assert estimate.optimizer_states == pytest.approx(2 * trained * 4, rel=3e-3)  # beside a counter for each tensor
    assert estimate.logits_and_loss >= 4 * 512 * 51200 * 4  # the log-probabilities in float32
    assert estimate.device == "cuda"


def test_phi_2_in_4_bits(phi2, phi2_plan):
    estimate = rs.estimate_memory(phi2, phi2_plan, batch_size=1, length=128, dtype="bfloat16", quantization="nf4")
    linear = 32 * (4 * 2560**2 + 2 * 2560 * 10240)
    kept = 2 * 51200 * 2560 + 51200 + 32 * (4 * 2560 + 10240 + 2560 + 2 * 2560) + 2 * 2560
    assert estimate.base_weights == pytest.approx(linear / 2 + 4 * kept, rel=1e-3)
    assert estimate.quantization_constants == pytest.approx(linear / 64 * (1 + 4 / 256), rel=3e-3)


def test_checkpointing_keeps_one_input_for_each_layer(shallow):
    plan = rs.Fixed(14).plan(shallow, target_modules=["q_proj", "k_proj", "v_proj", "fc1", "fc2"])
    settings = {"batch_size": 4, "length": 512, "dtype": "bfloat16"}
    kept = rs.estimate_memory(shallow, plan, **settings, gradient_checkpointing=True).activations
    per_layer = 4 * 512 * 2560 * 2
    mask = 4 * 512 * 512
    assert 8 * per_layer < kept < 10 * per_layer + mask
    assert rs.estimate_memory(shallow, plan, **settings).activations > 20 * kept


def test_parts_add_up_and_the_text_shows_them(model, plan):
    estimate = rs.estimate_memory(model, plan, batch_size=2, length=64)
    document = json.loads(json.dumps(estimate.to_dict()))
    assert estimate.peak == sum(document[name] for name in estimate.parts) == document["peak"]
    assert document["step"]["optimizer"] == "adamw"
    lines = str(estimate).splitlines()
    assert lines[0] == "batch 2 x 64 tokens, adapters float32, adamw, on cpu"
    assert [line.split("  ")[0] for line in lines[1:-1]] == [name.replace("_", " ") for name in estimate.parts]
    assert lines[-1].startswith("peak, in the backward pass")
    assert rs.estimate_memory(model, plan, length=8, dtype=torch.bfloat16).to_dict()["step"]["dtype"] == "bfloat16"


def test_the_model_is_left_as_it_was(model, plan):
    before = {name: (value.data_ptr(), value.dtype, value.requires_grad) for name, value in model.named_parameters()}
    rs.estimate_memory(model, plan, length=32, quantization="nf4", gradient_checkpointing=True, dtype="bfloat16")
    assert before == {
        name: (value.data_ptr(), value.dtype, value.requires_grad) for name, value in model.named_parameters()
    }
    assert not model.training
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_an_adapter_that_is_there_is_left_out(model, plan):
    bare = rs.estimate_memory(model, plan, length=32)
    adapted = get_peft_model(model, rs.Fixed(3).plan(model).to_lora_config())
    assert rs.estimate_memory(adapted, plan, length=32) == bare
    assert rs.estimate_memory(adapted.get_base_model(), plan, length=32) == bare


def test_tied_weights_count_once():
    model = tf.GPT2LMHeadModel(tf.GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=500))
    n_bytes = rs.estimate_memory(model, rs.Fixed(2).plan(model), length=16, device="cpu").base_weights
    assert n_bytes == sum(p.nbytes for p in model.parameters()) + sum(b.nbytes for b in model.buffers())


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["nf4", "int8"]))
def test_quantised_layers_take_what_those_of_bitsandbytes_take(rows, columns, kind):
    d_in, d_out = 64 * columns, 64 * rows
    if kind == "nf4":
        real = bnb.nn.Linear4bit(d_in, d_out, bias=False, quant_type="nf4").to("cpu")
        state = real.weight.quant_state
        constants = state.absmax.nbytes + state.state2.absmax.nbytes
    else:
        real = bnb.nn.Linear8bitLt(d_in, d_out, bias=False, has_fp16_weights=False).to("cpu")
        constants = real.weight.SCB.nbytes
    predicted = QuantizedLinear(d_in, d_out, None, kind, None)
    assert (predicted.weight.nbytes, predicted.constants.nbytes) == (real.weight.nbytes, constants)
    copied = weightless_copy(nn.Sequential(real))[0]
    assert (copied.kind, copied.weight.nbytes, copied.constants.nbytes) == (kind, real.weight.nbytes, constants)


@pytest.mark.parametrize(
    ("name", "real"),
    [("adamw_8bit", bnb.optim.AdamW8bit), ("paged_adamw", bnb.optim.AdamW32bit), ("adamw", torch.optim.AdamW)],
)
def test_optimizer_states_are_those_of_the_real_optimizers(name, real):
    shapes = [(8, 32), (64, 64), (100, 41)]
    weights = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = real(weights)
    optimizer.step()
    kept = {key for state in optimizer.state.values() for key in state} - {"qmap1", "qmap2"}  # shared tables of 1 KiB
    tensors = [state[key] for state in optimizer.state.values() for key in kept if key in state]
    n_bytes = sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))
    empty = [nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes]
    assert sum(state.nbytes for state in optimizer_and_states(empty, name, "cpu")[1]) == n_bytes


def test_sgd_keeps_nothing_without_momentum(model, plan):
    kept = [
        rs.estimate_memory(model, plan, length=16, optimizer=name).optimizer_states for name in ("sgd", "sgd_momentum")
    ]
    assert kept == [0, plan.trainable_parameters * 4]


def test_accumulated_gradients_are_there_from_the_start(model, plan):
    plain, accumulating = (
        rs.estimate_memory(model, plan, batch_size=2, length=64, accumulate=flag) for flag in (False, True)
    )
    assert (plain.gradients, accumulating.gradients) == (0, plan.trainable_parameters * 4)


def test_blocks_of_the_cuda_allocator(model, plan):
    assert all(n % 512 == 0 for n in rs.estimate_memory(model, plan, length=33, device="cuda").parts.values())


def test_savings_are_differences_of_estimates(model, plan):
    setting = {"batch_size": 4, "length": 128, "device": "cpu"}
    levers = savings(model, plan, **setting)
    saved = [lever.saved_bytes for lever in levers]
    assert saved == sorted(saved, reverse=True)
    assert {"gradient checkpointing", "half the length", "half the batch", "half the ranks"} <= {
        lever.name for lever in levers
    }
    of = {lever.name: lever for lever in levers}
    peak = rs.estimate_memory(model, plan, **setting).peak
    assert of["half the length"].saved_bytes == peak - rs.estimate_memory(model, plan, **{**setting, "length": 64}).peak
    assert of["half the length"].how == "halving rows to 64 tokens"
    checkpointed = rs.estimate_memory(model, plan, **setting, gradient_checkpointing=True)
    assert of["gradient checkpointing"].saved_bytes == peak - checkpointed.peak
    assert "gradient checkpointing" not in {
        lever.name for lever in savings(model, plan, **setting, gradient_checkpointing=True)
    }


def test_4_bits_save_weights_where_weights_are_most(shallow):
    plan = rs.Fixed(14).plan(shallow, target_modules=["q_proj", "v_proj"])
    levers = {lever.name: lever for lever in savings(shallow, plan, batch_size=1, length=16, dtype="bfloat16")}
    linear, upcast, unpacked = 8 * (4 * 2560**2 + 2 * 2560 * 10240), 2 * 51200 * 2560, 2560 * 10240
    saved = (2 - 0.508) * linear - 2 * upcast - 2 * unpacked
    assert levers["4-bit weights"].saved_bytes == pytest.approx(saved, rel=0.05)


def test_bad_settings(model, plan):
    with pytest.raises(rs.errors.ArgumentError, match=r"integer of at least 1 for batch_size, got 0"):
        rs.estimate_memory(model, plan, batch_size=0)
    with pytest.raises(rs.errors.ArgumentError, match=r"an integer of at least 1 for length, got 2\.5"):
        rs.estimate_memory(model, plan, length=2.5)
    with pytest.raises(rs.errors.ArgumentError, match=r"at most 128, the model's positions, got 129\. Use length=128"):
        rs.estimate_memory(model, plan, length=129)
    with pytest.raises(rs.errors.UnknownNameError, match=r"'adamw8bit'\. Did you mean adamw_8bit"):
        rs.estimate_memory(model, plan, length=8, optimizer="adamw8bit")
    with pytest.raises(rs.errors.UnknownNameError, match=r"quantization, got 'nf3'\. Did you mean nf4\?"):
        rs.estimate_memory(model, plan, length=8, quantization="nf3")
    with pytest.raises(rs.errors.UnknownNameError, match=r"dtype, got 'float8_e5m2'"):
        rs.estimate_memory(model, plan, length=8, dtype=torch.float8_e5m2)
    with pytest.raises(rs.errors.UnknownNameError, match=r"device, got 'tpu'"):
        rs.estimate_memory(model, plan, length=8, device="tpu")
    with pytest.raises(rs.errors.ArgumentError, match=r"lora_dropout from 0 to below 1, got 1\.0"):
        rs.estimate_memory(model, plan, length=8, lora_dropout=1.0)
    with pytest.raises(
        rs.errors.UnknownNameError, match="setting of a training step, got 'batchsize'. Did you mean batch_size"
    ):
        rs.estimate_memory(model, plan, length=8, batchsize=2)


def test_a_plan_for_another_model(plan):
    other = small_phi(steps=0, progress=False)[0]
    with pytest.raises(
        rs.errors.PlanMismatchError,
        match=r"a plan for this model \(PhiForCausalLM\), got one with .*128 to 128 wide here",
    ):
        rs.estimate_memory(other, plan, length=8)
    wider = replace(plan, modules=(replace(plan.modules[0], target=replace(plan.modules[0].target, d_in=64)),))
    with pytest.raises(rs.errors.PlanMismatchError, match=r"64 to 32 wide, which is 32 to 32 wide here"):
        estimate_memory(tiny_model(), wider, length=8)


def test_a_model_that_is_quantised_otherwise():
    layer = bnb.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False).to("cpu")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.ModuleDict({"fc": layer})])

        def forward(self, input_ids):
            return self.layers[0]["fc"](input_ids)

    model = Model()
    with pytest.raises(rs.errors.ArgumentError, match=r'loaded in nf4, got one in int8\. Use quantization="none"'):
        rs.estimate_memory(model, rs.Fixed(2).plan(model), quantization="nf4")


def test_models_that_cannot_be_run():
    vit = tf.ViTModel(
        tf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4)
    )
    with pytest.raises(rs.errors.ModelError, match=r"a model that reads input_ids, got ViTModel"):
        rs.estimate_memory(vit, rs.Fixed(2).plan(vit))

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.ModuleDict({"fc": nn.Linear(4, 4)})])

        def forward(self, input_ids):
            return self.layers[0]["fc"](torch.zeros(int(input_ids.sum()), 4))

    with pytest.raises(rs.errors.ModelError, match=r"can be run without data, got Asks, which raised \w+"):
        rs.Fixed(2).plan(Asks()).memory(Asks())
    with pytest.raises(rs.errors.ModelError, match=r"supports gradient checkpointing, got Asks"):
        rs.estimate_memory(Asks(), rs.Fixed(2).plan(Asks()), gradient_checkpointing=True)
