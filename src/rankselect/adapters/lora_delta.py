"""The change of a weight by one LoRA module: its factors, and their scale as PEFT resolves it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, final

from peft import LoraConfig

from rankselect.errors import AdapterError
from rankselect.plan._peft import PREFIX, pattern_value

if TYPE_CHECKING:
    from collections.abc import Collection

    import torch

__all__ = ["Kind", "LoraModule", "check_supported", "resolved"]

Kind = Literal["linear", "embedding"]

_WITHOUT_EFFECT = {  # on what a trained adapter computes
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "runtime_config",
    "loftq_config",  # only with init_lora_weights="loftq", which is refused
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",  # stores activations in a smaller form during training
    "megatron_config",
    "megatron_core",
    "qalora_group_size",
    "init_lora_weights",  # checked by itself
}
_UNDERSTOOD = {
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
}
_PLAIN_STARTS = {"true", "false", "gaussian", "eva", "orthogonal"}
_REASONS = {
    "use_dora": "DoRA also rescales the columns of the base weight, which is no low-rank update.",
    "bias": "Trained biases are not a low-rank update.",
    "lora_bias": "A trained bias is not a low-rank update.",
    "modules_to_save": "Completely trained modules are not a low-rank update.",
    "trainable_token_indices": "Trained rows of the embedding are no low-rank update.",
    "target_parameters": "It adapts fused parameters (experts of a mixture) and not modules.",
    "layer_replication": "It changes the layers of the model itself.",
    "alora_invocation_tokens": "It is switched on by tokens in the input, which no fixed weight can do.",
    "ensure_weight_tying": "It ties the adapters of tied embeddings to each other.",
    "arrow_config": "It routes between adapters for each token, which no fixed weight can do.",
    "use_qalora": "QA-LoRA pools the input before A.",
}


@final
@dataclass(frozen=True)
class LoraModule:
    r"""One module of an adapter: :math:`\Delta W = s\,B A`, with the true scale s.

    Attributes:
        name: The full name of the adapted module in the base model.
        kind: ``"linear"`` (also Conv1D), where A is (rank, d_in) and B (d_out, rank), or ``"embedding"``, where A is
            (rank, tokens) and B (width, rank).
        rank: Its rank.
        alpha: PEFT's ``lora_alpha`` for it.
        scale: The factor of B A: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA.
        d_in: The columns of A.
        d_out: The rows of B.

    References:
        Hu et al., 2021, LoRA, https://arxiv.org/abs/2106.09685; Kalajdzievski, 2023, rank-stabilised LoRA,
        https://arxiv.org/abs/2312.03732

    Example:
        >>> import torch
        >>> module = LoraModule("layers.0.fc1", "linear", rank=1, alpha=2.0, scale=2.0, d_in=2, d_out=1)
        >>> module.delta(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.5]]))
        tensor([[1., 3.]])
    """

    name: str
    kind: Kind
    rank: int
    alpha: float
    scale: float
    d_in: int
    d_out: int

    @property
    def keys(self) -> tuple[str, str]:
        """The names of A and B in the adapter's file."""
        ends = ("lora_A.weight", "lora_B.weight") if self.kind == "linear" else ("lora_embedding_A", "lora_embedding_B")
        return f"{PREFIX}{self.name}.{ends[0]}", f"{PREFIX}{self.name}.{ends[1]}"

    def delta(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The change of the weight in float32, (d_out, d_in) as in `torch.nn.Linear`, or (tokens, width)."""
        product = (b.float() @ a.float()).mul_(self.scale)
        return product.T.contiguous() if self.kind == "embedding" else product


def resolved(config: LoraConfig, name: str) -> tuple[int, float, float]:
    """Rank, alpha and scale of a module, the way PEFT reads them from its config.

    Example:
        >>> config = LoraConfig(r=8, lora_alpha=16, rank_pattern={"fc1": 4}, use_rslora=True)
        >>> resolved(config, "model.layers.0.mlp.fc1")
        (4, 16.0, 8.0)
    """
    rank = int(pattern_value(config.rank_pattern or {}, name, config.r))
    alpha = float(pattern_value(config.alpha_pattern or {}, name, config.lora_alpha))
    return rank, alpha, alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def check_supported(config: LoraConfig, besides: Collection[str], remedy: str) -> None:
    """Raise an error for settings with which an adapter is not a low-rank update of weights.

    Args:
        config: The adapter's config.
        besides: Names of settings that the caller can deal with, besides the plain ones.
        remedy: What to do with an adapter that is refused.

    Raises:
        AdapterError: If any other setting differs from PEFT's default.

    Example:
        >>> check_supported(LoraConfig(use_dora=True), (), "Merge it with PEFT.")
        Traceback (most recent call last):
            ...
        rankselect.errors.AdapterError: expected a plain LoRA adapter, got one with use_dora=True. DoRA also rescales \
the columns of the base weight, which is no low-rank update. Merge it with PEFT.
    """
    start = str(config.init_lora_weights).lower()
    if start not in _PLAIN_STARTS:
        raise AdapterError(
            "a plain LoRA adapter",
            f"one with init_lora_weights={config.init_lora_weights!r}",
            "This start also changes the base weights, which are not in the adapter: convert it with PEFT "
            "(save_pretrained with path_initial_model_for_weight_conversion).",
        )
    plain, known = LoraConfig(), _WITHOUT_EFFECT | _UNDERSTOOD | set(besides)
    for setting in fields(LoraConfig):
        value = getattr(config, setting.name)
        if setting.name in known or not value or value == getattr(plain, setting.name):
            continue
        reason = _REASONS.get(setting.name, "Its effect on the weights is unknown.")
        raise AdapterError("a plain LoRA adapter", f"one with {setting.name}={value!r}", f"{reason} {remedy}")
