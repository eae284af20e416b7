"""Peak memory of `id_profile` above that of the model, for three numbers of texts (Linux only).

    python benchmarks/profile_memory.py

The bound: 1.3 x layers x texts x width x 4 bytes, plus the memory of one batch. Each number of texts is measured in
its own process: the kernel's high-water mark of the resident set is reset after the model has run one batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from transformers import BertConfig, BertModel

import rankselect as rs
from machine import describe
from rankselect.calibration.batches import encode, padded_batches
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.trunk import run_trunk
from rankselect.testing import tiny_texts, tiny_tokenizer

LAYERS, WIDTH = 12, 768


def resident(field: str) -> int:
    """Return bytes: ``VmRSS`` is the current value, ``VmHWM`` the maximum since the mark was reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def reset_high_water_mark() -> None:
    """Set the peak to the current resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(n: int, batch_size: int) -> dict[str, float]:
    """Measure the peak bytes of one batch and of a profile of n texts, each above the resident memory before it."""
    warnings.simplefilter("ignore")
    config = BertConfig(
        vocab_size=32, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=WIDTH
    )
    model, tokenizer, texts = BertModel(config), tiny_tokenizer(), tiny_texts(n)
    samples = encode(tokenizer, texts[:64], 512, None, 0)
    batches = [batch for _, batch in padded_batches(samples, np.arange(64), batch_size, 0)]
    rs.id_profile(
        model, tokenizer, texts[:64], batch_size=batch_size, progress=False
    )  # warm-up: loads libraries, fills the allocator's pools
    before = resident("VmRSS")
    reset_high_water_mark()
    with evaluating(model):
        run_trunk(model, batches[0])
    batch = max(resident("VmHWM") - before, 0)
    before = resident("VmRSS")
    reset_high_water_mark()
    rs.id_profile(model, tokenizer, texts, batch_size=batch_size, progress=False)
    return {"batch": batch, "peak": resident("VmHWM") - before}


def main() -> None:
    """Measure each number of texts in its own process and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, nargs="+", default=[1000, 4000, 8000])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(measure(arguments.child, arguments.batch)))
        return
    print(f"\n{LAYERS} layers of width {WIDTH}, batches of {arguments.batch}; {describe('torch', 'transformers')}\n")
    print("| texts | layers x texts x width x 4 bytes | one batch | peak above the model | (peak - batch) / states |")
    print("|---|---|---|---|---|")
    for n in arguments.texts:
        command = [sys.executable, __file__, "--child", str(n), "--batch", str(arguments.batch)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        states = LAYERS * n * WIDTH * 4
        ratio = (found["peak"] - found["batch"]) / states
        mib = [f"{value / 2**20:.1f} MiB" for value in (states, found["batch"], found["peak"])]
        print(f"| {n} | {mib[0]} | {mib[1]} | {mib[2]} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
