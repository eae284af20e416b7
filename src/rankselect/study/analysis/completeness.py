"""How complete a study is: every grid point, and caveats about missing, failed or damaged runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rankselect.study.config import Hyperparameters
    from rankselect.study.folder import StudyFiles

__all__ = ["GridPoint", "grid_points", "study_caveats"]


@final
@dataclass(frozen=True)
class GridPoint:
    """A point of an arm's grid.

    Attributes:
        arm: The arm.
        seed: The seed with which it was trained.
        learning_rate: The learning rate.
        alpha_ratio: Alpha divided by rank.
        status: ``"done"``, ``"failed"``, ``"missing"`` (not executed yet, or damaged), or ``"not tried"`` if the grid
            has only one point.
        validation_loss: Mean loss on the validation rows, nats per token; None if there is none.
        chosen: Whether the arm's final runs use this point.
        warn: A warning if a chosen value is at the edge of its grid: a better value may be outside.
        error: Why it failed.
    """

    arm: str
    seed: int
    learning_rate: float
    alpha_ratio: float
    status: Literal["done", "failed", "missing", "not tried"]
    validation_loss: float | None
    chosen: bool
    warn: str
    error: str


def grid_points(files: StudyFiles) -> Iterator[GridPoint]:
    """Iterate over all points of all arms' grids."""
    config = files.config
    done = {
        (result.run.arm, result.run.learning_rate, result.run.alpha_ratio): result
        for result in files.runs
        if result.run.kind == "grid"
    }
    for arm in config.arms:
        grid = config.grid_of(arm)
        choice = files.chosen.get(arm.name)
        warn = "" if choice is None else "; ".join(_edges(grid, choice))
        for point in grid:
            result = done.get((arm.name, *point))
            yield GridPoint(
                arm.name,
                config.training_seeds[0] if result is None else result.run.seed,
                *point,
                status=result.status if result is not None else "missing" if len(grid) > 1 else "not tried",
                validation_loss=None if result is None else result.validation_loss,
                chosen=point == choice,
                warn=warn if point == choice else "",
                error="" if result is None else result.error,
            )


def _edges(grid: Sequence[Hyperparameters], choice: Hyperparameters) -> Iterator[str]:
    for name, value, values in zip(choice._fields, choice, zip(*grid, strict=True), strict=False):
        if len(set(values)) > 1 and value in (min(values), max(values)):
            end = "largest" if value == max(values) else "smallest"
            yield f"{name.replace('_', ' ')} {value:g} is the {end} in its grid: extend the grid"


def study_caveats(files: StudyFiles, grid: Sequence[GridPoint]) -> list[str]:
    """Return a sentence for each problem: failed, damaged or missing runs, and choices at the edge of a grid.

    Args:
        files: The study's files.
        grid: The points of its grids.
    """
    done = {(each.run.arm, each.run.seed) for each in files.runs if each.run.kind == "final" and each.status == "done"}
    n_seeds = len(files.config.training_seeds)
    found = []
    for arm in files.config.arms:
        n_done = len({seed for name, seed in done if name == arm.name})
        if n_done < n_seeds:
            found.append(f"{arm.name} has results for {n_done} of {n_seeds} seeds.")
    failed = [each.run.id for each in files.runs if each.status == "failed"]
    if failed:
        found.append(f"{_counted(failed, 'run')} failed: {', '.join(failed)}.")
    if files.damaged:
        are = "is" if len(files.damaged) == 1 else "are"
        found.append(f"{_counted(files.damaged, 'run file')} {are} damaged: {', '.join(files.damaged)}.")
    warned: dict[str, list[str]] = {}
    for point in grid:
        if point.warn:
            warned.setdefault(point.warn, []).append(point.arm)
    return [*found, *(f"{', '.join(arms)}: {warn}." for warn, arms in sorted(warned.items()))]


def _counted(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) > 1)}"
