"""Running a study: executes the runs that are missing, each exactly once."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

from tqdm.auto import tqdm

from rankselect.errors import MetricError, RankSelectError
from rankselect.study.base_model import SMALL_PHI, prepare_base, require_room
from rankselect.study.config import Hyperparameters
from rankselect.study.executors import Sequential
from rankselect.study.folder import StudyFolder
from rankselect.study.rows import study_rows
from rankselect.study.run import Run
from rankselect.study.work import do_run, measure_evidence, study_metric

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
    """A comparison of ways to choose ranks: trains and scores every arm with every seed.

    Each training is a run, and its result is saved in a file of its own. A study can be stopped at any time; running it
    again executes only the missing runs. A run that fails is recorded with its error and does not stop the others; the
    next call of `run` tries it again. The learning rate and alpha ratio of an arm are the grid point with the lowest
    loss on the validation rows, for the first seed. The test rows are used only for scoring.

    Args:
        config: What to compare, and how.
        folder: The study's folder: a new one, or one with a study of the same config.

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
        """The runs from which learning rates and alpha ratios are chosen; none for an arm with a grid of one point."""
        seed = self.config.training_seeds[0]
        return [
            Run("grid", arm.name, seed, rate, ratio)
            for arm in self.config.arms
            if len(self.config.grid_of(arm)) > 1
            for rate, ratio in self.config.grid_of(arm)
        ]

    def final(self, chosen: dict[str, Hyperparameters]) -> list[Run]:
        """The runs that are scored: every arm in `chosen`, with every seed."""
        return [
            Run("final", arm.name, seed, *chosen[arm.name])
            for seed in self.config.training_seeds
            for arm in self.config.arms
            if arm.name in chosen
        ]

    def run(self, *, executor: Executor | None = None, progress: bool = True) -> list[RunResult]:
        """Execute all runs that are missing.

        Errors in the config are raised before anything is trained.

        Args:
            executor: How to execute the runs. By default, one after the other in this process.
            progress: Show progress bars.

        Returns:
            The results of the final runs, including failed ones.

        Raises:
            ArgumentError: If the folder is in use, or contains a study with another config.
            UnknownNameError: If there is no metric with a given name.
            MetricError: If a metric cannot be computed on this machine.
            DataError: If rows cannot be read, or a prompt and `max_new_tokens` do not fit into the model's context.
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
        if self.config.model != SMALL_PHI:  # which is trained later
            require_room(self.config, self.folder.path)
        self.folder.open(self.config, rows)
        self.folder.keep_rows(rows)
        prepare_base(self.config, self.folder.path, progress=progress)
        kinds = {arm.strategy.evidence for arm in self.config.arms if arm.strategy is not None}
        for kind in sorted(filter(None, kinds), key=lambda kind: kind.__name__):
            if self.folder.keeps(kind) and self.folder.evidence(kind) is None:
                evidence = measure_evidence(self.config, self.folder.path, kind, progress=progress)
                self.folder.keep_evidence(*evidence)

    def _do(self, runs: Sequence[Run], executor: Executor, label: str, *, progress: bool) -> None:
        missing = [run for run in runs if not self.folder.is_done(run)]
        shown = progress and isinstance(executor, Sequential)
        work = partial(do_run, self.config, self.folder.path, progress=shown)
        bar = tqdm(total=len(runs), initial=len(runs) - len(missing), desc=label, unit="run", disable=not progress)
        with bar:
            for result in executor.run(work, missing):
                bar.update()
                if result.status == "failed":
                    if self.folder.result_of(result.run) is None:  # its worker died before it could save the failure
                        self.folder.keep(result)
                    logger.warning("%s failed: %s", result.run.id, result.error)

    def _choose(self) -> dict[str, Hyperparameters]:
        """Choose and save each arm's learning rate and alpha ratio; an arm whose grid runs all failed has none."""
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
    """Score one answer with each metric, to find metrics that do not work here before anything is trained."""
    metrics = [study_metric(each) for each in given]
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):  # scores are saved by name
        raise MetricError("metrics with different names", ", ".join(names), "Remove one of them.")
    for metric in metrics:
        try:
            metric.evaluate(["A fever."], ["A fever."], questions=["What is it?"], losses=[1.0], n_resamples=1)
        except RankSelectError as error:
            raise MetricError(
                f"the metric {metric.name} to work here", str(error), "Or remove it from the study's metrics."
            ) from error
