"""Results of a study on disk: what is read, what is damaged, and the numbers of every table."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from rankselect.errors import DataError, FileFormatError, MissingExtraError, RankSelectError, UnknownNameError
from rankselect.study.analysis.results import StudyResults
from rankselect.study.run import RunResult
from study.synthetic_study import (
    ARMS,
    BASE,
    PER_RANK,
    STORED,
    change,
    damage,
    fail,
    write_synthetic_study,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study in which nothing is missing; not to be changed."""
    folder = tmp_path_factory.mktemp("study") / "results"
    write_synthetic_study(folder, judge=True)
    return StudyResults.load(folder)


@pytest.fixture
def folder(tmp_path):
    """A small study to break."""
    write_synthetic_study(tmp_path / "results", arms=ARMS[:3], n_questions=8, dropout_too=False)
    return tmp_path / "results"


def value(results, arm, measurement, seed=0, condition=""):
    table = results.table
    found = table[
        (table["arm"] == arm)
        & (table["measurement"] == measurement)
        & (table["seed"] == seed)
        & (table["condition"] == condition)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_everything_is_read(whole):
    assert whole.arms == tuple(arm.name for arm in ARMS)
    assert (len(whole.final), len(whole.grid), whole.failed, whole.damaged) == (21, 18, [], {})
    assert len(whole.rows) == 40
    assert len(whole.profile.layers) == 32
    assert whole.chosen["rank-1"] == (1e-3, 8.0)
    assert (whole.machine, whole.versions["torch"], len(whole.hash)) == ("1 CPU core", "2.9", 64)
    assert whole.conditions == ["dropout_off", "dropout_on"]


def test_shares_of_trainable_parameters_are_the_true_one_and_that_of_stored_elements(whole):
    printed = {"rank-1": 0.086, "rank-6": 0.514, "rank-14": 1.192, "rank-64": 5.226}
    true = {"rank-1": 0.047, "rank-6": 0.282, "rank-14": 0.656, "rank-64": 2.929}
    for arm, percent in printed.items():
        assert value(whole, arm, "trainable_parameters").value == int(arm[5:]) * PER_RANK
        assert value(whole, arm, "trainable_percent").value == pytest.approx(true[arm], abs=5e-4)
        assert value(whole, arm, "trainable_percent_as_stored").value == pytest.approx(percent, abs=5e-4)
    assert BASE > STORED


def test_the_table_against_the_files(whole):
    result = RunResult.load(whole.folder / "units" / "final.per-layer-id.seed1.json")
    ranks = list(result.ranks.values())
    for name, number in {
        "rank_least": min(ranks),
        "rank_mean": np.mean(ranks),
        "rank_greatest": max(ranks),
        "alpha_mean": 8 * np.mean(ranks),
        "selection_seconds": 30.0,
        "training_seconds": result.training["seconds"],
        "tokens_per_second": 60_000 / result.training["seconds"],
        "peak_memory_bytes": result.training["peak_memory_bytes"],
        "final_training_loss": result.training["losses"][-1][1],
        "validation_loss": result.validation_loss,
        "test_loss": np.mean(result.test_losses),
    }.items():
        assert value(whole, "per-layer-id", name, seed=1).value == pytest.approx(number)
    for condition in whole.conditions:
        f1 = value(whole, "per-layer-id", "token-f1", 1, condition)
        assert f1.value == pytest.approx(np.mean(result.scores[condition]["token-f1"]))
        assert f1.low < f1.value < f1.high
    seconds = value(whole, "per-layer-id", "inference_seconds_per_answer", 1, "dropout_off")
    assert seconds.value == pytest.approx(0.201)
    assert np.isnan(seconds.low)


def test_perplexity_is_averaged_as_the_metric_does(whole):
    loss = value(whole, "rank-6", "test_loss").value
    assert value(whole, "rank-6", "perplexity", condition="dropout_off").value == pytest.approx(np.exp(loss))


def test_the_base_model_has_neither_ranks_nor_training(whole):
    own = whole.table[whole.table["arm"] == "base"]
    assert value(whole, "base", "trainable_parameters").value == 0
    assert not set(own["measurement"]) & {"rank_mean", "training_seconds", "peak_memory_bytes", "final_training_loss"}


def test_the_summary_has_means_over_seeds_and_wider_intervals_with_seeds(whole):
    summary = whole.summary.set_index("arm")
    per_seed = [value(whole, "rank-6", "token-f1", seed, "dropout_off") for seed in (0, 1, 2)]
    assert list(summary.index) == list(whole.arms)
    assert summary.loc["rank-6", "token-f1"] == pytest.approx(np.mean([row.value for row in per_seed]))
    assert summary.loc["rank-6", "token-f1_low"] < summary.loc["rank-6", "token-f1"]
    assert summary.loc["rank-6", "token-f1_dropout_on"] < summary.loc["rank-6", "token-f1"]
    assert summary.loc["rank-6", ["seeds", "failed", "learning_rate"]].tolist() == [3, 0, 3e-4]
    assert summary.loc["base", "strategy"] == "none"
    assert np.isnan(summary.loc["base", "rank_mean"])


def test_the_grid_says_what_was_chosen_and_warns_at_its_edge(whole):
    grid = whole.grid_table
    assert len(grid) == 18
    chosen = grid[grid["chosen"]].set_index("arm")
    assert chosen["learning_rate"].to_dict() == dict.fromkeys(whole.arms[1:], 3e-4) | {"rank-1": 1e-3}
    assert chosen.loc["rank-1", "warn"] == "learning rate 0.001 is the largest in its grid: extend the grid"
    assert (grid["warn"] != "").sum() == 1
    assert "rank-1: learning rate 0.001 is the largest in its grid: extend the grid." in whole.verdict().caveats


def test_the_rankings(whole):
    rankings = whole.rankings
    assert list(rankings) == [
        "token-f1",
        "questeval-cloze",
        "perplexity",
        "harmonic mean of questeval-cloze and token-f1",
        "judge",
        "training time",
        "trainable parameters",
    ]
    assert rankings["trainable parameters"]["arm"].tolist() == [
        "rank-1", "rank-6", "id-control", "per-layer-id", "rank-14", "rank-64",
    ]  # fmt: skip
    assert rankings["training time"]["place"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rankings["token-f1"]["arm"].tolist()[-1] == "base"
    assert rankings["token-f1"]["value"].is_monotonic_decreasing
    assert rankings["perplexity"]["value"].is_monotonic_increasing
    summary = whole.summary.set_index("arm")
    both = rankings["harmonic mean of questeval-cloze and token-f1"].set_index("arm")["value"]
    q, f = summary.loc["rank-64", ["questeval-cloze", "token-f1"]].astype(float)
    assert both["rank-64"] == pytest.approx(2 * q * f / (q + f), rel=1e-3)


def test_differences_are_against_the_control_unless_another_arm_is_named(whole):
    table = whole.differences("token-f1").set_index("arm")
    assert set(table["baseline"]) == {"id-control"}
    assert set(table["n_comparisons"]) == {6}
    assert table.loc["base", "outcome"] == "worse"
    assert table.loc["per-layer-id", "outcome"] == "no difference shown"
    assert table.loc["per-layer-id", "detectable"] > 0
    assert "smallest detectable difference: " in table.loc["per-layer-id", "says"]
    summary = whole.summary.set_index("arm")["token-f1"]
    assert table.loc["base", "difference"] == pytest.approx(summary["base"] - summary["id-control"])
    losses = whole.differences("test_loss", "base").set_index("arm")
    assert (losses["difference"] < 0).all()
    assert (losses["outcome"] == "better").all()


def test_asking_for_what_is_not_there(whole):
    with pytest.raises(UnknownNameError, match="name of a metric of this study, got 'token-f2'. Did you mean token-f1"):
        whole.differences("token-f2")
    with pytest.raises(UnknownNameError, match="name of a study arm, got 'rank-7'"):
        whole.differences("token-f1", "rank-7")


def test_differences_are_of_one_condition(whole):
    for condition in whole.conditions:
        found = whole.differences("token-f1", "rank-6", condition=condition).set_index("arm").loc["rank-64"]
        means = [
            np.mean([value(whole, arm, "token-f1", seed, condition).value for seed in (0, 1, 2)])
            for arm in ("rank-64", "rank-6")
        ]
        assert found["difference"] == pytest.approx(means[0] - means[1])
    off, on = (whole.differences("token-f1", "base", condition=each)["difference"] for each in whole.conditions)
    assert not np.allclose(off, on)


@pytest.mark.parametrize("metric", ["token-f1", "perplexity"])
def test_the_verdict_of_known_effects(tmp_path, metric):
    """Rank 6 and rank 14 are equally good, and rank 6 is cheaper; rank 1 and the base are worse by far."""
    effects = {"base": -0.25, "rank-1": -0.15, "rank-6": 0.0, "rank-14": 0.0}
    write_synthetic_study(tmp_path / "results", arms=ARMS[:4], effects=effects, seed_spread=0.002)
    verdict = StudyResults.load(tmp_path / "results").verdict(metric)
    assert verdict.arm == "rank-6"
    assert {each.metric for each in verdict.differences} == {metric}
    assert {each.arm for each in verdict.differences if each.shown} == {"base", "rank-1"}
    assert {each.arm for each in verdict.differences if not each.shown} < {"rank-6", "rank-14"}
    said = [reason.split(":")[0] for reason in verdict.reasons if reason.endswith("worse.")]
    assert [each.split(" against ")[0] for each in said] == ["base", "rank-1"]


def test_what_is_written_can_be_read(whole, tmp_path):
    table, everything = whole.write(tmp_path)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole.table)
    assert list(rows[0]) == list(whole.table.columns)
    assert float(rows[0]["value"]) == whole.table["value"][0]
    document = json.loads(everything.read_text())
    assert document["verdict"]["headline"] == whole.verdict().headline
    assert document["table"][0]["low"] is None
    assert len(document["differences"]["token-f1"]) == 6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.csv", "results.json"]


def test_a_damaged_run_is_named_and_the_rest_counts(folder):
    damage(folder, "final.rank-6.seed1")
    results = StudyResults.load(folder)
    assert list(results.damaged) == ["final.rank-6.seed1.json"]
    assert "which is not JSON" in results.damaged["final.rank-6.seed1.json"]
    assert results.summary.set_index("arm").loc["rank-6", "seeds"] == 2
    caveats = results.verdict().caveats
    assert "rank-6 has results for 2 of 3 seeds." in caveats
    assert "1 run file is damaged: final.rank-6.seed1.json." in caveats


@pytest.mark.parametrize(
    "broken",
    [
        {"test_losses": [0.5]},
        {"test_losses": [float("inf")] * 8},
        {"scores": {"dropout_off": {"token-f1": [0.5] * 7}}},
        {"scores": {"dropout_off": {"token-f1": ["high"] * 8}}},
        {"answers": {"dropout_off": []}},
        {"training": {"seconds": 1.0}},
    ],
)
def test_runs_that_do_not_fit_are_damaged(folder, broken):
    path = folder / "units" / "final.rank-1.seed0.json"
    document = {**json.loads(path.read_text()), **broken}
    path.write_text(json.dumps(document))
    assert list(StudyResults.load(folder).damaged) == [path.name]


def test_a_run_under_another_name_is_damaged(folder):
    runs = folder / "units"
    (runs / "final.rank-1.seed0.json").rename(runs / "final.rank-1.seed9.json")
    damaged = StudyResults.load(folder).damaged
    assert "in a file of the same name" in damaged["final.rank-1.seed9.json"]


def test_failed_runs_are_listed(folder):
    fail(folder, "final.rank-1.seed2")
    fail(folder, "grid.rank-6.seed0.lr0.001.alpha8", "expected finite losses, got nan. Lower it.")
    results = StudyResults.load(folder)
    assert [each.run.id for each in results.failed] == ["final.rank-1.seed2", "grid.rank-6.seed0.lr0.001.alpha8"]
    assert results.summary["failed"].tolist() == [0, 1, 1]
    grid = results.grid_table.set_index(["arm", "learning_rate"])
    assert grid.loc[("rank-6", 0.001), "status"] == "failed"
    assert "finite losses" in grid.loc[("rank-6", 0.001), "error"]


def test_a_baseline_without_results_is_refused_and_the_rest_written(folder):
    for seed in (0, 1, 2):
        fail(folder, f"final.rank-1.seed{seed}")
    results = StudyResults.load(folder)
    with pytest.raises(
        DataError, match=r"scores of the baseline rank-1 \(dropout_off\), got none. Run the study again"
    ):
        results.differences("token-f1")
    results.write()
    assert json.loads((folder / "results.json").read_text())["differences"] == {}


def test_a_study_that_has_only_begun_has_empty_tables(folder):
    for file in (folder / "units").iterdir():
        file.unlink()
    for name in ("test_rows.json", "chosen.json", "profile.json"):
        (folder / name).unlink()
    results = StudyResults.load(folder)
    assert (len(results.table), len(results.summary), results.rankings, results.profile) == (0, 3, {}, None)
    assert results.verdict().arm is None
    assert set(results.grid_table["status"]) == {"missing"}
    assert [file.name for file in results.write()] == ["results.csv", "results.json"]


def test_scores_of_one_seed_say_so(tmp_path):
    write_synthetic_study(tmp_path / "results", arms=ARMS[:3], seeds=(5,), n_questions=8)
    results = StudyResults.load(tmp_path / "results")
    assert set(results.differences("token-f1")["note"]) == {
        "one seed: the interval does not include the variation between seeds"
    }


def test_the_same_scores_with_every_seed_are_no_more_evidence(folder):
    one = RunResult.load(folder / "units" / "final.rank-1.seed0.json")
    for seed in (1, 2):
        change(folder, f"final.rank-1.seed{seed}", scores=one.scores, test_losses=one.test_losses)
    results = StudyResults.load(folder)
    scores = np.array(one.scores["dropout_off"]["token-f1"])
    found = next(each for each in results.scores("token-f1") if each.arm == "rank-1").estimate()
    assert found.stderr == pytest.approx(scores.std(ddof=1) / np.sqrt(8))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(FileFormatError, match=r"a study folder with config.json, got .*Give the folder in which"):
        StudyResults.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "chosen.json", "test_rows.json"])
