"""Adapter folders, and everything that can be wrong with one: each is one error that says what."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import IA3Config, LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file, save_file

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.lora_delta import resolved
from rankselect.errors import AdapterError, FileFormatError
from rankselect.testing import tiny_model

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")


def save(folder, config=None, architecture="llama"):
    config = config or LoraConfig(r=3, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(tiny_model(architecture), config)
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("adapters") / "good")[0]


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "adapter")


def change_config(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / WEIGHTS)


@settings(max_examples=10)
@given(
    ranks=st.dictionaries(
        st.sampled_from(["q_proj", "up_proj", r"layers\.1\..*", "0.mlp.down_proj"]), st.integers(1, 6)
    ),
    alphas=st.dictionaries(st.sampled_from(["v_proj", r".*layers\.0.*", "mlp.up_proj"]), st.integers(1, 40)),
    rank_stabilised=st.booleans(),
)
def test_ranks_and_scales_are_those_that_peft_builds(ranks, alphas, rank_stabilised):
    config = LoraConfig(
        r=2,
        lora_alpha=5,
        target_modules="all-linear",
        rank_pattern=ranks,
        alpha_pattern=alphas,
        use_rslora=rank_stabilised,
    )
    model = get_peft_model(tiny_model(), config)
    layers = [(name, layer) for name, layer in model.base_model.model.named_modules() if isinstance(layer, LoraLayer)]
    assert len(layers) == 14
    for name, layer in layers:
        expected = (layer.r["default"], layer.lora_alpha["default"], layer.scaling["default"])
        assert resolved(config, name) == pytest.approx(expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_deltas_are_those_of_peft(architecture, tmp_path):
    settings = {"r": 3, "target_modules": r".*(proj|c_attn|c_fc|embed_tokens|wte)", "init_lora_weights": False}
    folder, model = save(tmp_path / "adapter", LoraConfig(**settings), architecture)
    adapter = read_adapter(folder)
    assert {module.kind for module in adapter.modules} == {"linear", "embedding"}
    for module in adapter.modules:
        layer = model.base_model.model.get_submodule(module.name)
        theirs = layer.get_delta_weight("default")
        ours = adapter.delta(module)
        torch.testing.assert_close(ours.T if getattr(layer, "fan_in_fan_out", False) else ours, theirs)
    saved_along = {"llama": ["model.embed_tokens.weight"], "gpt2": []}  # PEFT knows an embedding by its name
    assert list(adapter.full_parameters) == saved_along[architecture]


def test_modules_are_what_the_config_says(saved):
    adapter = read_adapter(saved)
    assert [module.name.split(".")[-1] for module in adapter.modules] == ["q_proj", "v_proj"] * 2
    assert adapter.full_parameters == {} == adapter.record
    assert adapter.config.target_modules == {"q_proj", "v_proj"}


def test_no_folder(tmp_path):
    with pytest.raises(
        AdapterError, match="a folder with an adapter .adapter_config.json., got .*none, which does not"
    ):
        read_adapter(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match="got .*file, which is a file"):
        read_adapter(tmp_path / "file")


def test_no_config(folder):
    (folder / CONFIG).unlink()
    with pytest.raises(
        AdapterError, match="got .*adapter, which has none. Give the folder that PEFT's save_pretrained"
    ):
        read_adapter(folder)
    tiny_model().save_pretrained(folder)
    with pytest.raises(AdapterError, match="got .*adapter, which contains a complete model"):
        read_adapter(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"peft_type": "LORRA"}', '{"peft_type": "LORA", "bias": "some"}'])
def test_a_damaged_config(folder, text):
    (folder / CONFIG).write_text(text)
    with pytest.raises(AdapterError, match="adapter"):
        read_adapter(folder)


def test_another_kind_of_adapter(tmp_path):
    settings = {"target_modules": ["q_proj", "up_proj"], "feedforward_modules": ["up_proj"]}
    folder, _ = save(tmp_path / "ia3", IA3Config(**settings))
    with pytest.raises(AdapterError, match="expected a LoRA adapter, got .*ia3, an adapter of the type IA3"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "one with use_dora=True. DoRA also rescales"),
        ({"lora_bias": True}, "one with lora_bias=True. A trained bias"),
        (
            {"init_lora_weights": "pissa"},
            "one with init_lora_weights='pissa'. This start also changes the base weights",
        ),
        ({"init_lora_weights": "olora"}, "one with init_lora_weights='olora'"),
        ({"trainable_token_indices": [1, 2]}, "one with trainable_token_indices=.1, 2."),
        ({"layer_replication": [[0, 2]]}, "one with layer_replication"),
    ],
)
def test_what_is_no_plain_lora(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(AdapterError, match=f"expected a plain LoRA adapter, got {message}"):
        read_adapter(folder)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_other_starts_are_plain(folder, start):
    change_config(folder, init_lora_weights=start)
    assert len(read_adapter(folder).modules) == 4


def test_settings_of_a_newer_peft_are_left_alone(folder):
    change_config(folder, a_setting_of_tomorrow=None)
    assert len(read_adapter(folder).modules) == 4


def test_no_weights(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="expected weights in adapter_model.safetensors, got none in .*adapter"):
        read_adapter(folder)


def test_a_pickle_is_refused(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="got .*adapter_model.bin, a pickle, which can run any code when it is read"):
        read_adapter(folder)


@pytest.mark.parametrize("size", [0, 7, 300, -10])
def test_truncated_weights(folder, size):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])
    with pytest.raises(
        AdapterError, match="an adapter whose weights are complete, got .*cannot be read .*truncated or"
    ):
        read_adapter(folder)


def test_a_missing_factor(folder):
    change_weights(folder, lambda tensors: tensors.pop(f"{FIRST}.lora_B.weight"))
    with pytest.raises(AdapterError, match="A and B for every module, got only A for model.layers.0.self_attn.q_proj"):
        read_adapter(folder)


def test_no_factors_at_all(folder):
    change_weights(folder, dict.clear)
    with pytest.raises(AdapterError, match="expected an adapter with LoRA weights, got none"):
        read_adapter(folder)


def test_an_extra_module(folder):
    def add(tensors):
        for factor in "AB":
            key = f"{FIRST}.lora_{factor}.weight"
            tensors[key.replace("q_proj", "k_proj")] = tensors[key]

    change_weights(folder, add)
    with pytest.raises(
        AdapterError, match="got model.layers.0.self_attn.k_proj in .*which target_modules .* does not na"
    ):
        read_adapter(folder)


@pytest.mark.parametrize("name", ["layers.0.q_proj.lora_A.weight", f"{FIRST}.lora_magnitude_vector"])
def test_an_extra_tensor(folder, name):
    change_weights(folder, lambda tensors: tensors.update({name: torch.ones(3, 3)}))
    with pytest.raises(AdapterError, match="whose name is not one that PEFT gives to plain LoRA"):
        read_adapter(folder)


def test_config_and_weights_of_different_ranks(folder):
    change_config(folder, r=4)
    with pytest.raises(AdapterError, match="expected rank 4 for model.layers.0.*, got A of rank 3 and B of rank 3"):
        read_adapter(folder)


def test_weights_that_were_not_gathered(folder):
    change_weights(folder, lambda tensors: tensors.update({f"{FIRST}.lora_A.weight": torch.zeros(0)}))
    with pytest.raises(AdapterError, match=r"expected A and B as matrices, got one of shape \(0,\)"):
        read_adapter(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, value):
    change_weights(folder, lambda tensors: tensors[f"{FIRST}.lora_A.weight"].fill_(value))
    adapter = read_adapter(folder)
    with pytest.raises(
        AdapterError, match="expected an adapter of finite numbers, got NaN or infinity in .*q_proj.lora_A"
    ):
        adapter.delta(adapter.modules[0])


def test_a_damaged_training_record(folder):
    (folder / "rankselect.json").write_text("{")
    with pytest.raises(FileFormatError, match="a rankselect.training_record file"):
        read_adapter(folder)
