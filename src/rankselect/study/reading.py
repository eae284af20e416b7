"""Reads a study's folder: what is whole of it, and what is damaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import FileFormatError, RankSelectError
from rankselect.files import field, read_document
from rankselect.study.run import RunResult

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StudyFiles", "read_study"]

_VERSION = 1
_OF_TRAINING: dict[str, Any] = {
    "seconds": (int, float),
    "tokens": int,
    "peak_memory_bytes": int,
    "losses": list,
}
_OF_JUDGE: dict[str, Any] = {
    "judge": str,
    "ranking": list,
    "unranked": str,
    "comparisons": list,
    "n_verdicts": int,
    "n_abstentions": int,
    "n_disagreements": int,
    "n_preferences": int,
    "n_first_preferred": int,
}


@final
@dataclass(frozen=True)
class StudyFiles:
    """What a study's folder holds.

    Attributes:
        head: ``config.json``.
        rows: The test rows.
        chosen: ``{arm: {"learning_rate", "alpha_ratio"}}``.
        profile: The profile, if there is one.
        judge: The judge's result in JSON values, if there is one.
        runs: The runs whose files are whole.
        damaged: ``{file: what is wrong with it}``.
    """

    head: dict[str, Any]
    rows: tuple[dict[str, str], ...]
    chosen: dict[str, dict[str, float]]
    profile: IDProfile | None
    judge: dict[str, Any] | None
    runs: tuple[RunResult, ...]
    damaged: dict[str, str]


def read_study(folder: Path) -> StudyFiles:
    """Read a study's folder. Runs that are damaged are named; nothing else may be.

    Raises:
        FileFormatError: If it is not a study's folder, or one of its files other than a run is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileFormatError(
            "the folder of a study, with config.json", str(folder), "Give the folder in which the study was run."
        )
    head = read_document(path, "rankselect.study", _VERSION)
    config = field(head, "config", dict, path)
    arms = [arm["name"] for arm in field(config, "arms", list, path)]
    rows = _rows(folder / "test_rows.json")
    runs: list[RunResult] = []
    damaged: dict[str, str] = {}
    for file in sorted((folder / "units").glob("[!.]*.json")):
        try:
            runs.append(_run(file, arms, len(rows)))
        except (RankSelectError, TypeError, ValueError, AttributeError, KeyError) as error:
            damaged[file.name] = " ".join(str(error).split())
    return StudyFiles(
        head,
        rows,
        _chosen(folder / "chosen.json"),
        IDProfile.load(folder / "profile.json") if (folder / "profile.json").exists() else None,
        _judge(folder / "judge.json"),
        tuple(runs),
        damaged,
    )


def _rows(path: Path) -> tuple[dict[str, str], ...]:
    if not path.exists():
        return ()
    return tuple(field(read_document(path, "rankselect.study_rows", _VERSION), "rows", list, path))


def _chosen(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    chosen: dict[str, dict[str, float]] = field(
        read_document(path, "rankselect.study_choice", _VERSION), "chosen", dict, path
    )
    return chosen


def _judge(path: Path) -> dict[str, Any] | None:
    """The judge's result, as `JudgeResult.to_dict` gives it."""
    if not path.exists():
        return None
    document = read_document(path, "rankselect.judge", _VERSION)
    counts = dict.fromkeys(
        ("n_verdicts", "n_abstentions", "n_disagreements", "n_preferences", "n_first_preferred"), int
    )
    for name, kind in {"judge": str, "ranking": list, "unranked": str, "comparisons": list, **counts}.items():
        field(document, name, kind, path)
    return document


def _run(path: Path, arms: list[str], n_rows: int) -> RunResult:
    result = RunResult.load(path)
    remedy = "Run the study again: what is damaged is done anew."
    if f"{result.run.id}.json" != path.name or result.run.arm not in arms:
        raise FileFormatError("a unit of this study, under its own name", f"{result.run.id} in {path.name}", remedy)
    if result.status == "failed" or result.run.kind == "grid":
        return result
    columns = [result.test_losses, *(values for scores in result.scores.values() for values in scores.values())]
    for values in columns:
        parts = values if values and isinstance(values[0], list) else [values]
        for part in parts:
            if len(part) != n_rows or not all(math.isfinite(value) for value in part):
                raise FileFormatError(f"{n_rows} finite scores", f"others in {path.name}", remedy)
    if any(len(answers) != n_rows for answers in result.answers.values()):
        raise FileFormatError(f"{n_rows} answers", f"others in {path.name}", remedy)
    for name, kind in _OF_TRAINING.items() if result.training is not None else ():
        field(result.training or {}, name, kind, path.name)
    return result
