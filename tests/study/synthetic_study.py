"""Writes the results folder of a study that was never run: made-up scores of known effects, in the real format."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rankselect.adapters.record import TrainingRecord
from rankselect.calibration.id_profile import IDProfile
from rankselect.files import write_document
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.run import Run, RunResult

if TYPE_CHECKING:
    from pathlib import Path

N_LAYERS = 32
PER_RANK = 1_310_720  # parameters per unit of rank of Phi-2 with q, k, v, fc1 and fc2 as targets
BASE = 2_779_683_840
STORED = 1_521_392_640  # two 4-bit weights to an element
IDS = [6.0, 6.4, 7.1, 8.2, *np.linspace(9.0, 13.8, 12), *np.linspace(13.0, 7.0, 16)]

ARMS = (
    Arm("base"),
    Arm("rank-1", "fixed:rank=1"),
    Arm("rank-6", "fixed:rank=6"),
    Arm("rank-14", "fixed:rank=14"),
    Arm("per-layer-id", "per-layer-id"),
    Arm("id-control", "fixed:rank=10"),
    Arm("rank-64", "fixed:rank=64"),
)
RANKS: dict[str, list[int]] = {
    "base": [],
    "rank-1": [1] * N_LAYERS,
    "rank-6": [6] * N_LAYERS,
    "rank-14": [14] * N_LAYERS,
    "per-layer-id": [int(value + 0.5) for value in IDS],
    "id-control": [10] * N_LAYERS,
    "rank-64": [64] * N_LAYERS,
}
EFFECTS = {
    "base": -0.2,
    "rank-1": -0.05,
    "rank-6": 0.0,
    "rank-14": 0.0,
    "per-layer-id": 0.0,
    "id-control": 0.0,
    "rank-64": 0.01,
}
"""By how much an arm's scores are above those of the others."""

_SCORED = ("test_losses", "answers", "scores")
_CONDITIONS = ("fever", "anemia", "asthma", "gout", "measles", "scurvy", "rickets", "mumps")


