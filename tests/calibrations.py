"""Small calibrations on tiny models, and a check that measuring left a model as it was."""

from __future__ import annotations

import torch

import rankselect as rs
from architectures import FAMILIES
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
ROWS = [
    rs.QuestionAnswer(f"What is {name}?", f"It is a disease of the {part}")
    for name, part in [
        ("acne", "skin"),
        ("asthma", "lungs"),
        ("gout", "joints"),
        ("a fever", "blood"),
        ("a cough", "throat"),
    ]
]
CAUSAL = [
    name
    for name, make in FAMILIES.items()
    if "bit" not in name and type(make()).__name__.endswith(("ForCausalLM", "LMHeadModel"))
]


def calibration(model=None, texts=None, **settings):
    texts = tiny_texts(9) if texts is None else texts
    return rs.Calibration(model or tiny_model(), TOKENIZER, texts, progress=False, batch_size=3, **settings)


def state(model):
    return {name: (part.clone(), part.requires_grad, part.grad) for name, part in model.named_parameters()}


def check_untouched(model, before, modes, random):
    after = state(model)
    assert all(torch.equal(before[name][0], part[0]) and before[name][1:] == part[1:] for name, part in after.items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
