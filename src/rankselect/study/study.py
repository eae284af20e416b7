"""Runs a study: what is missing of it, and nothing twice."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

from tqdm.auto import tqdm

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import MetricError, RankSelectError
from rankselect.study.base_model import SMALL_PHI, prepare_base, require_room
from rankselect.study.config import Hyperparameters
from rankselect.study.executors import Sequential
from rankselect.study.folder import StudyFolder
from rankselect.study.rows import study_rows
from rankselect.study.run import Run
from rankselect.study.work import do_run, measure_profile, study_metric

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from rankselect.metrics._base import Metric
    from rankselect.study.config import StudyConfig
    from rankselect.study.executors import Executor
    from rankselect.study.run import RunResult

__all__ = ["Study"]

logger = logging.getLogger(__name__)


@final
class Study:
    """Compares ways of choosing ranks: every arm with every seed, its learning rate chosen from a grid.

    Each training is a run with a file of its own. A study that was stopped, at any moment, goes on with what is
    missing; a run that failed is recorded with its error, does not stop the others, and is tried again at the next
    run. Learning rate and alpha ratio of an arm are those of the least loss on the validation rows, with the first
    seed; the test rows are for scoring only.

    Args:
        config: What to compare, and how.
        folder: Where everything is kept: new, or of the same config.

    Example:
        >>> from rankselect.study.arm import Arm
        >>> from rankselect.study.config import StudyConfig
        >>> arms = (Arm("base"), Arm("r8", "fixed:rank=8"))
        >>> study = Study(StudyConfig("small-phi", "medical-qa", arms=arms, seeds=2), "results")
        >>> [run.id for run in study.grid()][:2], len(study.grid())
        (['grid.r8.seed0.lr0.0001.alpha8', 'grid.r8.seed0.lr0.0003.alpha8'], 3)
    """

    def __init__(self, config: StudyConfig, folder: str | os.PathLike[str]) -> None:
        self.config = config
        self.folder = StudyFolder(Path(folder))

    def grid(self) -> list[Run]:
        """The runs that choose learning rates and alpha ratios; none for an arm with a grid of one point."""
        seed = self.config.training_seeds[0]
        return [
            Run("grid", arm.name, seed, rate, ratio)
            for arm in self.config.arms
            if len(self.config.grid_of(arm)) > 1
            for rate, ratio in self.config.grid_of(arm)
        ]

    def final(self, chosen: dict[str, Hyperparameters]) -> list[Run]:
        """The runs that are scored: every arm that has a choice, with every seed."""
        return [
            Run("final", arm.name, seed, *chosen[arm.name])
            for seed in self.config.training_seeds
            for arm in self.config.arms
            if arm.name in chosen
        ]

    def run(self, *, executor: Executor | None = None, progress: bool = True) -> list[RunResult]:
        """Do everything that is missing.

        Args:
            executor: Where; one run after the other in this process if left out.
            progress: Show progress bars.

        Returns:
            The results of the final runs, those that failed too.

        Raises:
            ArgumentError: If the folder is in use, or holds the study of another config.
            UnknownNameError: If there is no metric of a name.
            MetricError: If a metric cannot be computed here; said before anything is trained, as all of these are.
            DataError: If rows cannot be read, or the model has no room for a prompt and `max_new_tokens`.
            SaveError: If the folder cannot be written.
        """
        executor = executor or Sequential()
        with self.folder.locked():
            self._prepare(progress=progress)
            self._do(self.grid(), executor, "Choosing learning rates", progress=progress)
            chosen = self._choose()
            runs = self.final(chosen)
            self._do(runs, executor, "Training and scoring", progress=progress)
        return [result for run in runs if (result := self.folder.result_of(run)) is not None]

    def _prepare(self, *, progress: bool) -> None:
        _require_metrics(self.config.metrics)
        rows = study_rows(self.config)
        if self.config.model != SMALL_PHI:  # which is not there yet
            require_room(self.config, self.folder.path)
        self.folder.open(self.config, rows)
        self.folder.keep_rows(rows)
        prepare_base(self.config, self.folder.path, progress=progress)
        needed = any(arm.strategy is not None and arm.strategy.evidence is IDProfile for arm in self.config.arms)
        if needed and self.folder.profile() is None:
            self.folder.keep_profile(*measure_profile(self.config, self.folder.path, progress=progress))

    def _do(self, runs: Sequence[Run], executor: Executor, label: str, *, progress: bool) -> None:
        missing = [run for run in runs if not self.folder.is_done(run)]
        shown = progress and isinstance(executor, Sequential)
        work = partial(do_run, self.config, self.folder.path, progress=shown)
        bar = tqdm(total=len(runs), initial=len(runs) - len(missing), desc=label, unit="run", disable=not progress)
        with bar:
            for result in executor.run(work, missing):
                bar.update()
                if result.status == "failed":
                    if self.folder.result_of(result.run) is None:  # its worker died too often to say so itself
                        self.folder.keep(result)
                    logger.warning("%s failed: %s", result.run.id, result.error)

    def _choose(self) -> dict[str, Hyperparameters]:
        """Learning rate and alpha ratio of each arm; an arm of which no point could be trained has none."""
        chosen: dict[str, Hyperparameters] = {}
        for arm in self.config.arms:
            points = self.config.grid_of(arm)
            if len(points) <= 1:
                chosen[arm.name] = points[0] if points else Hyperparameters(0.0, 0.0)
                continue
            results = [self.folder.result_of(run) for run in self.grid() if run.arm == arm.name]
            losses = {
                Hyperparameters(result.run.learning_rate, result.run.alpha_ratio): result.validation_loss
                for result in results
                if result is not None and result.status == "done" and result.validation_loss is not None
            }
            if losses:
                chosen[arm.name] = min(losses, key=lambda point: losses[point])
        self.folder.keep_choice(chosen)
        return chosen


def _require_metrics(given: Sequence[Metric | str]) -> None:
    """Score one answer with each metric, so that one that cannot work here is known before anything is trained."""
    metrics = [study_metric(each) for each in given]
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):  # scores are kept by name
        raise MetricError("metrics of different names", ", ".join(names), "Leave one of them out.")
    for metric in metrics:
        try:
            metric.evaluate(["A fever."], ["A fever."], questions=["What is it?"], losses=[1.0], n_resamples=1)
        except RankSelectError as error:
            raise MetricError(
                f"metrics that work here, {metric.name} among them", str(error), "Or leave it out."
            ) from error
