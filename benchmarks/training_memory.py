"""Predicted and measured peak memory of training steps on a CPU.

    python benchmarks/training_memory.py [--assets FOLDER]

The prediction runs a copy of the model without weights on the meta device. The measurement is independent of it: a real
model gets a PEFT adapter and is trained for a second step under `torch.profiler`. The peak is the sum of all recorded
allocations and releases, plus the size of the tensors that existed before the step.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers as tf
from accelerate.utils import convert_to_fp32
from peft import get_peft_model, prepare_model_for_kbit_training
from torch.profiler import ProfilerActivity, profile

import rankselect as rs
from machine import describe
from rankselect.memory import TrainingStep, estimate_memory
from rankselect.training.small_phi import small_phi

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 0.10
SETTINGS: list[dict[str, Any]] = [
    {},
    {"gradient_checkpointing": True},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "gradient_checkpointing": True},
    {"autocast": "bfloat16"},
    {"lora_dropout": 0.1},
    {"padding": False},
    {"accumulate": True},
    {"dtype": "bfloat16", "quantization": "nf4"},
    {"dtype": "bfloat16", "quantization": "nf4", "gradient_checkpointing": True},
    {"dtype": "bfloat16", "quantization": "int8"},
    {"dtype": "bfloat16", "quantization": "int8", "gradient_checkpointing": True},
]
SHAPES = [(1, 64), (4, 128), (2, 512)]


def measured_peak(model: torch.nn.Module, plan: rs.RankPlan, step: TrainingStep) -> int:
    """Measure the peak bytes in the second step of real training."""
    real = as_loaded(model, step)
    adapted = get_peft_model(real, plan.to_lora_config(lora_dropout=step.lora_dropout)).train()
    if step.gradient_checkpointing:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([parameter for parameter in adapted.parameters() if parameter.requires_grad])
    ids = torch.randint(2, adapted.config.vocab_size, (step.batch_size, step.length))
    mask = torch.ones_like(ids)
    if step.padding:
        mask[0, -1] = 0

    def train(*, update: bool = True) -> None:
        batch = {"input_ids": ids.clone(), "attention_mask": mask.clone(), "labels": ids.clone()}
        mixed = nullcontext() if step.autocast is None else torch.autocast("cpu", getattr(torch, str(step.autocast)))
        with mixed:
            outputs = adapted(**batch, use_cache=False)
        if step.autocast is not None:  # as accelerate does around a model's forward pass
            outputs = convert_to_fp32(outputs)
        loss = outputs.loss
        del outputs
        loss.backward()
        if update:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    train()
    if step.accumulate:
        train(update=False)
    held = held_bytes(adapted, optimizer)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        train()
    return held + highest_sum(record)


def held_bytes(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of weights, gradients, scales of quantised layers and optimizer states; shared storages once."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    tensors += [value for state in optimizer.state.values() for value in state.values()]
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.state2.absmax, state.state2.code]
        tensors += [getattr(getattr(module, "state", None), "SCB", None)]
    storages = {tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None}
    return sum(storages.values())


def highest_sum(record: Any) -> int:
    """Return the maximum of the running sum of allocations and releases in a profile."""
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        highest = max(highest, total)
    return highest


def as_loaded(model: Any, step: TrainingStep) -> Any:
    """Return a separate model for training, with the dtypes of the step."""
    dtype = getattr(torch, str(step.dtype)) if step.dtype else model.dtype
    if step.quantization == "none":
        return copy.deepcopy(model).to(dtype)
    how = {
        "nf4": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        },
        "int8": {"load_in_8bit": True},
    }[step.quantization]
    with tempfile.TemporaryDirectory() as folder:
        copy.deepcopy(model).to(dtype).save_pretrained(folder)
        config = tf.BitsAndBytesConfig(**how)
        loaded = type(model).from_pretrained(folder, quantization_config=config, dtype=dtype, device_map={"": "cpu"})
    return prepare_model_for_kbit_training(loaded, use_gradient_checkpointing=False)


def models(assets: Path | None) -> dict[str, Callable[[], Any]]:
    """Return the models by name."""
    found: dict[str, Callable[[], Any]] = {
        "small Phi, 2 M parameters": lambda: small_phi(steps=0, progress=False)[0],
        "GPT-2 small, 124 M, random": lambda: tf.GPT2LMHeadModel(tf.GPT2Config()),
        "BERT, 4 layers of 256, random": lambda: tf.BertForMaskedLM(
            tf.BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
        ),
        "T5 small, 61 M, random": lambda: tf.T5ForConditionalGeneration(tf.T5Config(decoder_start_token_id=0)),
    }
    if assets is not None:
        found["Llama, 260 k (stories260k)"] = lambda: tf.AutoModelForCausalLM.from_pretrained(
            assets / "models" / "stories260k"
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, help="a folder with models/stories260k")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    print(f"{describe('torch', 'transformers', 'peft', 'bitsandbytes')}\n")
    print("| model, rank 8 | batch x length | settings | measured MiB | predicted MiB | ratio |")
    print("|---|---|---|---:|---:|---:|")
    ratios = []
    for name, build in models(parser.parse_args().assets).items():
        model = build()
        plan = rs.Fixed(8).plan(model, target_modules="all-linear")
        for batch_size, length in SHAPES:
            for settings in SETTINGS if batch_size == 4 else SETTINGS[:2]:
                step = TrainingStep(batch_size=batch_size, length=length, device="cpu", **settings)
                measured = measured_peak(model, plan, step)
                predicted = estimate_memory(model, plan, **vars(step)).peak
                ratios.append(predicted / measured)
                how = ", ".join(key if value is True else f"{key}={value}" for key, value in settings.items())
                print(
                    f"| {name} | {batch_size} x {length} | {how or 'float32'} | {measured / 2**20:.1f} "
                    f"| {predicted / 2**20:.1f} | {ratios[-1]:.4f} |",
                    flush=True,
                )
    missed = sum(abs(ratio - 1) > BOUND for ratio in ratios)
    span = f"ratios from {min(ratios):.4f} to {max(ratios):.4f}"
    print(f"\n{len(ratios)} settings, {span}; {missed} miss the bound of 10 %.")


if __name__ == "__main__":
    main()
