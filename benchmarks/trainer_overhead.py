"""Time of `RankSelectTrainer` and a plain `transformers.Trainer` with the same adapter, data and arguments.

    python benchmarks/trainer_overhead.py

The model is the embedded small Phi (2 million parameters, so the overhead is a much larger share than on a real
model), trained on the embedded questions and answers. Both trainers run in every round, in alternating order, on one
thread; the ratio of processor times is computed for each round.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings

import torch
from peft import get_peft_model
from transformers import PrinterCallback, Trainer, TrainingArguments

import rankselect as rs
from machine import describe
from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.medical_qa import medical_qa
from rankselect.training.small_phi import small_phi

STEPS, BATCH, LENGTH = 25, 8, 128


def arguments() -> TrainingArguments:
    """Return the arguments for both trainers."""
    return TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


def ours(rows: list[rs.QuestionAnswer]) -> Trainer:
    """Return the trainer of this library, with ranks that need no measurement."""
    model, tokenizer = small_phi(steps=0, progress=False)
    return rs.RankSelectTrainer(
        model, arguments(), strategy=rs.Fixed(8), train_dataset=rows, processing_class=tokenizer, max_length=LENGTH
    )


def plain(rows: list[rs.QuestionAnswer]) -> Trainer:
    """Return the trainer of transformers, with the same PEFT config."""
    model, tokenizer = small_phi(steps=0, progress=False)
    config = rs.Fixed(8).plan(model).to_lora_config(task_type="CAUSAL_LM")
    return Trainer(
        get_peft_model(model, config),
        arguments(),
        train_dataset=encode_rows(rows, tokenizer, max_length=LENGTH),
        data_collator=AnswerCollator(tokenizer.pad_token_id),
    )


def seconds_of(trainer: Trainer) -> float:
    """Return the processor time of training, which depends less on the load of the machine than wall-clock time."""
    trainer.remove_callback(PrinterCallback)
    gc.collect()
    began = time.process_time()
    trainer.train()
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = rs.load_rows(medical_qa())[: STEPS * BATCH]
    makers = {"RankSelectTrainer": ours, "transformers.Trainer": plain}
    for make in makers.values():
        seconds_of(make(rows))  # warm up
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(rounds):
        for name in sorted(makers, reverse=bool(number % 2)):
            times[name].append(seconds_of(makers[name](rows)))
    print(f"{STEPS} steps of {BATCH} rows; {describe('torch', 'transformers', 'peft')}\n")
    print("| | runs | median CPU ms per step | min | max |\n|---|---|---|---|---|")
    for name, found in times.items():
        per_step = [1000 * value / STEPS for value in found]
        print(f"| {name} | {rounds} | {statistics.median(per_step):.2f} | {min(per_step):.2f} | {max(per_step):.2f} |")
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    print(f"\nRatio round by round: median {statistics.median(ratios):.4f}, mean {statistics.mean(ratios):.4f}", end="")
    print(f" with a standard error of {error:.4f}")


if __name__ == "__main__":
    main()
