"""Cost of a LoRA rank on Phi-2 in NF4 on a GPU, and cost of choosing ranks by intrinsic dimension (ID).

    python benchmarks/gpu_study.py
    python benchmarks/gpu_study.py --tiny --device cpu    # the same code on a small model, to try it without a GPU

The model has Phi-2's configuration and random weights. Times and memory do not depend on their values; IDs do, so the
IDs measured here are meaningless. They matter in one row only: the cost of `PerLayerID` depends on the mean of the
ranks that it chose, which that row shows.

Selection: `id_profile` and the plan, on the model as `load_model` prepares it for training. Phi-2's tokenizer needs a
download, so the embedded medical questions and answers are tokenised with that of `small_phi`, whose ids are
below 1,500. They are joined in random order until each text is longer than `--length`, and `id_profile` truncates it:
1,000 texts have as many tokens as 1,000 training rows. A first profile of few texts is a warm-up and not counted.

Training: in every round, in a new random order, each adapter is attached to the same base model, takes two warm-up
steps and `--steps` steps that are timed as a block, and is removed. The clock of a GPU varies, and ranks 1 and 64
may differ by only a few percent: so times are divided by those of rank 1 in the same round, and the interval is
Student's, for the mean of the ratios' logarithms over the rounds. Peak memory is the maximum over all rounds, measured
as in gpu_memory.py (on a CPU by a profiler, which slows the timed step).

Batches are 8 x 512 random tokens under autocast to bfloat16, with gradient checkpointing to save memory:
see `--help`. If a rank runs out of memory, its row shows this, and the other ranks continue.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers as tf
from peft import get_peft_model
from scipy.stats import t as student

import rankselect as rs
from gpu_memory import ALPHA_RATIO, PHI_2, RANKS, TARGETS, TINY, device_parser, measured, quantised, require_device
from machine import describe
from rankselect.data.medical_qa import medical_qa
from rankselect.training.adapt import choose_ranks
from rankselect.training.small_phi import small_phi

if TYPE_CHECKING:
    from rankselect.training.adapt import Choice

    Rounds = list[tuple[int, float]]  # peak bytes and seconds per step

EPOCH_ROWS, N_PROFILES, N_WARM_UP = 1000, 3, 2
PER_LAYER = "per-layer"
PLAN: dict[str, Any] = {"target_modules": TARGETS, "alpha_ratio": ALPHA_RATIO}
NUMBERS = {  # flag: (what it counts, default, default with --tiny, least, most)
    "rounds": ("rounds over all ranks", 10, 3, 2, 1000),
    "steps": ("steps timed in each round (on a CPU always 1)", 10, 10, 1, 1000),
    "batch": ("rows in a batch", 8, 2, 1, 1000),
    "length": ("tokens in a row, and in a text", 512, 64, 2, PHI_2["max_position_embeddings"]),
    "texts": ("texts to measure the IDs on", 1000, 100, 16, 100_000),
}


def read_arguments() -> argparse.Namespace:
    """Parse the options, with the defaults for the full or the small model."""
    parser = device_parser(__doc__.splitlines()[0])
    for name, (what, full, tiny, *_) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, help=f"{what}: {full}, with --tiny {tiny}")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0, help="seed of texts, weights and the order in each round")
    arguments = parser.parse_args()
    for name, (_, full, tiny, least, most) in NUMBERS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, tiny if arguments.tiny else full)
        if not least <= getattr(arguments, name) <= most:
            parser.error(f"expected --{name} from {least} to {most}, got {getattr(arguments, name)}")
    arguments.steps = arguments.steps if arguments.device == "cuda" else 1  # the one step that the profiler records
    return arguments


def long_texts(n: int, tokenizer: Any, length: int, seed: int) -> list[str]:
    """Join embedded questions and answers in random order to texts of more than `length` tokens."""
    pairs = [pair.text for pair in medical_qa()]
    n_tokens = np.array([len(ids) for ids in tokenizer(pairs)["input_ids"]])
    rng = np.random.default_rng(seed)
    texts = []
    for order in (rng.permutation(len(pairs)) for _ in range(n)):
        enough = np.searchsorted(n_tokens[order].cumsum(), length, side="right") + 1
        texts.append("\n".join(pairs[index] for index in order[:enough]))
    return texts


def selected(base: Any, arguments: argparse.Namespace) -> list[Choice]:
    """Choose the same ranks several times, to measure the seconds."""
    tokenizer = small_phi(steps=0, progress=False)[1]
    tokenizer.model_max_length = arguments.length
    texts = long_texts(arguments.texts, tokenizer, arguments.length, arguments.seed)

    def choose(texts: list[str]) -> Choice:
        calibration = rs.Calibration(base, tokenizer, texts, max_length=arguments.length, progress=False)
        return choose_ranks(base, rs.PerLayerID(), calibration, **PLAN)

    choose(texts[:16])
    return [choose(texts) for _ in range(N_PROFILES)]


def trained(base: Any, plan: rs.RankPlan, arguments: argparse.Namespace) -> tuple[int, float] | None:
    """Measure peak bytes and seconds per step of an adapter, then remove it; None if out of memory."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing to do without a GPU
    settings = {"batch_size": arguments.batch, "length": arguments.length, "autocast": "bfloat16"}
    settings["gradient_checkpointing"] = arguments.checkpointing
    adapted = get_peft_model(base, plan.to_lora_config()).train()
    plan.verify(adapted)
    try:
        found = measured(adapted, settings, arguments.device, arguments.steps, N_WARM_UP)
    except torch.cuda.OutOfMemoryError:
        found = None
    adapted.unload()
    base.disable_input_require_grads()  # otherwise each adapter with checkpointing leaves a hook on the embedding
    return found


