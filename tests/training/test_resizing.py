"""Resizing with rows: losses as PEFT gives them, the smallest size within a tolerance, recovery, weighting."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from scipy import stats
from transformers import TrainingArguments

import rankselect as rs
from adapter_folders import saved
from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.resized_ranks import ranks_within
from rankselect.data.encoding import encode_rows
from rankselect.errors import AdapterError, ArgumentError, DataError, SaveError
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

ROWS = [rs.QuestionAnswer(f"why {index}", text) for index, text in enumerate(tiny_texts(24))]
TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter of rank 8 that was trained on the rows."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = TrainingArguments(
        str(folder / "run"), max_steps=30, learning_rate=0.02, report_to="none", disable_tqdm=True, save_strategy="no"
    )
    trainer = rs.RankSelectTrainer(
        tiny_model(),
        arguments,
        strategy="fixed:8",
        plan_arguments={"target_modules": ["q_proj", "v_proj", "down_proj"], "alpha_ratio": 2.0},
        train_dataset=ROWS,
        processing_class=TOKENIZER,
        template=rs.PromptTemplate("Q {question} A {answer}"),
    )
    trainer.train()
    trainer.save_adapter(folder / "adapter")
    return folder / "adapter"


def losses_of(folder):
    model = PeftModel.from_pretrained(tiny_model(), folder).eval()
    return rs.answer_losses(model, TOKENIZER, ROWS, template=rs.PromptTemplate("Q {question} A {answer}"))


def test_losses_are_those_of_the_files(trained, tmp_path):
    """With the template of the adapter's record, and its own tokenizer."""
    report = rs.resize_adapter(trained, tmp_path / "out", rank=1, rows=ROWS, base=tiny_model(), progress=False)
    before, after = losses_of(trained), losses_of(tmp_path / "out")
    differences = np.subtract(after, before)
    margin = stats.t.ppf(0.975, 23) * differences.std(ddof=1) / 24**0.5
    assert report.loss_before == pytest.approx(np.mean(before), abs=1e-5)
    assert report.loss_after.loss == pytest.approx(np.mean(after), abs=1e-5)
    assert report.loss_after.difference == pytest.approx(differences.mean(), abs=1e-5)
    assert report.loss_after.low == pytest.approx(differences.mean() - margin, abs=1e-5)
    assert report.loss_after.high == pytest.approx(differences.mean() + margin, abs=1e-5)
    assert report.loss_after.n == 24
    assert report.loss_recovered is None
    assert json.loads((tmp_path / "out" / "resize.json").read_text())["loss_after"]["n"] == 24
    assert f"loss before: {report.loss_before:.4f}" in str(report)


@pytest.mark.parametrize("tolerance", ["2%", 0.005])
def test_the_smallest_size_within_a_tolerance(trained, tmp_path, tolerance):
    report = rs.resize_adapter(
        trained, tmp_path / "out", tolerance=tolerance, rows=ROWS, base=tiny_model(), progress=False
    )
    limit = (0.02 if tolerance == "2%" else 0.005) * report.loss_before
    assert report.loss_after.high <= limit + 1e-6
    assert report.parameters_after < report.parameters_before
    smaller = ranks_within(report.spectra, int(report.parameters_after / 1.1))
    cut = rs.resize_adapter(
        trained,
        tmp_path / "smaller",
        budget=str(report.spectra.parameters_of(smaller)),
        rows=ROWS,
        base=tiny_model(),
        progress=False,
    )
    assert cut.loss_after.high > limit


