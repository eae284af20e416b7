"""1,024 questions and answers about 128 medical conditions: text to test and teach with, no download."""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, final

from rankselect.data.prompts import PromptTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ASPECTS", "MedicalQuestion", "medical_qa"]

# For every aspect: phrasings of the question, phrasings of the answer. {all} is the whole list of facts, {first} and
# {rest} are its halves; a capital ({Name}, {All}, {Rest}) starts a sentence. Verbs fit one item as well as many
# wherever {rest} is the subject, because half of two facts is one.
_TEMPLATES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "definition": (
        ("What is {name}?", "What does the term {name} mean?", "Can you explain what {name} is?"),
        (
            "{Name} is {all}.",
            "{Name} is {all}. Among its symptoms are {symptoms}.",
            "By {name} doctors mean {all}.",
            "The term {name} stands for {all}.",
        ),
    ),
    "symptoms": (
        ("What are the symptoms of {name}?", "What are the signs of {name}?", "How does {name} show itself?"),
        (
            "Symptoms of {name} include {all}.",
            "Typical symptoms of {name} are {first}. Other symptoms include {rest}.",
            "{Name} can show itself through {all}.",
            "Among the signs of {name} are {all}.",
        ),
    ),
    "causes": (
        ("What causes {name}?", "What are the causes of {name}?", "How does {name} come about?"),
        (
            "Causes of {name} include {all}.",
            "{Name} can have the following causes: {all}.",
            "{Name} can result from {all}.",
            "{Name} comes about through {all}.",
        ),
    ),
    "risk factors": (
        ("Who is at risk of {name}?", "What are the risk factors for {name}?", "What raises the risk of {name}?"),
        (
            "Risk factors for {name} include {all}.",
            "Known risk factors for {name} are {first}. {Rest} can also raise the risk.",
            "Among the factors that make {name} more likely are {all}.",
            "{All} raise the risk of {name}.",
        ),
    ),
    "diagnosis": (
        ("How is {name} diagnosed?", "How do doctors diagnose {name}?", "How do doctors recognize {name}?"),
        (
            "The diagnosis of {name} is based on {all}.",
            "To diagnose {name}, doctors rely on {first}. {Rest} can also help.",
            "Doctors diagnose {name} on the basis of {all}.",
            "{Name} can be recognized with the help of {all}.",
        ),
    ),
    "treatment": (
        ("How is {name} treated?", "What are the treatments for {name}?", "What helps people with {name}?"),
        (
            "Treatment of {name} can include {all}.",
            "The main treatments for {name} are {first}. {Rest} can also play a part.",
            "Among the treatments for {name} are {all}.",
            "{Name} is treated with {all}.",
        ),
    ),
    "prevention": (
        ("Can {name} be prevented?", "What can be done to prevent {name}?", "How can people guard against {name}?"),
        (
            "Measures against {name} and its complications include {all}.",
            "Helpful steps against {name} include {first}. {Rest} can also make a difference.",
            "To prevent {name} or to limit its harm, doctors recommend {all}.",
            "The risk of {name} or of its complications can be lowered through {all}.",
        ),
    ),
    "outlook": (
        (
            "What is the outlook for people with {name}?",
            "What can people with {name} expect?",
            "What is the long-term outlook for {name}?",
        ),
        (
            "{All}.",
            "The outlook for {name}, in brief: {all}.",
            "{All}. Treatment can include {treatment}.",
        ),
    ),
}

_CONNECTIVES = (" and ", " or ", " such as ", " that ", " when ", " where ", " which ", " while ", " who ", " with ")

ASPECTS = tuple(_TEMPLATES)
"""The aspects of every condition, in the order of the pairs."""


@final
@dataclass(frozen=True)
class MedicalQuestion:
    """One question about one condition, with its answer.

    Attributes:
        condition: The condition's name, as it is written inside a sentence.
        aspect: The subject of the question, one of `ASPECTS`.
        question: One sentence that ends with a question mark.
        answer: One or two sentences.
    """

    condition: str
    aspect: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        """Question and answer as one training text, in the form of an instruction and its reply."""
        return PromptTemplate().text(self.question, self.answer)


@functools.cache
def medical_qa() -> tuple[MedicalQuestion, ...]:
    """The embedded data set: eight questions about each of 128 medical conditions.

    The texts were written for testing and teaching, from general textbook knowledge. They are not medical
    advice, and nobody should decide about health by it. No two questions are equal, and no two answers. The facts
    of a condition are filled into one of several sentences, always the same one.

    Returns:
        1,024 pairs: conditions in alphabetical order, `ASPECTS` in theirs.

    Example:
        >>> pairs = medical_qa()
        >>> len(pairs), pairs[0].question
        (1024, 'What does the term acne mean?')
    """
    lines = resources.files(__package__).joinpath("conditions.jsonl").read_text(encoding="utf-8").splitlines()
    facts = [json.loads(line) for line in lines]
    return tuple(_pair(condition, aspect) for condition in facts for aspect in ASPECTS)


def _pair(facts: Mapping[str, Any], aspect: str) -> MedicalQuestion:
    name, fact = facts["name"], facts[aspect]
    items = [fact] if isinstance(fact, str) else fact
    middle = (len(items) + 1) // 2
    words = {
        "name": name,
        "all": _listed(items),
        "first": _listed(items[:middle]),
        "rest": _listed(items[middle:]),
        "symptoms": _listed(facts["symptoms"][:2]),
        "treatment": facts["treatment"][0],
    }
    words |= {key.capitalize(): value[:1].upper() + value[1:] for key, value in words.items()}
    questions, answers = _TEMPLATES[aspect]
    question = _choice(questions, f"question about the {aspect} of {name}").format(**words)
    answer = _choice(answers, f"answer about the {aspect} of {name}").format(**words)
    return MedicalQuestion(name, aspect, question, answer)


def _choice(phrasings: Sequence[str], key: str) -> str:
    # CRC-32 because Python's own hash of a string differs from one process to the next.
    return phrasings[zlib.crc32(key.encode()) % len(phrasings)]


def _listed(items: Sequence[str]) -> str:
    if len(items) <= 1:
        return "".join(items)
    if len(items) == 2:
        # "people who smoke and high blood pressure" would hide where the second item starts.
        nested = any(word in f" {items[0]} {items[1]} " for word in _CONNECTIVES)
        return (" as well as " if nested else " and ").join(items)
    return ", ".join(items[:-1]) + f", and {items[-1]}"
