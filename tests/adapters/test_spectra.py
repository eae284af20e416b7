"""The singular values of adapters, against those of whole updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapter_folders import saved
from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.spectra import AdapterSpectra, adapter_spectra
from rankselect.errors import AdapterError, ArgumentError


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {}),
        (
            "llama",
            {
                "use_rslora": True,
                "lora_alpha": 5,
                "rank_pattern": {"q_proj": 7},
                "alpha_pattern": {"0.mlp.down_proj": 3},
            },
        ),
        ("llama", {"r": 40}),  # above the width
        ("gpt2", {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}),
    ],
)
def test_they_are_those_of_the_whole_updates(tmp_path, architecture, settings):
    adapter = read_adapter(saved(tmp_path, architecture, **settings))
    spectra = adapter_spectra(tmp_path)
    for module in adapter.modules:
        whole = torch.linalg.svdvals(adapter.delta(module)).numpy()[: module.rank]
        found = spectra.values[module.name]
        assert len(found) == module.rank
        np.testing.assert_allclose(found[: len(whole)], whole, atol=1e-5 * whole[0])
        assert not found[len(whole) :].any()
        assert spectra.sizes[module.name] == (module.d_in, module.d_out)
    assert spectra.parameters == sum(
        tensor.numel() for tensor in load_file(tmp_path / "adapter_model.safetensors").values()
    )


SPECTRA = AdapterSpectra(
    {"a.q": np.array([3.0, 1.0, 0.0]), "b.q": np.array([2.0, 2.0, 2.0]), "b.v": np.zeros(2)},
    {"a.q": (4, 4), "b.q": (4, 4), "b.v": (4, 6)},
)


@pytest.mark.parametrize(
    ("energy", "ranks"), [(0.9, [1, 3, 0]), (0.95, [2, 3, 0]), (0.5, [1, 2, 0]), (1.0, [2, 3, 0]), (1 / 3, [1, 1, 0])]
)
def test_the_rank_at_an_energy(energy, ranks):
    assert list(SPECTRA.rank_at_energy(energy).values()) == ranks


@pytest.mark.parametrize("energy", [0, -0.1, 1.1, float("nan"), True, "90%"])
def test_an_energy_that_is_none(energy):
    with pytest.raises(ArgumentError, match="an energy above 0 and at most 1"):
        SPECTRA.rank_at_energy(energy)


def test_the_energy_that_ranks_keep():
    assert SPECTRA.energy_kept({"a.q": 1, "b.q": 2, "b.v": 0}) == pytest.approx(17 / 22)
    nothing = AdapterSpectra({"a": np.zeros(2)}, {"a": (2, 2)})
    assert nothing.energy_kept({"a": 0}) == 1.0


def test_the_table():
    assert str(SPECTRA).splitlines() == [
        "rank of     now  90%  95%  99%",
        "q             3  1-3  2-3  2-3",
        "v             2    0    0    0",
        "parameters   68   32   40   40",
    ]


def test_the_picture_marks_what_is_kept():
    axes = SPECTRA.plot(kept={"a.q": 1, "b.q": 3, "b.v": 0})
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[[1.0, 3.0]], [[3.0, 2.0]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["q", "v"]


def test_what_is_no_plain_adapter(tmp_path):
    saved(tmp_path / "dora", use_dora=True)
    with pytest.raises(AdapterError, match="use_dora=True"):
        adapter_spectra(tmp_path / "dora")
    with pytest.raises(AdapterError, match="which does not exist"):
        adapter_spectra(tmp_path / "nowhere")
