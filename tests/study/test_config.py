"""The config of a study: what it takes, what it refuses, and that it is read as it was written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import pytest

import rankselect as rs
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.recorded import RecordedStrategy

ARMS = (Arm("base"), Arm("rank-2", "fixed:rank=2"), Arm("control", rs.SameParameters("per-layer-id"), (1e-3,), (2, 4)))
CONFIG = StudyConfig("model", "train.jsonl", "test.jsonl", arms=ARMS)

OTHERWISE = {
    "model": "other",
    "train": "other.jsonl",
    "test": None,
    "arms": [Arm("only", "gelora")],
    "seeds": [3, 5],
    "metrics": ["perplexity", rs.RougeL(stemming=True)],
    "n_train": 9,
    "n_test": 8,
    "validation_share": 0.3,
    "template": "{question} -> {answer}",
    "max_length": 77,
    "quantization": "nf4",
    "dtype": "float32",
    "device_map": "cpu",
    "target_modules": ["q_proj", "v_proj"],
    "learning_rates": [2e-4],
    "alpha_ratios": [1.0, 2.0],
    "epochs": 2.5,
    "max_steps": 6,
    "batch_size": 3,
    "accumulation": 4,
    "lora_dropout": 0.2,
    "gradient_checkpointing": True,
    "profile_samples": 12,
    "profile_after": True,
    "max_new_tokens": 31,
    "generation_batch_size": 7,
    "dropout_too": True,
    "question": "prompt",
    "answer": "reply",
    "text": "both",
    "skip_faulty": True,
    "pooling": "last",
    "estimator": "mle:n_neighbors=10",
}
"""No value is that of `CONFIG`."""


@pytest.mark.parametrize("name", [each.name for each in fields(StudyConfig)])
def test_every_value_is_recorded_and_part_of_the_hash(name):
    changed = replace(CONFIG, **{name: OTHERWISE[name]})
    again = StudyConfig.from_dict(changed.to_dict())
    assert again.to_dict() == changed.to_dict() != CONFIG.to_dict()
    assert again.hash == changed.hash != CONFIG.hash


def test_a_study_with_the_usual_columns_keeps_the_hash_of_older_releases():
    assert not {"question", "answer", "text", "skip_faulty", "pooling", "estimator"} & CONFIG.to_dict().keys()


def test_what_is_read_is_what_was_written():
    assert StudyConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert StudyConfig.from_dict({"model": "m", "train": "t", "arms": [Arm("base").to_dict()]}) == StudyConfig(
        "m", "t", arms=[Arm("base")]
    )
    with pytest.raises(rs.errors.ArgumentError, match=r"fields of StudyConfig, got learning_rat\. Upgrade"):
        StudyConfig.from_dict({**CONFIG.to_dict(), "learning_rat": 1})


def test_lists_and_numbers_of_seeds_are_tuples():
    lists = replace(CONFIG, arms=list(ARMS), seeds=3, metrics=["token-f1"], learning_rates=[1e-3], alpha_ratios=[8])
    assert (lists.arms, lists.training_seeds, lists.metrics) == (ARMS, (0, 1, 2), ("token-f1",))
    assert (lists.learning_rates, lists.alpha_ratios) == ((1e-3,), (8,))
    assert replace(CONFIG, seeds=range(2)).hash == replace(CONFIG, seeds=(0, 1)).hash
    assert replace(CONFIG, target_modules=["q_proj"]) == replace(CONFIG, target_modules=("q_proj",))
    assert Arm("a", "gelora", [1e-3], [2]) == Arm("a", rs.GeLoRA(), (1e-3,), (2,))
    assert hash(lists) == hash(replace(lists, seeds=[0, 1, 2]))


def test_an_arm_chooses_from_its_own_grid_or_else_from_that_of_the_study():
    assert CONFIG.grid_of(ARMS[0]) == ()
    assert CONFIG.grid_of(ARMS[1]) == ((1e-4, 8.0), (3e-4, 8.0), (1e-3, 8.0))
    assert CONFIG.grid_of(ARMS[2]) == ((1e-3, 2.0), (1e-3, 4.0))


def test_a_name_and_what_it_makes_are_the_same_config():
    named = replace(CONFIG, arms=[Arm("a", "fixed:rank=2")], metrics=["token-f1", "questeval-cloze", "perplexity"])
    made = replace(named, arms=[Arm("a", rs.Fixed(2))], metrics=[rs.TokenF1(), rs.QuestEvalCloze(), rs.Perplexity()])
    assert named.hash == made.hash


@dataclass(frozen=True)
class Longer(rs.Metric):
    """A metric of somebody else's."""

    name: ClassVar[str] = "longer"
    than: int = 3

    def values(self, answers):
        return [float(len(each) > self.than) for each in answers.predictions]


