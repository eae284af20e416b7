"""The folder of a study: the names, formats and contents of all that is kept in it."""

from __future__ import annotations

import logging
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from filelock import FileLock, Timeout

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import ArgumentError, FileFormatError, RankSelectError
from rankselect.files import field, package_versions, read_document, write_document, write_text
from rankselect.study.config import Hyperparameters, StudyConfig
from rankselect.study.run import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rankselect.metrics.judge import JudgeResult
    from rankselect.study.rows import StudyRows
    from rankselect.study.run import Run

__all__ = ["StudyFiles", "StudyFolder"]

logger = logging.getLogger(__name__)

_VERSION = 1
_FORMATS = {
    "config.json": "rankselect.study",
    "test_rows.json": "rankselect.study_rows",
    "profile_seconds.json": "rankselect.profile_seconds",
    "chosen.json": "rankselect.study_choice",
    "judge.json": "rankselect.judge",
    "results.json": "rankselect.study_results",
}
_VERSIONS_OF = ("rankselect", "torch", "transformers", "peft", "accelerate", "numpy")
_COUNTS_OF_JUDGE = ("n_verdicts", "n_abstentions", "n_disagreements", "n_preferences", "n_first_preferred")
_OF_JUDGE: dict[str, Any] = {"judge": str, "ranking": list, "unranked": str, "comparisons": list}
_OF_JUDGE |= dict.fromkeys(_COUNTS_OF_JUDGE, int)


