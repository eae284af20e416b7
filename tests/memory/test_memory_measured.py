"""Predicted peaks against those that a profiler saw while real models were trained."""

import importlib
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import transformers as tf
from torch.profiler import ProfilerActivity, profile

import rankselect as rs
from rankselect.memory import TrainingStep, estimate_memory
from rankselect.testing import tiny_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NF4 = {"quantization": "nf4", "dtype": "bfloat16"}
INT8 = {"quantization": "int8", "dtype": "bfloat16"}


@pytest.fixture(scope="module")
def bench():
    """The benchmark whose measurement, by the profiler, shares nothing with the prediction."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("training_memory")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def phi():
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    return tf.PhiForCausalLM(tf.PhiConfig(vocab_size=1500, max_position_embeddings=512, **shape))


def ratio(bench, model, **settings):
    plan = rs.Fixed(8).plan(model, target_modules="all-linear")
    step = TrainingStep(device="cpu", **settings)
    return estimate_memory(model, plan, **vars(step)).peak / bench.measured_peak(model, plan, step)


def close(value, within=0.02):
    return value == pytest.approx(1, abs=within)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 64), (6, 100)])
def test_phi(bench, phi, shape, dtype, checkpointing):
    settings = {"batch_size": shape[0], "length": shape[1], "dtype": dtype, "gradient_checkpointing": checkpointing}
    assert close(ratio(bench, phi, **settings), 0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": False},
        {"accumulate": True},
        {"lora_dropout": 0.1},
        {"autocast": "bfloat16"},
        {"autocast": "bfloat16", "dtype": "bfloat16", "gradient_checkpointing": True},
        NF4,
        {**NF4, "gradient_checkpointing": True},
        INT8,
        {**INT8, "gradient_checkpointing": True},
    ],
)
def test_phi_in_other_settings(bench, phi, settings):
    assert close(ratio(bench, phi, batch_size=4, length=128, **settings))


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"autocast": "bfloat16"}, NF4])
def test_gpt2_with_transposed_layers_and_dropout(bench, settings):
    model = tf.GPT2LMHeadModel(tf.GPT2Config(n_layer=3, n_embd=128, n_head=4, vocab_size=1000))
    assert close(ratio(bench, model, batch_size=4, length=128, **settings))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_llama_with_grouped_heads(bench, checkpointing):
    settings = {"batch_size": 4, "length": 128, "gradient_checkpointing": checkpointing}
    assert close(ratio(bench, tiny_model(), **settings))


@pytest.mark.assets
@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}, {"dtype": "bfloat16"}, NF4])
def test_stories260k(bench, assets, settings):
    model = tf.AutoModelForCausalLM.from_pretrained(assets / "models" / "stories260k")
    assert close(ratio(bench, model, batch_size=4, length=256, **settings))


@pytest.mark.parametrize("settings", [{}, {"autocast": "bfloat16"}, NF4])
def test_encoder(bench, settings):
    config = tf.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, vocab_size=999
    )
    assert close(ratio(bench, tf.BertForMaskedLM(config), batch_size=4, length=128, **settings))


@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}, NF4])
def test_encoder_decoder(bench, settings):
    config = tf.T5Config(
        d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4, vocab_size=999, decoder_start_token_id=0
    )
    assert close(ratio(bench, tf.T5ForConditionalGeneration(config), batch_size=4, length=128, **settings))


@pytest.mark.parametrize("bf16", [False, True])
def test_transformers_trainer(bench, phi, bf16):
    """The whole of a real training run: its optimizer, clipping, autocast and conversions included."""
    plan = rs.Fixed(8).plan(phi)
    model = bench.get_peft_model(bench.as_loaded(phi, TrainingStep()), plan.to_lora_config(task_type="CAUSAL_LM"))
    ids = torch.randint(2, 1500, (12, 128))
    rows = [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids]
    for row in rows:
        row["attention_mask"][-1] = 0
    arguments = tf.TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=3,
        per_device_train_batch_size=4,
        bf16=bf16,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = tf.Trainer(model, arguments, train_dataset=rows)
    held = bench.held_bytes(model, torch.optim.SGD(model.parameters()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        trainer.train()
    measured = held + bench.highest_sum(record)
    estimate = rs.estimate_memory(phi, plan, batch_size=4, length=128, autocast="bfloat16" if bf16 else None)
    assert close(estimate.peak / measured)
