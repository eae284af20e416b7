"""GeLoRA's formula, by hand: the growth of the dimension across each block, plus one."""

from __future__ import annotations

import pytest
from torch import nn

import rankselect as rs
from architectures import FAMILIES
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

LLAMA = tiny_model()
FIRST, SECOND = rs.layer_names(LLAMA)


def ranks(model, values, input_values, parts):
    profile = rs.IDProfile.from_values(values, input_values=input_values)
    return rs.GeLoRA().plan(model, profile, target_modules=parts).ranks


@pytest.mark.parametrize(
    ("entering", "first", "second", "expected"),
    [
        (3.0, 7.2, 9.9, (5, 4)),  # 4.2 + 1, 2.7 + 1
        (3.0, 7.0, 5.0, (5, 1)),  # a dimension that falls gives the one added
        (9.0, 4.0, 4.4, (1, 1)),  # 0.4 + 1
        (2.0, 3.5, 6.0, (3, 4)),  # 2.5 and 3.5, half up
    ],
)
def test_the_rank_is_the_growth_plus_one(entering, first, second, expected):
    found = ranks(LLAMA, {FIRST: first, SECOND: second}, {FIRST: entering}, ["q_proj", "up_proj"])
    assert {name: rank for name, rank in found.items() if name.startswith(FIRST)} == {
        f"{FIRST}.self_attn.q_proj": expected[0],
        f"{FIRST}.mlp.up_proj": expected[0],
    }
    assert found[f"{SECOND}.mlp.up_proj"] == expected[1]


def test_each_stack_starts_from_its_own_input():
    t5 = FAMILIES["t5"]()
    values = {"encoder.block.0": 6.0, "encoder.block.1": 9.0, "decoder.block.0": 5.0, "decoder.block.1": 11.0}
    entering = {"encoder.block.0": 4.0, "decoder.block.0": 2.0}
    found = ranks(t5, values, entering, ["wo"])
    assert found == {
        "encoder.block.0.layer.1.DenseReluDense.wo": 3,
        "encoder.block.1.layer.1.DenseReluDense.wo": 4,
        "decoder.block.0.layer.2.DenseReluDense.wo": 4,
        "decoder.block.1.layer.2.DenseReluDense.wo": 7,
    }


def test_a_layer_starts_from_the_one_right_before_it():
    blocks = [nn.ModuleDict({"fc": nn.Linear(32, 32)}) for _ in range(4)]
    model = nn.ModuleDict({"layers": nn.ModuleList(blocks)})
    values = {f"layers.{index}": value for index, value in enumerate([4.0, 9.0, 6.0, 7.0])}
    found = ranks(model, values, {"layers.0": 2.0}, ["fc"])
    assert list(found.values()) == [3, 6, 1, 2]


@pytest.mark.parametrize("missing", ["encoder.block.0", "decoder.block.0"])
def test_the_input_of_every_stack_must_be_known(missing):
    t5 = FAMILIES["t5"]()
    entering = {layer: 2.0 for layer in ("encoder.block.0", "decoder.block.0") if layer != missing}
    with pytest.raises(rs.errors.EvidenceError) as caught:
        ranks(t5, dict.fromkeys(rs.layer_names(t5), 5.0), entering, ["q"])
    assert str(caught.value) == (
        f"expected a profile with the ID of the input of {missing}, got one without it. "
        "Measure it with id_profile and mean pooling, or give input_values to IDProfile.from_values."
    )


def test_a_layer_that_the_profile_lacks_is_named():
    with pytest.raises(rs.errors.EvidenceError, match=f"a profile with the layer {FIRST}"):
        ranks(LLAMA, {SECOND: 5.0}, {}, ["q_proj"])


def test_a_module_outside_the_layers_is_refused():
    with pytest.raises(rs.errors.TargetError, match="got lm_head, which is not in a layer"):
        ranks(LLAMA, {FIRST: 5.0, SECOND: 6.0}, {FIRST: 1.0}, ["lm_head"])


def test_a_measured_profile_has_what_it_needs():
    calibration = rs.Calibration(LLAMA, tiny_tokenizer(), tiny_texts(60), progress=False)
    profile = rs.IDProfile.measure(calibration)
    plan = rs.GeLoRA().plan(LLAMA, profile)
    entering = profile.input_values[FIRST]
    by_hand = [
        max(profile.value_of(FIRST) - entering, 0) + 1,
        max(profile.value_of(SECOND) - profile.value_of(FIRST), 0) + 1,
    ]
    assert list(plan.ranks.values()) == [int(wish + 0.5) for wish in by_hand for _ in range(2)]
