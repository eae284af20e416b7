"""Time of `id_profile` on a float32 model, with and without autocast, and how far the IDs move.

    python benchmarks/profile_autocast.py

A random Llama of 8 layers of width 1,024 in float32, 400 texts of 200 tokens. On a processor without bfloat16 units
autocast is slower, not faster.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import rankselect as rs
from machine import describe

TEXTS, LENGTH, ROUNDS = 400, 200, 3


def main() -> None:
    """Print a table in Markdown."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, num_attention_heads=16
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    inputs = [{"input_ids": torch.randint(0, 8000, (LENGTH,))} for _ in range(TEXTS)]
    seconds: dict[str, list[float]] = {"float32": [], "autocast to bfloat16": []}
    values = {}
    for _ in range(ROUNDS):
        for name, each in seconds.items():
            start = time.perf_counter()
            cast = "bfloat16" if name.startswith("autocast") else None
            values[name] = rs.id_profile(model, None, inputs, autocast=cast, progress=False).values
            each.append(time.perf_counter() - start)
    first = statistics.median(seconds["float32"])
    print(f"{TEXTS} texts of {LENGTH} tokens; {describe('torch', 'transformers')}\n")
    print("| | median s | times faster |\n|---|---:|---:|")
    for name, each in seconds.items():
        print(f"| {name} | {statistics.median(each):.1f} | {first / statistics.median(each):.2f} |")
    moved = np.abs(values["float32"] - values["autocast to bfloat16"]).max()
    print(f"\nThe IDs move by at most {moved:.2f}.")


if __name__ == "__main__":
    main()
