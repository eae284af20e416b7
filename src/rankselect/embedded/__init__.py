"""Data and a model that come with the library, for tests, lessons and first steps without a download."""

from __future__ import annotations

from rankselect.embedded.medical_qa import QuestionAnswer, medical_qa
from rankselect.embedded.small_phi import small_phi

__all__ = ["QuestionAnswer", "medical_qa", "small_phi"]
