"""Peak memory of a merge above the resident memory before it, compared with PEFT (Linux only).

    python benchmarks/merge_memory.py

A random Llama in bfloat16 is saved in shards, with an adapter for all its linear layers. Each way of merging runs in
its own process, on one thread. The kernel's high-water mark of the resident set is reset after all imports and a first
merge of a small model. Pages of mapped files count as resident.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

import rankselect as rs
from machine import describe
from rankselect.adapters.merge import merge_adapter
from rankselect.testing import tiny_model

WIDTH, INNER, LAYERS, VOCABULARY = 1024, 2816, 12, 16_000
MIB = 2**20
WAYS = {
    "rankselect, original weights": ("none", "original", False),
    "rankselect, original weights, logits compared": ("none", "original", True),
    "rankselect, dequantized from nf4": ("nf4", "dequantized", False),
    "rankselect, dequantized from nf4, logits compared": ("nf4", "dequantized", True),
    "rankselect, dequantized from int8": ("int8", "dequantized", False),
    "rankselect, requantized to nf4": ("nf4", "requantized", False),
    "PEFT merge_and_unload and save": ("none", "", False),
    "PEFT, base dequantized from nf4 before": ("nf4", "", False),
}


def resident(field: str) -> int:
    """Return bytes: ``VmRSS`` is the current value, ``VmHWM`` the maximum since the mark was reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def write(folder: Path, shards: int) -> dict[str, float]:
    """Write base and adapter; return the sizes of the base, its largest shard and its largest layer."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        num_key_value_heads=16,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    size = sum(parameter.nbytes for parameter in model.parameters())
    layer = sum(parameter.nbytes for parameter in model.model.layers[0].parameters())
    model.save_pretrained(folder / "base", max_shard_size=int(size / shards * 1.05))
    files = [file.stat().st_size for file in (folder / "base").glob("*.safetensors")]
    peft = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False))
    peft.save_pretrained(folder / "adapter")
    return {"size": size, "layer": layer, "shard": max(files), "shards": len(files)}


def with_peft(folder: Path, quantization: str, max_shard_size: int) -> None:
    """Merge without rankselect."""
    arguments = {}
    if quantization == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    base = AutoModelForCausalLM.from_pretrained(folder / "base", device_map={"": "cpu"}, **arguments)
    if arguments:
        base = base.dequantize()
    merged = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
    merged.save_pretrained(folder / "out", max_shard_size=max_shard_size)


def measure(folder: Path, way: str, max_shard_size: int) -> dict[str, float]:
    """Measure the seconds of one merge, and its peak bytes above the resident memory before it."""
    warnings.simplefilter("ignore")
    quantization, onto, logits = WAYS[way]
    with tempfile.TemporaryDirectory() as small:  # loads the libraries
        tiny_model().save_pretrained(f"{small}/base")
        get_peft_model(tiny_model(), LoraConfig(r=2)).save_pretrained(f"{small}/adapter")
        settings = {"quantization": quantization, "base": f"{small}/base", "progress": False}
        merge_adapter(f"{small}/adapter", f"{small}/out", **settings)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
    start = time.perf_counter()
    if onto:
        settings = {"quantization": quantization, "onto": onto, "measure": logits, "progress": False}
        merge_adapter(
            folder / "adapter", folder / "out", base=folder / "base", max_shard_size=max_shard_size, **settings
        )
    else:
        with_peft(folder, quantization, max_shard_size)
    return {"peak": resident("VmHWM") - before, "seconds": time.perf_counter() - start}


def main() -> None:
    """Measure every way in its own process and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        folder, way, max_shard_size = arguments.child
        print(json.dumps(measure(Path(folder), way, int(max_shard_size))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write(folder, arguments.shards)
        one = sizes["shard"] + sizes["layer"]
        mib = {key: value / MIB for key, value in sizes.items()}
        print(
            f"\nbase of {mib['size']:.0f} MiB in {sizes['shards']:.0f} shards of at most {mib['shard']:.0f} MiB, ",
            end="",
        )
        print(f"one layer {mib['layer']:.0f} MiB: together {one / MIB:.0f} MiB; {describe('torch', 'peft')}\n")
        print("| | peak above the start | relative to one shard and one layer | relative to the model | seconds |")
        print("|---|---:|---:|---:|---:|")
        for way in WAYS:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--child", str(folder), way, str(int(sizes["shard"]))]
            result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found = json.loads(result.stdout.splitlines()[-1])
            shares = f"{found['peak'] / one:.2f} | {found['peak'] / sizes['size']:.2f}"
            print(f"| {way} | {found['peak'] / MIB:.0f} MiB | {shares} | {found['seconds']:.1f} |", flush=True)
            subprocess.run(["rm", "-rf", str(folder / "out")], check=True)
    print(f"\nrankselect {rs.__version__}")


if __name__ == "__main__":
    main()
