"""Arms with a size, scales, a cut: what is trained, what it costs, and what is recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rankselect as rs
from rankselect.cli.study_arguments import arms_of
from rankselect.errors import ArgumentError, UnknownNameError
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.report.setting import setting
from rankselect.study.study import Study
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

ARMS = (
    Arm("uniform", "fixed:4"),
    Arm("gora", "gora", budget="like:uniform", alpha="scales-of:uniform"),
    Arm("fisher", "fisher", budget="rank:3", alpha="fixed:12"),
    Arm("cut", "fixed:8", cut="rank:2"),
    Arm("recovered", "fixed:8", cut="rank:2", recover_steps=2),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    for name, n, seed in (("train", 40, 0), ("test", 6, 1)):
        rows = [{"question": f"why {name} {i}", "answer": text} for i, text in enumerate(tiny_texts(n, seed=seed))]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = StudyConfig(
        str(folder / "model"), str(folder / "train.jsonl"), str(folder / "test.jsonl"), arms=ARMS, seeds=2,
        metrics=("token-f1", "perplexity"), target_modules=("q_proj", "down_proj"), learning_rates=(5e-3,),
        alpha_ratios=(2.0,), max_steps=3, batch_size=4, max_new_tokens=4,
    )  # fmt: skip
    study = Study(config, folder / "study")
    results = study.run(progress=False)
    return study, {result.run.arm: result for result in results if result.run.seed == 0}


def test_nothing_fails(study):
    assert {arm: result.error for arm, result in study[1].items() if result.status == "failed"} == {}
    assert len(study[1]) == len(ARMS)


def test_an_arm_has_the_size_and_the_scales_of_another(study):
    uniform, gora = study[1]["uniform"], study[1]["gora"]
    assert uniform.trainable_parameters - 64 <= gora.trainable_parameters <= uniform.trainable_parameters
    assert gora.ranks != uniform.ranks
    assert {name: gora.alphas[name] / rank for name, rank in gora.ranks.items()} == dict.fromkeys(gora.ranks, 2.0)


def test_an_arm_has_a_budget_and_an_alpha_rule(study):
    fisher = study[1]["fisher"]
    assert set(fisher.alphas.values()) == {12.0}
    assert fisher.run.alpha_ratio == 0
    assert (
        fisher.trainable_parameters
        <= rs.Fixed(3).plan(tiny_model(), target_modules=["q_proj", "down_proj"]).trainable_parameters
    )


def test_evidence_is_measured_once_on_the_study_s_modules_and_charged_to_each_arm(study):
    folder = study[0].folder
    spectra = rs.GradientSpectra.load(folder.path / "gradient_spectra.json")
    assert {name.rpartition(".")[2] for name in spectra.modules} == {"q_proj", "down_proj"}
    assert spectra.measurement["loss_on"] == "answers"
    assert spectra.measurement["n_rows"] == 36  # the validation rows left out
    seconds = folder.evidence_seconds(rs.GradientSpectra)
    assert study[1]["gora"].selection_seconds > seconds > 0
    assert study[1]["uniform"].selection_seconds < seconds
    expected = rs.GoRA().plan(
        tiny_model(), spectra, target_modules=["q_proj", "down_proj"], budget=rs.Budget(rank=4), alpha="ratio:2"
    )
    assert study[1]["gora"].ranks == expected.ranks


def test_a_cut_arm_is_trained_whole_and_cut(study):
    cut, recovered = study[1]["cut"], study[1]["recovered"]
    limit = rs.Fixed(2).plan(tiny_model(), target_modules=["q_proj", "down_proj"]).trainable_parameters
    for result in (cut, recovered):
        assert limit - 64 <= result.trainable_parameters <= limit
        assert set(result.ranks) == set(result.alphas)
        assert {round(result.alphas[name] / rank, 6) for name, rank in result.ranks.items()} == {2.0}
    assert cut.ranks == recovered.ranks


def test_what_recovery_costs_is_the_arm_s(study):
    cut, recovered = study[1]["cut"].training, study[1]["recovered"].training
    assert (cut["steps"], recovered["steps"]) == (3, 5)
    assert recovered["tokens"] > cut["tokens"]
    assert [step for step, _ in recovered["losses"]] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(recovered["losses"][:3], cut["losses"], rtol=1e-5)
    assert recovered["seconds"] > 0
    assert study[1]["cut"].test_losses != study[1]["recovered"].test_losses


def test_the_report_says_what_the_arms_are(study, tmp_path):
    table = setting(study[0].folder.read()).tables[0]
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["gora"][0] == "GoRA(rank=8), budget like:uniform"
    assert by_name["gora"][2] == "by rule: scales-of:uniform"
    assert by_name["recovered"][0] == "Fixed(rank=8), cut to rank:2 after training and trained for 2 steps more"
    assert by_name["cut"][2] == "2"
    paths = rs.write_report(rs.StudyResults.load(study[0].folder.path), tmp_path)
    assert "choosing ranks" in next(path for path in paths if path.suffix == ".md").read_text()


def test_configs_are_read_as_they_were_written():
    config = StudyConfig("m", "t", arms=ARMS)
    assert StudyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Arm("r8", "fixed:8").to_dict().keys() == {"name", "strategy", "learning_rates", "alpha_ratios"}
    hashes = {StudyConfig("m", "t", arms=[arm]).hash for arm in (
        Arm("a", "gora"), Arm("a", "gora", budget="rank:4"), Arm("a", "gora", budget="rank:5"),
        Arm("a", "gora", alpha="fixed:4"), Arm("a", "gora", cut="rank:2"), Arm("a", "gora", cut="rank:2", recover_steps=1),
    )}  # fmt: skip
    assert len(hashes) == 6


def test_the_command_line():
    found = arms_of(
        [
            "uniform=fixed:4",
            "gora=gora:rank=4@budget=like:uniform@alpha=fixed:32",
            "cut=fixed:32@cut=rank:8@recover=50",
            "base",
        ]
    )
    assert found[1] == Arm("gora", rs.GoRA(rank=4), budget="like:uniform", alpha="fixed:32")
    assert found[2] == Arm("cut", rs.Fixed(32), cut="rank:8", recover_steps=50)
    assert found[3] == Arm("base")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a=fixed:4@size=3", ArgumentError, "settings of an arm as @budget=SIZE.*got @size=3 in 'a=fixed:4@size=3'"),
        ("a=fixed:4@recover=few", ArgumentError, "@recover=few"),
        ("a=fixed:4@budget=", ArgumentError, "@budget="),
        ("a=fixed:4@budget=huge", ArgumentError, "huge"),
        ("a=fixed:4@alpha=some:3", UnknownNameError, "some"),
        ("a=fixed:4@recover=3", ArgumentError, "recover_steps of a of at least 0, with a cut"),
        ("base@budget=rank:3", ArgumentError, "a strategy for base, with its budget"),
        ("a=fixed:4@cut=24GiB", ArgumentError, "a number of parameters as cut of a"),
    ],
)
def test_arms_that_cannot_be(text, error, message):
    with pytest.raises((error, ArgumentError), match=message):
        arms_of([text])


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([Arm("a", "gora", budget="like:b")], "an arm with ranks of its own, for a, got 'b'. Arms: a"),
        ([Arm("a", "gora", budget="like:a")], "got 'a'"),
        ([Arm("a", "gora", alpha="scales-of:base"), Arm("base")], "got 'base'"),
        ([Arm("a", "gora", budget="like:b"), Arm("b", "fisher", budget="like:c"), Arm("c", "fixed:2")], "got 'b'"),
    ],
)
def test_other_arms_that_cannot_be(arms, message):
    with pytest.raises(ArgumentError, match=message):
        StudyConfig("m", "t", arms=arms)


def test_settings_that_exclude_each_other():
    with pytest.raises(ArgumentError, match="alpha or alpha_ratios for a, got both"):
        Arm("a", "gora", alpha_ratios=(2.0,), alpha="fixed:4")
    with pytest.raises(ArgumentError, match="one other arm for a, got b and c"):
        StudyConfig(
            "m",
            "t",
            arms=[Arm("a", "gora", budget="like:b", alpha="scales-of:c"), Arm("b", "fixed:2"), Arm("c", "fixed:3")],
        )
    with pytest.raises(ArgumentError, match="budget of an arm as text"):
        Arm("a", "gora", budget=rs.Budget(rank=3))
    with pytest.raises(ArgumentError, match='pooling "mean" or "last", got \'max\''):
        StudyConfig("m", "t", arms=[Arm("base")], pooling="max")
    with pytest.raises(UnknownNameError, match="twon"):
        StudyConfig("m", "t", arms=[Arm("base")], estimator="twon")
