"""Tiny random models of many families: two layers, width 32, built from their configurations in a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf
from torch import nn

__all__ = ["FAMILIES", "build", "inputs_for"]

WORDS = 61
COMMON = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
ATTENTION = {**COMMON, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**ATTENTION, "num_key_value_heads": 2, "max_position_embeddings": 64}


def _causal(config: Any) -> nn.Module:
    return tf.AutoModelForCausalLM.from_config(config)


def _bitsandbytes(**how: bool) -> nn.Module:
    from transformers.integrations import replace_with_bnb_linear
    from transformers.utils.quantization_config import BitsAndBytesConfig

    model = _causal(tf.LlamaConfig(**GROUPED))
    state = model.state_dict()
    model = replace_with_bnb_linear(
        model, modules_to_not_convert=["lm_head"], quantization_config=BitsAndBytesConfig(**how)
    )
    return model


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: _causal(tf.LlamaConfig(**GROUPED)),
    "mistral": lambda: _causal(tf.MistralConfig(**GROUPED)),
    "qwen2": lambda: _causal(tf.Qwen2Config(**GROUPED)),
    "gemma": lambda: _causal(tf.GemmaConfig(**GROUPED, head_dim=8)),
    "gemma3": lambda: _causal(tf.Gemma3TextConfig(**GROUPED, head_dim=8)),
    "phi": lambda: _causal(tf.PhiConfig(**GROUPED)),
    "phi3": lambda: _causal(tf.Phi3Config(**GROUPED)),
    "gpt2": lambda: _causal(tf.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1)),
    "gpt_neox": lambda: _causal(tf.GPTNeoXConfig(**ATTENTION, max_position_embeddings=64)),
    "opt": lambda: _causal(tf.OPTConfig(**COMMON, ffn_dim=48, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=32)),
    "bloom": lambda: _causal(tf.BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=2, n_head=4)),
    "falcon": lambda: _causal(tf.FalconConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)),
    "bert": lambda: tf.BertModel(tf.BertConfig(**ATTENTION, max_position_embeddings=64)),
    "roberta": lambda: tf.RobertaForSequenceClassification(tf.RobertaConfig(**{**ATTENTION, "pad_token_id": 1}, max_position_embeddings=64)),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(tf.DistilBertConfig(vocab_size=WORDS, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=64)),
    "albert": lambda: tf.AlbertModel(tf.AlbertConfig(**ATTENTION, embedding_size=16, max_position_embeddings=64)),
    "deberta-v2": lambda: tf.DebertaV2Model(tf.DebertaV2Config(**ATTENTION, max_position_embeddings=64, relative_attention=True, pos_att_type=["c2p", "p2c"])),
    "modernbert": lambda: tf.ModernBertModel(tf.ModernBertConfig(**ATTENTION, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)),
    "electra": lambda: tf.ElectraModel(tf.ElectraConfig(**ATTENTION, embedding_size=16, max_position_embeddings=64)),
    "t5": lambda: tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=WORDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)),
    "bart": lambda: tf.BartForConditionalGeneration(tf.BartConfig(vocab_size=WORDS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64)),
    "whisper": lambda: tf.WhisperForConditionalGeneration(tf.WhisperConfig(vocab_size=WORDS, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_source_positions=20, max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=8, patch_size=4)),
    "dinov2": lambda: tf.Dinov2Model(tf.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=8, patch_size=4)),
    "swin": lambda: tf.SwinModel(tf.SwinConfig(embed_dim=16, depths=[2, 2], num_heads=[2, 4], image_size=16, patch_size=2, window_size=2)),
    "clip": lambda: tf.CLIPModel(tf.CLIPConfig(text_config={**ATTENTION, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}, vision_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 8, "patch_size": 4}, projection_dim=16)),
    "clip-vision": lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=8, patch_size=4)),
    "mixtral": lambda: _causal(tf.MixtralConfig(**GROUPED, num_local_experts=4)),
    "qwen2_moe": lambda: _causal(tf.Qwen2MoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=24)),
    "deepseek_v3": lambda: _causal(tf.DeepseekV3Config(**{**GROUPED, "num_key_value_heads": 4}, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=16, first_k_dense_replace=1, q_lora_rank=12, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8)),
    "gpt_oss": lambda: _causal(tf.GptOssConfig(**GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2)),
    "mamba": lambda: _causal(tf.MambaConfig(**COMMON, state_size=4, expand=2, conv_kernel=4)),
    "mamba2": lambda: _causal(tf.Mamba2Config(**COMMON, state_size=8, expand=2, num_heads=8, head_dim=8, n_groups=2, chunk_size=8)),
    "falcon_mamba": lambda: _causal(tf.FalconMambaConfig(**COMMON, state_size=4)),
    "jamba": lambda: _causal(tf.JambaConfig(**GROUPED, num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=4, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=4, use_mamba_kernels=False)),
}
