"""Which LoRA ranks for Phi-2 on MedQuAD? A study of six arms, run again with a control, intervals and a report.

Without arguments everything is made on the spot: a small Phi model, the questions and answers that come with the
library, a 4-bit base. No download, no GPU, a few minutes on two cores::

    python examples/phi2_medquad.py

The same code runs the study at its real size, with Phi-2, MedQuAD and QuestEval's T5 models (all of them downloaded),
and on a model and rows of your own::

    python examples/phi2_medquad.py --preset phi2 --dry-run    # what it would train, and the memory it would take
    python examples/phi2_medquad.py --preset phi2
    python examples/phi2_medquad.py --model MODEL --data rows.jsonl

A run that was stopped goes on where it was if it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PhiConfig, PhiForCausalLM

import rankselect as rs
from rankselect.memory.estimate import as_text
from rankselect.memory.quantized import quantize
from rankselect.study.base_model import stored_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PHI2, MEDQUAD = "microsoft/phi-2", "prsdm/MedQuAD-phi2-1k"
SMALL_PHI, MEDICAL_QA = "small-phi", "medical-qa"  # made on the spot, and part of the library
TARGETS = ("q_proj", "k_proj", "v_proj", "fc1", "fc2")  # the study's: all of Phi's linear layers but "dense"
ARMS = (
    rs.Arm("base"),
    rs.Arm("rank-1", "fixed:rank=1"),
    rs.Arm("least-id", "intrinsic-min"),
    rs.Arm("greatest-id", "intrinsic-max"),
    rs.Arm("per-layer-id", "per-layer-id"),
    rs.Arm("rank-64", "fixed:rank=64"),
    rs.Arm("per-layer-id-control", "same-parameters:strategy=per-layer-id"),  # ours: one rank for all
)

SHARED: dict[str, Any] = {
    "arms": ARMS,
    "quantization": "nf4",
    "alpha_ratios": (8.0,),
    "lora_dropout": 0.05,
    "dropout_too": True,
    "profile_after": True,
}
EMBEDDED_SIZE: dict[str, Any] = {  # what fits into a few minutes on two cores: a demonstration, no evidence
    "target_modules": TARGETS,
    "n_train": 240,
    "n_test": 24,
    "learning_rates": (1e-3, 3e-3, 1e-2),
    "max_steps": 25,
    "max_length": 128,
    "max_new_tokens": 40,
    "generation_batch_size": 24,
}
REAL_SIZE: dict[str, Any] = {
    "learning_rates": (1e-4, 3e-4, 1e-3),
    "epochs": 1.0,
    "gradient_checkpointing": True,
    "max_length": 512,
    "max_new_tokens": 256,
}
JUDGED_QUESTIONS = 50

# Rank and trainable percent as the study gives them; its rank "ID" is each layer's own, which it does not list.
STUDY_TABLE = {"rank-1": (1, 0.09), "least-id": (6, 0.51), "greatest-id": (14, 1.19), "rank-64": (64, 5.23)}
STUDY_PER_LAYER = 0.71


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study that the arguments ask for, or only say what it would take."""
    options = parsed(arguments)
    show_only_our_news()
    if options.preset == "embedded":
        torch.set_num_threads(1)  # its matrices are too small to gain from more, and sums depend on their number
    try:
        if options.dry_run:
            dry_run()
            return
        options.out.mkdir(parents=True, exist_ok=True)
        rs.Study(config_of(options), options.out).run()
        ask_the_judge(options)
        report(options.out)
    except rs.RankSelectError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nStopped; what is finished is kept. The same command goes on from there.", file=sys.stderr)
        sys.exit(130)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description="Which LoRA ranks? A study of six arms and a control, with a report.")
    parser.add_argument("--preset", choices=["embedded", "phi2"], help="embedded needs no download (default)")
    parser.add_argument("--model", help="a model's folder or name, instead of the preset's")
    parser.add_argument("--data", help="rows to train on: a .jsonl or .csv file, or a data set's name")
    parser.add_argument("--test", help="rows to score on; a tenth of the data is held out if left out")
    parser.add_argument("--out", type=Path, help="the study's folder (default: demo, or study-PRESET)")
    parser.add_argument("--seeds", type=int, metavar="N", help="train each arm N times (default: 1 embedded, else 3)")
    parser.add_argument("--judge", metavar="MODEL", help="a model behind OpenAI's API that ranks the answers")
    parser.add_argument("--dry-run", action="store_true", help="with --preset phi2: parameters and memory, no weights")
    options = parser.parse_args(arguments)
    own = options.model is not None or options.data is not None
    if own and options.preset == "embedded":
        parser.error("the embedded preset has its own model and data: leave it out, or --model and --data")
    if own and options.preset is None and not (options.model and options.data):
        parser.error("--model and --data go together (or add --preset phi2, and replace one of the two)")
    if options.test and not options.data:
        parser.error("--test goes with --data")
    if options.dry_run and (own or options.preset != "phi2"):
        parser.error("--dry-run goes with --preset phi2 alone")
    if options.seeds is not None and options.seeds < 1:
        parser.error("--seeds takes a number of at least 1")
    options.preset = options.preset or ("own" if own else "embedded")
    options.out = options.out or Path("demo" if options.preset == "embedded" else f"study-{options.preset}")
    return options


def config_of(options: argparse.Namespace) -> rs.StudyConfig:
    """The study's config: the same arms and the same code for every preset, in another size."""
    if options.preset == "embedded":
        config = rs.StudyConfig(
            SMALL_PHI, MEDICAL_QA, MEDICAL_QA, metrics=metrics("questeval-cloze"), seeds=(0,), **SHARED, **EMBEDDED_SIZE
        )
    else:
        phi2 = options.preset == "phi2"
        config = rs.StudyConfig(
            options.model or PHI2,
            options.data or MEDQUAD,
            options.test,  # a tenth of the questions is held out if there is none
            metrics=metrics("questeval" if phi2 else "questeval-cloze"),
            target_modules=TARGETS if phi2 else "all-linear",
            **SHARED,
            **REAL_SIZE,
        )
    return config if options.seeds is None else replace(config, seeds=tuple(range(options.seeds)))


