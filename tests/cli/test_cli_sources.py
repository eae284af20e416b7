"""Models by name: the class that the config names, with and without weights, and every way in which it fails."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel, LlamaForCausalLM, ViTConfig, ViTModel

import rankselect as rs
from rankselect.cli.sources import empty_model, load_model, load_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture
def damaged(model, tmp_path):
    """A copy of the model to damage."""
    return shutil.copytree(model, tmp_path / "model")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_with_and_without_weights_it_is_the_same_model(model):
    full, empty = load_model(str(model)), empty_model(str(model))
    assert type(full) is type(empty) is LlamaForCausalLM
    assert [name for name, _ in full.named_modules()] == [name for name, _ in empty.named_modules()]
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert rs.Fixed(4).plan(full) == rs.Fixed(4).plan(empty)


@pytest.mark.parametrize(
    ("architectures", "kind"),
    [(["BertForSequenceClassification"], BertForSequenceClassification), (None, BertModel), (["pipeline"], BertModel)],
)
def test_the_class_is_the_one_that_the_config_names(tmp_path, architectures, kind):
    BertConfig(**SIZES, vocab_size=50).save_pretrained(tmp_path)
    change_config(tmp_path, architectures=architectures)
    assert type(empty_model(str(tmp_path))) is kind


def test_dtype_and_quantization(model):
    assert load_model(str(model), dtype="bfloat16").dtype == torch.bfloat16
    pytest.importorskip("bitsandbytes")
    for quantization, kind in (("nf4", "Linear4bit"), ("int8", "Linear8bitLt")):
        loaded = load_model(str(model), quantization=quantization)
        assert type(loaded.model.layers[0].mlp.up_proj).__name__ == kind


def test_quantization_needs_an_extra(model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(rs.MissingExtraError, match=r'pip install "rankselect\[quantized\]"'):
        load_model(str(model), quantization="nf4")


def test_random_weights_in_a_layer_are_reported(damaged):
    weights = load_file(damaged / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(rs.RankSelectWarning, match=r"lacks 1 weights .* model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(damaged))


def test_a_random_head_is_not_reported(tmp_path, recwarn):
    BertModel(BertConfig(**SIZES, vocab_size=50)).save_pretrained(tmp_path)
    change_config(tmp_path, architectures=["BertForSequenceClassification"])
    assert type(load_model(str(tmp_path))) is BertForSequenceClassification
    assert not [warning for warning in recwarn if warning.category is rs.RankSelectWarning]


def fails(name, message, load=load_model):
    with pytest.raises(rs.ModelError, match=message):
        load(str(name))


def test_a_folder_that_does_not_exist(tmp_path):
    fails(tmp_path / "nowhere", "nowhere, which does not exist. Check the path")


def test_a_file_instead_of_a_folder(model):
    fails(model / "config.json", "which is a file")


def test_a_folder_without_a_model(tmp_path):
    fails(tmp_path, r"which has no config\.json")


def test_an_adapter_instead_of_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    fails(tmp_path, "which holds an adapter. Give the folder or name of its base model")


def test_a_damaged_config(damaged):
    (damaged / "config.json").write_text("{")
    fails(damaged, "not a valid JSON file. The folder is damaged")


def test_an_unknown_model_type(damaged):
    change_config(damaged, model_type="llama99")
    for load in (load_model, empty_model, load_tokenizer):
        fails(damaged, "`llama99`.*Upgrade transformers, or add --trust-remote-code", load)


def test_code_that_comes_with_the_model_is_not_run_unasked(damaged):
    (damaged / "configuration_own.py").write_text("raise SystemExit('it ran')")
    change_config(damaged, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    fails(damaged, "Add --trust-remote-code if you trust the code", empty_model)


def test_missing_and_damaged_weights(damaged):
    (damaged / "model.safetensors").write_bytes(b"damaged")
    fails(damaged, "weights that can be loaded.*The folder is damaged")
    (damaged / "model.safetensors").unlink()
    fails(damaged, r"no file named model\.safetensors.*The folder is damaged or incomplete")


def test_a_damaged_tokenizer(damaged):
    (damaged / "tokenizer.json").write_text("{")
    fails(damaged, "whose tokenizer cannot be loaded", load_tokenizer)


def test_a_vision_model_has_no_tokenizer(tmp_path):
    ViTModel(ViTConfig(**SIZES)).save_pretrained(tmp_path)
    fails(tmp_path, "text models only: for images or audio, use id_profile in Python", load_tokenizer)
    assert rs.layer_names(empty_model(str(tmp_path)))