@final
@dataclass(frozen=True)
class StudyFiles:
    """What a study's folder holds.

    Attributes:
        config: The study's config.
        hash: Its hash, as it was written.
        versions: The versions of the packages with which the study began.
        machine: Where it began.
        rows: The test rows.
        chosen: What each arm's grid chose.
        profile: The profile, if there is one.
        judge: The judge's result in JSON values, if there is one.
        runs: The runs whose files are whole.
        damaged: ``{file: what is wrong with it}``.
    """

    config: StudyConfig
    hash: str
    versions: dict[str, str]
    machine: str
    rows: tuple[dict[str, str], ...]
    chosen: dict[str, Hyperparameters]
    profile: IDProfile | None
    judge: dict[str, Any] | None
    runs: tuple[RunResult, ...]
    damaged: dict[str, str]


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
        (self.path / "units").mkdir(parents=True, exist_ok=True)
        before = self._read("config.json")
        if before is None:
            machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, {_gpus()}"
            versions = package_versions(*_VERSIONS_OF)
            head = {"hash": config.hash, "config": config.to_dict(), "rows_hash": rows.hash}
            self._write("config.json", {**head, "machine": machine, "versions": versions})
            return
        if before.get("hash") != config.hash:
            then, now = field(before, "config", dict, self.path / "config.json"), config.to_dict()
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

    def read(self) -> StudyFiles:
        """Everything. Runs that are damaged are named; nothing else may be.

        Raises:
            FileFormatError: If it is not a study's folder, or one of its files other than a run is damaged.
        """
        head = self._read("config.json")
        if head is None:
            raise FileFormatError(
                "the folder of a study, with config.json",
                str(self.path),
                "Give the folder in which the study was run.",
            )
        config = self._config(head)
        rows = self.rows()
        runs: list[RunResult] = []
        damaged: dict[str, str] = {}
        for file in self.run_files():
            try:
                runs.append(self._whole_run(file, config, len(rows)))
            except (RankSelectError, TypeError, ValueError, AttributeError, KeyError) as error:
                damaged[file.name] = " ".join(str(error).split())
        return StudyFiles(
            config,
            str(head.get("hash", "")),
            dict(head.get("versions", {})),
            str(head.get("machine", "")),
            rows,
            self.chosen(),
            self.profile(),
            self.judge(),
            tuple(runs),
            damaged,
        )

    def _config(self, head: dict[str, Any]) -> StudyConfig:
        path = self.path / "config.json"
        try:
            return StudyConfig.from_dict(field(head, "config", dict, path))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, RankSelectError):
                raise
            text = f"{path} ({type(error).__name__}: {error})"
            raise FileFormatError("the config of a study", text, "The file is damaged: restore it.") from error

    @property
    def model(self) -> Path:
        """Where the base model is, if the study trains its own."""
        return self.path / "model"

    def rows(self) -> tuple[dict[str, str], ...]:
        """The test rows, ``{"question", "answer"}``; none if they are not there yet."""
        document = self._read("test_rows.json")
        return () if document is None else tuple(field(document, "rows", list, self.path / "test_rows.json"))

    def keep_rows(self, rows: StudyRows) -> None:
        """Save the test rows, which the report shows."""
        plain = [{"question": row.question, "answer": row.answer} for row in rows.test]
        self._write("test_rows.json", {"rows": plain})

    def profile(self) -> IDProfile | None:
        """The profile of the base model; None if none was measured."""
        path = self.path / "profile.json"
        return IDProfile.load(path) if path.exists() else None

    def profile_seconds(self) -> float:
        """How long the profile took."""
        path = self.path / "profile_seconds.json"
        return float(field(read_document(path, _FORMATS[path.name], _VERSION), "seconds", (int, float), path))

    def keep_profile(self, profile: IDProfile, seconds: float) -> None:
        """Save the profile and how long it took; the profile last, as a study with one does not measure it again."""
        self._write("profile_seconds.json", {"seconds": seconds})
        profile.save(self.path / "profile.json")

    def chosen(self) -> dict[str, Hyperparameters]:
        """What each arm's grid chose; nothing before it did."""
        document = self._read("chosen.json")
        found = {} if document is None else field(document, "chosen", dict, self.path / "chosen.json")
        return {arm: Hyperparameters(each["learning_rate"], each["alpha_ratio"]) for arm, each in found.items()}

    def keep_choice(self, chosen: Mapping[str, Hyperparameters]) -> None:
        """Save what each arm's grid chose."""
        self._write("chosen.json", {"chosen": {arm: each._asdict() for arm, each in chosen.items()}})

    def judge(self) -> dict[str, Any] | None:
        """The judge's result, as `JudgeResult.to_dict` gives it; None without a judge."""
        document = self._read("judge.json")
        if document is not None:
            for name, kind in _OF_JUDGE.items():
                field(document, name, kind, self.path / "judge.json")
        return document

    def keep_judge(self, result: JudgeResult) -> None:
        """Save a judge's result."""
        self._write("judge.json", result.to_dict())

    def run_files(self) -> list[Path]:
        """The files of the runs that are over, by their names."""
        return sorted((self.path / "units").glob("[!.]*.json"))

    def result_of(self, run: Run) -> RunResult | None:
        """What came of a run: None if it has not been done, or its file is damaged, so that it is done again."""
        path = self._run_file(run)
        if not path.exists():
            return None
        try:
            result = RunResult.load(path)
        except (FileFormatError, TypeError) as error:
            logger.warning("%s is damaged, and is done again (%s).", path, error)
            return None
        return result if result.run == run else None

    def is_done(self, run: Run) -> bool:
        """Whether a run has been done, and did not fail."""
        result = self.result_of(run)
        return result is not None and result.status == "done"

    def keep(self, result: RunResult) -> None:
        """Save what came of a run."""
        result.save(self._run_file(result.run))

    def keep_results(self, table: str, document: Mapping[str, Any]) -> list[Path]:
        """Write the tidy table, in CSV, and all results, in JSON values.

        Returns:
            The two files.
        """
        tidy = self.path / "results.csv"
        write_text(tidy, table)
        return [tidy, self._write("results.json", document)]

    def _whole_run(self, file: Path, config: StudyConfig, n_rows: int) -> RunResult:
        """What came of a run of this study, of which nothing is missing."""
        result = RunResult.load(file)
        if file != self._run_file(result.run) or result.run.arm not in {arm.name for arm in config.arms}:
            raise FileFormatError(
                "a unit of this study, under its own name",
                f"{result.run.id} in {file.name}",
                "Run the study again: what is damaged is done anew.",
            )
        result.require_whole(n_rows, file.name)
        return result

    def _run_file(self, run: Run) -> Path:
        return self.path / "units" / f"{run.id}.json"

    def _read(self, name: str) -> dict[str, Any] | None:
        """The document of a name; None if there is no such file."""
        path = self.path / name
        return read_document(path, _FORMATS[name], _VERSION) if path.is_file() else None

    def _write(self, name: str, values: Mapping[str, Any]) -> Path:
        write_document(self.path / name, {"format": _FORMATS[name], "version": _VERSION, **values})
        return self.path / name


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "no GPU"
