"""The folder of a study: its config, what has been measured and chosen, and the units that are done."""

from __future__ import annotations

import logging
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from filelock import FileLock, Timeout

from rankselect.errors import ArgumentError, FileFormatError
from rankselect.files import field, package_versions, read_document, write_document
from rankselect.study.run import UnitResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankselect.study.config import StudyConfig
    from rankselect.study.rows import StudyRows
    from rankselect.study.run import Unit

__all__ = ["StudyFolder"]

logger = logging.getLogger(__name__)

_CONFIG, _ROWS, _CHOICE = "rankselect.study", "rankselect.study_rows", "rankselect.study_choice"
_VERSION = 1
_VERSIONS_OF = ("rankselect", "torch", "transformers", "peft", "accelerate", "numpy")


@final
@dataclass(frozen=True)
class StudyFolder:
    """A study on disk.

    Attributes:
        path: ``config.json``, ``profile.json``, ``test_rows.json``, ``chosen.json``, and ``units`` are in it.
    """

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out while the block runs; the lock of a process that is killed is gone with it.

        Raises:
            ArgumentError: If another process works on the study.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            with lock:
                yield
        except Timeout as error:
            raise ArgumentError(
                "a study folder that is not in use",
                f"{self.path}, which another process is working on",
                "Wait for it, or choose another folder.",
            ) from error

    def open(self, config: StudyConfig, rows: StudyRows) -> None:
        """Begin the study of a config, or go on with it.

        Raises:
            ArgumentError: If the folder holds the study of another config, or of other rows in files of the same
                names; the message says what differs.
            FileFormatError: If its config is damaged.
        """
        path = self.path / "config.json"
        (self.path / "units").mkdir(parents=True, exist_ok=True)
        if not path.exists():
            document = {"format": _CONFIG, "version": _VERSION, "hash": config.hash, "config": config.to_dict()}
            document["rows_hash"] = rows.hash
            machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, {_gpus()}"
            versions = package_versions(*_VERSIONS_OF)
            write_document(path, {**document, "machine": machine, "versions": versions})
            return
        before = read_document(path, _CONFIG, _VERSION)
        if before.get("hash") != config.hash:
            then, now = field(before, "config", dict, path), config.to_dict()
            names = sorted(name for name in then | now if then.get(name) != now.get(name))
            changes = "; ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in names)
            raise ArgumentError(
                "the config with which the study began", changes, "Choose another folder, or run the same config."
            )
        if before.get("rows_hash") != rows.hash:
            raise ArgumentError(
                "the rows with which the study began",
                f"others from {config.train}{f' and {config.test}' if config.test else ''}",
                "Choose another folder, or restore the files.",
            )

    def keep_rows(self, rows: StudyRows) -> None:
        """Save the test rows, which the report shows."""
        plain = [{"question": row.question, "answer": row.answer} for row in rows.test]
        write_document(self.path / "test_rows.json", {"format": _ROWS, "version": _VERSION, "rows": plain})

    def keep_choice(self, chosen: dict[str, tuple[float, float]]) -> None:
        """Save the learning rate and alpha ratio of each arm."""
        plain = {arm: {"learning_rate": rate, "alpha_ratio": ratio} for arm, (rate, ratio) in chosen.items()}
        write_document(self.path / "chosen.json", {"format": _CHOICE, "version": _VERSION, "chosen": plain})

    def result_of(self, unit: Unit) -> UnitResult | None:
        """What came of a unit: None if it has not been done, or its file is damaged, so that it is done again."""
        path = self.path / "units" / f"{unit.id}.json"
        if not path.exists():
            return None
        try:
            result = UnitResult.load(path)
        except (FileFormatError, TypeError) as error:
            logger.warning("%s is damaged, and is done again (%s).", path, error)
            return None
        return result if result.unit == unit else None

    def is_done(self, unit: Unit) -> bool:
        """Whether a unit has been done, and did not fail."""
        result = self.result_of(unit)
        return result is not None and result.status == "done"

    def profile_seconds(self, seconds: float | None = None) -> float:
        """How long the profile took; given, it is saved first."""
        path = self.path / "profile_seconds.json"
        document: dict[str, Any] = {"format": "rankselect.profile_seconds", "version": _VERSION, "seconds": seconds}
        if seconds is not None:
            write_document(path, document)
            return seconds
        return float(field(read_document(path, document["format"], _VERSION), "seconds", (int, float), path))


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "no GPU"
