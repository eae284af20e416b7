"""The rows of a study: training, validation and test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.data.medical_qa import medical_qa
from rankselect.data.overlap import warn_of_overlap
from rankselect.data.prompts import PromptTemplate
from rankselect.data.rows import load_rows
from rankselect.data.sources import EMBEDDED
from rankselect.errors import DataError

if TYPE_CHECKING:
    from rankselect.data.prompts import QuestionAnswer
    from rankselect.study.config import StudyConfig

__all__ = ["TEST_SHARE", "StudyRows", "embedded_rows", "study_rows"]

TEST_SHARE = 0.1
"""The share of the training questions that is held out if a study has no test rows of its own."""

_SEED = 0


@final
@dataclass(frozen=True)
class StudyRows:
    """Disjoint rows for training, validation and test.

    Attributes:
        train: The rows that are trained on and profiled.
        validation: The rows on which learning rates and alpha ratios are chosen.
        test: The rows on which answers are scored.
    """

    train: list[QuestionAnswer]
    validation: list[QuestionAnswer]
    test: list[QuestionAnswer]

    @property
    def hash(self) -> str:
        """SHA-256 of all rows, used to detect that a file has changed."""
        parts = [[(row.question, row.answer) for row in rows] for rows in (self.train, self.validation, self.test)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def study_rows(config: StudyConfig) -> StudyRows:
    """Load and split the rows of a study. The split is deterministic.

    Raises:
        DataError: If there are too few rows to split, or `load_rows` cannot read the files.

    Warns:
        RankSelectWarning: If test questions also occur in the training rows.

    Example:
        >>> from rankselect.study.arm import Arm
        >>> from rankselect.study.config import StudyConfig
        >>> rows = study_rows(StudyConfig("small-phi", "medical-qa", "medical-qa", arms=(Arm("base"),), n_test=20))
        >>> len(rows.train), len(rows.validation), len(rows.test)
        (367, 41, 20)
    """
    template = PromptTemplate(config.template)
    known, test = _known_and_test(config, template)
    known, test = _sample(known, config.n_train), _sample(test, config.n_test)
    n_validation = max(1, round(config.validation_share * len(known)))
    if n_validation >= len(known):
        raise DataError(
            "at least 2 rows for training and validation",
            str(len(known)),
            "Give more rows, or lower validation_share.",
        )
    warn_of_overlap(known, test)
    order = np.random.default_rng(_SEED).permutation(len(known)).tolist()
    validation, train = sorted(order[:n_validation]), sorted(order[n_validation:])
    return StudyRows([known[index] for index in train], [known[index] for index in validation], test)


def _known_and_test(config: StudyConfig, template: PromptTemplate) -> tuple[list[QuestionAnswer], list[QuestionAnswer]]:
    known = _load(config.train, template, held_out=False)
    if config.test is not None or config.train == EMBEDDED:
        return known, _load(config.test or EMBEDDED, template, held_out=True)
    questions = sorted({row.question for row in known})
    n_test = max(1, round(TEST_SHARE * len(questions)))
    if n_test >= len(questions):
        raise DataError(
            "at least 2 different questions, to hold one out", str(len(questions)), "Give more questions, or test rows."
        )
    chosen = np.random.default_rng(_SEED).permutation(len(questions))[:n_test]
    held_out = {questions[index] for index in chosen.tolist()}
    return (
        [row for row in known if row.question not in held_out],
        [row for row in known if row.question in held_out],
    )


def _load(source: str, template: PromptTemplate, *, held_out: bool) -> list[QuestionAnswer]:
    part: Literal["test", "train"] = "test" if held_out else "train"
    return embedded_rows(part) if source == EMBEDDED else load_rows(source, split=part, template=template)


def _sample(rows: list[QuestionAnswer], n: int | None) -> list[QuestionAnswer]:
    """Draw n rows with a fixed seed and return them in their original order."""
    if n is None or n >= len(rows):
        return rows
    chosen = np.random.default_rng(_SEED).permutation(len(rows))[:n]
    return [rows[index] for index in sorted(chosen.tolist())]


_TEST = 5  # every 5th condition is for the test


def embedded_rows(part: Literal["base", "train", "test"]) -> list[QuestionAnswer]:
    """The embedded rows of one part. No two parts share a medical condition.

    Args:
        part: ``"test"`` is every fifth condition, for scoring. Of the others, every second is ``"base"``, on which the
            small model is trained, and the rest are ``"train"``, for adapters: an adapter could learn nothing from rows
            that its base model has memorized.

    Example:
        >>> [len(embedded_rows(part)) for part in ("base", "train", "test")]
        [408, 408, 208]
    """
    pairs = medical_qa()
    conditions = sorted({pair.condition for pair in pairs})
    test = set(conditions[::_TEST])
    others = [condition for condition in conditions if condition not in test]
    base = set(others[::2])
    part_of = {each: "test" if each in test else "base" if each in base else "train" for each in conditions}
    return load_rows([pair for pair in pairs if part_of[pair.condition] == part])
