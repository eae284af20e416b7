"""Which LoRA ranks for Phi-2 on MedQuAD? A study of six arms, repeated with a control, intervals and a report.

Without arguments, it runs a demonstration: a small Phi model, trained on the spot and quantized to 4 bits, and the
questions and answers that come with the library. It needs no download, no GPU, and a few minutes on two cores::

    python examples/phi2_medquad.py

The same code runs the study at its real size, with Phi-2, MedQuAD and QuestEval's T5 models (it downloads all of them),
and on a model and rows of your own::

    python examples/phi2_medquad.py --preset phi2 --dry-run    # trainable parameters and memory, without weights
    python examples/phi2_medquad.py --preset phi2
    python examples/phi2_medquad.py --model MODEL --data rows.jsonl

If a run is stopped, start it again with the same arguments: it resumes where it stopped.
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
from rankselect.memory.quantized import quantize
from rankselect.memory.sizes import as_text
from rankselect.study.base_model import stored_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PHI2, MEDQUAD = "microsoft/phi-2", "prsdm/MedQuAD-phi2-1k"
SMALL_PHI, MEDICAL_QA = "small-phi", "medical-qa"  # built on the spot; included in the library
TARGETS = ("q_proj", "k_proj", "v_proj", "fc1", "fc2")  # those of the study: all of Phi's linear layers except "dense"
ARMS = (
    rs.Arm("base"),
    rs.Arm("rank-1", "fixed:rank=1"),
    rs.Arm("least-id", "intrinsic-min"),
    rs.Arm("greatest-id", "intrinsic-max"),
    rs.Arm("per-layer-id", "per-layer-id"),
    rs.Arm("rank-64", "fixed:rank=64"),
    rs.Arm("per-layer-id-control", "same-parameters:strategy=per-layer-id"),  # added here: the same rank everywhere
)

SHARED: dict[str, Any] = {
    "arms": ARMS,
    "quantization": "nf4",
    "alpha_ratios": (8.0,),
    "lora_dropout": 0.05,
    "dropout_too": True,
    "profile_after": True,
}
EMBEDDED_SIZE: dict[str, Any] = {  # a few minutes on two cores: a demonstration, not evidence
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

# Rank and trainable percent as in the study. Its rank "ID" is the ID of each layer, which it does not list.
STUDY_TABLE = {"rank-1": (1, 0.09), "least-id": (6, 0.51), "greatest-id": (14, 1.19), "rank-64": (64, 5.23)}
STUDY_PER_LAYER = 0.71


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study that the arguments describe, or only print its parameters and memory."""
    options = parse(arguments)
    configure_messages()
    if options.preset == "embedded":
        torch.set_num_threads(1)  # more do not speed up matrices this small, and sums depend on their number
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
        print("\nStopped. Finished runs are kept; run the same command to resume.", file=sys.stderr)
        sys.exit(130)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(description="Which LoRA ranks? A study of six arms and a control, with a report.")
    parser.add_argument("--preset", choices=["embedded", "phi2"], help="embedded needs no download (default)")
    parser.add_argument("--model", help="a model's folder or name, instead of the preset's")
    parser.add_argument("--data", help="rows to train on: a file or the name of a data set")
    parser.add_argument("--test", help="rows to score on; by default, a tenth of the data is held out")
    parser.add_argument("--out", type=Path, help="the study's folder (default: demo, or study-PRESET)")
    parser.add_argument("--seeds", type=int, metavar="N", help="train each arm N times (default: 1 embedded, else 3)")
    parser.add_argument("--judge", metavar="MODEL", help="rank the answers with this model, through OpenAI's API")
    parser.add_argument("--dry-run", action="store_true", help="with --preset phi2: parameters and memory, no weights")
    options = parser.parse_args(arguments)
    own = options.model is not None or options.data is not None
    if own and options.preset == "embedded":
        parser.error("the embedded preset has its own model and data: omit it, or omit --model and --data")
    if own and options.preset is None and not (options.model and options.data):
        parser.error("use --model and --data together, or add --preset phi2 to replace only one of them")
    if options.test and not options.data:
        parser.error("--test requires --data")
    if options.dry_run and (own or options.preset != "phi2"):
        parser.error("--dry-run requires --preset phi2, without --model and --data")
    if options.seeds is not None and options.seeds < 1:
        parser.error("--seeds must be at least 1")
    options.preset = options.preset or ("own" if own else "embedded")
    options.out = options.out or Path("demo" if options.preset == "embedded" else f"study-{options.preset}")
    return options


