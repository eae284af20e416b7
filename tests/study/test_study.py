"""Running a study: every run once, whatever stops it, and errors before anything is trained."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rankselect as rs
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.rows import study_rows
from rankselect.study.run import RunResult
from rankselect.study.study import Study
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

ARMS = (Arm("base"), Arm("rank-2", "fixed:rank=2"), Arm("per-layer", rs.PerLayerID(), learning_rates=(1e-3,)))


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    for name, n, seed in (("train", 40, 0), ("test", 6, 1)):
        rows = [{"question": f"why {name} {i}", "answer": text} for i, text in enumerate(tiny_texts(n, seed=seed))]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


@pytest.fixture
def config(sources):
    return StudyConfig(
        str(sources / "model"),
        str(sources / "train.jsonl"),
        str(sources / "test.jsonl"),
        arms=ARMS,
        seeds=(0, 1),
        learning_rates=(1e-3, 1e-2),
        metrics=("token-f1", "perplexity"),
        max_steps=2,
        max_new_tokens=6,
        max_length=64,
        device_map="cpu",
        dropout_too=False,
    )


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "study"
    return folder, run_whole(sources, folder)


def run_whole(sources, folder):
    config = StudyConfig(
        str(sources / "model"), str(sources / "train.jsonl"), str(sources / "test.jsonl"), arms=ARMS, seeds=(0, 1),
        learning_rates=(1e-3, 1e-2), metrics=("token-f1", "perplexity"), max_steps=2, max_new_tokens=6,
        max_length=64, device_map="cpu",
    )  # fmt: skip
    return Study(config, folder).run(progress=False)


def numbers(results):
    """What does not depend on the clock."""
    return {
        result.run.id: (
            result.ranks,
            result.test_losses,
            result.scores,
            [a["text"] for a in result.answers["dropout_off"]],
        )
        for result in results
    }


def test_every_arm_is_trained_with_every_seed_and_the_rate_that_its_grid_chose(finished):
    folder, results = finished
    assert [result.run.id for result in results] == [f"final.{arm.name}.seed{seed}" for seed in (0, 1) for arm in ARMS]
    assert all(result.status == "done" for result in results)
    grid = {path.name for path in (folder / "units").glob("grid.*")}
    assert grid == {f"grid.rank-2.seed0.lr{rate}.alpha8.json" for rate in ("0.001", "0.01")}
    losses = {
        result.run.learning_rate: result.validation_loss
        for result in (RunResult.load(folder / "units" / name) for name in grid)
    }
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))["chosen"]
    assert chosen["rank-2"] == {"learning_rate": min(losses, key=losses.get), "alpha_ratio": 8.0}
    assert chosen["per-layer"]["learning_rate"] == 1e-3
    base, rank_2, per_layer = results[:3]
    assert base.training is None
    assert not base.ranks
    assert set(rank_2.ranks.values()) == {2}
    profile = rs.IDProfile.load(folder / "profile.json")
    assert per_layer.ranks == rs.PerLayerID().plan(tiny_model(), profile).ranks
    assert per_layer.selection_seconds > 0
    assert len(rank_2.test_losses) == len(rank_2.scores["dropout_off"]["token-f1"]) == 6


def test_the_progress_bars_count_units_and_begin_with_what_is_done(config, tmp_path, monkeypatch, capsys):
    done = []

    def at_once(config, folder, run, *, progress):
        done.append((run.id, progress))
        result = RunResult(run, validation_loss=1.0)
        result.save(folder / "units" / f"{run.id}.json")
        return result

    monkeypatch.setattr("rankselect.study.study.do_run", at_once)
    config = replace(config, arms=ARMS[:2])
    Study(config, tmp_path / "study").run(progress=True)
    said = capsys.readouterr().err
    assert re.search(r"Choosing learning rates: +0%.* 0/2 ", said)
    assert re.search(r"Choosing learning rates: 100%.* 2/2 ", said)
    assert re.search(r"Training and scoring: 100%.* 4/4 ", said)
    assert [progress for _, progress in done] == [True] * 6
    (tmp_path / "study" / "units" / "final.base.seed0.json").unlink()
    Study(config, tmp_path / "study").run(progress=True)
    assert re.search(r"Training and scoring: +75%.* 3/4 ", capsys.readouterr().err)
    assert len(done) == 7
    Study(config, tmp_path / "other").run(progress=False)
    assert capsys.readouterr().err == ""


def test_a_finished_study_does_nothing_again_and_answers_the_same(finished, config, monkeypatch):
    folder, results = finished

    def refuse(*_, **__):
        raise AssertionError("nothing is missing")

    monkeypatch.setattr("rankselect.study.study.do_run", refuse)
    assert Study(config, folder).run(progress=False) == results


def test_a_damaged_or_missing_run_is_done_again_and_the_rest_is_kept(finished, config, tmp_path, caplog):
    import shutil

    shutil.copytree(finished[0], tmp_path / "study")
    runs = tmp_path / "study" / "units"
    (runs / "final.rank-2.seed1.json").write_text("{", encoding="utf-8")
    (runs / "final.base.seed0.json").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    with caplog.at_level(logging.WARNING):
        again = Study(config, tmp_path / "study").run(progress=False)
    changed = {path.name for path in runs.iterdir() if path.stat().st_mtime_ns != times.get(path.name)}
    assert changed == {"final.rank-2.seed1.json", "final.base.seed0.json"}
    assert "is damaged; the run is repeated" in caplog.text
    assert numbers(again) == numbers(finished[1])


def test_a_full_disk_stops_the_study_and_keeps_what_is_done(finished, config, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(finished[0], tmp_path / "study")
    runs = tmp_path / "study" / "units"
    for path in runs.glob("final.*"):
        path.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    replace_file = Path.replace

    def full(path, target):
        if "final.rank-2" in path.name:
            raise OSError(28, "No space left on device")
        return replace_file(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(
            rs.errors.SaveError, match="No space left on device.*Free disk space and run the study again"
        ):
            Study(config, tmp_path / "study").run(progress=False)
    kept = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    assert set(kept) == {*before, "final.base.seed0.json"}
    again = Study(config, tmp_path / "study").run(progress=False)
    assert all((runs / name).stat().st_mtime_ns == then for name, then in kept.items())
    assert numbers(again) == numbers(finished[1])


KILLED = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])
from rankselect import RankSelectTrainer
from study import test_study as here

def stop_before_file(event, arguments):
    if event == "os.rename" and Path(arguments[1]).name == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def step(trainer, *arguments, **keywords):
    if moment == f"step {trainer.state.global_step}":
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(trainer, *arguments, **keywords)

training_step, RankSelectTrainer.training_step = RankSelectTrainer.training_step, step
for moment in sys.argv[4:]:
    process = os.fork()
    if process == 0:
        sys.addaudithook(stop_before_file)
        here.run_whole(Path(sys.argv[1]), Path(sys.argv[2]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.not_under_mutants
def test_a_study_killed_at_any_moment_ends_with_the_numbers_of_an_uninterrupted_one(finished, config, tmp_path):
    """Each process dies where a file is complete but not yet in its place, or between two steps of a training."""
    moments = ["config.json", "profile.json", "step 1", "grid.rank-2.seed0.lr0.01.alpha8.json", "chosen.json"]
    moments += ["final.base.seed0.json", "final.per-layer.seed0.json", "step 1", "final.per-layer.seed1.json"]
    folder, tests = tmp_path / "study", Path(__file__).parents[1]
    command = [sys.executable, "-c", KILLED, Path(config.model).parent, folder, tests, *moments]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(moments), done.stderr
    assert not (folder / "units" / "final.per-layer.seed1.json").exists()
    assert numbers(Study(config, folder).run(progress=False)) == numbers(finished[1])


def test_a_run_that_fails_is_recorded_and_tried_again_at_the_next_run(finished, config, tmp_path, caplog):
    import shutil

    shutil.copytree(finished[0], tmp_path / "study")
    failed = RunResult.load(tmp_path / "study" / "units" / "final.rank-2.seed0.json")
    replace(failed, status="failed", error="RuntimeError: out of luck").save(
        tmp_path / "study" / "units" / "final.rank-2.seed0.json"
    )
    assert numbers(Study(config, tmp_path / "study").run(progress=False)) == numbers(finished[1])
    broken = replace(config, arms=(*ARMS, Arm("too-hot", "fixed:rank=2", learning_rates=(1e38,))))
    with caplog.at_level(logging.WARNING):
        results = Study(broken, tmp_path / "other").run(progress=False)
    found = {result.run.id: result for result in results}
    assert found["final.too-hot.seed0"].status == "failed"
    assert "NonFiniteLossError" in found["final.too-hot.seed0"].error
    assert found["final.rank-2.seed1"].status == "done"
    assert "final.too-hot.seed0 failed" in caplog.text


def hold(folder, ready, release):
    from rankselect.study.folder import StudyFolder

    with StudyFolder(Path(folder)).locked():
        ready.set()
        release.wait(30)


def test_a_folder_in_use_or_of_another_config_is_refused(finished, config):
    folder = finished[0]
    with pytest.raises(rs.errors.ArgumentError, match=r"seeds was \[0, 1\] and is now \[0\]"):
        Study(replace(config, seeds=(0,)), folder).run(progress=False)
    test = Path(config.test)
    text = test.read_text(encoding="utf-8")
    test.write_text(text.replace("why test 0", "how test 0"), encoding="utf-8")
    with pytest.raises(rs.errors.ArgumentError, match="expected the rows that the study was started with"):
        Study(config, folder).run(progress=False)
    test.write_text(text, encoding="utf-8")
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(folder), ready, release))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(rs.errors.ArgumentError, match="expected a study folder that is not in use"):
            Study(config, folder).run(progress=False)
    finally:
        release.set()
        other.join(30)


def test_what_cannot_work_is_said_before_anything_is_trained(config, tmp_path):
    for changed, error, said in (
        ({"metrics": ("token-f2",)}, rs.errors.UnknownNameError, "Did you mean token-f1"),
        ({"metrics": ("questeval",)}, rs.errors.MetricError, "expected the metric questeval to work here"),
        ({"test": "none.jsonl"}, rs.errors.DataError, "none.jsonl"),
        ({"max_new_tokens": 128}, rs.errors.DataError, "a context of 128 less max_new_tokens 128"),
    ):
        with pytest.raises(error, match=said):
            Study(replace(config, **changed), tmp_path / "new").run(progress=False)
        assert not (tmp_path / "new" / "config.json").exists()


def test_without_a_test_a_tenth_of_the_questions_is_held_out(config, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"why {i % 30}", "answer": text} for i, text in enumerate(tiny_texts(40))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    alone = replace(config, train=str(path), test=None)
    found = study_rows(alone)
    known, test = ({row.question for row in part} for part in ([*found.train, *found.validation], found.test))
    assert (len(known), len(test), len(known | test)) == (27, 3, 30)
    assert len(found.train) + len(found.validation) + len(found.test) == 40
    assert study_rows(alone) == found
    path.write_text(json.dumps(rows[0]), encoding="utf-8")
    with pytest.raises(rs.errors.DataError, match="at least 2 different questions, to hold one out, got 1"):
        study_rows(alone)


def test_the_embedded_rows_have_a_test_of_their_own(config):
    own, left_out = (study_rows(replace(config, train="medical-qa", test=test)) for test in ("medical-qa", None))
    assert own == left_out
