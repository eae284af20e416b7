"""Merges in other layouts: encoders, encoder-decoders, mixtures of experts, checkpoints with renamed weights."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from rankselect.adapters.merge import merge_adapter, output
from rankselect.errors import AdapterError

TOKENS = torch.tensor([[3, 7, 1, 12, 5, 9, 20, 2]])
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

SIZES = {"vocab_size": 25, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
MODELS = {
    "phi": (transformers.PhiForCausalLM, transformers.PhiConfig(**SIZES)),
    "gpt-neox": (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**SIZES)),
    "gemma-2": (transformers.Gemma2ForCausalLM, transformers.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8)),
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig(**SIZES)),
    "bert trunk": (transformers.BertModel, transformers.BertConfig(**SIZES)),
    "t5": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config(vocab_size=25, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
    ),
    "mixtral": (
        transformers.MixtralForCausalLM,
        transformers.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3),
    ),
}


def outputs(model):
    model.eval()
    inputs = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        output = model(input_ids=TOKENS, **inputs)
    return output.logits if "logits" in output else output.last_hidden_state


def make(name, folder, target_modules):
    kind, config = MODELS[name]
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 if name == "t5" else 3)  # T5 does not scale its attention, and would amplify rounding
    model.save_pretrained(folder / "base")
    peft = get_peft_model(model, LoraConfig(r=3, target_modules=target_modules))
    with torch.no_grad():
        for key, parameter in peft.named_parameters():
            if "lora_B" in key or "lora_embedding_A" in key:
                parameter.normal_(std=0.1)
    peft.save_pretrained(folder / "adapter")
    return kind


def merge(folder, adapter="adapter", quantization="none", **arguments):
    paths = {"adapter": folder / adapter, "out": folder / "merged", "base": folder / "base"}
    return merge_adapter(**paths, quantization=quantization, progress=False, **arguments)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mixtral"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_merged_model_is_the_unmerged_one(name, quantization, tmp_path):
    kind = make(name, tmp_path, "all-linear")
    report = merge(tmp_path, quantization=quantization)
    assert report.difference.relative < 1e-5
    merged, info = kind.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]  # noqa: PT018
    if quantization == "none":
        expected = outputs(PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base"), tmp_path / "adapter"))
        torch.testing.assert_close(outputs(merged), expected, rtol=1e-4, atol=1e-4)


def test_attention_beside_fused_experts(tmp_path):
    kind = make("mixtral", tmp_path, ["q_proj", "v_proj"])
    merge(tmp_path, measure=False)
    expected = outputs(PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base"), tmp_path / "adapter"))
    torch.testing.assert_close(outputs(kind.from_pretrained(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-4)


def test_fused_experts_themselves_are_refused(tmp_path):
    make("mixtral", tmp_path, ["q_proj"])
    model = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"])
    get_peft_model(model, config).save_pretrained(tmp_path / "experts")
    with pytest.raises(AdapterError, match="one with target_parameters=.*It adapts fused parameters"):
        merge(tmp_path, adapter="experts")


def test_a_weight_that_the_architecture_always_shares(tmp_path, monkeypatch):
    make("phi", tmp_path, ["q_proj"])
    group = ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight")
    monkeypatch.setattr(output, "ties", lambda model: dict.fromkeys(group, group))
    with pytest.raises(
        AdapterError, match="an adapter of weights that the model does not share, got one of model.*0.self_attn"
    ):
        merge(tmp_path)
    assert not (tmp_path / "merged").exists()