def test_other_files_that_are_damaged_are_fatal(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(FileFormatError, match="not JSON"):
        StudyResults.load(folder)


def test_a_judges_file_that_is_none(folder):
    (folder / "judge.json").write_text("[")
    with pytest.raises(FileFormatError, match=r"rankselect.judge file .*judge.json"):
        StudyResults.load(folder)


def test_without_pandas(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rankselect\[study\]"'):
        _ = StudyResults.load(folder).table


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": [{"name": "rank-1"}]}, r"the config of a study, got .*config\.json \(KeyError: 'strategy'\)"),
        ({"learning_rat": 1}, "fields of StudyConfig, got learning_rat"),
    ],
)
def test_a_config_that_is_not_one_is_fatal(folder, changed, said):
    path = folder / "config.json"
    head = json.loads(path.read_text())
    path.write_text(json.dumps({**head, "config": {**head["config"], **changed}}))
    with pytest.raises(RankSelectError, match=said):
        StudyResults.load(folder)


def test_data_frames_hold_what_the_typed_values_do(whole):
    for summary, row in zip(whole.arm_summaries, whole.summary.to_dict("records"), strict=True):
        for (measurement, condition), mean in summary.means.items():
            end = "_dropout_on" if condition == "dropout_on" else ""
            names = [f"{measurement}{end}{bound}" for bound in ("", "_low", "_high")]
            assert [row.get(name) for name in names if name in row] == [each for each in mean if each is not None]
    assert [each.arm for each in whole.places["token-f1"]] == whole.rankings["token-f1"]["arm"].tolist()
    assert [each.validation_loss for each in whole.grid_points] == pytest.approx(
        whole.grid_table["validation_loss"].tolist(), nan_ok=True
    )
    assert [str(each) for each in whole.arm_differences("token-f1")] == whole.differences("token-f1")["says"].tolist()
