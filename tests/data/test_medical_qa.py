"""The embedded questions and answers: how many, how distinct, how clean."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError
from importlib import resources
from zlib import crc32

import pytest

from rankselect.data.medical_qa import ASPECTS, _listed, medical_qa

PAIRS = medical_qa()
FACTS = [
    json.loads(line)
    for line in resources.files("rankselect.data").joinpath("conditions.jsonl").read_text("utf-8").splitlines()
]
SENTENCE_END = re.compile(r"[.?] (?=[A-Z])|[.?]$")


def test_eight_aspects_of_128_conditions():
    assert len(PAIRS) == 1024
    assert len(ASPECTS) == 8
    assert Counter(pair.aspect for pair in PAIRS) == dict.fromkeys(ASPECTS, 128)
    assert set(Counter(pair.condition for pair in PAIRS).values()) == {8}


def test_conditions_are_in_alphabetical_order():
    names = [facts["name"].lower() for facts in FACTS]
    assert names == sorted(set(names))
    assert [pair.condition for pair in PAIRS[::8]] == [facts["name"] for facts in FACTS]


@pytest.mark.parametrize("part", ["question", "answer", "text"])
def test_no_two_are_equal(part):
    assert len({getattr(pair, part).lower() for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("leftover", ["  ", "..", " .", " ,", ",,", ",.", "{", "}", "\n", "\t", "?.", ";"])
def test_no_leftovers(leftover):
    assert [pair.text for pair in PAIRS if leftover in pair.text] == []


def test_all_text_is_plain_ascii():
    assert all(pair.text.isascii() for pair in PAIRS)


def test_questions_are_one_sentence_that_names_the_condition():
    for pair in PAIRS:
        assert pair.question.endswith("?")
        assert pair.question.count("?") == 1
        assert pair.condition in pair.question
        assert pair.question[0].isupper()


def test_answers_are_one_to_three_sentences():
    for pair in PAIRS:
        sentences = SENTENCE_END.split(pair.answer)
        assert sentences[-1] == "", f"no full stop at the end of {pair.answer!r}"
        assert 1 <= len(sentences[:-1]) <= 3
        assert all(sentence[0].isupper() for sentence in sentences[:-1])


def test_articles_agree_with_the_sound_that_follows():
    wrong = re.compile(
        r"\b(?:a [aei]\w+|a o(?!ne)\w+|an [bcdfgjklmnpqrstvwyz]\w+|a (?:X-ray|MRI|HIV|hour|ultrasound)\b)"
    )
    found = [match for pair in PAIRS for match in wrong.findall(pair.text) if not match.startswith("a eu")]
    assert found == []


@pytest.mark.parametrize(
    "spelling",
    ["counselling", "signalling", "travelled", "tumour", "colour", "fibre", "oedema", "haemo", "anaemi", "diarrhoea",
     "paediatric", "analogue", " oesophag", "coeliac", "leukaem", "isation", "centre", "behaviour"],
)  # fmt: skip
def test_spelling_is_american(spelling):
    assert [pair.text for pair in PAIRS if spelling in pair.text.lower()] == []


def test_every_fact_is_in_its_answer():
    answers = {(pair.condition, pair.aspect): pair.answer.lower() for pair in PAIRS}
    for facts in FACTS:
        for aspect in ASPECTS:
            items = [facts[aspect]] if isinstance(facts[aspect], str) else facts[aspect]
            missing = [item for item in items if item.lower() not in answers[facts["name"], aspect]]
            assert missing == [], (facts["name"], aspect)


def test_facts_are_complete_and_not_repeated():
    for facts in FACTS:
        assert list(facts) == ["name", *ASPECTS]
        for aspect in ASPECTS:
            items = facts[aspect]
            if isinstance(items, list):
                assert 2 <= len(items) == len(set(items)) <= 6, (facts["name"], aspect)
                assert not [item for item in items if item != item.strip(" .,;") or "," in item]
            else:
                assert items == items.strip(" .,;")
                assert 6 <= len(items.split()) <= 30


def test_all_phrasings_are_used():
    for aspect in ASPECTS:
        openings = Counter(" ".join(pair.question.split()[:2]) for pair in PAIRS if pair.aspect == aspect)
        assert len(openings) >= 2
        assert max(openings.values()) < 128


def test_the_texts_stay_as_they_are():
    """What was measured on them can be measured again only if every letter is the same."""
    made_again = medical_qa.__wrapped__()  # past the cache
    assert made_again == PAIRS
    text = "|".join(f"{pair.condition}|{pair.aspect}|{pair.question}|{pair.answer}" for pair in made_again)
    assert crc32(text.encode()) == 1803517424


@pytest.mark.not_under_mutants
def test_another_process_gives_the_same_texts():
    script = (
        "from zlib import crc32; from rankselect.data.medical_qa import medical_qa;"
        "print(crc32('|'.join(pair.text for pair in medical_qa()).encode()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env=environment).stdout
    assert int(output) == crc32("|".join(pair.text for pair in PAIRS).encode())


def test_text_is_the_question_and_the_answer_as_instruction_and_reply():
    pair = PAIRS[0]
    assert pair.text == f"### Instruction: {pair.question} ### Assistant: {pair.answer}"


def test_pairs_are_immutable():
    with pytest.raises(FrozenInstanceError):
        PAIRS[0].answer = "Something else."


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        (["fever"], "fever"),
        (["fever", "a cough"], "fever and a cough"),
        (["fever and chills", "a cough"], "fever and chills as well as a cough"),
        (["a cough that lasts", "fever"], "a cough that lasts as well as fever"),
        (["fever", "a cough", "chest pain"], "fever, a cough, and chest pain"),
    ],
)
def test_lists_are_joined_as_a_writer_would(items, sentence):
    assert _listed(items) == sentence
