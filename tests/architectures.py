"""Tiny random models of many families, built from their configurations in a moment, and inputs that they read.

`FAMILIES` maps the name of a family to a function that makes a model of two layers (per stack) and width 32. The
weights of linear layers are larger than those of a fresh model, so that attention and padding make a difference.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers as tf
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FAMILIES", "LAYERS", "inputs_for"]

_WORDS = 61
_BASE = {"vocab_size": _WORDS, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
_ATTENTION = {**_BASE, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64}
_GROUPED = {**_ATTENTION, "num_key_value_heads": 2}
_WIDER = {**_GROUPED, "hidden_size": 64, "intermediate_size": 128}  # bitsandbytes quantises blocks of 64
_GPT = {"vocab_size": _WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 8,
    "patch_size": 4,
}
_SEQ2SEQ = {
    "vocab_size": _WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_T5 = {"vocab_size": _WORDS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {"q_lora_rank": 12, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}


def inputs_for(family: str, n: int = 5, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Inputs of one sample each, without batch dimension: texts of different lengths, or what else the family reads.

    Args:
        family: A name of `FAMILIES`.
        n: How many.
        seed: The seed of the draw.
    """
    rng = np.random.default_rng(seed)

    def text(length: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor(rng.integers(3, _WORDS, size=length))}

    def signal(name: str, *shape: int) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(rng.standard_normal(shape), dtype=torch.float32)}

    make: dict[str, Callable[[int], dict[str, torch.Tensor]]] = {
        "vit": lambda _: signal("pixel_values", 3, 8, 8),
        "dinov2": lambda _: signal("pixel_values", 3, 8, 8),
        "swin": lambda _: signal("pixel_values", 3, 16, 16),
        "clip": lambda _: {**text(6), **signal("pixel_values", 3, 8, 8)},
        "wav2vec2": lambda _: signal("input_values", 400),
        "whisper": lambda _: {**signal("input_features", 8, 40), "decoder_input_ids": text(6)["input_ids"]},
    }
    return [make.get(family, text)(3 + 4 * index % 9) for index in range(n)]


def _causal(config: Any) -> nn.Module:
    return _made(tf.AutoModelForCausalLM, config)


def _encoder(config: Any) -> nn.Module:
    return _made(tf.AutoModel, config)


def _made(auto_class: Any, config: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto_class.from_config(config)
        for module in model.modules():
            if isinstance(module, (nn.Linear, tf.pytorch_utils.Conv1D)):
                nn.init.normal_(module.weight, std=32**-0.5)
    return model.eval()


def _quantised(**how: Any) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        _causal(tf.LlamaConfig(**_WIDER)).save_pretrained(folder)
        return tf.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=tf.BitsAndBytesConfig(**how), device_map="cpu"
        )


