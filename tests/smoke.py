"""Runs something small in every room of the installed rankselect, without pytest, and without the sources.

    python smoke.py

prints one line for each room. The exit status is 1 if a room fails; a room whose optional packages are not installed is
skipped, unless ``--all`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from peft import get_peft_model
from transformers import TrainingArguments

import rankselect as rs
from rankselect.testing import check_estimator, check_metric, check_strategy, tiny_model, tiny_texts, tiny_tokenizer

VERSIONS = ("torch", "transformers", "peft", "accelerate", "numpy", "scipy")
DATA_FILES = (
    "py.typed",
    "__init__.pyi",
    "data/conditions.jsonl",
    *(f"study/report/{name}" for name in ("page.html", "parts.html", "page.css", "page.js")),
)
ROWS = [{"question": f"What helps against {number}?", "answer": text} for number, text in enumerate(tiny_texts(60))]


def package(folder: Path) -> None:
    """Every file that is no module is in the package, and every public name can be imported."""
    assert all((files("rankselect") / name).is_file() for name in DATA_FILES)
    assert all(getattr(rs, name) is not None for name in rs.__all__)


def estimators(folder: Path) -> None:
    """Neighbours and estimators, on points of a known dimension."""
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 30)))
    for name in ("twonn", "mle", "gride"):
        assert abs(rs.estimator(name).estimate(points).value - 3) < 0.5
    check_estimator("twonn")


def skdim(folder: Path) -> None:
    """An estimator of scikit-dimension."""
    assert rs.estimator("skdim:lPCA").estimate(np.random.default_rng(0).normal(size=(200, 3))).value == 3


def strategies(folder: Path) -> None:
    """Profile, strategies, and plans that PEFT builds as they say."""
    model = tiny_model()
    profile = rs.id_profile(model, tiny_tokenizer(), tiny_texts(80), progress=False)
    profile.save(folder / "profile.json")
    assert (rs.IDProfile.load(folder / "profile.json").values == profile.values).all()
    for name in ("fixed:rank=4", "intrinsic-max", "per-layer-id", "gelora"):
        plan = rs.strategy(name).plan(model, profile)
        plan.verify(get_peft_model(tiny_model(), plan.to_lora_config(task_type="CAUSAL_LM")))
    check_strategy("per-layer-id")


def memory(folder: Path) -> None:
    """The memory of a training step, and the largest batch that fits."""
    model = tiny_model()
    plan = rs.Fixed(4).plan(model)
    estimate = rs.estimate_memory(model, plan, batch_size=2, length=64)
    assert 0 < estimate.peak == sum(estimate.parts.values())
    assert rs.largest_fit(model, plan, 2 * estimate.peak, length=64).batch_size >= 2


def training(folder: Path) -> None:
    """Training, generation, losses and metrics, then merging and exporting what was trained."""
    tokenizer = tiny_tokenizer()
    tiny_model().save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    arguments = TrainingArguments(
        str(folder / "run"), max_steps=2, learning_rate=1e-3, report_to="none", disable_tqdm=True, use_cpu=True
    )
    trainer = rs.RankSelectTrainer(
        rs.load_model(folder / "base"),
        arguments,
        strategy="fixed:rank=4",
        train_dataset=ROWS,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_adapter(folder / "adapter")
    answers = rs.generate_answers(trainer.model, tokenizer, ROWS[:4], max_new_tokens=4, progress=False)
    assert len(rs.TokenF1().evaluate(answers, [row["answer"] for row in ROWS[:4]]).values) == 4
    assert rs.Perplexity().evaluate(losses=rs.answer_losses(trainer.model, tokenizer, ROWS[:4])).mean > 1
    rs.merge_adapter(folder / "adapter", folder / "merged", base=folder / "base")
    rs.export_adapter(folder / "adapter", folder / "served")
    rs.attach_adapter(rs.load_model(folder / "base"), folder / "served")


def metrics(folder: Path) -> None:
    """The contract of the metrics that need no model."""
    for name in ("token-f1", "exact-match", "rouge-l"):
        check_metric(name)


def quantized(folder: Path) -> None:
    """A model in 4 bits."""
    tiny_model().save_pretrained(folder / "whole")
    model = rs.load_model(folder / "whole", quantization="nf4")
    assert rs.estimate_memory(model, rs.Fixed(2).plan(model), length=32).peak > 0


def study(folder: Path) -> None:
    """A study of two arms, its results, and its report."""
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    config = rs.StudyConfig(
        str(folder / "model"),
        str(folder / "rows.jsonl"),
        arms=[rs.Arm("base"), rs.Arm("rank-2", "fixed:rank=2")],
        seeds=2,
        learning_rates=[1e-3],
        metrics=["token-f1"],
        max_steps=2,
        max_new_tokens=4,
        max_length=96,
    )
    rs.Study(config, folder / "study").run(progress=False)
    results = rs.StudyResults.load(folder / "study")
    assert len(results.final) == 4
    page, _ = rs.write_report(results)
    assert "</html>" in page.read_text(encoding="utf-8")


def cli(folder: Path) -> None:
    """The commands, in a process of their own."""
    command = Path(sys.executable).with_name("rankselect")
    for arguments in (["--version"], ["strategies"], ["profile", "--help"]):
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)


ROOMS = (package, estimators, skdim, strategies, memory, training, metrics, quantized, study, cli)


def main() -> int:
    """Run all rooms; the number of those that failed decides the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a room whose optional packages are missing fails")
    everything = parser.parse_args().all
    warnings.simplefilter("ignore")
    print(f"rankselect {rs.__version__} in {Path(rs.__file__).parent}, Python {sys.version.split()[0]}")
    print(", ".join(f"{name} {version(name)}" for name in VERSIONS))
    failed = 0
    for room in ROOMS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                room(Path(folder))
                outcome = "ok"
            except (rs.errors.MissingExtraError, ModuleNotFoundError) as error:
                outcome, failed = f"skipped: {error}", failed + everything
            except Exception:
                outcome, failed = f"FAILED\n{traceback.format_exc()}", failed + 1
        print(f"{room.__name__:<12} {outcome}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
