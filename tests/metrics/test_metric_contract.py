"""Every registered metric keeps the contract, and the contract check finds metrics that do not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import rankselect as rs
from rankselect.metrics._base import Metric
from rankselect.metrics.bert_score import BertScore
from rankselect.metrics.harmonic import HarmonicMean, HarmonicMeanOfMeans
from rankselect.metrics.questeval import ClozeAnswerer, ClozeGenerator, ContentSpans, QuestEval
from rankselect.metrics.squad import ExactMatch, TokenF1
from rankselect.registry import available, create
from rankselect.testing import check_metric

OURS = {"token-f1", "exact-match", "questeval", "questeval-cloze", "rouge-l", "bert-score", "perplexity"}
FOUND = available("metric")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a random encoder with letters as tokens."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz.,?"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizerFast(vocab={piece: index for index, piece in enumerate(vocabulary)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes))
    model.save_pretrained(folder)
    return folder


def test_all_built_in_metrics_are_registered():
    assert FOUND.keys() >= OURS


@pytest.mark.parametrize("name", FOUND)
def test_every_registered_metric_keeps_the_contract(name, encoder):
    if name == "bert-score":
        metric = create("metric", f"bert-score:model={encoder},num_layers=2")
        assert metric == BertScore(str(encoder), 2)
    elif name == "questeval":
        parts = {"answerer": ClozeAnswerer(), "generator": ClozeGenerator(), "selector": ContentSpans()}
        metric = QuestEval(**parts, scores=("answerability", "f1"), progress=False)
    else:
        metric = create("metric", name)
    assert metric.name == name
    check_metric(metric)


@pytest.mark.parametrize("kind", [HarmonicMean, HarmonicMeanOfMeans])
def test_harmonic_means_keep_the_contract(kind):
    check_metric(kind((TokenF1(), ExactMatch())))


@dataclass(frozen=True)
class Sound(Metric):
    name = "sound"

    def values(self, answers):
        return [float(p == r) for p, r in zip(answers.predictions, answers.references, strict=True)]


@dataclass(frozen=True)
class Asking(Sound):
    requires = ("questions", "losses")

    def values(self, answers):
        return [
            float(p == r) + len(q) + loss
            for p, r, q, loss in zip(
                answers.predictions, answers.references, answers.questions, answers.losses, strict=True
            )
        ]


@dataclass(frozen=True)
class Untitled(Sound):
    name = " "


class NoRepr(Sound):
    __repr__ = object.__repr__


@dataclass(frozen=True)
class Greedy(Sound):
    requires = ("sources",)


@dataclass(frozen=True)
class Secretive(Sound):
    """Uses questions without declaring it."""

    def values(self, answers):
        return [float(len(question)) for question in answers.questions]


@dataclass(frozen=True)
class Moody(Sound):
    calls: ClassVar = itertools.count()

    def values(self, answers):
        return [float(next(self.calls))] * len(answers.predictions)


@dataclass(frozen=True)
class Positional(Sound):
    def values(self, answers):
        return np.arange(len(answers.predictions))


@dataclass(frozen=True)
class Relative(Sound):
    """The score of an answer depends on the other answers."""

    def values(self, answers):
        lengths = np.array([len(text) for text in answers.predictions])
        return lengths / max(lengths.sum(), 1)


@dataclass(frozen=True)
class DropsEmpty(Sound):
    def values(self, answers):
        return [1.0 for text in answers.predictions if text]


@dataclass(frozen=True)
class Summing(Sound):
    def values(self, answers):
        return np.add(super().values(answers), 1.0)

    def aggregate(self, values):
        return values.sum(axis=-1)


@dataclass(frozen=True)
class FirstOnly(Sound):
    def aggregate(self, values):
        return values[..., -1]

    def values(self, answers):
        return [float(len(text)) for text in answers.predictions]


@dataclass(frozen=True)
class Inverted(Sound):
    higher_is_better = False


@pytest.mark.parametrize("metric", [Sound(), Asking()], ids=repr)
def test_a_correct_metric_passes(metric):
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "broken"),
    [
        (Untitled(), "a name"),
        (NoRepr(), "a repr that shows how it was created"),
        (Greedy(), "requires among .*'losses', 'questions'.*, got .*'sources'"),
        (Secretive(), "5 scores from the metric sound, got shape .*0,"),
        (Moody(), "the same scores at the second call"),
        (Positional(), "the same scores in another order"),
        (Relative(), "the same scores for an answer alone"),
        (DropsEmpty(), "5 scores from the metric sound, got shape .*4,"),
        (Summing(), "an average between the least and the greatest score"),
        (FirstOnly(), "averages over the last axis that do not depend on the order"),
        (Inverted(), "references that score no worse than other texts"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Metric) else "",
)
def test_the_error_says_what_a_metric_breaks(metric, broken):
    with pytest.raises(rs.errors.ContractError, match=f"expected {broken}"):
        check_metric(metric)
