"""What is read off one run, where something is missing or nought."""

from __future__ import annotations

from rankselect.study.analysis.measurements import measurements
from rankselect.study.run import Run, RunResult

RUN = Run("final", "rank-8", 0, 3e-4, 8.0)
RECORD = {"seconds": 0.0, "tokens": 500, "peak_memory_bytes": 7, "losses": [[1, 3.0], [2, 2.5]]}


def found(**values):
    return {(each.measurement, each.condition): each.value for each in measurements(RunResult(RUN, **values), {})}


def test_a_training_of_no_time_has_no_speed():
    assert found(training=RECORD) == {
        ("trainable_parameters", ""): 0,
        ("selection_seconds", ""): 0.0,
        ("training_seconds", ""): 0.0,
        ("tokens_per_second", ""): 0.0,
        ("peak_memory_bytes", ""): 7,
        ("final_training_loss", ""): 2.5,
    }
    assert found(training={**RECORD, "seconds": 4.0})["tokens_per_second", ""] == 125


def test_a_training_without_steps_has_no_loss():
    assert ("final_training_loss", "") not in found(training={**RECORD, "losses": []})


def test_shares_are_of_base_and_adapter_together():
    values = found(trainable_parameters=10, base_parameters=90, stored_parameters=40)
    assert values["trainable_percent", ""] == 10.0
    assert values["trainable_percent_as_stored", ""] == 20.0
    assert set(found(trainable_parameters=10)) == {("trainable_parameters", "")}


def test_speed_of_answers_is_over_all_of_them():
    answers = [{"seconds": 1.0, "n_tokens": 4}, {"seconds": 3.0, "n_tokens": 2}]
    values = found(answers={"dropout_off": answers, "dropout_on": []})
    assert values["inference_seconds_per_answer", "dropout_off"] == 2.0
    assert values["inference_tokens_per_second", "dropout_off"] == 1.5
    assert not [name for name in values if name[1] == "dropout_on"]
    values = found(answers={"dropout_off": [{"seconds": 0.0, "n_tokens": 4}]})
    assert ("inference_seconds_per_answer", "dropout_off") in values
    assert ("inference_tokens_per_second", "dropout_off") not in values


def test_scores_of_a_metric_that_the_study_does_not_have_are_left_out():
    assert set(found(scores={"dropout_off": {"token-f1": [0.5]}}, validation_loss=1.5)) == {
        ("trainable_parameters", ""),
        ("validation_loss", ""),
    }
