"""The rows of a study: training, validation and test."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.data.medical_qa import medical_qa
from rankselect.data.overlap import comparable, warn_of_overlap
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
        RankSelectWarning: If test questions are among the training rows too; they are left out of the training.

    Example:
        >>> from rankselect.study.arm import Arm
        >>> from rankselect.study.config import StudyConfig
        >>> rows = study_rows(StudyConfig("small-phi", "medical-qa", "medical-qa", arms=(Arm("base"),), n_test=20))
        >>> len(rows.train), len(rows.validation), len(rows.test)
        (367, 41, 20)
    """
    template = PromptTemplate(config.template)
    known, test = _known_and_test(config, template)
    test = _sample(test, config.n_test)
    known = _sample(_without_questions_of(test, known), config.n_train)
    n_validation = max(1, round(config.validation_share * len(known)))
    chosen = _chosen_questions(known, n_validation)
    train = [row for row in known if comparable(row.question) not in chosen]
    if not train:
        n = len({comparable(row.question) for row in known})
        raise DataError(
            "at least 2 different questions for training and validation",
            str(n),
            "Give more rows, or lower validation_share.",
        )
    return StudyRows(train, [row for row in known if comparable(row.question) in chosen], test)


def _without_questions_of(test: list[QuestionAnswer], known: list[QuestionAnswer]) -> list[QuestionAnswer]:
    """The rows whose questions are not in the test."""
    warn_of_overlap(known, test)
    asked = {comparable(row.question) for row in test}
    kept = [row for row in known if comparable(row.question) not in asked]
    if known and not kept:
        raise DataError(
            "training rows whose questions are not in the test",
            f"{len(known)} rows, all of them with a question of the test",
            "Give other test rows, or none: then a tenth of the questions is held out.",
        )
    return kept


def _chosen_questions(rows: list[QuestionAnswer], n: int) -> set[str]:
    """Questions drawn at random until they have n rows: all rows of a question are on the same side."""
    forms = [comparable(row.question) for row in rows]
    rows_of = Counter(forms)
    chosen: set[str] = set()
    n_chosen = 0
    for index in np.random.default_rng(_SEED).permutation(len(rows)).tolist():
        if n_chosen >= n:
            break
        n_chosen += rows_of[forms[index]] * (forms[index] not in chosen)
        chosen.add(forms[index])
    return chosen


def _known_and_test(config: StudyConfig, template: PromptTemplate) -> tuple[list[QuestionAnswer], list[QuestionAnswer]]:
    known = _load(config, config.train, template, held_out=False)
    if config.test is not None or config.train == EMBEDDED:
        return known, _load(config, config.test or EMBEDDED, template, held_out=True)
    questions = list(dict.fromkeys(comparable(question) for question in sorted({row.question for row in known})))
    n_test = max(1, round(TEST_SHARE * len(questions)))
    if n_test >= len(questions):
        raise DataError(
            "at least 2 different questions, to hold one out", str(len(questions)), "Give more questions, or test rows."
        )
    chosen = np.random.default_rng(_SEED).permutation(len(questions))[:n_test]
    held_out = {questions[index] for index in chosen.tolist()}
    return (
        [row for row in known if comparable(row.question) not in held_out],
        [row for row in known if comparable(row.question) in held_out],
    )


def _load(config: StudyConfig, source: str, template: PromptTemplate, *, held_out: bool) -> list[QuestionAnswer]:
    part: Literal["test", "train"] = "test" if held_out else "train"
    if source == EMBEDDED:
        return embedded_rows(part)
    return load_rows(
        source,
        split=part,
        question=config.question,
        answer=config.answer,
        text=config.text,
        template=template,
        skip_faulty=config.skip_faulty,
    )


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