def write_synthetic_study(
    folder: Path,
    *,
    arms: tuple[Arm, ...] = ARMS,
    seeds: tuple[int, ...] = (0, 1, 2),
    n_questions: int = 40,
    effects: dict[str, float] | None = None,
    seed_spread: float = 0.01,
    dropout_too: bool = True,
    profile: bool = True,
    judge: bool = False,
    level: float | None = None,
    alike: tuple[str, ...] = (),
    unscored: tuple[str, ...] = (),
    worst_loss: float | None = None,
    random_seed: int = 0,
) -> StudyConfig:
    """Write config, profile, test rows, choice, and every run (grid and final) of a study.

    Args:
        folder: The results folder; it is made.
        arms: The arms; their names are keys of `RANKS`.
        seeds: The training seeds. The base model has a run for each, all with the same scores.
        n_questions: The number of test rows.
        effects: ``{arm: shift of its scores}``; `EFFECTS` by default.
        seed_spread: The standard deviation of a training's own luck.
        dropout_too: Whether there is a second condition, in which scores are a little lower.
        profile: Whether a profile is written, and one after training in every run.
        judge: Whether an LLM judge's result is written.
        level: What every answer of every arm scores, so that all tie; 0 for answers that are all wrong.
        alike: Arms that have the answers, scores and losses of the first of them, seed by seed.
        unscored: Arms whose final runs have neither answers nor scores.
        worst_loss: The losses of the last arm's test answers: a training that diverged, but not to NaN.
        random_seed: Decides the scores.
    """
    generator = np.random.default_rng(random_seed)
    config = StudyConfig(
        "microsoft/phi-2",
        "medical-qa",
        "medical-qa",
        arms=arms,
        seeds=seeds,
        quantization="nf4",
        dropout_too=dropout_too,
        profile_after=profile,
    )
    (folder / "units").mkdir(parents=True)
    head = {"format": "rankselect.study", "version": 1, "hash": config.hash, "config": config.to_dict()}
    write_document(
        folder / "config.json", {**head, "versions": {"rankselect": "0.0", "torch": "2.9"}, "machine": "1 CPU core"}
    )
    rows = [_row(index) for index in range(n_questions)]
    write_document(folder / "test_rows.json", {"format": "rankselect.study_rows", "version": 1, "rows": rows})
    if profile:
        values = {f"model.layers.{layer}": float(value) for layer, value in enumerate(IDS)}
        IDProfile.from_values(values, stderr=dict.fromkeys(values, 0.6)).save(folder / "profile.json")
    chosen = {arm.name: _write_grid(folder, config, arm) for arm in arms}
    write_document(folder / "chosen.json", {"format": "rankselect.study_choice", "version": 1, "chosen": chosen})
    difficulty = generator.uniform(0.3, 0.7, n_questions)
    finals: list[RunResult] = []
    for arm in arms:
        effect = (effects or EFFECTS).get(arm.name, 0.0)
        choice = chosen[arm.name]
        for seed in seeds:
            luck = generator.normal(0.0, seed_spread)
            if arm.strategy is not None or seed == seeds[0]:
                quality = difficulty + effect + luck + generator.normal(0.0, 0.08, n_questions)
            run = Run("final", arm.name, seed, **choice)
            shown = quality if level is None else np.full(n_questions, level)
            losses = np.clip(2.0 - shown, 0.01, None)
            if level is None and RANKS[arm.name]:
                losses = np.clip(2.0 - quality + generator.normal(0.0, 0.02, n_questions), 0.01, None)
            if worst_loss is not None and arm is arms[-1]:
                losses = np.full(n_questions, worst_loss)
            result = _final(config, run, shown, losses, rows, profile=profile)
            if arm.name in alike[1:]:
                twin = next(each for each in finals if (each.run.arm, each.run.seed) == (alike[0], seed))
                result = replace(result, **{name: getattr(twin, name) for name in _SCORED})
            if arm.name in unscored:
                result = replace(result, test_losses=[], answers={}, scores={})
            finals.append(result)
            save(folder, result)
    if judge:
        _write_judge(folder, rows, finals)
    return config


def save(folder: Path, result: RunResult) -> Path:
    """Write a run where the runner does."""
    path = folder / "units" / f"{result.run.id}.json"
    result.save(path)
    return path


def fail(folder: Path, run_id: str, error: str = "expected memory, got none. Buy some.") -> None:
    """Turn a run into one that failed."""
    path = folder / "units" / f"{run_id}.json"
    RunResult(RunResult.load(path).run, "failed", error).save(path)


def damage(folder: Path, run_id: str) -> None:
    """Cut a run's file in half."""
    path = folder / "units" / f"{run_id}.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])


def change(folder: Path, run_id: str, **values: Any) -> None:
    """Replace fields of a run."""
    path = folder / "units" / f"{run_id}.json"
    replace(RunResult.load(path), **values).save(path)


def _row(index: int) -> dict[str, str]:
    name = _CONDITIONS[index % len(_CONDITIONS)]
    return {"question": f"What is {name} of type {index}?", "answer": f"{name.title()} is a disease of type {index}."}


def _write_grid(folder: Path, config: StudyConfig, arm: Arm) -> dict[str, float]:
    """Every point of the grid with the first seed; 0.0003 is the best, for rank 1 the greatest rate."""
    if arm.strategy is None:
        return {"learning_rate": 0.0, "alpha_ratio": 0.0}
    best = 1e-3 if arm.name == "rank-1" else 3e-4
    for rate, ratio in config.grid_of(arm):
        run = Run("grid", arm.name, config.seeds[0], rate, ratio)
        loss = 1.2 + 0.05 * abs(np.log10(rate / best))
        save(folder, _trained(run, config, validation_loss=float(loss)))
    return {"learning_rate": best, "alpha_ratio": config.alpha_ratios[0]}


