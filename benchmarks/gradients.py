"""Time of gradient evidence, against forward and backward passes alone on the same batches.

    python benchmarks/gradients.py

A random Llama of 12 layers of width 768 in float32, all linear modules, 32 rows of 200 tokens. "Alone" computes no
gradient of any weight, as training an adapter does. "With weight gradients" is what full fine-tuning costs: no way to
get these gradients is cheaper. Gradient evidence also has the squared norm of each row's gradient.
"""

from __future__ import annotations

import statistics
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from machine import describe
from rankselect.calibration.gradient_sums import GradientSums
from rankselect.calibration.loss_batches import LossBatch, LossBatches
from rankselect.plan.targets import find_targets

ROWS, LENGTH, BATCH, ROUNDS = 32, 200, 8, 3


def model_and_batches() -> tuple[torch.nn.Module, LossBatches]:
    """Build the model and random tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    batches = []
    for start in range(0, ROWS, BATCH):
        ids = torch.randint(0, 8000, (BATCH, LENGTH))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        batches.append(LossBatch(inputs, (start // BATCH) % 2, (LENGTH - 1,) * BATCH))
    return model, LossBatches(tuple(batches), "")


def alone(model: torch.nn.Module, batches: LossBatches, *, weights: bool) -> None:
    """Forward and backward passes, with or without gradients of the weights."""
    for parameter in model.parameters():
        parameter.requires_grad = weights
    for batch in batches.batches:
        hidden = model.get_input_embeddings()(batch.inputs["input_ids"]).detach().requires_grad_()
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "input_ids"}
        model(inputs_embeds=hidden, **inputs, use_cache=False).loss.backward()
        model.zero_grad()


def main() -> None:
    """Print a table in Markdown."""
    model, batches = model_and_batches()
    modules = {target.name: model.get_submodule(target.name) for target in find_targets(model, "all-linear")}
    ways = {
        "forward and backward alone": lambda: alone(model, batches, weights=False),
        "with weight gradients": lambda: alone(model, batches, weights=True),
        "gradient evidence": lambda: GradientSums(model, modules).read(batches),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            for parameter in model.parameters():
                parameter.requires_grad = False
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    first = statistics.median(seconds["forward and backward alone"])
    print(f"{ROWS} rows of {LENGTH} tokens; {describe('torch', 'transformers')}\n")
    print("| | median s | relative |\n|---|---:|---:|")
    for name, each in seconds.items():
        print(f"| {name} | {statistics.median(each):.1f} | {statistics.median(each) / first:.2f} |")


if __name__ == "__main__":
    main()
