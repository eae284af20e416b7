"""Adapters with random factors, as PEFT saves them."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model

from rankselect.testing import tiny_model


def saved(folder, architecture="llama", *, dtype=torch.float32, seed=0, zero=None, **settings):
    """Write an adapter.

    Args:
        folder: The folder.
        architecture: That of `tiny_model`.
        dtype: Of A and B.
        seed: Of the factors.
        zero: The end of the name of a module whose B is zero.
        **settings: Arguments of `LoraConfig`.
    """
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **settings}
    model = get_peft_model(tiny_model(architecture), LoraConfig(**settings), autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            if zero and "_B" in name and zero in name:
                parameter.data.zero_()
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder)
    return folder
