"""Predicted peaks against measured ones for many families of models, each tiny."""

import importlib
import sys
from pathlib import Path

import pytest

import rankselect as rs
from architectures import FAMILIES
from rankselect.memory import TrainingStep, estimate_memory

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def measured_peak():
    """The benchmark's measurement, by the profiler."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("training_memory").measured_peak
    finally:
        sys.path.remove(str(BENCHMARKS))


def ratio(measured_peak, model, **settings):
    plan = rs.Fixed(8).plan(model, target_modules="all-linear")
    step = TrainingStep(device="cpu", batch_size=4, length=48, **settings)
    return estimate_memory(model, plan, **vars(step)).peak / measured_peak(model, plan, step)


@pytest.mark.parametrize(
    "family", ["mistral", "gemma", "phi3", "gptj", "gpt_neox", "opt", "bloom", "falcon", "mpt", "bart", "mamba2"]
)
def test_dense_models(measured_peak, family):
    assert ratio(measured_peak, FAMILIES[family]()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_mixtures_of_experts_in_bfloat16(measured_peak, family):
    assert ratio(measured_peak, FAMILIES[family](), dtype="bfloat16") == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "family", ["bert", "albert", "deberta-v2", "modernbert", "roberta", "distilbert", "llama-4bit"]
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_models_without_a_language_head_and_quantised_ones_are_counted_too(family, device):
    model = FAMILIES[family]()
    estimate = rs.estimate_memory(model, rs.Fixed(2).plan(model), batch_size=2, length=16, device=device)
    assert estimate.peak > estimate.base_weights + estimate.activations > estimate.base_weights > 0
