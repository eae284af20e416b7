"""The collector sees what the model computes, whatever the batching, and leaves no trace in the model."""

from __future__ import annotations

import copy

import accelerate
import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from tqdm.auto import tqdm
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaModel

from rankselect.calibration.batches import encode
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.errors import ModelError
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import layer_names
from rankselect.models.trunk import input_device, longest_input
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def collected(model, texts, pooling="mean", batch_size=8):
    samples = encode(TOKENIZER, texts, 128, None, 0)
    states = HiddenStates(model, samples, TOKENIZER, pooling=(pooling,), batch_size=batch_size)
    states.read(np.arange(len(samples)), tqdm(disable=True))
    return states


def one_by_one(model, text):
    """Hidden states of one unpadded text after each layer, from the model's own output."""
    with torch.no_grad():
        output = model.eval()(
            **{k: torch.tensor([v]) for k, v in TOKENIZER(text).items() if k == "input_ids"}, output_hidden_states=True
        )
    return [hidden[0] for hidden in output.hidden_states]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_pooled_states_equal_those_of_single_unpadded_texts(tiny, pooling):
    model, _, texts = tiny
    states = collected(model, texts, pooling)
    first, second = layer_names(model)
    for row, text in enumerate(texts):
        embedded, after_first, _ = one_by_one(model, text)  # the last one is taken after the final norm
        pool = (lambda hidden: hidden.mean(0)) if pooling == "mean" else (lambda hidden: hidden[-1])
        torch.testing.assert_close(states.stack_inputs[first][row], pool(embedded), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(states.layers[first][row], pool(after_first), rtol=1e-4, atol=1e-6)
    assert second in states.layers
    assert states.stack_inputs.keys() == {first}


def test_batching_does_not_change_the_states(tiny):
    model, _, texts = tiny
    alone, together = collected(model, texts, batch_size=1), collected(model, texts, batch_size=32)
    for name in alone.layers:
        torch.testing.assert_close(alone.layers[name], together.layers[name], rtol=1e-4, atol=1e-6)


def test_an_encoder_does_not_see_the_padding():
    model = BertModel(
        BertConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    )
    texts = tiny_texts(20)
    alone, together = collected(model, texts, batch_size=1), collected(model, texts, batch_size=20)
    for name in alone.layers:
        torch.testing.assert_close(alone.layers[name], together.layers[name], rtol=1e-4, atol=1e-5)


def test_dropout_is_off_and_every_module_gets_its_mode_back():
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        attention_dropout=0.5,
    )
    model = LlamaForCausalLM(config).train()
    model.model.layers[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    first, second = collected(model, tiny_texts(10)), collected(model, tiny_texts(10))
    assert {name: module.training for name, module in model.named_modules()} == before
    for name in first.layers:
        assert torch.equal(first.layers[name], second.layers[name])


def test_the_model_is_left_as_it_was_and_can_train_afterwards(tiny):
    model, _, texts = tiny
    weights, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    collected(model, texts)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.config.to_dict() == config
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
        assert tensor.dtype == weights[name].dtype
    ids = torch.randint(0, 20, (2, 8))
    model(input_ids=ids, labels=ids).loss.backward()


def test_an_interrupt_leaves_no_hooks_and_the_old_mode(tiny, monkeypatch):
    model, _, texts = tiny
    model.train()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.model.layers[1], "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collected(model, texts)
    assert model.training
    assert model.model.layers[0].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_output_head_is_never_run(tiny, monkeypatch):
    model, _, texts = tiny

    def run(*_, **__):
        raise AssertionError("logits were computed")

    monkeypatch.setattr(model.lm_head, "forward", run)
    assert len(collected(model, texts).layers) == 2


def four_bit(model):
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                quantised = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, quant_type="nf4", compute_dtype=torch.float32
                )
                quantised.weight = bnb.nn.Params4bit(child.weight.data, requires_grad=False, quant_type="nf4")
                setattr(parent, name, quantised.to("cpu"))
    return model


def test_four_bit_weights_are_not_repacked():
    model = four_bit(tiny_model()).eval()
    packed = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    states = collected(model, tiny_texts(12))
    assert len(states.layers) == 2
    for name, parameter in model.named_parameters():
        assert parameter.shape == packed[name].shape
        assert torch.equal(parameter, packed[name]), name
    assert not any(
        getattr(getattr(p, "quant_state", None), "packing_format_for_cpu", False) for p in model.parameters()
    )
    assert not model.training


def test_weights_offloaded_to_disk_give_the_same_states(tiny, tmp_path):
    model, _, texts = tiny
    expected = collected(model, texts)
    offloaded = accelerate.disk_offload(copy.deepcopy(model), tmp_path, execution_device="cpu")
    assert input_device(offloaded) == torch.device("cpu")
    states = collected(offloaded, texts)
    for name in expected.layers:
        torch.testing.assert_close(states.layers[name], expected.layers[name])
    assert all(parameter.device.type == "meta" for parameter in offloaded.parameters())


def test_half_precision_states_are_pooled_in_float32(tiny):
    model, _, texts = tiny
    states = collected(model.to(torch.bfloat16), texts)
    assert all(tensor.dtype == torch.float32 for tensor in states.layers.values())
    assert next(model.parameters()).dtype == torch.bfloat16


def test_activations_that_overflow_are_named(tiny):
    model, _, texts = tiny
    model.half()
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight.fill_(60000.0)
    with pytest.raises(
        ModelError, match=r"NaN or infinite values in model.layers.1 \(torch.float16\).*load it in bfloat16"
    ):
        collected(model, texts)


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
        )
    with pytest.raises(ModelError, match="expected a model with weights, got one on the meta device. Load it"):
        collected(model, tiny_texts(3))


def test_a_model_without_layers_is_refused():
    with pytest.raises(ModelError, match="expected a model with a list of layers, got Linear"):
        collected(torch.nn.Linear(3, 3), tiny_texts(3))


def test_hidden_states_of_an_unknown_shape_are_refused():
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 4)}) for _ in range(2)])
            for layer in self.layers:
                layer.forward = lambda hidden: hidden

        def forward(self, input_ids, attention_mask):
            hidden = torch.ones(7, 4)
            for layer in self.layers:
                hidden = layer(hidden)
            return hidden

    with pytest.raises(
        ModelError, match=r"expected hidden states of shape \(batch, length, width\), got \(7, 4\) from layers.0"
    ):
        collected(Flat(), tiny_texts(3))


def test_a_text_is_cut_where_the_positions_of_the_model_end():
    llama = tiny_model()  # 128 positions
    assert longest_input(llama, TOKENIZER, 512) == 128
    assert longest_input(llama, TOKENIZER, 64) == 64
    roberta = RobertaModel(
        RobertaConfig(
            vocab_size=32,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=34,
        )
    )
    assert longest_input(roberta, None, 512) == 32  # two rows belong to the padding index


def test_evaluating_restores_the_mode_after_an_error(tiny):
    model = tiny[0].train()
    with pytest.raises(RuntimeError, match="inside"), evaluating(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        raise RuntimeError("inside")
    assert model.training