def test_a_tolerance_holds_for_what_is_written(trained, tmp_path):
    """In bfloat16, where rounding moves the loss: limits just below the loss of sizes that the search visits."""
    shutil.copytree(trained, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({key: tensor.to(torch.bfloat16) for key, tensor in load_file(path).items()}, path)

    def at(tolerance, out):
        return rs.resize_adapter(
            tmp_path / "adapter", tmp_path / out, tolerance=tolerance, rows=ROWS, base=tiny_model(), progress=False
        )

    for number, tolerance in enumerate((0.001, 0.002, 0.004, 0.008, 0.016)):
        first = at(tolerance, f"first{number}")
        limit = first.loss_after.high - 1e-7
        second = at(limit / first.loss_before, f"second{number}")
        assert second.loss_after.high <= limit


def test_a_tolerance_that_no_smaller_size_meets_keeps_the_adapter(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({key: tensor.to(torch.bfloat16) for key, tensor in load_file(path).items()}, path)
    report = rs.resize_adapter(
        tmp_path / "adapter", tmp_path / "out", tolerance=1e-9, rows=ROWS, base=tiny_model(), progress=False
    )
    assert report.parameters_after == report.parameters_before
    assert report.loss_after.high == report.loss_after.difference == 0


def test_steps_of_recovery_win_back_what_the_cut_lost(trained, tmp_path):
    report = rs.resize_adapter(
        trained,
        tmp_path / "out",
        rank=1,
        rows=ROWS,
        base=tiny_model(),
        recover_steps=20,
        learning_rate=0.004,
        progress=False,
    )
    assert report.loss_recovered.loss < report.loss_after.loss
    assert report.loss_recovered.n == report.loss_after.n == 12  # the other half was trained on
    assert {module.rank for module in read_adapter(tmp_path / "out").modules} == {1}
    cut = rs.resize_adapter(trained, tmp_path / "cut", rank=1)
    for name in cut.ranks:
        one, other = ({m.name: m for m in read_adapter(tmp_path / each).modules}[name] for each in ("out", "cut"))
        assert one.scale == other.scale
    model = PeftModel.from_pretrained(tiny_model(), tmp_path / "out").eval()
    losses = rs.answer_losses(model, TOKENIZER, ROWS, template=rs.PromptTemplate("Q {question} A {answer}"))
    order = np.random.default_rng(0).permutation(24)[12:]
    assert np.mean([losses[index] for index in order]) == pytest.approx(report.loss_recovered.loss, abs=1e-5)


@pytest.mark.parametrize(("architecture", "targets"), [("llama", ["q_proj", "down_proj"]), ("gpt2", ["c_attn", "wte"])])
def test_weighted_by_inputs_the_outputs_on_the_rows_lose_least(tmp_path, architecture, targets):
    """Against the decomposition of the whole update times the square root of the inputs' second moment."""
    saved(tmp_path / "adapter", architecture, target_modules=targets)
    base, seen = tiny_model(architecture).eval(), {}
    report = rs.resize_adapter(
        tmp_path / "adapter",
        tmp_path / "out",
        rank=2,
        rows=ROWS,
        base=base,
        tokenizer=TOKENIZER,
        weigh_inputs=True,
        progress=False,
    )
    adapter, model = (
        read_adapter(tmp_path / "adapter"),
        PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "adapter").eval(),
    )
    for module in adapter.modules:
        layer = model.base_model.model.get_submodule(module.name)
        layer.register_forward_pre_hook(lambda _, given, name=module.name: seen.setdefault(name, []).append(given[0]))
    for row in encode_rows(ROWS, TOKENIZER):
        with torch.no_grad():
            model(torch.tensor([row["input_ids"]]))
    after = {
        module.name: read_adapter(tmp_path / "out").delta(module) for module in read_adapter(tmp_path / "out").modules
    }
    for module in adapter.modules:
        inputs = torch.cat(
            [
                each.flatten() if module.kind == "embedding" else each.reshape(-1, module.d_in)
                for each in seen[module.name]
            ]
        )
        x = torch.nn.functional.one_hot(inputs, module.d_in).float() if module.kind == "embedding" else inputs
        update = adapter.delta(module).T if module.kind == "embedding" else adapter.delta(module)
        small = after[module.name].T if module.kind == "embedding" else after[module.name]
        sigma = torch.linalg.svdvals(x @ update.T)
        np.testing.assert_allclose(report.spectra.values[module.name], sigma[:4], rtol=1e-3)
        lost = float((x @ (update - small).T).norm())
        assert lost == pytest.approx(float(sigma[2:].norm()), rel=1e-3)


@pytest.mark.parametrize(("architecture", "target"), [("llama", "q_proj"), ("gpt2", "wte")])
def test_weighted_by_few_inputs_the_rest_of_the_rank_holds_what_the_rows_do_not_reach(tmp_path, architecture, target):
    rows = [rs.QuestionAnswer("a", "b")] * 6
    saved(tmp_path / "adapter", architecture, target_modules=[target], r=16)
    base, seen = tiny_model(architecture).eval(), []
    how = {"rows": rows, "base": base, "tokenizer": TOKENIZER, "weigh_inputs": True, "progress": False}
    report = rs.resize_adapter(tmp_path / "adapter", tmp_path / "out", rank=14, **how)
    adapter, after = read_adapter(tmp_path / "adapter"), read_adapter(tmp_path / "out")
    module = adapter.modules[0]
    n_seen = int((report.spectra.values[module.name] > 1e-4 * report.spectra.values[module.name][0]).sum())
    assert n_seen < 14
    model = PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "adapter").eval()
    model.base_model.model.get_submodule(module.name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(torch.tensor([encode_rows(rows, TOKENIZER)[0]["input_ids"]]))
    embedding = module.kind == "embedding"
    x = torch.nn.functional.one_hot(seen[0][0], module.d_in).double() if embedding else seen[0][0].double()
    whole, small = (
        (each.delta(each.modules[0]).T if embedding else each.delta(each.modules[0])).double()
        for each in (adapter, after)
    )
    outputs = x @ whole.T
    assert float((outputs - x @ small.T).norm()) < 1e-3 * float(outputs.norm())
    u, sigma, _ = torch.linalg.svd(outputs.T, full_matrices=False)
    u = u[:, sigma > 1e-4 * sigma[0]]
    rest = torch.linalg.svdvals(whole - u @ (u.T @ whole))
    assert float((whole - small).norm()) == pytest.approx(float(rest[14 - u.shape[1] :].norm()), rel=1e-2)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        ({"rank": 2, "out": "trained"}, SaveError, "which exists"),
        ({"rank": 999}, ArgumentError, "a rank of at most"),
        ({"budget": "9M"}, ArgumentError, "a budget from"),
        ({"energy": 2}, ArgumentError, "an energy above 0"),
    ],
)
def test_a_size_that_cannot_be_is_found_before_the_base_is_loaded(trained, tmp_path, size, error, message):
    out = trained if size.get("out") else tmp_path / "out"
    with pytest.raises(error, match=message):
        rs.resize_adapter(trained, **{**size, "out": out}, rows=ROWS, base=tmp_path / "nowhere", progress=False)
    assert not (tmp_path / "out").exists()


