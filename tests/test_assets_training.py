"""Real weights and questions: an adapter trained on 4 bits, scored, merged, exported, and loaded again."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import rankselect as rs
from rankselect.cli.app import app
from rankselect.models.quantized_layers import quantization_of

pytestmark = [pytest.mark.assets, pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")]


@pytest.fixture(scope="module")
def run(assets):
    """Run a command, and read what it prints for machines."""

    def invoke(*arguments: object):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke


@pytest.fixture(scope="module")
def paths(assets):
    return assets / "models" / "stories260k", assets / "data" / "medquad"


@pytest.fixture(scope="module")
def trained(run, paths, tmp_path_factory):
    model, data = paths
    folder = tmp_path_factory.mktemp("stories") / "run"
    settings = {
        "--strategy": "per-layer-id",
        "--quantization": "nf4",
        "--device-map": "cpu",
        "--max-length": 128,
        "--epochs": 1,
        "--learning-rate": 0.002,
        "--batch-size": 16,
    }
    options = [*(word for pair in settings.items() for word in pair), "--profile-after", "--json"]
    files = ["--data", data / "train.jsonl", "--eval-data", data / "eval.jsonl", "--out", folder]
    return folder / "adapter", run("train", model, *files, *options)


@pytest.fixture
def tokens(paths):
    return rs.load_tokenizer(paths[0])("### Instruction: What is asthma ? ### Assistant:", return_tensors="pt")


def logits_of(model, tokens):
    model.eval()
    with torch.no_grad():
        return model(**tokens).logits.float()


def in_four_bits(path):
    return rs.load_model(path, quantization="nf4", dtype="float32", device_map="cpu")


def test_the_loss_falls_and_each_layer_has_a_rank_of_its_own(trained):
    adapter, record = trained
    losses = [loss for _, loss in record["losses"]]
    assert record["steps"] == 63
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 0.3
    assert record["evaluation_losses"][-1][1] < losses[0]
    plan, before = rs.RankPlan.load(adapter / "plan.json"), rs.IDProfile.load(adapter / "profile.json")
    assert len(set(plan.ranks.values())) > 1
    after = rs.IDProfile.load(adapter / "profile_after.json")
    assert after.layers == before.layers
    assert (after.values != before.values).any()


def test_answers_are_generated_and_scored_better_than_those_of_the_base_model(run, trained, paths, tmp_path):
    model, data = paths
    data_options = ["--data", data / "eval.jsonl", "--max-new-tokens", 40, "--batch-size", 40]
    options = [*data_options, "--json", "--device-map", "cpu"]
    out = tmp_path / "answers.jsonl"
    metrics = [word for name in ("token-f1", "questeval-cloze", "perplexity") for word in ("--metric", name)]
    adapted = run("evaluate", model, "--adapter", trained[0], "--out", out, *metrics, *options)
    base = run("evaluate", model, "--quantization", "nf4", "--metric", "perplexity", *options)
    assert adapted["n_answers"] == 200
    assert adapted["scores"]["perplexity"]["high"] < base["scores"]["perplexity"]["low"]
    for name in ("token-f1", "questeval-cloze"):
        assert 0 <= adapted["scores"][name]["low"] <= adapted["scores"][name]["mean"] <= 1
    answers = [json.loads(line)["answer"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(set(answers)) > 20
    assert not any("### Instruction" in answer for answer in answers)


def test_merged_onto_the_dequantized_base_it_is_the_model_that_was_trained(run, trained, paths, tokens, tmp_path):
    out = tmp_path / "merged"
    run("merge", trained[0], "--out", out, "--json")
    unmerged = logits_of(PeftModel.from_pretrained(in_four_bits(paths[0]), trained[0]), tokens)
    merged = logits_of(AutoModelForCausalLM.from_pretrained(out, dtype="float32"), tokens)
    assert (merged - unmerged).abs().max() < 1e-3 * unmerged.abs().max()


def test_merged_in_the_other_ways_it_is_another_model_and_says_so(run, trained, paths, tokens, tmp_path):
    unmerged = logits_of(PeftModel.from_pretrained(in_four_bits(paths[0]), trained[0]), tokens)
    for onto in ("original", "requantized"):
        report = run("merge", trained[0], "--out", tmp_path / onto, "--onto", onto, "--json")
        loaded = rs.load_model(tmp_path / onto, device_map="cpu")
        difference = float((logits_of(loaded, tokens) - unmerged).abs().max() / unmerged.abs().max())
        assert difference > 1e-3
        assert report["difference"]["relative"] > 1e-3
        assert quantization_of(loaded) == ("nf4" if onto == "requantized" else "none")


@pytest.mark.parametrize("target", ["vllm", "llama.cpp", "sglang", "tensorrt-llm", "any"])
def test_exported_it_is_the_same_adapter_in_plain_peft(run, trained, paths, tokens, target):
    out = trained[0].parent / f"for-{target}"
    run("export", trained[0], "--for", target, "--out", out, "--json")
    exported = PeftModel.from_pretrained(in_four_bits(paths[0]), out)
    config = exported.peft_config["default"]
    assert not config.rank_pattern
    assert not config.alpha_pattern
    assert config.r == config.lora_alpha
    unmerged = logits_of(PeftModel.from_pretrained(in_four_bits(paths[0]), trained[0]), tokens)
    torch.testing.assert_close(logits_of(exported, tokens), unmerged, rtol=1e-5, atol=1e-4)
