"""Resized adapters, against the truncated decomposition of whole updates, as PEFT reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import rankselect as rs
from adapter_folders import saved
from architectures import FAMILIES
from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.spectra import adapter_spectra
from rankselect.errors import AdapterError, ArgumentError, SaveError
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

SETTINGS = [
    ("llama", {}),
    (
        "llama",
        {"use_rslora": True, "lora_alpha": 5, "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"0.mlp.down_proj": 3}},
    ),
    ("gpt2", {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}),
    ("llama", {"modules_to_save": ["lm_head"]}),
]


def updates(folder):
    adapter = read_adapter(folder)
    return {module.name: adapter.delta(module) for module in adapter.modules}


def truncated(update, rank):
    u, sigma, vh = torch.linalg.svd(update.double(), full_matrices=False)
    return ((u[:, :rank] * sigma[:rank]) @ vh[:rank]).float()


@pytest.mark.parametrize(("architecture", "settings"), SETTINGS)
@pytest.mark.parametrize("size", [{"rank": 2}, {"budget": "50%"}, {"budget": "rank:1"}, {"energy": 0.8}], ids=str)
def test_updates_are_the_truncated_decompositions(tmp_path, architecture, settings, size):
    saved(tmp_path / "adapter", architecture, **settings)
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", **size)
    before, after = updates(tmp_path / "adapter"), updates(tmp_path / "out")
    for name, update in before.items():
        wanted = truncated(update, report.ranks[name])
        torch.testing.assert_close(
            after.get(name, torch.zeros(1)),
            wanted if report.ranks[name] else torch.zeros(1),
            atol=2e-5 * float(update.norm()),
            rtol=0,
        )
    kept = sum(float(u.norm() ** 2) for u in after.values()) / sum(float(u.norm() ** 2) for u in before.values())
    assert report.energy_kept == pytest.approx(kept, abs=1e-5)
    assert report.rounding == 0


@pytest.mark.parametrize(("architecture", "settings"), SETTINGS)
def test_peft_builds_what_was_written(tmp_path, architecture, settings):
    saved(tmp_path / "adapter", architecture, **settings)
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", budget="40%")
    model = PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "out")
    inputs = torch.arange(1, 9)[None]
    with torch.no_grad():
        logits = model(inputs).logits
        base = tiny_model(architecture)
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.clone())  # the adapter is not tied
        for name, update in updates(tmp_path / "out").items():
            weight = base.get_submodule(name).weight
            weight += update.T if architecture == "gpt2" and "wte" not in name else update
        if "modules_to_save" in settings:
            base.lm_head.weight = torch.nn.Parameter(
                load_file(tmp_path / "adapter" / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
            )
        torch.testing.assert_close(logits, base(inputs).logits, atol=1e-4, rtol=1e-4)
    ranks = {module.name: module.rank for module in read_adapter(tmp_path / "out").modules}
    assert ranks == {name: rank for name, rank in report.ranks.items() if rank}


def test_a_budget_takes_the_largest_squares_per_parameter(tmp_path):
    saved(tmp_path / "adapter", r=8, target_modules=["q_proj", "k_proj", "down_proj"])
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", budget="30%")
    spectra = report.spectra
    pool = sorted(
        (
            (value**2 / sum(spectra.sizes[name]), sum(spectra.sizes[name]))
            for name, values in spectra.values.items()
            for value in values
        ),
        reverse=True,
    )
    room, gain = 0.3 * spectra.parameters, 0.0
    for density, cost in pool:  # until the first does not fit
        if cost > room:
            break
        room, gain = room - cost, gain + density * cost
    mine = sum(float(spectra.values[name][:rank] @ spectra.values[name][:rank]) for name, rank in report.ranks.items())
    assert mine >= gain - 1e-9
    assert 0.3 * spectra.parameters - min(map(sum, spectra.sizes.values())) < report.parameters_after
    assert report.parameters_after <= 0.3 * spectra.parameters


def test_modules_without_an_update_are_left_out(tmp_path):
    saved(tmp_path / "adapter", zero="layers.0.self_attn.q_proj")
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", energy=1.0)
    assert report.ranks["model.layers.0.self_attn.q_proj"] == 0
    assert "1 modules left out" in str(report)
    model = PeftModel.from_pretrained(tiny_model(), tmp_path / "out")
    assert not hasattr(model.base_model.model.model.layers[0].self_attn.q_proj, "lora_A")
    assert hasattr(model.base_model.model.model.layers[1].self_attn.q_proj, "lora_A")


@pytest.mark.parametrize(("architecture", "settings"), SETTINGS)
def test_a_larger_rank_changes_nothing_and_can_be_trained(tmp_path, architecture, settings):
    saved(tmp_path / "adapter", architecture, **settings)
    rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=12)
    before, after = updates(tmp_path / "adapter"), updates(tmp_path / "out")
    for name, update in before.items():
        torch.testing.assert_close(after[name], update, atol=2e-5 * float(update.norm()), rtol=0)
    adapter = read_adapter(tmp_path / "out")
    for module in adapter.modules:
        assert module.rank == 12
        a, b = adapter.factors(module)
        dead = (a.norm(dim=1) == 0) & (b.norm(dim=0) == 0)  # neither would ever get a gradient
        assert not dead.any()
    again = rs.resize_adapter(tmp_path / "out", tmp_path / "back", energy=1.0)
    assert max(again.ranks.values()) <= 7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_stays_and_its_rounding_is_reported(tmp_path, dtype):
    saved(tmp_path / "adapter", dtype=dtype)
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=2)
    assert {t.dtype for t in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {dtype}
    before, after = updates(tmp_path / "adapter"), updates(tmp_path / "out")
    exact = {name: truncated(update, 2) for name, update in before.items()}
    lost = sum(float((after[name] - exact[name]).norm() ** 2) for name in exact) / sum(
        float(u.norm() ** 2) for u in exact.values()
    )
    assert report.rounding == pytest.approx(lost**0.5, rel=0.02)
    assert f"rounding: {report.rounding:.1e} of the update's norm" in str(report)


def test_scales_stay_and_patterns_are_few(tmp_path):
    saved(tmp_path / "adapter", r=8, lora_alpha=24)
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", budget="40%")
    adapter = read_adapter(tmp_path / "out")
    assert {module.scale for module in adapter.modules} == {3.0}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert len(config["rank_pattern"]) == len(set(report.ranks.values()) - {0}) - 1


def test_other_files_come_along(tmp_path):
    saved(tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer.json").write_text("{}")
    (tmp_path / "adapter" / "plan.json").write_text("{}")
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=1)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md", "resize.json"}
    assert json.loads((tmp_path / "out" / "resize.json").read_text()) == report.to_dict()


def test_an_adapter_of_a_mixture(tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
    get_peft_model(FAMILIES["mixtral"](), config).save_pretrained(tmp_path / "adapter")
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", budget="50%")
    PeftModel.from_pretrained(FAMILIES["mixtral"](), tmp_path / "out")
    assert report.parameters_after <= report.parameters_before / 2


def test_an_adapter_that_trl_trained(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        tiny_model(),
        SFTConfig(str(tmp_path / "run"), max_steps=3, learning_rate=0.01, report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list([{"text": text} for text in tiny_texts(20)]),
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(r=6, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=2)
    before, after = updates(tmp_path / "adapter"), updates(tmp_path / "out")
    for name, update in before.items():
        torch.testing.assert_close(after[name], truncated(update, 2), atol=2e-5 * float(update.norm()), rtol=0)
    assert (tmp_path / "out" / "tokenizer_config.json").is_file()
    PeftModel.from_pretrained(tiny_model(), tmp_path / "out")


def test_a_config_with_an_expression_and_with_keys_that_peft_does_not_know(tmp_path):
    """As unsloth writes them."""
    expression = r"(?:.*?(?:language|text|model).*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)"
    saved(tmp_path / "adapter", zero="layers.0.self_attn.q_proj")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": expression, "unsloth_fixed": True}))
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", budget="50%")
    model = PeftModel.from_pretrained(tiny_model(), tmp_path / "out")
    built = {name for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert built == {name for name, rank in report.ranks.items() if rank} != set(report.ranks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_rank_changes_no_bit(tmp_path, dtype):
    saved(tmp_path / "adapter", dtype=dtype, rank_pattern={"q_proj": 3})
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=3)
    before, after = (load_file(tmp_path / each / "adapter_model.safetensors") for each in ("adapter", "out"))
    same = {key for key, tensor in before.items() if torch.equal(tensor, after[key])}
    assert same == {key for key in before if "q_proj" in key}
    assert (report.rounding > 0) == (dtype == torch.bfloat16)  # of down_proj
    larger = rs.resize_adapter(tmp_path / "adapter", tmp_path / "larger", rank=9)
    assert larger.rounding == 0 or dtype == torch.bfloat16
    for module in read_adapter(tmp_path / "larger").modules:
        a, b = read_adapter(tmp_path / "larger").factors(module)
        key_a, key_b = module.keys
        n = len(before[key_a])
        assert torch.equal(a[:n], before[key_a])
        assert torch.equal(b[:, :n], before[key_b])
        assert not b[:, n:].any()


def test_whole_tensors_of_any_dtype_are_kept(tmp_path):
    path = saved(tmp_path / "adapter", modules_to_save=["lm_head"]) / "adapter_model.safetensors"
    odd = {"steps": torch.tensor(3), "table": torch.arange(6, dtype=torch.uint8).reshape(2, 3)}
    save_file(load_file(path) | {f"base_model.model.lm_head.{name}": tensor for name, tensor in odd.items()}, path)
    rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=2)
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for name, tensor in odd.items():
        assert torch.equal(after[f"base_model.model.lm_head.{name}"], tensor)


@given(
    sizes=st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=4),
    rank=st.integers(1, 6),
    wanted=st.integers(1, 9),
    alpha=st.floats(0.5, 64),
    stabilised=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40)
def test_any_adapter_to_any_rank(tmp_path_factory, sizes, rank, wanted, alpha, stabilised, seed):
    """Against numpy, with a scale of its own."""
    folder, draw = tmp_path_factory.mktemp("any"), np.random.default_rng(seed)
    wanted = min(wanted, max(min(size) for size in sizes))
    tensors, wholes = {}, {}
    for number, (d_in, d_out) in enumerate(sizes):
        a, b = draw.standard_normal((rank, d_in)), draw.standard_normal((d_out, rank))
        key = f"base_model.model.layers.{number}.fc.lora_"
        tensors |= {f"{key}A.weight": torch.tensor(a).float(), f"{key}B.weight": torch.tensor(b).float()}
        wholes[f"layers.{number}.fc"] = alpha / (rank**0.5 if stabilised else rank) * b @ a
    save_file(tensors, folder / "adapter_model.safetensors")
    config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=stabilised, target_modules=["fc"])
    config.save_pretrained(folder)
    rs.resize_adapter(folder, folder / "out", rank=wanted)
    for name, update in updates(folder / "out").items():
        u, sigma, vh = np.linalg.svd(wholes[name], full_matrices=False)
        expected = (u[:, :wanted] * sigma[:wanted]) @ vh[:wanted]
        error = np.linalg.norm(update.numpy() - expected)
        gap = sigma[wanted - 1] - sigma[wanted] if wanted < len(sigma) else sigma[0]
        if gap > 1e-2 * sigma[0]:  # else the best update is not unique to the precision of float32
            assert error <= 1e-4 * sigma[0]
        lost = np.linalg.norm(update.numpy() - wholes[name])
        assert lost == pytest.approx(np.linalg.norm(sigma[wanted:]), abs=1e-4 * sigma[0])


def test_spectra_before_and_after_agree(tmp_path):
    saved(tmp_path / "adapter")
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=3)
    after = adapter_spectra(tmp_path / "out")
    for name, values in after.values.items():
        np.testing.assert_allclose(values, report.spectra.values[name][:3], rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({}, "one of rank, budget, energy and tolerance, got none"),
        ({"rank": 2, "budget": "50%"}, "got rank and budget"),
        ({"rank": 0}, "an integer rank of at least 1, got 0"),
        ({"rank": 33}, "a rank of at most 32, the full rank of the widest module, got 33"),
        ({"rank": 2.0}, "an integer rank of at least 1, got 2.0"),
        ({"budget": "10"}, "one rank of the smallest module, to .* the whole adapter, got 10"),
        ({"budget": "1M"}, "got 1,000,000"),
        ({"budget": "24GiB"}, "a budget of parameters"),
        ({"energy": 1.5}, "an energy above 0 and at most 1, got 1.5"),
        ({"tolerance": "1%"}, "rows, for tolerance, got none"),
        ({"rank": 2, "weigh_inputs": True}, "rows, for weigh_inputs, got none"),
        ({"rank": 2, "recover_steps": 3}, "rows, for recover_steps, got none"),
        ({"rank": 2, "recover_steps": -1}, "recover_steps of at least 0, got -1"),
        ({"rank": 2, "seed": -1}, "seed of at least 0, got -1"),
        ({"rank": 2, "seed": 1.5}, "seed of at least 0, got 1.5"),
        ({"rank": 2, "learning_rate": float("nan")}, "a learning_rate above 0, got nan"),
        ({"rank": 2, "learning_rate": -1.0}, "a learning_rate above 0, got -1.0"),
    ],
)
def test_sizes_that_cannot_be(tmp_path, size, message):
    saved(tmp_path / "adapter")
    with pytest.raises(ArgumentError, match=message):
        rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", **size)
    assert not (tmp_path / "out").exists()


def test_adapters_that_cannot_be_resized(tmp_path):
    saved(tmp_path / "dora", use_dora=True)
    with pytest.raises(AdapterError, match="use_dora=True"):
        rs.resize_adapter(tmp_path / "dora", tmp_path / "out", rank=2)
    saved(tmp_path / "untrained", init_lora_weights=True)
    with pytest.raises(AdapterError, match="an adapter that changes something"):
        rs.resize_adapter(tmp_path / "untrained", tmp_path / "out", energy=0.9)
    for name in ("one", "two"):
        saved(tmp_path / "several" / name)
    with pytest.raises(AdapterError, match="a folder with one adapter, got .* which contains one, two"):
        rs.resize_adapter(tmp_path / "several", tmp_path / "out", rank=2)
    experts = get_peft_model(
        FAMILIES["mixtral"](), LoraConfig(target_modules=[], target_parameters=["experts.down_proj"])
    )
    experts.save_pretrained(tmp_path / "experts")
    with pytest.raises(AdapterError, match="target_parameters"):
        rs.resize_adapter(tmp_path / "experts", tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists(tmp_path):
    saved(tmp_path / "adapter")
    with pytest.raises(SaveError, match="which exists"):
        rs.resize_adapter(tmp_path / "adapter", tmp_path / "adapter", rank=2)


def test_weights_that_overflow(tmp_path):
    path = saved(tmp_path / "adapter", dtype=torch.float16) / "adapter_model.safetensors"
    save_file({key: torch.full_like(tensor, 60_000.0) for key, tensor in load_file(path).items()}, path)
    with pytest.raises(AdapterError, match="weights that fit into torch.float16"):
        rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()
