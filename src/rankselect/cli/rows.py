"""Question-answer rows by what a person types: a file, the embedded ones, or a data set on the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.data.rows import load_rows as rows_of
from rankselect.data.sources import is_file_name, split_of

if TYPE_CHECKING:
    from rankselect.data.prompts import PromptTemplate
    from rankselect.data.question_answer import QuestionAnswer

__all__ = ["load_rows"]


def load_rows(data: str, template: PromptTemplate) -> list[QuestionAnswer]:
    """Load questions and answers.

    Args:
        data: A file, ``medical-qa``, or the name of a data set, with ``:split`` at its end if the split is not train.
        template: The form of a text with both, where there are no columns for each.

    Raises:
        DataError: If there is no such file, data set or column, or a row without question or answer.
        FileFormatError: If a file is damaged.
    """
    if data == "medical-qa":
        from rankselect.data.medical_qa import medical_qa

        return rows_of(medical_qa())
    if is_file_name(data):
        return rows_of(data, template=template)
    name, split = split_of(data)
    return rows_of(name, split=split, template=template)
