"""`rankselect export`: the folder, the table, the JSON, and one line for each error."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig, get_peft_model

from rankselect.testing import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
ENGINES = ["any", "vllm", "llama.cpp", "sglang", "tensorrt-llm"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter of two ranks."""
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    config = LoraConfig(r=3, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 5})
    get_peft_model(tiny_model(), config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_one_rank_for_every_engine(run, adapter, tmp_path, engine):
    result = run("export", adapter, "--out", tmp_path / "out", "--for", engine)
    assert result.exit_code == 0, result.output
    config = LoraConfig.from_pretrained(tmp_path / "out")
    assert config.r == config.lora_alpha == (8 if engine in {"any", "vllm"} else 5)
    for words in ("4 modules", "before", "after", "3 to 5", "parameters", "bytes", "next:"):
        assert words in " ".join(result.stdout.split())


def test_json(run, adapter, tmp_path):
    result = run("export", adapter, "--out", tmp_path / "out", "--json", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["format"], report["rank"], report["ranks"]) == ("rankselect.export_report", 8, [3, 5])
    assert report["bytes_after"] == 2 * report["parameters_after"]
    assert "Wrote" in result.stderr


def test_errors_are_one_line(run, adapter, tmp_path):
    result = run("export", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "error: expected a folder with an adapter (adapter_config.json), got" in result.stderr
    assert result.stderr.count("error: ") == 1
    assert run("export", adapter, "--out", adapter).exit_code == 2
    assert run("export", adapter, "--out", tmp_path / "out", "--for", "onnx").exit_code == 2


def test_help_names_every_option(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = run("export", "--help")
    for word in ("ADAPTER", "--out", "--for", "--dtype", "--json", "rankselect export adapter --out served", *ENGINES):
        assert word in result.stdout
