"""The door to names of transformers that change: what stands behind it is what the installed release has."""

from __future__ import annotations

import pytest
from transformers import GenerationConfig, TrainingArguments, trainer_utils

from rankselect.models._transformers import (
    align_special_tokens,
    checkpointing,
    enable_checkpointing,
    recomputes_activations,
)
from rankselect.testing import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.filterwarnings("error::FutureWarning")
def test_the_switch_of_checkpointing_is_not_deprecated(tmp_path, on):
    assert recomputes_activations(TrainingArguments(str(tmp_path), **checkpointing(on=on))) is on
    model = tiny_model()
    if on:
        enable_checkpointing(model)
    assert all(layer.gradient_checkpointing is on for layer in model.model.layers)


@pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")
def test_the_old_name_of_the_switch_works_in_users_arguments(tmp_path):
    assert recomputes_activations(TrainingArguments(str(tmp_path), gradient_checkpointing=True))
    assert not recomputes_activations(TrainingArguments(str(tmp_path)))


@pytest.mark.parametrize("bos", [None, 1, 3])
@pytest.mark.parametrize("pad", [None, "fever"])
@pytest.mark.parametrize(
    ("eos", "eos_generated"), [(None, None), (1, 1), (2, 2), (2, [2, 4]), ([5, 6], [2, 1]), (5, 1)]
)
def test_special_tokens_are_those_that_transformers_would_set(caplog, bos, pad, eos, eos_generated):
    """Afterwards transformers finds nothing to do, and says nothing."""
    ours, theirs = tiny_model(), tiny_model()
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = pad
    for model in (ours, theirs):
        model.config.bos_token_id, model.config.eos_token_id = bos, eos
        model.generation_config = GenerationConfig(eos_token_id=eos_generated)
    align_special_tokens(ours, tokenizer)
    trainer_utils.align_special_tokens(theirs, tokenizer)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    for config in ("config", "generation_config"):
        one, other = getattr(ours, config), getattr(theirs, config)
        assert [as_set(getattr(one, name)) for name in names] == [as_set(getattr(other, name)) for name in names]
    caplog.clear()
    trainer_utils.align_special_tokens(ours, tokenizer)
    assert not caplog.records


def as_set(ids):
    return {ids} if not isinstance(ids, list) else set(ids)
