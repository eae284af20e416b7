"""The results of a study: tables, rankings, differences and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import DataError, UnknownNameError
from rankselect.study.analysis.completeness import GridPoint, grid_points, study_caveats
from rankselect.study.analysis.differences import ArmDifference, arm_difference, default_baseline, pooled_seed_variance
from rankselect.study.analysis.frames import frame, records
from rankselect.study.analysis.measurements import UNITS, Measured, measurements
from rankselect.study.analysis.rankings import Place, study_rankings
from rankselect.study.analysis.scores import arm_scores, metric_of, metrics_of
from rankselect.study.analysis.summary import ArmSummary, arm_summary, summary_columns
from rankselect.study.analysis.verdict import reach_verdict, verdict_or_error
from rankselect.study.folder import StudyFolder

if TYPE_CHECKING:
    import os

    from pandas import DataFrame

    from rankselect.calibration.id_profile import IDProfile
    from rankselect.metrics._base import Metric
    from rankselect.study.analysis.scores import ArmScores
    from rankselect.study.analysis.verdict import Verdict
    from rankselect.study.config import Hyperparameters, StudyConfig
    from rankselect.study.folder import StudyFiles
    from rankselect.study.run import Run, RunResult

__all__ = ["StudyResults", "as_document"]

_TABLE_COLUMNS = ("arm", "seed", "condition", "measurement", "unit", "value", "low", "high")
_DIFFERENCE_COLUMNS = (
    *("metric", "arm", "baseline", "difference", "low", "high", "p", "p_adjusted", "shown", "detectable"),
    *("outcome", "n_seeds", "n_questions", "n_comparisons", "higher_is_better", "note", "says"),
)


@final
@dataclass(frozen=True, eq=False)
class StudyResults:
    r"""The results of a study.

    Everything is computed from the study's files on access. An unfinished study has results too, based on the runs that
    are finished.

    Attributes:
        folder: The study's folder.
        files: The contents of the folder.

    Example:
        >>> import json, tempfile
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> folder = Path(tempfile.mkdtemp())
        >>> tiny_model().save_pretrained(folder / "model")
        >>> _ = tiny_tokenizer().save_pretrained(folder / "model")
        >>> for name, n in (("train", 8), ("test", 3)):
        ...     rows = [{"question": f"{name} {i}?", "answer": text} for i, text in enumerate(tiny_texts(n))]
        ...     _ = (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        >>> config = rs.StudyConfig(
        ...     str(folder / "model"), str(folder / "train.jsonl"), str(folder / "test.jsonl"), max_steps=1,
        ...     arms=(rs.Arm("rank-1", "fixed:rank=1"), rs.Arm("rank-4", "fixed:rank=4")), seeds=(0,),
        ...     learning_rates=(1e-3,), metrics=("token-f1",), max_new_tokens=2, device_map="cpu",
        ... )
        >>> _ = rs.Study(config, folder / "study").run(progress=False)
        >>> results = StudyResults.load(folder / "study")
        >>> results.summary[["arm", "trainable_parameters"]].values.tolist()
        [['rank-1', 224.0], ['rank-4', 896.0]]
        >>> results.verdict().headline
        'This study shows no difference between the arms: use rank-1, the cheapest.'
    """

    folder: Path
    files: StudyFiles

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> StudyResults:
        """Load the results of a study.

        Raises:
            FileFormatError: If it is not a study's folder, or a file other than a run's is damaged. Damaged run files
                are listed in `damaged`.
        """
        return cls(Path(folder), StudyFolder(Path(folder)).read())

    @property
    def config(self) -> StudyConfig:
        """The study's config."""
        return self.files.config

    @property
    def hash(self) -> str:
        """The config's hash."""
        return self.files.hash

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that the study was started with."""
        return self.files.versions

    @property
    def machine(self) -> str:
        """The machine on which the study was started."""
        return self.files.machine

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of all arms, in the config's order."""
        return tuple(arm.name for arm in self.config.arms)

    @property
    def rows(self) -> tuple[dict[str, str], ...]:
        """The test rows, ``{"question", "answer"}``."""
        return self.files.rows

    @property
    def chosen(self) -> dict[str, Hyperparameters]:
        """The learning rate and alpha ratio of each arm, as chosen from the grid."""
        return self.files.chosen

    @property
    def profile(self) -> IDProfile | None:
        """The profile of the base model, if one was measured."""
        return self.files.profile

    @property
    def judge(self) -> dict[str, Any] | None:
        """The judge's result in JSON values, if there is one."""
        return self.files.judge

    @property
    def damaged(self) -> dict[str, str]:
        """``{file: what is wrong with it}`` for the run files that could not be read."""
        return self.files.damaged

    @cached_property
    def final(self) -> list[RunResult]:
        """The finished final runs, sorted by arm (in the config's order) and by seed."""
        done = [each for each in self.files.runs if each.run.kind == "final" and each.status == "done"]
        return sorted(done, key=lambda each: (self.arms.index(each.run.arm), each.run.seed))

    @property
    def grid(self) -> list[RunResult]:
        """The grid runs, including failed ones."""
        return [each for each in self.files.runs if each.run.kind == "grid"]

    @property
    def failed(self) -> list[RunResult]:
        """The failed runs, both grid and final."""
        return [each for each in self.files.runs if each.status == "failed"]

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics by name.

        Raises:
            UnknownNameError: If a metric is not installed here.
        """
        return metrics_of(self.config.metrics)

    @property
    def conditions(self) -> list[str]:
        """The modes in which answers were generated, ``["dropout_off"]`` or ``["dropout_off", "dropout_on"]``."""
        return list(dict.fromkeys(condition for each in self.final for condition in each.scores))

    @cached_property
    def measured(self) -> list[tuple[Run, Measured]]:
        """All measurements of the final runs."""
        return [(each.run, one) for each in self.final for one in measurements(each, self.metrics)]

    @property
    def table(self) -> DataFrame:
        """All measurements, with a row for each arm, seed, condition and measurement.

        The columns are arm, seed, condition (empty if the measurement does not depend on how answers were generated),
        measurement, unit, value, low and high. The last two are the 95 % bootstrap interval over questions; they are
        missing if the value is not an average over questions.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        found = [
            {"arm": run.arm, "seed": run.seed, "unit": UNITS.get(one.measurement, ""), **asdict(one)}
            for run, one in self.measured
        ]
        return frame(found, _TABLE_COLUMNS)

    @cached_property
    def arm_summaries(self) -> list[ArmSummary]:
        """The means over seeds of each arm's measurements, with 95 % intervals of the scores.

        Unlike in `table`, the intervals are over both seeds and questions: see `rankselect.study.analysis.crossed`.
        """
        return [arm_summary(arm, self.files, self.final, self.measured, self.metrics) for arm in self.config.arms]

    @property
    def summary(self) -> DataFrame:
        """`arm_summaries` as a data frame.

        Columns that end in ``_dropout_on`` refer to answers generated with dropout left on.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        rows = [each.to_row() for each in self.arm_summaries]
        return frame(rows, summary_columns(self.metrics, self.conditions))

    @property
    def grid_points(self) -> list[GridPoint]:
        """The complete grid with validation losses, choices, and a warning if a choice is at the grid's edge."""
        return list(grid_points(self.files))

    @property
    def grid_table(self) -> DataFrame:
        """`grid_points` as a data frame.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return frame([asdict(each) for each in self.grid_points], [each.name for each in fields(GridPoint)])

    def scores(self, metric: str, condition: str = "dropout_off") -> list[ArmScores]:
        """The scores of every arm that has any, in the config's order.

        Args:
            metric: A metric of the study, or ``"test_loss"``.
            condition: How answers were generated.

        Raises:
            UnknownNameError: If the study was not scored with the metric.
        """
        scored_by = metric_of(self.config.metrics, metric)
        found = [arm_scores(self.final, arm, scored_by, condition) for arm in self.arms]
        return [each for each in found if each.by_seed]

    @cached_property
    def places(self) -> dict[str, list[Place]]:
        """The rankings of the arms by each criterion, the best first; see `study_rankings`."""
        by_metric = {name: self.scores(name) for name in self.metrics}
        return study_rankings(
            by_metric, self.judge, self._means("training_seconds"), self._means("trainable_parameters")
        )

    @property
    def rankings(self) -> dict[str, DataFrame]:
        """`places` as data frames.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        columns = [each.name for each in fields(Place)]
        return {name: frame([asdict(each) for each in places], columns) for name, places in self.places.items()}

    def arm_differences(
        self, metric: str, baseline: str | None = None, *, condition: str = "dropout_off"
    ) -> list[ArmDifference]:
        """Compare every arm with a baseline arm, paired over questions and seeds.

        Args:
            metric: A metric of the study, or ``"test_loss"``.
            baseline: The name of an arm. By default, the first arm with "control" in its name, or else the first with
                the strategy `SameParameters`, or else the first with an adapter.
            condition: How answers were generated.

        Returns:
            The difference of each other arm with results. Intervals and ``p_adjusted`` are adjusted for their number,
            but not for the use of several metrics.

        Raises:
            UnknownNameError: If there is no such metric or arm.
            DataError: If the baseline has no results.
        """
        baseline = default_baseline(self.config.arms) if baseline is None else baseline
        if baseline not in self.arms:
            raise UnknownNameError("study arm", baseline, self.arms)
        scores = {each.arm: each for each in self.scores(metric, condition)}
        if baseline not in scores:
            raise DataError(
                f"scores of the baseline {baseline} ({condition})", "none", "Run the study again, or use another arm."
            )
        others = [each for arm, each in scores.items() if arm != baseline]
        seed_variance = pooled_seed_variance(list(scores.values()))
        found = [arm_difference(each, scores[baseline], len(others), seed_variance) for each in others]
        return [each for each in found if each is not None]

    def differences(self, metric: str, baseline: str | None = None, *, condition: str = "dropout_off") -> DataFrame:
        """`arm_differences` as a data frame, with the same arguments.

        Returns:
            A row for each other arm with results: the attributes of `ArmDifference`, ``outcome``, ``note``, and
            ``says``, a sentence that sums up the row.

        Raises:
            UnknownNameError: If there is no such metric or arm.
            DataError: If the baseline has no results.
            MissingExtraError: If pandas is not installed.
        """
        rows = [each.to_row() for each in self.arm_differences(metric, baseline, condition=condition)]
        return frame(rows, _DIFFERENCE_COLUMNS)

    def verdict(self, metric: str | None = None) -> Verdict:
        """Decide which arm to use, with the reasons.

        Args:
            metric: The only metric to use. By default, the study's first metric decides, and if it shows no difference,
                the other metrics are applied in their order: see `reach_verdict`.
        """
        names = list(self.metrics) if metric is None else [metric]
        first, *further = [self.scores(name) for name in names]
        costs = self._means("trainable_parameters")
        return reach_verdict(first, costs, study_caveats(self.files, self.grid_points), further)

    def write(self, folder: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write ``results.csv`` (the tidy table) and ``results.json`` (all results), each atomically.

        Args:
            folder: An existing folder. By default, the study's folder.

        Returns:
            The paths of the two files.
        """
        into = self.folder if folder is None else Path(folder)
        return StudyFolder(into).keep_results(self.table.to_csv(index=False), as_document(self))

    def _means(self, measurement: str) -> dict[str, float]:
        """The mean of a measurement over seeds, for each arm that has it."""
        means = {each.arm: each.mean(measurement).value for each in self.arm_summaries}
        return {arm: value for arm, value in means.items() if value is not None}


def as_document(results: StudyResults) -> dict[str, Any]:
    """Return all results in JSON values; missing values are None.

    Differences are against the default baseline, for the metrics that it has scores for.
    """
    baseline = default_baseline(results.config.arms)
    comparable = [name for name in results.metrics if any(each.arm == baseline for each in results.scores(name))]
    return {
        "hash": results.hash,
        "verdict": asdict(verdict_or_error(results.verdict)),
        "summary": records(results.summary),
        "differences": {name: records(results.differences(name)) for name in comparable},
        "rankings": {name: records(table) for name, table in results.rankings.items()},
        "grid": records(results.grid_table),
        "table": records(results.table),
        "failed": [{"unit": each.run.id, "error": each.error} for each in results.failed],
        "damaged": results.damaged,
    }
