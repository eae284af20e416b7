"""What a study's config decides: every value reaches the training, answers, losses, model and profile it is meant for.

The study that is watched has no default value in its config, so that a value that is dropped on the way is noticed.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest

import rankselect as rs
from rankselect.study.config import StudyConfig
from rankselect.study.rows import study_rows
from rankselect.study.run import RunResult
from rankselect.study.work import do_run
from rankselect.testing import tiny_model
from study.spied import BEST, TEMPLATE, run_spied

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    return run_spied(tmp_path_factory.mktemp("spied"))


def test_the_study_that_is_watched_has_no_default_value_and_is_whole(spied):
    for each in fields(StudyConfig):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        assert getattr(spied.config, each.name) != default, each.name
    assert [result.status for result in spied.results] == ["done"] * 6


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_train_epochs", 2.5),
        ("max_steps", 2),
        ("per_device_train_batch_size", 3),
        ("gradient_accumulation_steps", 2),
        ("gradient_checkpointing", True),
        ("logging_steps", 1),
        ("disable_tqdm", True),
    ],
)
def test_how_long_and_in_what_portions_is_trained(spied, argument, value):
    trainings = spied.of("RankSelectTrainer")
    assert len(trainings) == 4 + 2 * 2  # points of the grid; two arms with two seeds
    assert {getattr(call.args, argument) for call in trainings} == {value}


def test_every_training_is_that_of_its_unit(spied):
    for call in spied.of("RankSelectTrainer"):
        assert (call.args.seed, call.args.learning_rate) == (call.run.seed, call.run.learning_rate)
        assert {call.plan.alphas[name] / rank for name, rank in call.plan.ranks.items()} == {call.run.alpha_ratio}
        assert {name.rpartition(".")[2] for name in call.plan.ranks} == {"q_proj", "down_proj"}
        assert call.lora_arguments == {"lora_dropout": 0.25}
        assert call.returned.record.steps == 2
        assert call.returned.record.seed == call.run.seed
    assert {call.run.seed for call in spied.of("RankSelectTrainer", kind="grid")} == {3}
    for arm in ("rank-2", "by-layer"):
        assert {call.args.seed for call in spied.of("RankSelectTrainer", kind="final", arm=arm)} == {3, 11}


def test_the_rows_are_drawn_parted_and_used_for_one_thing_each(spied):
    rows = study_rows(spied.config)
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (21, 9, 4)
    questions = [{row.question for row in part} for part in (rows.train, rows.validation, rows.test)]
    assert len(set.union(*questions)) == 34
    assert questions[2] < {f"why test {index}" for index in range(6)}
    assert all(call.train_dataset == rows.train for call in spied.of("RankSelectTrainer"))
    assert all(call.rows == rows.validation for call in spied.of("answer_losses", kind="grid"))
    assert all(call.rows == rows.test for call in spied.of("answer_losses", kind="final"))
    assert all(call.questions == [row.question for row in rows.test] for call in spied.of("generate_answers"))
    assert all((call.texts, call.template) == (rows.train, TEMPLATE) for call in spied.of("Calibration"))
    kept = json.loads((spied.folder / "test_rows.json").read_text(encoding="utf-8"))["rows"]
    assert [row["question"] for row in kept] == [row.question for row in rows.test]


def test_learning_rate_and_alpha_ratio_are_those_of_the_least_loss_on_the_validation_rows(spied):
    points = {(call.run.learning_rate, call.run.alpha_ratio) for call in spied.of("answer_losses", kind="grid")}
    assert points == {(rate, ratio) for rate in (2e-3, 5e-3) for ratio in (2.0, 4.0)}
    for path in (spied.folder / "units").glob("grid.*.json"):
        result = RunResult.load(path)
        is_best = (result.run.learning_rate, result.run.alpha_ratio) == BEST
        assert result.validation_loss == pytest.approx((1.0 if is_best else 1.5) + 0.04)
    chosen = {result.run.arm: (result.run.learning_rate, result.run.alpha_ratio) for result in spied.results}
    assert chosen == {"base": (0.0, 0.0), "rank-2": BEST, "by-layer": (4e-3, 3.0)}


@pytest.mark.parametrize("what", ["RankSelectTrainer", "generate_answers", "answer_losses"])
def test_the_template_is_that_of_the_config(spied, what):
    calls = spied.of(what)
    assert calls
    assert all(call.template == TEMPLATE for call in calls)


@pytest.mark.parametrize(
    ("what", "argument", "value"),
    [
        ("load_model", "quantization", "nf4"),
        ("load_model", "dtype", "float32"),
        ("load_model", "device_map", "cpu"),
        ("RankSelectTrainer", "max_length", 48),
        ("answer_losses", "max_length", 48),
        ("answer_losses", "batch_size", 5),
        ("generate_answers", "max_new_tokens", 7),
        ("generate_answers", "batch_size", 5),
        ("generate_answers", "temperature", None),
        ("Calibration", "max_length", 48),
        ("Calibration", "batch_size", 5),
        ("Calibration", "max_samples", 20),
        ("Calibration", "pooling", "last"),
        ("Calibration", "target_modules", ("q_proj", "down_proj")),
    ],
)
def test_every_call_has_the_value_of_the_config(spied, what, argument, value):
    calls = spied.of(what)
    assert calls
    assert all(getattr(call, argument) == value for call in calls)


def test_every_unit_loads_its_own_model_and_asks_the_one_it_trained(spied):
    runs = {call.run for call in spied.calls}
    for run in runs - {None}:
        of = {"kind": run.kind, "arm": run.arm, "seed": run.seed, "learning_rate": run.learning_rate}
        of["alpha_ratio"] = run.alpha_ratio
        (loaded,) = spied.of("load_model", **of)
        assert str(loaded.name_or_model) == spied.config.model
        asked = loaded.returned
        if run.arm != "base":
            (training,) = spied.of("RankSelectTrainer", **of)
            assert training.model is loaded.returned
            asked = training.returned.model
        asking = [*spied.of("answer_losses", **of), *spied.of("generate_answers", **of)]
        assert all(call.model is asked for call in asking)


def test_answers_are_written_without_and_with_dropout_and_scored_against_the_references(spied):
    for result in spied.results:
        calls = spied.of("generate_answers", kind="final", arm=result.run.arm, seed=result.run.seed)
        assert [(call.dropout, call.seed) for call in calls] == [(False, result.run.seed), (True, result.run.seed)]
        right = {"dropout_off": [1.0, 0.0, 1.0, 0.0], "dropout_on": [0.0, 1.0, 0.0, 1.0]}
        assert {name: scores["token-f1"] for name, scores in result.scores.items()} == right
        for name, call in zip(("dropout_off", "dropout_on"), calls, strict=True):
            assert [answer["text"] for answer in result.answers[name]] == [answer.text for answer in call.returned]
        (losses,) = spied.of("answer_losses", kind="final", arm=result.run.arm, seed=result.run.seed)
        assert result.test_losses == losses.returned
        assert all(each["perplexity"] == pytest.approx(np.exp(losses.returned)) for each in result.scores.values())


def test_the_base_is_profiled_once_and_every_trained_model_after_training(spied):
    before = rs.IDProfile.load(spied.folder / "profile.json")
    assert before.measurement.n_texts == 20
    assert (before.measurement.pooling, before.measurement.estimator) == (
        "last",
        "TwoNN(discard_fraction=0.2, method='fit')",
    )
    (first,) = [call for call in spied.of("Calibration") if call.run is None]
    assert first.model is spied.of("load_model")[0].returned
    for result in spied.results:
        of = {"kind": "final", "arm": result.run.arm, "seed": result.run.seed}
        if result.run.arm == "base":
            assert result.profile_after is None
            continue
        assert result.profile_after["layers"] == list(before.layers)
        assert result.profile_after["values"] != before.values.tolist()
        assert all(0 < error < 100 for error in result.profile_after["stderr"])
        (training,) = spied.of("RankSelectTrainer", **of)
        assert spied.of("Calibration", **of)[-1].model is training.returned.model
        if result.run.arm == "by-layer":
            plan = rs.PerLayerID().plan(tiny_model(), before, target_modules=["q_proj", "down_proj"])
            assert result.ranks == plan.ranks


def test_a_bar_counts_the_steps_of_a_unit_if_progress_is_wanted(spied, tmp_path, capsys):
    (tmp_path / "units").mkdir()
    run = next(result.run for result in spied.results if result.run.arm == "rank-2")
    config = replace(spied.config, quantization="none", dropout_too=False, profile_after=False)
    for progress in (True, False):
        assert do_run(config, tmp_path, run, progress=progress).status == "done"
        said = capsys.readouterr().err
        assert bool(re.search(rf"{run.id}: 100%.* 2/2 .*loss=", said)) == progress


def test_test_questions_among_the_training_rows_are_warned_of(spied, tmp_path):
    path = tmp_path / "test.jsonl"
    rows = study_rows(spied.config)
    known = [{"prompt": row.question.upper(), "reply": row.answer} for row in (rows.train[0], rows.validation[0])]
    path.write_text("\n".join(map(json.dumps, [*known, {"prompt": "why", "reply": "so"}])), encoding="utf-8")
    with pytest.warns(rs.RankSelectWarning, match=r"2 of 3 evaluation questions are in the training data too"):
        study_rows(replace(spied.config, test=str(path)))