def _trained(run: Run, config: StudyConfig, **values: Any) -> RunResult:
    ranks = RANKS[run.arm]
    by_module = {f"model.layers.{layer}.self_attn.q_proj": rank for layer, rank in enumerate(ranks)}
    trainable = PER_RANK * sum(ranks) // N_LAYERS
    record = TrainingRecord(
        run.arm,
        config.model,
        config.quantization,
        "float32",
        "cpu",
        trainable,
        BASE,
        steps=100,
        seconds=60.0 + trainable / 2_000_000 + run.seed,
        selection_seconds=30.0 if run.arm == "per-layer-id" else 0.0,
        tokens=60_000,
        peak_memory_bytes=3_000_000_000 + 16 * trainable,
        micro_batch_size=8,
        losses=tuple((step, 1.1 + 1.5 * float(np.exp(-step / 30))) for step in range(10, 101, 10)),
        seed=run.seed,
    ).to_dict()
    return RunResult(
        run,
        ranks=by_module,
        alphas={name: run.alpha_ratio * rank for name, rank in by_module.items()},
        trainable_parameters=trainable,
        base_parameters=BASE,
        stored_parameters=STORED,
        selection_seconds=record["selection_seconds"],
        training=record if ranks else None,
        **values,
    )


def _final(
    config: StudyConfig,
    run: Run,
    quality: np.ndarray,
    losses: np.ndarray,
    rows: list[dict[str, str]],
    *,
    profile: bool,
) -> RunResult:
    answers, scores = {}, {}
    for condition in ("dropout_off", "dropout_on") if config.dropout_too else ("dropout_off",):
        shown = np.clip(quality - (0.05 if condition == "dropout_on" else 0.0), 0.0, 1.0)
        answers[condition] = [
            {
                "text": f"{row['answer'][: max(8, int(len(row['answer']) * score))]} ({run.arm})",
                "seconds": 0.2 + 0.001 * max(run.seed, 1),
                "n_tokens": 12,
                "stopped_by": "end",
            }
            for row, score in zip(rows, shown, strict=True)
        ]
        scores[condition] = {
            "token-f1": shown.tolist(),
            "questeval-cloze": np.where(shown > 0, np.clip(0.8 * shown + 0.05, 0.0, 1.0), 0.0).tolist(),
            "perplexity": np.exp(losses).tolist(),
        }
    after = [value * (1 - 0.1 * layer / N_LAYERS) for layer, value in enumerate(IDS)]
    names = [f"model.layers.{layer}" for layer in range(N_LAYERS)]
    return _trained(
        run,
        config,
        test_losses=losses.tolist(),
        answers=answers,
        scores=scores,
        validation_loss=float(losses.mean()),
        profile_after={"layers": names, "values": after, "stderr": [0.6] * N_LAYERS}
        if profile and RANKS[run.arm]
        else None,
    )


def _write_judge(folder: Path, rows: list[dict[str, str]], finals: list[RunResult]) -> None:
    """The result of a judge who prefers the longer answer."""
    from rankselect.metrics.judge import LLMJudge

    def complete(messages: list[dict[str, str]]) -> str:
        first, second = re.findall(r"<answer [AB]>(.*?)</answer", messages[0]["content"], re.DOTALL)
        if len(first) == len(second):
            return "[[tie]]"
        return "[[A]]" if len(first) > len(second) else "[[B]]"

    answers: dict[str, list[str]] = {}
    for final in finals:
        if final.answers:
            answers.setdefault(final.run.arm, [answer["text"] for answer in final.answers["dropout_off"]])
    judge = LLMJudge("a made-up judge", complete=complete)
    questions = [row["question"] for row in rows[:6]]
    result = judge.rank(questions, {arm: texts[:6] for arm, texts in answers.items()}, progress=False)
    write_document(folder / "judge.json", {"format": "rankselect.judge", "version": 1, **result.to_dict()})