class _Torch(nn.Module):
    """A model that is none of transformers': PyTorch's own encoder, whose attention never calls its out_proj."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(_WORDS, 32)
        block = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        padding = None if attention_mask is None else attention_mask == 0
        return self.encoder(self.embed(input_ids), src_key_padding_mask=padding)


def _clip() -> tf.CLIPConfig:
    text = {**_ATTENTION, "bos_token_id": 1, "eos_token_id": 2}
    return tf.CLIPConfig(text_config=text, vision_config=_PATCHES, projection_dim=16)


def _deepseek() -> tf.DeepseekV3Config:
    return tf.DeepseekV3Config(
        **{**_GROUPED, "num_key_value_heads": 4},
        **_LATENT,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    )


def _llama4() -> tf.Llama4TextConfig:
    return tf.Llama4TextConfig(
        **_GROUPED, head_dim=8, num_local_experts=2, intermediate_size_mlp=48, interleave_moe_layer_step=2
    )


def _wav2vec2() -> tf.Wav2Vec2Config:
    return tf.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[8, 8],
        conv_stride=[2, 2],
        conv_kernel=[3, 3],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )


def _jamba() -> tf.JambaConfig:
    return tf.JambaConfig(
        **_GROUPED,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    )


FAMILIES: Mapping[str, Callable[[], nn.Module]] = {
    # causal
    "llama": lambda: _causal(tf.LlamaConfig(**_GROUPED)),
    "mistral": lambda: _causal(tf.MistralConfig(**_GROUPED)),
    "qwen2": lambda: _causal(tf.Qwen2Config(**_GROUPED)),
    "gemma": lambda: _causal(tf.GemmaConfig(**_GROUPED, head_dim=8)),
    "phi": lambda: _causal(tf.PhiConfig(**_GROUPED)),
    "phi3": lambda: _causal(tf.Phi3Config(**_GROUPED)),
    "gpt2": lambda: _causal(tf.GPT2Config(**_GPT, bos_token_id=1, eos_token_id=1)),
    "gptj": lambda: _causal(tf.GPTJConfig(**_GPT, rotary_dim=4, bos_token_id=1, eos_token_id=1)),
    "gpt_neox": lambda: _causal(tf.GPTNeoXConfig(**_ATTENTION)),
    "opt": lambda: _causal(tf.OPTConfig(**_ATTENTION, ffn_dim=48, word_embed_proj_dim=32)),
    "bloom": lambda: _causal(tf.BloomConfig(vocab_size=_WORDS, hidden_size=32, n_layer=2, n_head=4)),
    "falcon": lambda: _causal(tf.FalconConfig(**_BASE, num_attention_heads=4)),
    "mpt": lambda: _causal(tf.MptConfig(vocab_size=_WORDS, d_model=32, n_heads=4, n_layers=2, max_seq_len=64)),
    # encoders
    "bert": lambda: _encoder(tf.BertConfig(**_ATTENTION)),
    "roberta": lambda: _made(
        tf.AutoModelForSequenceClassification, tf.RobertaConfig(**{**_ATTENTION, "pad_token_id": 1})
    ),
    "distilbert": lambda: _made(
        tf.AutoModelForSequenceClassification,
        tf.DistilBertConfig(vocab_size=_WORDS, dim=32, hidden_dim=48, n_layers=2, n_heads=4),
    ),
    "albert": lambda: _encoder(tf.AlbertConfig(**_ATTENTION, embedding_size=16)),
    "deberta-v2": lambda: _encoder(
        tf.DebertaV2Config(**_ATTENTION, relative_attention=True, pos_att_type=["c2p", "p2c"])
    ),
    "modernbert": lambda: _encoder(
        tf.ModernBertConfig(**_ATTENTION, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    ),
    "torch": lambda: _Torch().eval(),
    # encoder-decoder
    "t5": lambda: _made(tf.AutoModelForSeq2SeqLM, tf.T5Config(**_T5, decoder_start_token_id=0)),
    "bart": lambda: _made(tf.AutoModelForSeq2SeqLM, tf.BartConfig(**_SEQ2SEQ, max_position_embeddings=64)),
    "whisper": lambda: _made(
        tf.AutoModelForSpeechSeq2Seq,
        tf.WhisperConfig(**_SEQ2SEQ, num_mel_bins=8, max_source_positions=20, max_target_positions=32),
    ),
    # vision and sound
    "vit": lambda: _encoder(tf.ViTConfig(**_PATCHES)),
    "dinov2": lambda: _encoder(tf.Dinov2Config(**{**_PATCHES, "mlp_ratio": 2})),
    "swin": lambda: _encoder(
        tf.SwinConfig(embed_dim=16, depths=[2, 2], num_heads=[2, 4], image_size=16, patch_size=2, window_size=2)
    ),
    "clip": lambda: _encoder(_clip()),
    "wav2vec2": lambda: _encoder(_wav2vec2()),
    # mixtures of experts
    "mixtral": lambda: _causal(tf.MixtralConfig(**_GROUPED, num_local_experts=4)),
    "qwen2_moe": lambda: _causal(tf.Qwen2MoeConfig(**_GROUPED, **_EXPERTS, shared_expert_intermediate_size=24)),
    "qwen3_moe": lambda: _causal(tf.Qwen3MoeConfig(**_GROUPED, **_EXPERTS, head_dim=8)),
    "deepseek_v3": lambda: _causal(_deepseek()),
    "gpt_oss": lambda: _causal(tf.GptOssConfig(**_GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2)),
    "llama4": lambda: _causal(_llama4()),
    # state spaces, and hybrids of them with attention
    "mamba": lambda: _causal(tf.MambaConfig(**_BASE, state_size=4)),
    "mamba2": lambda: _causal(
        tf.Mamba2Config(**_BASE, state_size=8, num_heads=8, head_dim=8, n_groups=2, chunk_size=8)
    ),
    "falcon_mamba": lambda: _causal(tf.FalconMambaConfig(**_BASE, state_size=4)),
    "jamba": lambda: _causal(_jamba()),
    # quantised
    "llama-4bit": lambda: _quantised(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "llama-8bit": lambda: _quantised(load_in_8bit=True),
}

LAYERS: Mapping[str, tuple[str, ...]] = {
    "llama": ("model.layers.0", "model.layers.1"),
    "mistral": ("model.layers.0", "model.layers.1"),
    "qwen2": ("model.layers.0", "model.layers.1"),
    "gemma": ("model.layers.0", "model.layers.1"),
    "phi": ("model.layers.0", "model.layers.1"),
    "phi3": ("model.layers.0", "model.layers.1"),
    "gpt2": ("transformer.h.0", "transformer.h.1"),
    "gptj": ("transformer.h.0", "transformer.h.1"),
    "gpt_neox": ("gpt_neox.layers.0", "gpt_neox.layers.1"),
    "opt": ("model.decoder.layers.0", "model.decoder.layers.1"),
    "bloom": ("transformer.h.0", "transformer.h.1"),
    "falcon": ("transformer.h.0", "transformer.h.1"),
    "mpt": ("transformer.blocks.0", "transformer.blocks.1"),
    "bert": ("encoder.layer.0", "encoder.layer.1"),
    "roberta": ("roberta.encoder.layer.0", "roberta.encoder.layer.1"),
    "distilbert": ("distilbert.transformer.layer.0", "distilbert.transformer.layer.1"),
    "albert": ("encoder.albert_layer_groups.0",),
    "deberta-v2": ("encoder.layer.0", "encoder.layer.1"),
    "modernbert": ("layers.0", "layers.1"),
    "torch": ("encoder.layers.0", "encoder.layers.1"),
    "t5": ("encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"),
    "bart": (
        "model.encoder.layers.0",
        "model.encoder.layers.1",
        "model.decoder.layers.0",
        "model.decoder.layers.1",
    ),
    "whisper": (
        "model.encoder.layers.0",
        "model.encoder.layers.1",
        "model.decoder.layers.0",
        "model.decoder.layers.1",
    ),
    "vit": ("layers.0", "layers.1"),
    "dinov2": ("encoder.layer.0", "encoder.layer.1"),
    "swin": ("encoder.layers.0", "encoder.layers.1"),
    "clip": (
        "text_model.encoder.layers.0",
        "text_model.encoder.layers.1",
        "vision_model.encoder.layers.0",
        "vision_model.encoder.layers.1",
    ),
    "wav2vec2": ("encoder.layers.0", "encoder.layers.1"),
    "mixtral": ("model.layers.0", "model.layers.1"),
    "qwen2_moe": ("model.layers.0", "model.layers.1"),
    "qwen3_moe": ("model.layers.0", "model.layers.1"),
    "deepseek_v3": ("model.layers.0", "model.layers.1"),
    "gpt_oss": ("model.layers.0", "model.layers.1"),
    "llama4": ("model.layers.0", "model.layers.1"),
    "mamba": ("backbone.layers.0", "backbone.layers.1"),
    "mamba2": ("backbone.layers.0", "backbone.layers.1"),
    "falcon_mamba": ("backbone.layers.0", "backbone.layers.1"),
    "jamba": ("model.layers.0", "model.layers.1"),
    "llama-4bit": ("model.layers.0", "model.layers.1"),
    "llama-8bit": ("model.layers.0", "model.layers.1"),
}