def test_the_base_model_is_left_as_it_was(trained, tmp_path):
    base = tiny_model().train()
    base.model.layers[0].requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in base.named_parameters()}
    names = [name for name, _ in base.named_modules()]
    for number, how in enumerate(({"rank": 2}, {"tolerance": 0.5}, {"rank": 2, "recover_steps": 2})):
        rs.resize_adapter(trained, tmp_path / str(number), rows=ROWS, base=base, progress=False, **how)
        assert [name for name, _ in base.named_modules()] == names
        assert all(torch.equal(state[name], tensor) for name, tensor in base.state_dict().items())
        assert {name: parameter.requires_grad for name, parameter in base.named_parameters()} == flags
        assert all(module.training for module in base.modules())


def test_the_base_is_found_by_the_name_in_the_config(trained, tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    shutil.copytree(trained, tmp_path / "copy")
    path = tmp_path / "copy" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "base")}))
    report = rs.resize_adapter(tmp_path / "copy", tmp_path / "out", rank=2, rows=ROWS, progress=False)
    assert report.loss_before == pytest.approx(np.mean(losses_of(trained)), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rows": ROWS}, AdapterError, "an adapter whose config names its base model"),
        ({"rows": ROWS[:3], "base": tiny_model()}, DataError, "at least 6 rows, for an interval, got 3"),
        (
            {"rows": ROWS[:8], "base": tiny_model(), "recover_steps": 1},
            DataError,
            "at least 12 rows, for an interval, got 8",
        ),
        ({"rows": ROWS, "base": tiny_model("gpt2")}, AdapterError, "an adapter of this base model"),
        ({"rows": ["no row"] * 9, "base": tiny_model()}, DataError, "a mapping or an object with question and answer"),
    ],
)
def test_rows_and_bases_that_cannot_be(trained, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        rs.resize_adapter(trained, tmp_path / "out", rank=2, progress=False, **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tolerance", [0, -0.1, "1", "one", float("nan"), True])
def test_tolerances_that_are_none(trained, tmp_path, tolerance):
    with pytest.raises(ArgumentError, match="a tolerance above 0, as a share of the loss"):
        rs.resize_adapter(trained, tmp_path / "out", tolerance=tolerance, rows=ROWS, base=tiny_model())


def test_an_adapter_with_more_than_factors_is_not_trained_further(tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    get_peft_model(tiny_model(), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError, match="one that also contains lm_head.weight"):
        rs.resize_adapter(
            tmp_path / "adapter",
            tmp_path / "out",
            rank=1,
            rows=ROWS,
            base=tiny_model(),
            tokenizer=TOKENIZER,
            recover_steps=2,
        )


def test_ctrl_c_leaves_nothing_behind(trained, tmp_path, monkeypatch):
    from rankselect.training.measured_adapter import MeasuredAdapter

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MeasuredAdapter, "change", press)
    base = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        rs.resize_adapter(trained, tmp_path / "out", rank=2, rows=ROWS, base=base, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert not any("lora" in name for name, _ in base.named_modules())
