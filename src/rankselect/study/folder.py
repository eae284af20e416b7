"""The folder of a study: the names, formats and contents of its files."""

from __future__ import annotations

import logging
import os
import platform
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

from filelock import FileLock, Timeout

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import ArgumentError, FileFormatError, RankSelectError
from rankselect.files import field, package_versions, read_document, write_document, write_text
from rankselect.study.config import Hyperparameters, StudyConfig
from rankselect.study.run import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rankselect.calibration.evidence import Evidence
    from rankselect.metrics.judge import JudgeResult
    from rankselect.study.rows import StudyRows
    from rankselect.study.run import Run

__all__ = ["StudyFiles", "StudyFolder"]

logger = logging.getLogger(__name__)

_VERSION = 1
_FORMATS = {
    "config.json": "rankselect.study",
    "test_rows.json": "rankselect.study_rows",
    "chosen.json": "rankselect.study_choice",
    "judge.json": "rankselect.judge",
    "results.json": "rankselect.study_results",
}
_SECONDS = "rankselect.profile_seconds"  # of any evidence
_VERSIONS_OF = ("rankselect", "torch", "transformers", "peft", "accelerate", "numpy")
_COUNTS_OF_JUDGE = ("n_verdicts", "n_abstentions", "n_disagreements", "n_preferences", "n_first_preferred")
_OF_JUDGE: dict[str, Any] = {"judge": str, "ranking": list, "unranked": str, "comparisons": list}
_OF_JUDGE |= dict.fromkeys(_COUNTS_OF_JUDGE, int)


