"""Executing one run of a study: train an arm and, in a final run, generate and score its answers."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
from transformers import TrainingArguments

from rankselect.calibration.evidence import Calibration
from rankselect.calibration.id_profile import IDProfile
from rankselect.data.prompt_tokens import row_length
from rankselect.data.prompts import PromptTemplate
from rankselect.errors import NonFiniteLossError, SaveError
from rankselect.models._transformers import checkpointing
from rankselect.models.quantized_layers import count_parameters
from rankselect.plan.budget import Budget
from rankselect.plan.scale import ScalesOf
from rankselect.study.arm import LIKE, SCALES_OF
from rankselect.study.base_model import stored_parameters, study_model, study_tokenizer
from rankselect.study.cutting import cut_adapter
from rankselect.study.folder import StudyFolder
from rankselect.study.recorded import metric_from
from rankselect.study.rows import study_rows
from rankselect.study.run import RunResult
from rankselect.training.answer_losses import answer_losses
from rankselect.training.callbacks import StepProgress
from rankselect.training.generation import generate_answers
from rankselect.training.trainer import RankSelectTrainer

if TYPE_CHECKING:
    from pathlib import Path

    from rankselect.calibration.evidence import Evidence
    from rankselect.data.prompts import QuestionAnswer
    from rankselect.metrics._base import Metric
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.strategies._base import RankStrategy
    from rankselect.study.arm import Arm
    from rankselect.study.config import StudyConfig
    from rankselect.study.rows import StudyRows
    from rankselect.study.run import Run

__all__ = ["do_run", "measure_evidence", "study_metric"]

logger = logging.getLogger(__name__)


def do_run(config: StudyConfig, folder: Path, run: Run, *, progress: bool = False) -> RunResult:
    """Execute a run and save its result. If the run raises an error, the error is saved in the result.

    Args:
        config: The study's config.
        folder: The study's folder, already prepared.
        run: The run to execute.
        progress: Show a progress bar of the training steps.

    Raises:
        SaveError: If the result cannot be written.
    """
    try:
        result = _RunInProgress(config, folder, run, progress=progress).result()
    except Exception as error:  # one run must not stop the others
        logger.warning("%s failed", run.id, exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        result = RunResult(run, status="failed", error=text)
    try:
        StudyFolder(folder).keep(result)
    except OSError as error:
        raise SaveError(
            "a study folder that can be written", f"{folder} ({error})", "Free disk space and run the study again."
        ) from error
    return result


def measure_evidence(
    config: StudyConfig, folder: Path, kind: type[Evidence], *, progress: bool
) -> tuple[Evidence, float]:
    """Measure one kind of evidence of the base model on the training rows; also return the seconds this took."""
    rows = study_rows(config).train
    model, tokenizer = study_model(config, folder), study_tokenizer(config, folder)
    began = time.perf_counter()
    evidence = kind.measure(_calibration(config, model, tokenizer, rows, progress=progress))
    return evidence, time.perf_counter() - began


@final
class _RunInProgress:
    """The state of a run during its execution."""

    def __init__(self, config: StudyConfig, folder: Path, run: Run, *, progress: bool) -> None:
        self.config, self.folder, self.run, self.progress = config, folder, run, progress
        self.rows: StudyRows = study_rows(config)
        self.template = PromptTemplate(config.template)
        self.tokenizer = study_tokenizer(config, folder)
        self.model: Any = study_model(config, folder)
        self.length = row_length(self.model, self.tokenizer, config.max_length)

    def result(self) -> RunResult:
        arm = next(arm for arm in self.config.arms if arm.name == self.run.arm)
        result = RunResult(
            self.run,
            base_parameters=count_parameters(self.model),
            stored_parameters=stored_parameters(self.model),
        )
        if arm.strategy is not None:
            plan, seconds = self._plan(arm, arm.strategy)
            result = replace(self._train(arm, plan, result), selection_seconds=seconds)
        if self.run.kind == "grid":
            return replace(result, validation_loss=float(np.mean(self._losses(self.rows.validation))))
        return self._answered(result)

    def _plan(self, arm: Arm, strategy: RankStrategy) -> tuple[RankPlan, float]:
        """The plan of an arm, and the seconds it took to measure its evidence and to choose the ranks."""
        folder, began = StudyFolder(self.folder), time.perf_counter()
        evidence: Any = folder.evidence(strategy.evidence)
        measured = 0.0 if evidence is None or strategy.evidence is None else folder.evidence_seconds(strategy.evidence)
        if evidence is None:
            evidence = _calibration(self.config, self.model, self.tokenizer, self.rows.train, progress=False)
        targets = self.config.target_modules
        plan = strategy.plan(
            self.model,
            evidence,
            target_modules=targets if targets is None or isinstance(targets, str) else list(targets),
            **self._size_and_scale(arm),
        )
        return plan, measured + time.perf_counter() - began

    def _size_and_scale(self, arm: Arm) -> dict[str, Any]:
        """The arguments of `plan` for an arm's budget and alphas; both may be those of another arm."""
        other = next((each for each in self.config.arms if each.name == arm.other), None)
        plan = None if other is None or other.strategy is None else self._plan(other, other.strategy)[0]
        arguments: dict[str, Any] = {"budget": arm.budget, "alpha": arm.alpha}
        if plan is not None and arm.budget is not None and arm.budget.startswith(LIKE):
            arguments["budget"] = Budget(like=plan)
        if plan is not None and arm.alpha is not None and arm.alpha.startswith(SCALES_OF):
            arguments["alpha"] = ScalesOf(plan)
        if arm.alpha is None:  # another arm's plan is that of its first ratio
            arguments["alpha_ratio"] = self.run.alpha_ratio or self.config.ratios_of(arm)[0]
        return arguments

    def _train(self, arm: Arm, plan: RankPlan, result: RunResult) -> RunResult:
        config = self.config
        how: dict[str, Any] = {
            "train_dataset": self.rows.train,
            "processing_class": self.tokenizer,
            "template": self.template,
            "max_length": self.length,
            "lora_arguments": {"lora_dropout": config.lora_dropout},
            "callbacks": [StepProgress(self.run.id)] if self.progress else [],
        }
        with tempfile.TemporaryDirectory() as scratch:
            arguments = self._training_arguments(scratch, config.max_steps or -1)
            trainer = RankSelectTrainer(self.model, arguments, plan=plan, **how)
            trainer.train()
        self.model = trainer.model
        result = replace(
            result,
            ranks=plan.ranks,
            alphas=plan.alphas,
            trainable_parameters=plan.trainable_parameters,
            training=trainer.record.to_dict(),
        )
        if arm.cut is None:
            return result
        further = partial(self._training_arguments, max_steps=arm.recover_steps)
        cut = cut_adapter(arm, self.model, trainer.record.to_dict(), further, **how)
        self.model = cut.model
        return replace(
            result,
            ranks=cut.ranks,
            alphas=cut.alphas,
            trainable_parameters=cut.trainable_parameters,
            training=cut.training,
        )

    def _training_arguments(self, scratch: str, max_steps: int) -> TrainingArguments:
        config = self.config
        return TrainingArguments(
            scratch,
            num_train_epochs=config.epochs,
            max_steps=max_steps,
            learning_rate=self.run.learning_rate,
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.accumulation,
            **checkpointing(on=config.gradient_checkpointing),
            save_strategy="no",
            logging_steps=1,
            seed=self.run.seed,
            report_to="none",
            disable_tqdm=True,
        )

    def _losses(self, rows: list[QuestionAnswer]) -> list[float]:
        losses = answer_losses(
            self.model,
            self.tokenizer,
            rows,
            template=self.template,
            max_length=self.length,
            batch_size=self.config.generation_batch_size,
        )
        if not np.isfinite(losses).all():
            raise NonFiniteLossError("finite answer losses", "NaN or infinity", "Lower the learning rate.")
        return losses

    def _answered(self, result: RunResult) -> RunResult:
        config, test = self.config, self.rows.test
        losses = self._losses(test)
        questions, references = [row.question for row in test], [row.answer for row in test]
        answers, scores = {}, {}
        for condition in ("dropout_off", *(["dropout_on"] if config.dropout_too else [])):
            written = generate_answers(
                self.model,
                self.tokenizer,
                questions,
                template=self.template,
                max_new_tokens=config.max_new_tokens,
                batch_size=config.generation_batch_size,
                dropout=condition == "dropout_on",
                seed=self.run.seed,
                progress=False,
            )
            answers[condition] = [asdict(answer) for answer in written]
            texts = [answer.text for answer in written]
            scores[condition] = {
                metric.name: metric.evaluate(texts, references, questions=questions, losses=losses).values.tolist()
                for metric in map(study_metric, config.metrics)
            }
        after = None
        if config.profile_after and self.run.learning_rate:
            calibration = _calibration(config, self.model, self.tokenizer, self.rows.train, progress=False)
            profile = IDProfile.measure(calibration)
            after = {
                "layers": list(profile.layers),
                "values": profile.values.tolist(),
                "stderr": None if profile.stderr is None else profile.stderr.tolist(),
            }
        return replace(result, test_losses=losses, answers=answers, scores=scores, profile_after=after)


def study_metric(given: Metric | str) -> Any:
    """A metric of a study, with its own progress bar disabled."""
    metric: Any = metric_from(given)
    return replace(metric, progress=False) if hasattr(metric, "progress") else metric


def _calibration(
    config: StudyConfig, model: Any, tokenizer: Any, rows: list[QuestionAnswer], *, progress: bool
) -> Calibration:
    return Calibration(
        model,
        tokenizer,
        rows,
        template=PromptTemplate(config.template),
        max_length=row_length(model, tokenizer, config.max_length),
        batch_size=config.generation_batch_size,
        max_samples=config.profile_samples,
        pooling=config.pooling,
        estimator=config.estimator,
        target_modules=config.target_modules,
        progress=progress,
    )