def metrics(questeval: str) -> tuple[str, ...]:
    """Token F1 and QuestEval as in the study, the loss as perplexity, and ROUGE-L where its package is installed."""
    return ("token-f1", questeval, "perplexity", *(["rouge-l"] if find_spec("rouge_score") else []))


def ask_the_judge(options: argparse.Namespace) -> None:
    """Let a language model rank the arms' answers, if one is named, or Phi-2 is studied with a key of OpenAI's."""
    model = options.judge or ("gpt-4o-mini" if options.preset == "phi2" and os.environ.get("OPENAI_API_KEY") else None)
    if model is None:
        return
    try:
        judge = rs.LLMJudge(model, max_questions=JUDGED_QUESTIONS, cache=options.out / "replies")
        rs.judge_answers(rs.StudyResults.load(options.out), judge)
    except rs.RankSelectError as error:
        print(f"No judge's ranking: {error}")


def report(out: Path) -> None:
    """Write the report, and print what a person wants to know first."""
    results = rs.StudyResults.load(out)
    results.write()
    written = rs.write_report(results, out)
    columns = {"rank_mean": "rank", "trainable_percent": "trainable %", "learning_rate": "learning rate"}
    table = results.summary[["arm", *columns, "test_loss", *results.metrics]].rename(columns=columns)
    print(f"\n{table.to_string(index=False, na_rep='-', float_format='%.4g')}\n\n{results.verdict()}")
    if results.config.model == SMALL_PHI:
        print(ABOUT_THE_DEMONSTRATION)
    print("\nThe report:", *written)


def dry_run() -> None:
    """What the arms train on Phi-2, and the memory it takes: computed without weights or a network."""
    model = phi2()
    print(f"{PHI2}: {model.num_parameters():,} parameters; LoRA on {', '.join(TARGETS)}; alpha = 8 x rank\n")
    print("\n".join(parameter_table(model)))
    print(ABOUT_THE_DRY_RUN)


def parameter_table(model: PhiForCausalLM) -> Iterator[str]:
    """One line for each arm that is trained."""
    stored, total = stored_in_four_bits(), model.num_parameters()
    line = "{:<14}{:>7}{:>7}{:>13}{:>14}{:>11}{:>12}{:>10}".format
    yield line("", "", "", "trainable", "% as stored", "% in the", "% of all", "peak")
    yield line("arm", "rank", "alpha", "parameters", "in 4 bits", "study", "weights", "memory")
    for arm, (rank, percent) in STUDY_TABLE.items():
        plan = rs.Fixed(rank).plan(model, target_modules=TARGETS)
        trained = plan.trainable_parameters
        memory = rs.estimate_memory(
            model,
            plan,
            batch_size=rs.StudyConfig.batch_size,
            length=REAL_SIZE["max_length"],
            quantization="nf4",
            dtype="bfloat16",
            gradient_checkpointing=REAL_SIZE["gradient_checkpointing"],
            lora_dropout=SHARED["lora_dropout"],
            device="cuda",
        )
        yield line(
            arm,
            rank,
            8 * rank,
            f"{trained:,}",
            f"{100 * trained / (stored + trained):.2f}",
            f"{percent:.2f}",
            f"{100 * trained / (total + trained):.3f}",
            as_text(memory.peak),
        )
    share = STUDY_PER_LAYER / 100
    mean_rank = share * stored / (1 - share) / rs.Fixed(1).plan(model, target_modules=TARGETS).trainable_parameters
    yield line("per-layer-id", "?", "?", "?", "?", f"{STUDY_PER_LAYER:.2f}", "?", "?")
    yield ""
    yield f"The study does not list its layers' IDs: {STUDY_PER_LAYER} % means a mean rank of {mean_rank:.1f}."


def phi2() -> PhiForCausalLM:
    """Phi-2 without weights, from its published sizes."""
    config = PhiConfig(
        vocab_size=51_200,
        hidden_size=2_560,
        intermediate_size=10_240,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=2_048,
        resid_pdrop=0.1,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.4},
    )
    config.name_or_path = PHI2
    with torch.device("meta"):
        return PhiForCausalLM(config)


def stored_in_four_bits() -> int:
    """In how many elements bitsandbytes stores Phi-2: two weights of a linear layer share one."""
    model = phi2()
    quantize(model, "nf4", torch.bfloat16)
    return stored_parameters(model)


def show_only_our_news() -> None:
    """Show what rankselect logs and warns of, and keep notices of other packages out of the picture."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    logging.getLogger("rankselect").setLevel(logging.INFO)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", rs.RankSelectWarning)
    warnings.formatwarning = lambda message, *_, **__: f"\nwarning: {message}\n"


ABOUT_THE_DEMONSTRATION = """
What this shows: the whole way, from a model and its texts to a report. What it
does not show is which ranks are best: seeds, questions and steps are too few.
For an answer run it with your own model and rows, and --seeds 3 or more."""

ABOUT_THE_DRY_RUN = """\
Its other ranks are its layers' least and greatest ID, as the study measured
them; a run measures its own. "As stored" counts two 4-bit weights as one
parameter, as the study's numbers do, and so comes out twice too high. Memory is
the predicted peak of a training step with the settings of --preset phi2: 8 rows
of 512 tokens, gradient checkpointing, 32-bit adapters and AdamW, on a GPU."""


if __name__ == "__main__":
    main()
