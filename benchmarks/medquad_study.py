"""A study on a real model and real questions: every strategy and every control, three seeds, a grid for each arm.

    OMP_NUM_THREADS=1 python benchmarks/medquad_study.py --model stories260k --data medquad --out medquad_study

The model has 260,000 parameters and writes children's stories; the data is MedQuAD, with 1,000 questions for
training and 200 about other diseases for the test. After an interruption, the same command resumes.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch

import rankselect as rs

ARMS = {
    "base": None,
    "rank-1": "fixed:rank=1",
    "rank-8": "fixed:rank=8",
    "rank-64": "fixed:rank=64",
    "intrinsic-min": "intrinsic-min",
    "intrinsic-max": "intrinsic-max",
    "per-layer-id": "per-layer-id",
    "same-parameters": "same-parameters:strategy=per-layer-id",
    "shuffled": "shuffled:strategy=per-layer-id,seed=1",
    "tilted-early": "tilted:strategy=per-layer-id,towards=early",
    "tilted-late": "tilted:strategy=per-layer-id,towards=late",
    "gelora": "gelora",
}


def study_config(model: str, data: Path) -> rs.StudyConfig:
    """Return the config; it is the same in every call of the script, so that an interrupted study resumes."""
    return rs.StudyConfig(
        model,
        str(data / "train.jsonl"),
        str(data / "eval.jsonl"),
        arms=tuple(rs.Arm(name, strategy) for name, strategy in ARMS.items()),
        seeds=(0, 1, 2),
        target_modules="all-linear",
        learning_rates=(2.5e-4, 1e-3, 4e-3, 1.6e-2, 6.4e-2),
        max_length=192,
        batch_size=16,
        max_new_tokens=48,
        generation_batch_size=50,
        device_map="cpu",
        profile_after=True,
        profile_samples=500,
    )


def main() -> None:
    """Run the missing parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path, help="the folder with train.jsonl and eval.jsonl")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--share", type=Path, help="a folder for a report without questions and answers")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    warnings.simplefilter("ignore", rs.RankSelectWarning)
    torch.set_num_threads(1)  # the order of summation changes the last digits
    rs.Study(study_config(arguments.model, arguments.data), arguments.out).run()
    results = rs.StudyResults.load(arguments.out)
    results.write(arguments.out)
    rs.write_report(results, arguments.out)
    if arguments.share is not None:
        rs.write_report(results, arguments.share, n_questions=0)
        (arguments.share / "results.csv").write_bytes((arguments.out / "results.csv").read_bytes())


if __name__ == "__main__":
    main()
