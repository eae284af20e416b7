"""The grid from which learning rates and alpha ratios were chosen, and whether it was wide enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rankselect.study.reading import StudyFiles

__all__ = ["GRID_COLUMNS", "grid_rows"]

GRID_COLUMNS = ("arm", "seed", "learning_rate", "alpha_ratio", "status", "validation_loss", "chosen", "warn", "error")


def grid_rows(files: StudyFiles) -> Iterator[dict[str, Any]]:
    """A row for each point of each arm's grid.

    ``status`` is ``"done"``, ``"failed"``, ``"missing"`` (not done yet, or damaged), or ``"not tried"``, where there
    was nothing to choose from. ``warn`` says if the chosen value is the least or greatest of several: a better one may
    lie beyond.
    """
    config = files.head["config"]
    done = {
        (result.run.arm, result.run.learning_rate, result.run.alpha_ratio): result
        for result in files.runs
        if result.run.kind == "grid"
    }
    for arm in config["arms"]:
        if arm["strategy"] is None:
            continue
        rates = [float(rate) for rate in arm["learning_rates"] or config["learning_rates"]]
        ratios = [float(ratio) for ratio in arm["alpha_ratios"] or config["alpha_ratios"]]
        choice = files.chosen.get(arm["name"], {})
        warn = "; ".join(_edges({"learning_rate": rates, "alpha_ratio": ratios}, choice))
        for rate, ratio in ((rate, ratio) for rate in rates for ratio in ratios):
            result = done.get((arm["name"], rate, ratio))
            chosen = (choice.get("learning_rate"), choice.get("alpha_ratio")) == (rate, ratio)
            missing = "missing" if len(rates) * len(ratios) > 1 else "not tried"
            yield {
                "arm": arm["name"],
                "seed": config["seeds"][0] if result is None else result.run.seed,
                "learning_rate": rate,
                "alpha_ratio": ratio,
                "status": missing if result is None else result.status,
                "validation_loss": None if result is None else result.validation_loss,
                "chosen": chosen,
                "warn": warn if chosen else "",
                "error": "" if result is None else result.error,
            }


def _edges(grids: Mapping[str, list[float]], choice: Mapping[str, float]) -> Iterator[str]:
    for name, grid in grids.items():
        value = choice.get(name)
        if len(grid) > 1 and value in (min(grid), max(grid)):
            end = "greatest" if value == max(grid) else "least"
            yield f"{name.replace('_', ' ')} {value:g} is the {end} of its grid: widen it"