@final
@dataclass(frozen=True)
class StudyFiles:
    """The contents of a study's folder.

    Attributes:
        config: The study's config.
        hash: The config's hash, as recorded.
        versions: The package versions when the study was started.
        machine: The machine on which the study was started.
        rows: The test rows.
        chosen: The learning rate and alpha ratio chosen for each arm.
        profile: The profile, if there is one.
        judge: The judge's result in JSON values, if there is one.
        runs: The results of all runs whose files are intact.
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
        path: The folder with ``config.json``, ``profile.json``, ``test_rows.json``, ``chosen.json`` and ``units``.
    """

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes while the block runs. A killed process releases its lock.

        Raises:
            ArgumentError: If another process is working on the study.
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
        """Start a study in this folder, or resume it.

        Raises:
            ArgumentError: If the folder contains a study with another config, or if the rows in its files have changed.
                The message says what differs.
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
            changes = "; ".join(f"{name} was {then.get(name)!r} and is now {now.get(name)!r}" for name in names)
            raise ArgumentError(
                "the config that the study was started with", changes, "Choose another folder, or use the same config."
            )
        if before.get("rows_hash") != rows.hash:
            raise ArgumentError(
                "the rows that the study was started with",
                f"different rows from {config.train}{f' and {config.test}' if config.test else ''}",
                "Choose another folder, or restore the files.",
            )

    def read(self) -> StudyFiles:
        """Read all files. Damaged run files are listed in the result; any other damaged file is an error.

        Raises:
            FileFormatError: If this is not a study's folder, or a file other than a run's is damaged.
        """
        head = self._read("config.json")
        if head is None:
            raise FileFormatError(
                "a study folder with config.json",
                str(self.path),
                "Give the folder in which the study was run.",
            )
        config = self._config(head)
        rows = self.rows()
        runs: list[RunResult] = []
        damaged: dict[str, str] = {}
        for file in self.run_files():
            try:
                runs.append(self._complete_run(file, config, len(rows)))
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
        """The folder of the base model, if the study trains its own."""
        return self.path / "model"

    def rows(self) -> tuple[dict[str, str], ...]:
        """The test rows, ``{"question", "answer"}``; empty if they have not been saved yet."""
        document = self._read("test_rows.json")
        return () if document is None else tuple(field(document, "rows", list, self.path / "test_rows.json"))

    def keep_rows(self, rows: StudyRows) -> None:
        """Save the test rows for the report."""
        plain = [{"question": row.question, "answer": row.answer} for row in rows.test]
        self._write("test_rows.json", {"rows": plain})

    def profile(self) -> IDProfile | None:
        """The profile of the base model, or None if it was not measured."""
        path = self.path / "profile.json"
        return IDProfile.load(path) if path.exists() else None

    @staticmethod
    def keeps(kind: type[Evidence]) -> bool:
        """Whether a kind of evidence has files, so that it is measured once for all runs."""
        return hasattr(kind, "save") and hasattr(kind, "load")

    def evidence(self, kind: type[Evidence] | None) -> Evidence | None:
        """The evidence of a kind, or None if it was not measured."""
        if kind is None or not self.keeps(kind):
            return None
        path, loadable = self._evidence_file(kind), cast("Any", kind)
        return cast("Evidence", loadable.load(path)) if path.exists() else None

    def evidence_seconds(self, kind: type[Evidence]) -> float:
        """The time it took to measure a kind of evidence."""
        path = self._evidence_file(kind, "_seconds")
        return float(field(read_document(path, _SECONDS, _VERSION), "seconds", (int, float), path))

    def keep_evidence(self, evidence: Evidence, seconds: float) -> None:
        """Save evidence and its measuring time; the evidence last, since its file says that both are there."""
        path = self._evidence_file(type(evidence), "_seconds")
        write_document(path, {"format": _SECONDS, "version": _VERSION, "seconds": seconds})
        cast("Any", evidence).save(self._evidence_file(type(evidence)))

    def _evidence_file(self, kind: type[Evidence], end: str = "") -> Path:
        """``profile.json`` for profiles; else the name of the class, as a file."""
        name = "profile" if kind is IDProfile else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
        return self.path / f"{name}{end}.json"

    def chosen(self) -> dict[str, Hyperparameters]:
        """The hyperparameters chosen for each arm; empty before the choice."""
        document = self._read("chosen.json")
        found = {} if document is None else field(document, "chosen", dict, self.path / "chosen.json")
        return {arm: Hyperparameters(each["learning_rate"], each["alpha_ratio"]) for arm, each in found.items()}

    def keep_choice(self, chosen: Mapping[str, Hyperparameters]) -> None:
        """Save the hyperparameters chosen for each arm."""
        self._write("chosen.json", {"chosen": {arm: each._asdict() for arm, each in chosen.items()}})

    def judge(self) -> dict[str, Any] | None:
        """The judge's result in the form of `JudgeResult.to_dict`, or None without a judge."""
        document = self._read("judge.json")
        if document is not None:
            for name, kind in _OF_JUDGE.items():
                field(document, name, kind, self.path / "judge.json")
        return document

    def keep_judge(self, result: JudgeResult) -> None:
        """Save a judge's result."""
        self._write("judge.json", result.to_dict())

    def run_files(self) -> list[Path]:
        """The files of all runs that finished or failed, sorted by name."""
        return sorted((self.path / "units").glob("[!.]*.json"))

    def result_of(self, run: Run) -> RunResult | None:
        """The result of a run, or None if there is none yet or its file is damaged, so that the run is repeated."""
        path = self._run_file(run)
        if not path.exists():
            return None
        try:
            result = RunResult.load(path)
        except (FileFormatError, TypeError) as error:
            logger.warning("%s is damaged; the run is repeated (%s).", path, error)
            return None
        return result if result.run == run else None

    def is_done(self, run: Run) -> bool:
        """Whether a run has finished without failing."""
        result = self.result_of(run)
        return result is not None and result.status == "done"

    def keep(self, result: RunResult) -> None:
        """Save the result of a run."""
        result.save(self._run_file(result.run))

    def keep_results(self, table: str, document: Mapping[str, Any]) -> list[Path]:
        """Write the tidy table as CSV and all results as JSON.

        Returns:
            The paths of the two files.
        """
        tidy = self.path / "results.csv"
        write_text(tidy, table)
        return [tidy, self._write("results.json", document)]

    def _complete_run(self, file: Path, config: StudyConfig, n_rows: int) -> RunResult:
        """Load the result of a run, after checking that it is complete and belongs to this study."""
        result = RunResult.load(file)
        if file != self._run_file(result.run) or result.run.arm not in {arm.name for arm in config.arms}:
            raise FileFormatError(
                "a run of this study in a file of the same name",
                f"{result.run.id} in {file.name}",
                "Run the study again: damaged runs are repeated.",
            )
        result.require_complete(n_rows, file.name)
        return result

    def _run_file(self, run: Run) -> Path:
        return self.path / "units" / f"{run.id}.json"

    def _read(self, name: str) -> dict[str, Any] | None:
        """Read the document of this name, or return None if there is no such file."""
        path = self.path / name
        return read_document(path, _FORMATS[name], _VERSION) if path.is_file() else None

    def _write(self, name: str, values: Mapping[str, Any]) -> Path:
        write_document(self.path / name, {"format": _FORMATS[name], "version": _VERSION, **values})
        return self.path / name


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "no GPU"
