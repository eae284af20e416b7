"""Layers of layouts that no table of names knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import rankselect as rs
from rankselect.models.layers import find_layers, is_adaptable, layer_names, layer_of, unwrapped


def block():
    return nn.ModuleDict({"attention": nn.Linear(4, 4), "mlp": nn.Linear(4, 4)})


def test_lists_inside_a_layer_do_not_count():
    inside = nn.ModuleDict({"experts": nn.ModuleList([block(), block()]), "gate": nn.Linear(4, 2)})
    assert layer_names(nn.ModuleDict({"layers": nn.ModuleList([inside, block()])})) == ("layers.0", "layers.1")


def test_layers_may_differ_in_kind_and_may_lack_what_lora_adapts():
    plain = nn.ModuleDict({"norm": nn.LayerNorm(4)})
    assert layer_names(nn.ModuleDict({"blocks": nn.ModuleList([plain, block()])})) == ("blocks.0", "blocks.1")


def test_a_list_of_lists_is_looked_through():
    stages = nn.ModuleList([nn.ModuleList([block(), block()]), nn.ModuleList([block()])])
    assert layer_names(nn.ModuleDict({"stages": stages})) == ("stages.0.0", "stages.0.1", "stages.1.0")


def test_a_sequence_of_equal_blocks_is_a_list_of_layers_and_the_inside_of_one_block_is_not():
    assert layer_names(nn.ModuleDict({"body": nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))})) == ()

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    assert layer_names(nn.ModuleDict({"body": nn.Sequential(Block(), Block())})) == ("body.0", "body.1")


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 4),
        nn.ModuleDict({"heads": nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])}),
        nn.ModuleDict({"convolutions": nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 1))])}),
        nn.ModuleDict({"empty": nn.ModuleList()}),
    ],
    ids=["a single module", "a list of linear modules", "nothing that LoRA adapts", "an empty list"],
)
def test_other_lists_are_no_layers(model):
    assert layer_names(model) == ()


def test_wrappers_are_looked_through():
    model = nn.ModuleDict({"layers": nn.ModuleList([block(), block()])})
    for wrapped in (torch.compile(model), nn.DataParallel(model), torch.compile(nn.DataParallel(model))):
        assert layer_names(wrapped) == ("layers.0", "layers.1")
        assert unwrapped(wrapped) is model
    assert find_layers(model)["layers.1"] is model["layers"][1]


def test_a_module_belongs_to_the_layer_whose_name_it_begins_with_at_a_dot():
    layers = ("layers.1", "layers.11", "encoder.layers.1")
    assert layer_of("layers.1.fc", layers) == "layers.1"
    assert layer_of("layers.11.fc", layers) == "layers.11"
    assert layer_of("encoder.layers.1.a.b", layers) == "encoder.layers.1"
    assert layer_of("layers.1", layers) == "layers.1"
    assert layer_of("layers.2.fc", layers) is None
    assert layer_of("pooler", layers) is None


def test_what_lora_can_adapt_is_known_by_kind():
    class NewLinear4bit(nn.Module):
        in_features = out_features = 4

    for module in (nn.Linear(2, 2), nn.Embedding(2, 2), Conv1D(2, 2), NewLinear4bit()):
        assert is_adaptable(module)
    for module in (nn.LayerNorm(2), nn.Conv1d(2, 2, 1), nn.Sequential(nn.Linear(2, 2))):
        assert not is_adaptable(module)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Qwen/Qwen3-0.6B", r"got 'Qwen/Qwen3-0\.6B'\. Load it first, for example with rankselect\.load_model\."),
        (Path("models") / "mine", r"got 'models/mine'\. Load it first"),
        (nn.Linear, r"got the class Linear\. Create an instance, or load one with rankselect\.load_model\."),
        (None, r"got None\. Pass the model itself\."),
        ({"weight": torch.ones(2)}, r"got a dict\. Pass the model itself\."),
    ],
)
def test_what_is_given_in_the_place_of_a_model_is_refused(given, said):
    texts = ["a fever"] * 8
    calls = [
        lambda: layer_names(given),
        lambda: rs.Fixed(4).plan(given),
        lambda: rs.PerLayerID().plan(given, rs.IDProfile.from_values({"layers.0": 3.0})),
        lambda: rs.id_profile(given, None, texts),
        lambda: rs.PerLayerID().plan(block(), rs.Calibration(given, None, texts), target_modules=["mlp"]),
    ]
    for call in calls:
        with pytest.raises(rs.errors.ModelError, match=rf"expected a model \(a torch\.nn\.Module\), {said}"):
            call()