def config_of(options: argparse.Namespace) -> rs.StudyConfig:
    """Create the study's config: the same arms for every preset, at different sizes."""
    if options.preset == "embedded":
        config = rs.StudyConfig(
            SMALL_PHI, MEDICAL_QA, MEDICAL_QA, metrics=metrics("questeval-cloze"), seeds=(0,), **SHARED, **EMBEDDED_SIZE
        )
    else:
        phi2 = options.preset == "phi2"
        config = rs.StudyConfig(
            options.model or PHI2,
            options.data or MEDQUAD,
            options.test,  # None: a tenth of the questions is held out
            metrics=metrics("questeval" if phi2 else "questeval-cloze"),
            target_modules=TARGETS if phi2 else "all-linear",
            **SHARED,
            **REAL_SIZE,
        )
    return config if options.seeds is None else replace(config, seeds=tuple(range(options.seeds)))


def metrics(questeval: str) -> tuple[str, ...]:
    """Token F1 and QuestEval as in the study, perplexity, and ROUGE-L if its package is installed."""
    return ("token-f1", questeval, "perplexity", *(["rouge-l"] if find_spec("rouge_score") else []))


def ask_the_judge(options: argparse.Namespace) -> None:
    """Rank the answers with a language model, if one is given, or if Phi-2 is studied with an OpenAI key."""
    model = options.judge or ("gpt-4o-mini" if options.preset == "phi2" and os.environ.get("OPENAI_API_KEY") else None)
    if model is None:
        return
    try:
        judge = rs.LLMJudge(model, max_questions=JUDGED_QUESTIONS, cache=options.out / "replies")
        rs.judge_answers(rs.StudyResults.load(options.out), judge)
    except rs.RankSelectError as error:
        print(f"No ranking by a judge: {error}")


def report(out: Path) -> None:
    """Write the report, and print the main table and the verdict."""
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
    """Print the trainable parameters and the memory of each arm on Phi-2, without weights or a network."""
    model = phi2()
    print(f"{PHI2}: {model.num_parameters():,} parameters; LoRA on {', '.join(TARGETS)}; alpha = 8 x rank\n")
    print("\n".join(parameter_table(model)))
    print(ABOUT_THE_DRY_RUN)


def parameter_table(model: PhiForCausalLM) -> Iterator[str]:
    """Iterate over the lines of the table, one for each trained arm."""
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
    yield f"The study does not list its layers' IDs; {STUDY_PER_LAYER} % corresponds to a mean rank of {mean_rank:.1f}."


def phi2() -> PhiForCausalLM:
    """Create Phi-2 without weights, from its published sizes."""
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
    """Count the elements in which bitsandbytes stores Phi-2: two weights of a linear layer share one."""
    model = phi2()
    quantize(model, "nf4", torch.bfloat16)
    return stored_parameters(model)


def configure_messages() -> None:
    """Show the log messages and warnings of rankselect, and hide those of other packages."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    logging.getLogger("rankselect").setLevel(logging.INFO)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", rs.RankSelectWarning)
    warnings.formatwarning = lambda message, *_, **__: f"\nwarning: {message}\n"


ABOUT_THE_DEMONSTRATION = """
This demonstration shows all steps from a model and its texts to a report. It
does not show which ranks are best: it has too few seeds, questions and steps.
For an answer, run it with your own model and rows, and with --seeds 3 or more."""

ABOUT_THE_DRY_RUN = """\
The ranks of least-id and greatest-id are those that the study measured; a run
measures its own. "As stored" counts two 4-bit weights as one parameter, like the
numbers in the study, so this share is about twice too high. Memory is the
predicted peak of a training step with the settings of --preset phi2: 8 rows of
512 tokens, gradient checkpointing, 32-bit adapters and AdamW, on a GPU."""


if __name__ == "__main__":
    main()
