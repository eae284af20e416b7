"""The probe: what it measures is what training does, and nothing of it stays."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import rankselect as rs
from architectures import FAMILIES
from calibrations import CAUSAL, ROWS, TOKENIZER, calibration, check_untouched, state
from rankselect.calibration.loss_batches import loss_batches
from rankselect.calibration.probe import ProbeSpectra
from rankselect.errors import ArgumentError, EvidenceError, ModelError, TextsError
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts


def by_hand(model, names, how, *, rank, steps, rate):
    """The same training with PEFT and PyTorch, and the spectra of the differences of whole weights."""
    torch.manual_seed(0)
    batches = loss_batches(how)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0)
    trained = get_peft_model(copy.deepcopy(model), config).eval()
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for batch in batches.shuffled(steps, 0):
        optimizer.zero_grad()
        trained(**batch.inputs).loss.backward()
        optimizer.step()
    merged = trained.merge_and_unload()
    with torch.no_grad():
        return {
            name: torch.linalg.svdvals(merged.get_submodule(name).weight - model.get_submodule(name).weight)
            for name in names
        }


@pytest.mark.parametrize(("architecture", "targets"), [("llama", ["q_proj", "down_proj"]), ("gpt2", ["c_attn", "wte"])])
def test_the_spectra_are_those_of_the_differences_of_whole_weights(architecture, targets):
    model = tiny_model(architecture)
    if architecture == "gpt2":
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    how = calibration(model, target_modules=targets)
    found = ProbeSpectra.measure(how, rank=3, steps=5, learning_rate=0.01)
    expected = by_hand(model, list(found.modules), how, rank=3, steps=5, rate=0.01)
    for name in found.modules:
        np.testing.assert_allclose(found.values[name], expected[name][:3].numpy(), rtol=2e-2, atol=1e-5)
    assert found.measurement["losses"][-1] < found.measurement["losses"][0]


def test_answers_alone_are_trained_on():
    found = ProbeSpectra.measure(calibration(texts=ROWS), rank=2, steps=2)
    assert found.measurement["loss_on"] == "answers"
    assert found.measurement["n_rows"] == len(ROWS)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("at", [None, 2])
def test_every_model_is_left_as_it_was(family, at):
    """After a whole probe, and after Ctrl-C in its second step."""
    model = FAMILIES[family]().train()
    next(model.parameters()).requires_grad_(False)
    parts, attributes = dict(model.named_modules()), set(vars(model))
    before, modes = state(model), [module.training for module in model.modules()]
    calls = []

    def press(*_):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    random = torch.get_rng_state()
    handle = model.register_forward_hook(press)
    how = rs.Calibration(model, TOKENIZER, tiny_texts(6), progress=False, target_modules="all-linear", max_length=8)
    if at is None:
        ProbeSpectra.measure(how, rank=2, steps=2)
    else:
        with pytest.raises(KeyboardInterrupt):
            ProbeSpectra.measure(how, rank=2, steps=3)
    handle.remove()
    check_untouched(model, before, modes, random)
    after = dict(model.named_modules())
    assert list(after) == list(parts)
    assert all(after[name] is part for name, part in parts.items())
    assert set(vars(model)) == attributes


def test_ctrl_c_while_the_adapter_is_put_on(monkeypatch):
    """Some modules have got their factors then, and others not."""
    from peft.tuners.lora import Linear

    model, made = tiny_model(), []
    build = Linear.__init__

    def press(*args, **kwargs):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        build(*args, **kwargs)

    before, modes, random = state(model), [module.training for module in model.modules()], torch.get_rng_state()
    monkeypatch.setattr(Linear, "__init__", press)
    with pytest.raises(KeyboardInterrupt):
        ProbeSpectra.measure(calibration(model))
    check_untouched(model, before, modes, random)
    assert not hasattr(model, "peft_config")


def test_a_4_bit_base(tmp_path):
    FAMILIES["llama"]().save_pretrained(tmp_path)
    model = rs.load_model(tmp_path, quantization="nf4")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = ProbeSpectra.measure(calibration(model), rank=2, steps=2)
    assert all(values[0] > 0 for values in found.values.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_same_seed_gives_the_same():
    one, again = (ProbeSpectra.measure(calibration(), rank=2, steps=4) for _ in range(2))
    other = ProbeSpectra.measure(calibration(seed=1), rank=2, steps=4)
    for name in one.modules:
        np.testing.assert_array_equal(one.values[name], again.values[name])
    assert any((one.values[name] != other.values[name]).any() for name in one.modules)


def test_a_strategy_pools_the_squares():
    model = tiny_model()
    found = ProbeSpectra.measure(calibration(model, target_modules="all-linear"), rank=8, steps=4)
    targets = find_targets(model, "all-linear")
    plan = rs.Probe(rank=3).plan(model, found, target_modules="all-linear")
    kept = [found.values[t.name][: plan.ranks[t.name]] ** 2 / (t.d_in + t.d_out) for t in targets]
    lost = [found.values[t.name][plan.ranks[t.name] :] ** 2 / (t.d_in + t.d_out) for t in targets]
    least = min(values[-1] for values in kept if len(values) > 1)
    assert sum((values > least).sum() for values in lost) <= 4  # the last few ranks are exchanged for a better fit


def test_a_loss_that_is_no_number():
    model = tiny_model()
    model.lm_head.weight.data[0, 0] = float("inf")
    with pytest.raises(ModelError, match="a finite loss on every batch"):
        ProbeSpectra.measure(calibration(model))
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "message"),
    [
        ({}, {"rank": 0}, ArgumentError, "rank of a probe of at least 1, got 0"),
        ({}, {"steps": 2.0}, ArgumentError, "steps of a probe of at least 1, got 2.0"),
        ({}, {"learning_rate": float("nan")}, ArgumentError, "a learning_rate above 0, got nan"),
        ({"texts": ["one"]}, {}, TextsError, "at least two rows"),
        ({"model": FAMILIES["t5"]()}, {}, ModelError, "causal"),
        (
            {"model": get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj"]))},
            {},
            (ModelError, Exception),
            "adapter",
        ),
    ],
)
def test_what_cannot_be_measured(settings, arguments, error, message):
    with pytest.raises(error, match=message):
        ProbeSpectra.measure(calibration(**settings), **arguments)


def test_evidence_of_another_kind_is_refused():
    with pytest.raises(EvidenceError, match="evidence of the class ProbeSpectra"):
        rs.Probe().plan(tiny_model(), rs.IDProfile.from_values({"model.layers.0": 3.0}))