class NoRecord(Longer):
    __repr__ = object.__repr__


@dataclass(frozen=True)
class Two(rs.RankStrategy):
    def ranks(self, targets, evidence):
        return {target.name: 2.0 for target in targets}


def test_plug_ins_that_are_not_registered_are_recorded_and_found_again():
    from rankselect.study.recorded import metric_from

    config = replace(CONFIG, arms=[Arm("two", Two())], metrics=[Longer(4)])
    assert config.to_dict()["metrics"] == ["Longer(than=4)"]
    again = StudyConfig.from_dict(config.to_dict())
    assert again.arms[0].strategy == Two()
    assert metric_from(again.metrics[0]) == Longer(4)
    assert metric_from("QuestEvalCloze(scores=('f1',), consistency=True, reduction='max')").consistency


@pytest.mark.parametrize(
    "text",
    ["Theirs(x=1)", "Two(x=1)", "Fixed(rank=print())", "Fixed(rank=0)", "Fixed( rank=2)", "my own", "Fixed(", "os.sep"],
)
def test_a_strategy_that_is_not_here_is_its_record(text):
    values = {**CONFIG.to_dict(), "arms": [{**ARMS[1].to_dict(), "strategy": text}]}
    config = StudyConfig.from_dict(values)
    assert isinstance(config.arms[0].strategy, RecordedStrategy)
    assert config.to_dict() == values
    with pytest.raises(rs.errors.ArgumentError, match="expected a strategy that is installed here"):
        config.arms[0].strategy.ranks([], None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": ()}, "a list of arms, at least one and no duplicates"),
        ({"arms": ARMS[0]}, "a list of arms"),
        ({"arms": ["base"]}, "a list of Arm objects"),
        ({"arms": (Arm("a"), Arm("a", "fixed:rank=2"))}, "arms with different names, got a, a"),
        ({"seeds": (1, 1)}, "a list of seeds, at least one and no duplicates"),
        ({"seeds": 0}, "a list of non-negative seeds, or their number, got 0"),
        ({"seeds": [0, -1]}, r"a list of non-negative seeds, or their number, got \[0, -1\]"),
        ({"seeds": 1.5}, "a list of seeds"),
        ({"metrics": "token-f1"}, "a list of metrics, at least one and no duplicates, got 'token-f1'"),
        ({"metrics": [rs.TokenF1]}, "a metric, or the name of one, got the class TokenF1"),
        ({"metrics": [NoRecord()]}, "a NoRecord that can be recorded, got .* Make NoRecord a frozen dataclass"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"batch_size": 0}, "batch_size above 0"),
        ({"learning_rates": (-1e-3,)}, "a list of positive learning rates"),
        ({"learning_rates": 1e-3}, "a list of positive learning rates, got 0.001"),
        ({"learning_rates": []}, "a list of learning_rates, at least one"),
        ({"alpha_ratios": (8.0, 8.0)}, "a list of alpha_ratios, at least one and no duplicates"),
        ({"template": "{question}"}, "a template with"),
    ],
)
def test_configs_that_mean_nothing_are_refused(changed, said):
    with pytest.raises(rs.errors.ArgumentError, match=said):
        replace(CONFIG, **changed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rank 2",), "a name of letters"),
        (("a", rs.Fixed), "a strategy, or the name of one, got the class Fixed"),
        (("a", 2), "a strategy, or the name of one, got 2"),
        (("a", None, [0.0]), "a list of positive learning rates of a"),
        (("a", None, (), ["high"]), "a list of positive alpha ratios of a"),
    ],
)
def test_arms_that_mean_nothing_are_refused(arguments, said):
    with pytest.raises(rs.errors.ArgumentError, match=said):
        Arm(*arguments)


@pytest.mark.parametrize(
    ("name", "said"), [("per-layer", "Did you mean per-layer-id"), ("Fixd(rank=2)", "a strategy, got 'Fixd")]
)
def test_a_strategy_that_is_not_installed_is_said_when_the_arm_is_made(name, said):
    with pytest.raises(rs.errors.UnknownNameError, match=said):
        Arm("x", name)


def test_a_control_is_one_even_if_what_it_wraps_is_not_installed():
    arm = Arm.from_dict({**ARMS[2].to_dict(), "strategy": "SameParameters(strategy=Theirs(x='a', y=(1, 2)))"})
    assert isinstance(arm.strategy, rs.SameParameters)
    assert isinstance(arm.strategy.strategy, RecordedStrategy)
    assert arm.to_dict()["strategy"] == "SameParameters(strategy=Theirs(x='a', y=(1, 2)))"
