"""`rankselect profile`: the same numbers as in Python, a plot, and options that reach the measurement."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration
from typer.testing import CliRunner

import rankselect as rs
from rankselect.cli.app import app
from rankselect.data.rows import load_texts
from rankselect.testing import tiny_texts, tiny_tokenizer


def test_writes_what_python_measures_and_shows_it(run, model, texts, tmp_path):
    out, picture = tmp_path / "profile.json", tmp_path / "profile.png"
    arguments = ("--field", "answer", "--out", out, "--plot", picture)
    result = run("profile", model, "--data", texts, *arguments)
    assert result.exit_code == 0
    written = rs.IDProfile.load(out)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    expected = rs.id_profile(loaded, tokenizer, tiny_texts(60), progress=False)
    assert written.layers == expected.layers
    np.testing.assert_allclose(written.values, expected.values, rtol=1e-6)
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = str(written).splitlines()
    assert result.stdout.splitlines()[:2] == lines[:2]
    assert f"Wrote {out} and {picture}" in result.stdout
    assert f"rankselect plan {model} --strategy per-layer-id --profile {out}" in result.stdout


def test_shows_the_ranks_that_strategies_would_give(run, model, texts, tmp_path):
    out = tmp_path / "profile.json"
    result = run("profile", model, "--data", texts, "--field", "answer", "--out", out)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    planned = rs.IntrinsicMax().plan(loaded, rs.IDProfile.load(out))
    row = next(line for line in result.stdout.splitlines() if "intrinsic-max" in line)
    assert row.split()[1:] == [str(max(planned.ranks.values())), f"{planned.trainable_parameters:,}"]


def test_options_reach_the_measurement(run, model, texts, tmp_path):
    out = tmp_path / "profile.json"
    options = "--pooling last --estimator mle:n_neighbors=5,aggregate=median --max-length 16 --max-samples 40 --seed 3"
    result = run("profile", model, "--data", texts, "--field", "answer", "--out", out, *options.split())
    assert result.exit_code == 0
    how = rs.IDProfile.load(out).measurement
    assert (how.pooling, how.max_length, how.n_texts, how.seed) == ("last", 16, 40, 3)
    assert how.estimator == repr(rs.MLE(n_neighbors=5, aggregate="median"))


def test_a_warning_is_one_line_on_stderr(run, model, texts, tmp_path):
    result = run("profile", model, "--data", texts, "--field", "answer", "--out", tmp_path / "profile.json")
    assert "not reliable" not in result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("warning: The order of the layers by ID is not reliable")


def test_a_terminal_without_line_drawing_gets_plain_characters(model, texts, tmp_path):
    arguments = ["profile", str(model), "--data", str(texts), "--field", "answer", "--out", str(tmp_path / "p.json")]
    result = CliRunner(charset="ascii").invoke(app, arguments)
    assert result.exit_code == 0
    assert "?" not in result.stdout
    assert result.stdout.startswith("model.layers.0")
    assert "+-" in result.stdout.splitlines()[0]


@pytest.mark.parametrize("field", ["text", "question", "answer"])
def test_the_embedded_texts(field):
    texts = load_texts("medical-qa", field)
    assert len(texts) == len(set(texts)) == 1024


def test_a_vision_tower_is_left_out_and_that_is_said_once(run, texts, tmp_path):
    """Texts pass through the language layers only; some default targets of this family are in the vision layers."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = {**sizes, "vocab_size": 50, "num_key_value_heads": 2, "head_dim": 8}
    image = {**sizes, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=image, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    result = run("profile", tmp_path, "--data", texts, "--field", "answer", "--out", tmp_path / "profile.json")
    assert result.exit_code == 0
    assert " ".join(result.stderr.split()).count("do not run on texts: 12 modules of model.vision_tower") == 1
    assert "do not work" not in result.stdout
