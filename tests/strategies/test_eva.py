"""EVA's ranks are those of PEFT on the same batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import EvaConfig, LoraConfig, get_peft_model
from peft.tuners.lora.eva import get_eva_state_dict
from peft.utils.incremental_pca import IncrementalPCA as PeftsPCA

import rankselect as rs
from architectures import FAMILIES
from calibrations import ROWS, TOKENIZER, calibration, check_untouched, state
from rankselect.calibration.incremental_pca import IncrementalPCA
from rankselect.calibration.inputs import InputSpectra, eva_ranks
from rankselect.calibration.loss_batches import loss_batches
from rankselect.errors import ArgumentError, EvidenceError, TargetError
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts


def ranks_of_peft(model, names, batches, rank, rho):
    config = LoraConfig(r=rank, target_modules=names, init_lora_weights="eva", eva_config=EvaConfig(rho=rho))
    prepared = get_peft_model(model, config, low_cpu_mem_usage=True)
    found = get_eva_state_dict(prepared, [batch.inputs for batch in batches], show_progress_bar=False)
    return {name.removeprefix("base_model.model."): len(a) for name, a in found.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rank", "rho"), [(2, 2.0), (4, 2.0), (5, 1.5), (3, 1.0)])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_ranks_are_those_of_peft(architecture, rank, rho, seed):
    how = calibration(tiny_model(architecture), tiny_texts(40, seed=seed), target_modules="all-linear")
    names = [target.name for target in find_targets(how.model, "all-linear")]
    batches = loss_batches(how).batches
    theirs = ranks_of_peft(tiny_model(architecture), names, batches, rank, rho)
    spectra = InputSpectra.measure(how, rank=rank, rho=rho)
    mine = rs.EVA().ranks(find_targets(how.model, "all-linear"), spectra)
    assert mine == theirs
    assert sum(mine.values()) == rank * len(names)
    kept = {name: rank for name, rank in theirs.items() if rank}
    plan = rs.EVA().plan(how.model, spectra, target_modules="all-linear")
    assert {name: plan.ranks[name] for name in kept} == kept


def test_the_answers_of_rows_count_as_in_peft():
    rows = [
        rs.QuestionAnswer(f"{row.question} {i}", f"{row.answer} of {i} {row.answer}") for i in range(4) for row in ROWS
    ]
    how = rs.Calibration(tiny_model(), TOKENIZER, rows, progress=False, target_modules=["q_proj", "down_proj"])
    names = [target.name for target in find_targets(how.model, ["q_proj", "down_proj"])]
    theirs = ranks_of_peft(tiny_model(), names, loss_batches(how).batches, 2, 2.0)
    assert rs.EVA().ranks(find_targets(how.model, ["q_proj", "down_proj"]), InputSpectra.measure(how, rank=2)) == theirs


def test_components_are_those_of_peft():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(240, 20, generator=generator) * 0.8 ** torch.arange(20) + torch.randn(20, generator=generator)
    mine, theirs = IncrementalPCA(4), PeftsPCA(4, lowrank=True, lowrank_seed=42)
    for batch in points.split((80, 30, 60, 70)):
        mine.update(batch)
        theirs.partial_fit(batch)
        np.testing.assert_allclose(mine.singular_values, theirs.singular_values_, rtol=1e-5)
        np.testing.assert_allclose(mine.components, theirs.components_, atol=1e-4)
        np.testing.assert_allclose(mine.explained, theirs.explained_variance_ratio_, rtol=1e-5)
    np.testing.assert_allclose(mine.mean, points.mean(0), atol=1e-5)
    assert mine.total == pytest.approx(float((points - points.mean(0)).square().sum()), rel=1e-5)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    IncrementalPCA(2).update(torch.randn(9, 5, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_of_modules_with_one_input_gets_the_largest_rank():
    shares = {"v": [0.5, 0.2], "q": [0.5, 0.2], "o": [0.1, 0.05]}
    assert eva_ranks(shares, {"v": "v", "q": "v", "o": "o"}, 1) == {"v": 2, "q": 1, "o": 0}


def test_modules_with_one_input_share_it():
    spectra = InputSpectra.measure(calibration(texts=tiny_texts(40), target_modules="all-linear"), rank=2)
    shared = spectra.measurement["shared_with"]
    assert {name for name, other in shared.items() if other == "model.layers.1.self_attn.q_proj"} == {
        f"model.layers.1.self_attn.{kind}_proj" for kind in "qkv"
    }
    assert shared["model.layers.0.mlp.up_proj"] == "model.layers.0.mlp.gate_proj"
    assert shared["model.layers.0.mlp.down_proj"] == "model.layers.0.mlp.down_proj"
    assert spectra.measurement["settled"]


def test_a_budget_goes_where_most_is_explained(tmp_path):
    how = calibration(texts=tiny_texts(40), target_modules="all-linear")
    InputSpectra.measure(how, rank=6).save(tmp_path / "inputs.json")
    spectra = InputSpectra.load(tmp_path / "inputs.json")
    targets = find_targets(how.model, "all-linear")
    plan = rs.EVA().plan(how.model, spectra, target_modules="all-linear", budget="rank:3")
    gain = {t.name: spectra.explained(t.name) for t in targets}
    mine = sum(gain[t.name][: plan.ranks[t.name]].sum() for t in targets)
    uniform = sum(gain[t.name][:3].sum() for t in targets)
    assert mine > uniform
    assert plan.trainable_parameters <= rs.Fixed(3).plan(how.model, target_modules="all-linear").trainable_parameters


@pytest.mark.parametrize("at", [None, 3])
def test_the_model_is_left_as_it_was(at):
    model = tiny_model().train()
    before, modes, random = state(model), [module.training for module in model.modules()], torch.get_rng_state()
    calls = []

    def press(*_):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    handle = model.lm_head.register_forward_pre_hook(press)
    if at:
        with pytest.raises(KeyboardInterrupt):
            InputSpectra.measure(calibration(model, tiny_texts(40)), rank=2)
    else:
        InputSpectra.measure(calibration(model, tiny_texts(40)), rank=2)
    handle.remove()
    check_untouched(model, before, modes, random)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_4_bit_base(tmp_path):
    FAMILIES["llama"]().save_pretrained(tmp_path)
    model = rs.load_model(tmp_path, quantization="nf4")
    spectra = InputSpectra.measure(calibration(model, tiny_texts(40)), rank=2)
    assert all(0 < spectra.explained(name).sum() <= 1 for name in spectra.modules)


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "message"),
    [
        ({}, {"rank": 0}, ArgumentError, "a rank of at least 1, got 0"),
        ({}, {"rho": 0.5}, ArgumentError, "a rho of at least 1, got 0.5"),
        ({}, {"rank": 16}, ArgumentError, "2 x rank x rho of at most 32, .* got 64"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, {}, TargetError, "the embedding model.embed_tokens"),
        (
            {"texts": ["a pain in the heart", "a fever of the skin"]},
            {},
            EvidenceError,
            "batches of at least 16 tokens for every module",
        ),
    ],
)
def test_what_cannot_be_measured(settings, arguments, error, message):
    with pytest.raises(error, match=message):
        InputSpectra.measure(calibration(**settings), **arguments)
