"""Executing one run of a study: train an arm and, in a final run, generate and score its answers."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import asdict, replace
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
from rankselect.study.base_model import stored_parameters, study_model, study_tokenizer
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

    from rankselect.data.prompts import QuestionAnswer
    from rankselect.metrics._base import Metric
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.strategies._base import RankStrategy
    from rankselect.study.config import StudyConfig
    from rankselect.study.rows import StudyRows
    from rankselect.study.run import Run

__all__ = ["do_run", "measure_profile", "study_metric"]

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


def measure_profile(config: StudyConfig, folder: Path, *, progress: bool) -> tuple[IDProfile, float]:
    """Measure the profile of the base model on the training rows; also return the seconds this took."""
    rows = study_rows(config).train
    model, tokenizer = study_model(config, folder), study_tokenizer(config, folder)
    began = time.perf_counter()
    profile = IDProfile.measure(_calibration(config, model, tokenizer, rows, progress=progress))
    return profile, time.perf_counter() - began


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
            plan, seconds = self._plan(arm.strategy)
            result = replace(self._train(plan, result), selection_seconds=seconds)
        if self.run.kind == "grid":
            return replace(result, validation_loss=float(np.mean(self._losses(self.rows.validation))))
        return self._answered(result)

    def _plan(self, strategy: RankStrategy) -> tuple[RankPlan, float]:
        targets = self.config.target_modules
        arguments: dict[str, Any] = {
            "target_modules": targets if targets is None or isinstance(targets, str) else list(targets),
            "alpha_ratio": self.run.alpha_ratio,
        }
        if strategy.evidence is IDProfile:
            folder = StudyFolder(self.folder)
            return strategy.plan(self.model, folder.profile(), **arguments), folder.profile_seconds()
        began = time.perf_counter()
        calibration = _calibration(self.config, self.model, self.tokenizer, self.rows.train, progress=False)
        plan = strategy.plan(self.model, calibration, **arguments)
        return plan, time.perf_counter() - began

    def _train(self, plan: RankPlan, result: RunResult) -> RunResult:
        config = self.config
        with tempfile.TemporaryDirectory() as scratch:
            trainer = RankSelectTrainer(
                self.model,
                TrainingArguments(
                    scratch,
                    num_train_epochs=config.epochs,
                    max_steps=config.max_steps or -1,
                    learning_rate=self.run.learning_rate,
                    per_device_train_batch_size=config.batch_size,
                    gradient_accumulation_steps=config.accumulation,
                    **checkpointing(on=config.gradient_checkpointing),
                    save_strategy="no",
                    logging_steps=1,
                    seed=self.run.seed,
                    report_to="none",
                    disable_tqdm=True,
                ),
                plan=plan,
                train_dataset=self.rows.train,
                processing_class=self.tokenizer,
                template=self.template,
                max_length=self.length,
                lora_arguments={"lora_dropout": config.lora_dropout},
                callbacks=[StepProgress(self.run.id)] if self.progress else [],
            )
            trainer.train()
        self.model = trainer.model
        return replace(
            result,
            ranks=plan.ranks,
            alphas=plan.alphas,
            trainable_parameters=plan.trainable_parameters,
            training=trainer.record.to_dict(),
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
        progress=progress,
    )
