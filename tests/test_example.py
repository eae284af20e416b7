"""The example: what its dry run says of Phi-2, to the digit; bad arguments; and a run of everything, made small."""

from __future__ import annotations

import importlib.util
import re
from functools import partial
from pathlib import Path

import pytest

import rankselect as rs
from rankselect.study import base_model
from rankselect.study.analysis.results import StudyResults
from rankselect.training.small_phi import small_phi

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

TINY = {
    "n_train": 40,
    "n_test": 4,
    "learning_rates": (1e-3,),
    "max_steps": 1,
    "max_length": 64,
    "max_new_tokens": 4,
    "generation_batch_size": 40,
    "device_map": "cpu",
}
ARMS = ("base", "rank-1", "least-id", "greatest-id", "per-layer-id", "rank-64", "per-layer-id-control")


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[1] / "examples" / "phi2_medquad.py"
    specification = importlib.util.spec_from_file_location("phi2_medquad", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def quick(example, monkeypatch):
    """The example on an untrained model, in seconds."""
    monkeypatch.setattr(example, "EMBEDDED_SIZE", example.EMBEDDED_SIZE | TINY)
    monkeypatch.setattr(example, "REAL_SIZE", TINY)
    monkeypatch.setattr(base_model, "small_phi", partial(small_phi, steps=0))
    monkeypatch.setattr(example, "configure_messages", lambda: None)
    monkeypatch.setattr(example.torch, "set_num_threads", lambda number: None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return example


@pytest.fixture(scope="module")
def dry_run(example):
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("builtins.print", lambda *parts: said.append(" ".join(map(str, parts))))
        patch.setattr(example, "configure_messages", lambda: None)
        patch.setenv("HF_HUB_OFFLINE", "1")
        example.main(["--preset", "phi2", "--dry-run"])
    return "\n".join(said)


@pytest.mark.parametrize(
    ("arm", "rank", "alpha", "parameters", "as_stored", "in_the_study", "of_all"),
    [
        ("rank-1", "1", "8", "1,310,720", "0.09", "0.09", "0.047"),
        ("least-id", "6", "48", "7,864,320", "0.51", "0.51", "0.282"),
        ("greatest-id", "14", "112", "18,350,080", "1.19", "1.19", "0.656"),
        ("rank-64", "64", "512", "83,886,080", "5.23", "5.23", "2.929"),
    ],
)
def test_the_dry_run_reproduces_the_parameters_of_the_study(
    dry_run, arm, rank, alpha, parameters, as_stored, in_the_study, of_all
):
    (line,) = (line.split() for line in dry_run.splitlines() if line.startswith(f"{arm} "))
    assert line[:7] == [arm, rank, alpha, parameters, as_stored, in_the_study, of_all]


def test_the_dry_run_predicts_memory_that_grows_with_the_rank(dry_run):
    peaks = [float(number) for number in re.findall(r"([\d.]+) GiB", dry_run)]
    assert len(peaks) == 4
    assert peaks == sorted(peaks)
    assert 4 < peaks[0] < peaks[-1] < 8


def test_the_dry_run_invents_no_intrinsic_dimensions(dry_run):
    (line,) = (line.split() for line in dry_run.splitlines() if line.startswith("per-layer-id"))
    assert line[1:] == ["?", "?", "?", "?", "0.71", "?", "?"]
    assert "0.71 % corresponds to a mean rank of 8.3" in dry_run
    assert "2,779,683,840 parameters" in dry_run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "some/model"], "--model and --data together"),
        (["--data", "rows.jsonl"], "--model and --data together"),
        (["--preset", "embedded", "--data", "rows.jsonl"], "has its own model and data"),
        (["--test", "rows.jsonl"], "--test requires --data"),
        (["--dry-run"], "--dry-run requires --preset phi2"),
        (["--preset", "phi2", "--dry-run", "--model", "x", "--data", "y"], "--dry-run requires --preset phi2"),
        (["--seeds", "0"], "at least 1"),
        (["--preset", "phi3"], "invalid choice: 'phi3'"),
    ],
)
def test_arguments_that_make_no_sense(example, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        example.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_what_is_wrong_with_the_rows_is_one_line(example, tmp_path):
    with pytest.raises(SystemExit, match=r"error: expected .*none\.jsonl"):
        example.main(["--model", "x", "--data", str(tmp_path / "none.jsonl"), "--out", str(tmp_path)])


def test_everything_from_the_model_to_the_report(quick, capsys, monkeypatch, tmp_path):
    def longer(messages):
        first, second = re.findall(r"<answer [AB]>(.*?)</answer", messages[0]["content"], re.DOTALL)
        return "[[A]]" if len(first) > len(second) else "[[B]]"

    monkeypatch.setattr(rs, "LLMJudge", partial(rs.LLMJudge, complete=longer))
    command = ["--out", str(tmp_path / "new" / "study"), "--judge", "the longer answer"]
    quick.main(command)
    said = capsys.readouterr().out
    results = StudyResults.load(tmp_path / "new" / "study")
    assert results.arms == ARMS
    assert not results.failed
    assert results.conditions == ["dropout_off", "dropout_on"]
    assert {"token-f1", "questeval-cloze", "perplexity"} <= set(results.metrics)
    ranks = results.summary.set_index("arm")["rank_mean"]
    assert ranks["rank-1"] == 1
    assert ranks["rank-64"] == 64
    assert ranks["least-id"] <= ranks["per-layer-id"] <= ranks["greatest-id"]
    trained = results.summary.set_index("arm")["trainable_parameters"]
    assert trained["per-layer-id-control"] == pytest.approx(trained["per-layer-id"], rel=0.1)
    assert all(each.profile_after for each in results.final if each.run.arm != "base")
    assert "the longer answer" in results.judge["judge"]
    assert "judge" in results.rankings
    assert (results.folder / "report.html").is_file()
    assert str(results.verdict()) in said
    assert "too few seeds, questions and steps" in said
    assert all(arm in said for arm in ARMS)

    units = {path: path.stat().st_mtime_ns for path in (results.folder / "units").iterdir()}
    quick.main(command)
    assert {path: path.stat().st_mtime_ns for path in (results.folder / "units").iterdir()} == units


def test_a_model_and_rows_of_your_own(quick, tmp_path):
    options = quick.parse(["--model", "x", "--data", "rows.jsonl", "--out", str(tmp_path), "--seeds", "2"])
    config = quick.config_of(options)
    assert (config.model, config.train, config.test) == ("x", "rows.jsonl", None)
    assert config.seeds == (0, 1)
    assert config.target_modules == "all-linear"


def test_the_presets_are_one_study_in_two_sizes(quick, tmp_path):
    own = ["--preset", "phi2", "--data", "train.jsonl", "--test", "test.jsonl", "--out", str(tmp_path)]
    large, small = (quick.config_of(quick.parse(arguments)) for arguments in (own, []))
    assert (large.model, large.train, large.test) == ("microsoft/phi-2", "train.jsonl", "test.jsonl")
    assert "questeval" in large.metrics
    assert large.seeds == (0, 1, 2)
    for same in ("arms", "quantization", "alpha_ratios", "target_modules", "dropout_too", "profile_after"):
        assert getattr(large, same) == getattr(small, same)
