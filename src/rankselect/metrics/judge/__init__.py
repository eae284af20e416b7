"""A judge: a language model compares the arms' answers pair by pair, and Bradley-Terry ranks the arms."""

from __future__ import annotations

from rankselect.metrics.judge.judge import LLMJudge
from rankselect.metrics.judge.result import JudgeResult

__all__ = ["JudgeResult", "LLMJudge"]
