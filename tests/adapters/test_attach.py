"""An adapter folder on a loaded model: every tensor in its place, or one error that says which is not."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import rankselect as rs
from rankselect.testing import tiny_model


@pytest.fixture
def folder(tmp_path):
    model = tiny_model()
    peft_model = get_peft_model(model, rs.Fixed(3).plan(model).to_lora_config(task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter in peft_model.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    peft_model.save_pretrained(tmp_path)
    return tmp_path


def change(folder, changed):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    changed(tensors)
    save_file(tensors, path)


def test_every_tensor_is_the_one_in_the_file(folder):
    attached = rs.attach_adapter(tiny_model(), folder)
    built = {name.replace(".default", ""): p for name, p in attached.named_parameters() if "lora_" in name}
    saved = load_file(folder / "adapter_model.safetensors")
    assert built.keys() == saved.keys()
    assert all(torch.equal(built[name], saved[name]) for name in saved)
    assert not attached.training


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda tensors: tensors.pop(min(tensors)), "expected A and B for every module, got only B"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "extra"),
        (lambda tensors: tensors.update({min(tensors): torch.zeros(3, 7)}), "expected an adapter of this base model"),
    ],
    ids=["missing", "extra", "other shapes"],
)
def test_tensors_that_do_not_fit_are_refused(folder, changed, said):
    change(folder, changed)
    with pytest.raises(rs.errors.AdapterError, match=said):
        rs.attach_adapter(tiny_model(), folder)


@pytest.mark.parametrize("lost", [["q_proj.lora_A.weight", "q_proj.lora_B.weight"], ["lm_head.weight"]])
def test_fresh_weights_are_refused_whatever_peft_says_of_them(tmp_path, monkeypatch, lost):
    """PEFT fills in weights that the file lacks; it warns of some, in words that may change."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"])
    get_peft_model(tiny_model(), config).save_pretrained(tmp_path)
    rs.attach_adapter(tiny_model(), tmp_path)
    change(tmp_path, lambda tensors: [tensors.pop(key) for key in list(tensors) if key.endswith(tuple(lost))])
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)
    with pytest.raises(
        rs.errors.AdapterError, match=rf"expected an adapter of this base model, got .* \(it has no .*{lost[0]}"
    ):
        rs.attach_adapter(tiny_model(), tmp_path)


def test_the_adapter_of_another_model_is_refused(folder):
    with pytest.raises(rs.errors.AdapterError, match="expected an adapter of this base model"):
        rs.attach_adapter(tiny_model("gpt2"), folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["target_modules"] = ["no_such_module"]
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(rs.errors.AdapterError):
        rs.attach_adapter(tiny_model(), folder)


def named_adapters(folder, *names):
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]), adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, LoraConfig(r=3, target_modules=["q_proj"]))
    model.save_pretrained(folder)


def test_a_named_adapter_is_found_in_its_folder(tmp_path):
    named_adapters(tmp_path, "mine")
    assert rs.attach_adapter(tiny_model(), tmp_path).peft_config["default"].r == 2


def test_several_named_adapters_are_listed(tmp_path):
    named_adapters(tmp_path, "mine", "yours")
    with pytest.raises(
        rs.errors.AdapterError, match=r"expected a folder with one adapter, got .*, which contains mine, yours. Give"
    ):
        rs.attach_adapter(tiny_model(), tmp_path)


def test_the_record_of_an_older_release_is_read(tmp_path):
    record = rs.TrainingRecord("Fixed(rank=8)", "phi", "none", "float32", "cpu", 10, 1000)
    record.save(tmp_path)
    path = tmp_path / "rankselect.json"
    document = json.loads(path.read_text())
    for name in ("template", "stop", "system", "max_length", "loss_on", "rows_digest"):
        del document[name]
    path.write_text(json.dumps(document))
    assert rs.TrainingRecord.load(tmp_path) == record
    assert rs.TrainingRecord.load(tmp_path).prompt_template(None) is None
    del document["seed"]
    path.write_text(json.dumps(document))
    with pytest.raises(rs.errors.FileFormatError, match="a field 'seed'"):
        rs.TrainingRecord.load(tmp_path)


@pytest.fixture
def merged(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("merged")
    tiny_model().save_pretrained(place / "base")
    rs.merge_adapter(folder, place / "merged", base=place / "base", quantization="none", measure=False, progress=False)
    return place / "merged"


def test_an_adapter_is_not_applied_twice(folder, merged):
    with pytest.raises(rs.errors.AdapterError, match="expected a base model without this adapter, got .*merged, into"):
        rs.attach_adapter(rs.load_model(merged), folder)


def test_another_adapter_on_a_merged_model_is_fine(folder, merged):
    change(folder, lambda tensors: [tensor.mul_(2) for tensor in tensors.values()])
    assert rs.attach_adapter(rs.load_model(merged), folder).peft_config["default"].r == 3


def test_another_quantization_than_in_training_is_a_warning(folder):
    record = rs.TrainingRecord("Fixed(rank=3)", None, "nf4", "float32", "cpu", 10, 1000)
    record.save(folder)
    with pytest.warns(rs.RankSelectWarning, match="base model with quantization nf4, and this one has none"):
        rs.attach_adapter(tiny_model(), folder)
