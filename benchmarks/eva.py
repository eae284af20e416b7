"""Time of EVA's ranks, against PEFT's own initialisation on the same batches.

    python benchmarks/eva.py

A random Llama of 4 layers of width 256 in float32, all linear modules, 24 batches of 8 rows of 128 tokens. Both read
batches until the directions are settled; the ranks are compared.
"""

from __future__ import annotations

import statistics
import time

import torch
from peft import EvaConfig, LoraConfig, get_peft_model
from peft.tuners.lora.eva import get_eva_state_dict
from transformers import AutoModelForCausalLM, LlamaConfig

from machine import describe
from rankselect.calibration.inputs import _Reader, eva_ranks
from rankselect.calibration.loss_batches import LossBatch
from rankselect.models.evaluation_mode import evaluating
from rankselect.plan.targets import find_targets

N_BATCHES, ROWS, LENGTH, RANK, RHO, ROUNDS = 24, 8, 128, 4, 2.0, 3


def build() -> torch.nn.Module:
    """Build the model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8
    )
    return AutoModelForCausalLM.from_config(config).eval()


def batches_of(seed: int) -> list[LossBatch]:
    """Random tokens, common ones more often."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1 / (1 + torch.arange(1000.0))
    batches = []
    for _ in range(N_BATCHES):
        ids = torch.multinomial(weights**2, ROWS * LENGTH, replacement=True, generator=generator).reshape(ROWS, LENGTH)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        batches.append(LossBatch(inputs, 0, (LENGTH - 1,) * ROWS))
    return batches


def main() -> None:
    """Print a table in Markdown."""
    model, batches = build(), batches_of(0)
    names = [target.name for target in find_targets(model, "all-linear")]
    modules = {name: model.get_submodule(name) for name in names}
    seconds: dict[str, list[float]] = {"rankselect": [], "PEFT": [], "forward passes alone, as many batches": []}
    n_read = 0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        reader = _Reader(model, modules, RANK, RHO)
        with evaluating(model):
            n_read = reader.read_until_settled(iter(batches * 20), lambda: None)
        shares = {name: reader.pcas[other].explained.tolist() for name, other in reader.shared_with.items()}
        mine = eva_ranks(shares, reader.shared_with, RANK)
        seconds["rankselect"].append(time.perf_counter() - start)
        config = LoraConfig(r=RANK, target_modules=names, init_lora_weights="eva", eva_config=EvaConfig(rho=RHO))
        prepared = get_peft_model(build(), config, low_cpu_mem_usage=True)
        start = time.perf_counter()
        found = get_eva_state_dict(prepared, [batch.inputs for batch in batches], show_progress_bar=False)
        seconds["PEFT"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.no_grad():
            for batch in (batches * 20)[:n_read]:
                model(input_ids=batch.inputs["input_ids"], use_cache=False)
        seconds["forward passes alone, as many batches"].append(time.perf_counter() - start)
    theirs = {name.removeprefix("base_model.model."): len(a) for name, a in found.items()}
    first = statistics.median(seconds["rankselect"])
    print(f"{len(names)} modules, {n_read} batches until settled; {describe('torch', 'peft')}\n")
    print("| | median s | relative |\n|---|---:|---:|")
    for name, each in seconds.items():
        print(f"| {name} | {statistics.median(each):.1f} | {statistics.median(each) / first:.2f} |")
    print(f"\nThe ranks are {'the same' if mine == theirs else 'different'}.")


if __name__ == "__main__":
    main()
