"""Time and memory of resizing a large adapter, against the decomposition of whole updates (Linux only).

    python benchmarks/resize.py

The adapter has rank 64 on all seven linear layers of 32 layers of width 2,560, in float32. It is cut to a quarter of
its parameters, over all modules. The other way, which PEFT's `convert_to_lora` and kohya's tools take, builds each
update and decomposes it; it is timed on the modules of one layer and multiplied by 32. Errors are compared there.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

import rankselect as rs
from machine import describe
from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.spectra import spectra_of

WIDTH, INNER, LAYERS, RANK = 2560, 10_240, 32, 64
MODULES = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"} | {
    "mlp.gate_proj": (WIDTH, INNER),
    "mlp.up_proj": (WIDTH, INNER),
    "mlp.down_proj": (INNER, WIDTH),
}
MIB = 2**20


def write(folder: Path) -> None:
    """Write the adapter; singular values fall by half over the rank, and differ in size between modules."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    decay = 0.5 ** (torch.arange(RANK) / RANK)
    for layer in range(LAYERS):
        for module, (d_in, d_out) in MODULES.items():
            key = f"base_model.model.model.layers.{layer}.{module}.lora_"
            size = float(torch.rand(1, generator=generator)) + 0.2
            tensors[f"{key}A.weight"] = torch.randn(RANK, d_in, generator=generator) * decay[:, None] / d_in**0.5
            tensors[f"{key}B.weight"] = size * torch.randn(d_out, RANK, generator=generator) / d_out**0.5
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    names = sorted(module.rpartition(".")[2] for module in MODULES)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": names, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def resident(field: str) -> int:
    """Return bytes: ``RssAnon`` without the pages of mapped files, ``VmHWM`` the maximum with them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print a table in Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "adapter")
        n_bytes = (folder / "adapter" / "adapter_model.safetensors").stat().st_size
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
        start = time.perf_counter()
        report = rs.resize_adapter(folder / "adapter", folder / "small", budget="25%")
        seconds = time.perf_counter() - start
        peak = resident("VmHWM") - before
        adapter, small = read_adapter(folder / "adapter"), read_adapter(folder / "small")
        after = {module.name: module for module in small.modules}
        of_layer = [module for module in adapter.modules if ".layers.0." in module.name]
        start, lost = time.perf_counter(), []
        spectra_of(adapter)
        read = time.perf_counter() - start
        start = time.perf_counter()
        for module in of_layer:
            update = adapter.delta(module)
            _, sigma, _ = torch.linalg.svd(update, full_matrices=False)
            rank = report.ranks[module.name]
            lost.append(float(sigma[rank:].double().norm() / sigma.double().norm()))
        whole = LAYERS * (time.perf_counter() - start)
        mine = []
        for module in of_layer:
            update = adapter.delta(module)
            cut = small.delta(after[module.name]) if module.name in after else torch.zeros_like(update)
            mine.append(float((update - cut).double().norm() / update.double().norm()))  # float32 sums are off by 1e-4
        difference = max(abs(one - other) for one, other in zip(mine, lost, strict=True))
    print(f"{len(adapter.modules)} modules, {report.parameters_before:,} parameters, {n_bytes / MIB:.0f} MiB; ", end="")
    print(describe("torch", "peft"), end="\n\n")
    print("| | seconds | relative |\n|---|---:|---:|")
    print(f"| `resize_adapter` to 25 % of the parameters | {seconds:.1f} | 1.0 |")
    print(f"| `adapter_spectra` alone | {read:.1f} | {read / seconds:.2f} |")
    print(f"| decompositions of whole updates (one layer, times {LAYERS}) | {whole:.0f} | {whole / seconds:.0f} |\n")
    print(f"Peak memory above what was resident before: {peak / MIB:.0f} MiB, mapped pages of the file included.\n")
    print(f"Greatest difference of the relative Frobenius errors of a module: {difference:.1e}")


if __name__ == "__main__":
    main()
