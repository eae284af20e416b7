"""Predicted and measured peak memory, and seconds per step, of Phi-2 in NF4 on a GPU.

    python benchmarks/gpu_memory.py
    python benchmarks/gpu_memory.py --tiny --device cpu    # the same code on a small model, to try it without a GPU

The model has Phi-2's configuration and random weights: memory and time do not depend on their values. It is built in
bfloat16 on the host and quantised layer by layer, so that the GPU never holds more than one unquantised layer. The
prediction is computed first, from the configuration alone. The measurement is `torch.cuda.max_memory_allocated` over
steps after the first; on a CPU, it is the peak of the profiler's allocations.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import sys
import time
import warnings
from contextlib import nullcontext
from typing import Any

import torch
import transformers as tf
from peft import get_peft_model, prepare_model_for_kbit_training
from torch import nn
from torch.profiler import ProfilerActivity, profile

import rankselect as rs
from machine import describe
from rankselect.memory import MemoryEstimate, estimate_memory
from training_memory import held_bytes, highest_sum

TARGETS = ["q_proj", "k_proj", "v_proj", "fc1", "fc2"]
RANKS, ALPHA_RATIO = (1, 6, 14, 64), 8.0
PHI_2 = {
    "vocab_size": 51200,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "partial_rotary_factor": 0.4,
    "resid_pdrop": 0.1,
}
TINY = {**PHI_2, "vocab_size": 1500, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
TINY["num_attention_heads"] = 4


def quantised(config: tf.PhiConfig, device: str) -> Any:
    """Build a random model in NF4, prepared for training."""
    import bitsandbytes as bnb  # optional

    model = tf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            layer = bnb.nn.Linear4bit(
                module.in_features, module.out_features, module.bias is not None, torch.bfloat16, quant_type="nf4"
            )
            layer.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4", module=layer)
            layer.bias = module.bias
            model.set_submodule(name, layer.to(device))  # moving it quantises it
    model.is_loaded_in_4bit = True  # PEFT reads this attribute
    return prepare_model_for_kbit_training(model.to(device), use_gradient_checkpointing=False)


def predicted(config: tf.PhiConfig, rank: int, settings: dict[str, Any]) -> MemoryEstimate:
    """Predict the peak memory from the configuration alone."""
    with torch.device("meta"):
        model = tf.AutoModelForCausalLM.from_config(config)
    plan = rs.Fixed(rank).plan(model, target_modules=TARGETS, alpha_ratio=ALPHA_RATIO)
    return estimate_memory(model, plan, quantization="nf4", dtype="bfloat16", **settings)


def measured(
    adapted: Any, settings: dict[str, Any], device: str, n_steps: int, n_warm_up: int = 1
) -> tuple[int, float]:
    """Measure peak bytes and seconds per step, after warm-up steps."""
    if settings["gradient_checkpointing"]:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        adapted.gradient_checkpointing_disable()
    optimizer = torch.optim.AdamW([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=1e-4)
    shape = (settings["batch_size"], settings["length"])

    def step() -> None:
        ids = torch.randint(2, adapted.config.vocab_size, shape, device=device)
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        mixed = torch.autocast(device, torch.bfloat16) if settings["autocast"] else nullcontext()
        with mixed:
            outputs = adapted(input_ids=ids, attention_mask=mask, labels=ids.clone(), use_cache=False)
        if settings["autocast"]:  # as accelerate does
            outputs = {name: value.float() for name, value in outputs.items()}
        loss = outputs["loss"]
        del outputs
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(n_warm_up):
        step()
    if device == "cpu":
        began = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
        return held_bytes(adapted, optimizer) + highest_sum(record), time.perf_counter() - began
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(n_steps):
        step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), (time.perf_counter() - began) / n_steps


def rows(config: tf.PhiConfig, shapes: list[tuple[int, int]], device: str, n_steps: int) -> Any:
    """Yield the values of each row of the table."""
    base = quantised(config, device)
    for rank in RANKS:
        plan = rs.Fixed(rank).plan(base, target_modules=TARGETS, alpha_ratio=ALPHA_RATIO)
        adapted = get_peft_model(base, plan.to_lora_config()).train()
        plan.verify(adapted)
        for (batch_size, length), checkpointing, autocast in itertools.product(
            shapes, (False, True), (None, "bfloat16")
        ):
            settings = {
                "batch_size": batch_size,
                "length": length,
                "gradient_checkpointing": checkpointing,
                "autocast": autocast,
                "device": device,
            }
            estimate = predicted(config, rank, settings)
            try:
                peak, seconds = measured(adapted, settings, device, n_steps)
            except torch.cuda.OutOfMemoryError:
                peak, seconds = 0, 0.0
            adapted.get_base_model().disable_input_require_grads()  # for the next setting
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
            yield rank, settings, estimate.peak, peak, seconds
        base = adapted.unload()


def device_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options for the device and the small model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of 4 layers of width 128")
    return parser


def require_device(arguments: argparse.Namespace) -> str:
    """Return the name of the device; exit if it is missing, or too slow for the full model."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("No CUDA GPU here. To try the script without one: --tiny --device cpu.")
    if arguments.device == "cpu" and not arguments.tiny:
        sys.exit("On a CPU a step of the full Phi-2 takes minutes. Add --tiny.")
    return torch.cuda.get_device_name() if arguments.device == "cuda" else "no GPU"


def main() -> None:
    """Print the table."""
    parser = device_parser(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed")
    arguments = parser.parse_args()
    where = require_device(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    config = tf.PhiConfig(**(TINY if arguments.tiny else PHI_2))
    shapes = [(2, 64), (4, 128)] if arguments.tiny else [(1, 512), (4, 256), (4, 512), (8, 512), (2, 1024)]
    print(f"{where}; {describe('torch', 'transformers', 'peft', 'bitsandbytes')}\n")
    print("| rank | batch x length | checkpointing | autocast | predicted GiB | measured GiB | ratio | s per step |")
    print("|---:|---|---|---|---:|---:|---:|---:|")
    ratios = []
    for rank, settings, estimate, peak, seconds in rows(config, shapes, arguments.device, arguments.steps):
        shape = f"{settings['batch_size']} x {settings['length']}"
        cells = f"| {rank} | {shape} | {'yes' if settings['gradient_checkpointing'] else 'no'} "
        cells += f"| {settings['autocast'] or 'no'} | {estimate / 2**30:.3f} "
        if peak:
            ratios.append(estimate / peak)
            print(f"{cells}| {peak / 2**30:.3f} | {ratios[-1]:.4f} | {seconds:.3f} |", flush=True)
        else:
            print(f"{cells}| out of memory | | |", flush=True)
    missed = sum(abs(ratio - 1) > 0.10 for ratio in ratios)
    span = f"ratios from {min(ratios):.4f} to {max(ratios):.4f}"
    print(f"\n{len(ratios)} settings, {span}; {missed} miss the bound of 10 %.")


if __name__ == "__main__":
    main()