def compared(base: Any, plans: dict[str, rs.RankPlan], arguments: argparse.Namespace) -> dict[str, Rounds]:
    """Return the measurements of every round for each rank, without ranks that ran out of memory."""
    found: dict[str, Rounds] = {label: [] for label in plans}
    rng = np.random.default_rng(arguments.seed)
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        for label in rng.permutation(list(found)).tolist():
            measurement = trained(base, plans[label], arguments)
            if measurement is None:
                del found[label]
            else:
                found[label].append(measurement)
    return found


def mean_ratio(seconds: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean of the ratios in each round, and its 95 % interval."""
    logs = np.log(seconds / reference)
    half = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    return np.exp(logs.mean()), np.exp(logs.mean() - half), np.exp(logs.mean() + half)


def report(found: dict[str, Rounds], plans: dict[str, rs.RankPlan]) -> None:
    """Print the table, with a row for each rank."""
    times = {label: np.array([seconds for _, seconds in rounds]) for label, rounds in found.items()}
    print(
        "| rank | trainable parameters | s per step, median | min to max | ratio to rank 1 | 95 % interval | peak GiB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for label, plan in plans.items():
        ranks = list(plan.ranks.values())
        spread = f" (mean {statistics.mean(ranks):.1f}, {min(ranks)} to {max(ranks)})" if label == PER_LAYER else ""
        row = f"| {label}{spread} | {plan.trainable_parameters:,} |"
        if label not in found:
            print(f"{row} out of memory | | | | |")
            continue
        seconds, ratio = times[label], "| |"
        if label != "1" and "1" in found:
            ratio = "| {:.4f} | {:.4f} to {:.4f}".format(*mean_ratio(seconds, times["1"]))
        row += f" {np.median(seconds):.4f} | {seconds.min():.4f} to {seconds.max():.4f} {ratio} |"
        print(f"{row} {max(peak for peak, _ in found[label]) / 2**30:.3f} |")


def report_selection(choices: list[Choice], per_layer: Rounds, batch: int) -> None:
    """Print the time of the selection as a share of training with the selected ranks."""
    how, costs = choices[0].profile.measurement, [choice.seconds for choice in choices]
    cost, n_steps = statistics.median(costs), -(-EPOCH_ROWS // batch)
    print(f"\nSelection: {cost:.2f} s for {how.n_texts} distinct texts of {how.max_length} tokens", end=" ")
    print(f"(median of {len(costs)} runs, {min(costs):.2f} to {max(costs):.2f} s).")
    if per_layer:
        epoch = n_steps * statistics.median(seconds for _, seconds in per_layer)
        print(f"Training on {EPOCH_ROWS:,} rows with the ranks it chose: {n_steps} steps, {epoch:.1f} s;", end=" ")
        print(f"selection is {100 * cost / epoch:.1f} % of it.")
    print("\nThe weights are random, so IDs are meaningless; times and memory depend on them only in per-layer.")


def main() -> None:
    """Choose ranks, train with each, and print the table."""
    arguments = read_arguments()
    where = require_device(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(arguments.seed)
    base = quantised(tf.PhiConfig(**(TINY if arguments.tiny else PHI_2)), arguments.device)
    choices = selected(base, arguments)
    plans = {str(rank): choose_ranks(base, rs.Fixed(rank), **PLAN).plan for rank in RANKS}
    plans[PER_LAYER] = choices[0].plan
    found = compared(base, plans, arguments)
    print(f"{where}; {describe('torch', 'transformers', 'peft', 'bitsandbytes')}\n")
    settings = ", ".join(f"{name} {value}" for name, value in vars(arguments).items())
    print(f"Phi in NF4 with random weights: {settings}\n")
    report(found, plans)
    report_selection(choices, found.get(PER_LAYER, []), arguments.batch)


if __name__ == "__main__":
    main()
