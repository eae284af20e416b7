"""What could be wrong with a study's answer that its scores cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from pandas import DataFrame

    from rankselect.study.reading import StudyFiles
    from rankselect.study.run import RunResult

__all__ = ["study_caveats"]


def study_caveats(files: StudyFiles, grid: DataFrame) -> list[str]:
    """A sentence for each: runs that failed, are damaged or missing, and choices at the edge of a grid.

    Args:
        files: The study's files.
        grid: Its grid table.
    """
    config = files.head["config"]
    done = {(each.run.arm, each.run.seed) for each in files.runs if _is_final(each)}
    found = []
    for arm in config["arms"]:
        seeds = {seed for name, seed in done if name == arm["name"]}
        if len(seeds) < len(config["seeds"]):
            found.append(f"{arm['name']} has results of {len(seeds)} of {len(config['seeds'])} seeds.")
    failed = [each.run.id for each in files.runs if each.status == "failed"]
    if failed:
        found.append(f"{_runs(failed)} failed: {', '.join(failed)}.")
    if files.damaged:
        are = "is" if len(files.damaged) == 1 else "are"
        found.append(f"{_runs(files.damaged)} {are} damaged: {', '.join(files.damaged)}.")
    edges = grid[grid["warn"] != ""]
    return [*found, *(f"{', '.join(arms)}: {warn}." for warn, arms in edges.groupby("warn")["arm"].agg(list).items())]


def _is_final(result: RunResult) -> bool:
    return result.run.kind == "final" and result.status == "done"


def _runs(names: Collection[str]) -> str:
    return f"{len(names)} unit{'s' * (len(names) > 1)}"
