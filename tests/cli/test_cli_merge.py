"""`rankselect merge`: the folder, the table, the JSON, and one line for each error."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
OPTIONS = """ADAPTER --out --base --onto --quantization --dtype --max-shard-size --check-texts --field --n-texts
    --no-measure --trust-remote-code --json --no-progress auto|dequantized|original|requantized Merge Check"""


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory):
    """An adapter of the tiny model with nonzero weights."""
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(r=3, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder)
    return folder


def test_a_merge_in_4_bits(run, model, adapter, tmp_path):
    out = tmp_path / "merged"
    result = run("merge", adapter, "--out", out, "--quantization", "nf4")
    assert result.exit_code == 0, result.output
    for words in ("dequantized", "nf4 (as you said)", "modules", "greatest logit difference", f"Wrote {out}"):
        assert words in result.stdout.replace("\n", "")
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32
    assert (out / "tokenizer.json").is_file()


def test_json_and_texts_to_check_on(run, model, adapter, texts, tmp_path):
    check = ("--check-texts", texts, "--field", "answer", "--n-texts", 3)
    result = run("merge", adapter, "--out", tmp_path / "merged", "--quantization", "none", "--json", *check)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["format"] == "rankselect.merge_report"
    assert report["difference"]["relative"] < 1e-5
    assert 3 < report["difference"]["n_tokens"] < 128
    assert "Wrote" in result.stderr
    tokens = torch.arange(8)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
    torch.testing.assert_close(merged(tokens).logits, unmerged(tokens).logits, rtol=1e-4, atol=1e-4)


def test_another_base_and_no_measurement(run, model, adapter, tmp_path):
    base = shutil.copytree(model, tmp_path / "elsewhere")
    arguments = ("--base", base, "--quantization", "int8", "--onto", "original", "--no-measure", "--dtype", "bfloat16")
    result = run("merge", adapter, "--out", tmp_path / "merged", *arguments)
    assert result.exit_code == 0, result.output
    assert "elsewhere" in result.stdout.replace("\n", "").replace(" ", "")
    assert "not measured" in result.stdout
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").dtype == torch.bfloat16


def test_a_warning_without_a_training_record(run, adapter, tmp_path):
    result = run("merge", adapter, "--out", tmp_path / "merged", "--no-measure")
    assert result.exit_code == 0, result.output
    assert "warning: It is not recorded whether" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--out", "{out}"), "error: expected a folder with an adapter (adapter_config.json), got nowhere"),
        (("{adapter}", "--out", "{adapter}"), "error: expected a new or empty folder, got"),
        (("{adapter}", "--out", "{out}", "--base", "nowhere"), "error: expected a model that transformers can load"),
        (("{adapter}", "--out", "{out}", "--onto", "dequantized"), "Specify what the adapter was trained with"),
    ],
)
def test_errors_are_one_line(run, adapter, tmp_path, arguments, message):
    filled = [argument.format(adapter=adapter, out=tmp_path / "out") for argument in arguments]
    result = run("merge", *filled, "--quantization", "none")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert not (tmp_path / "out").exists()


def test_help_names_every_option(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = run("merge", "--help")
    assert [word for word in OPTIONS.split() if word not in result.stdout] == []
    assert "rankselect merge adapter --out merged" in result.stdout
