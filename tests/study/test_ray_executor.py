"""Runs on Ray: workers that are killed, workers that do not see the folder, and Ctrl-C; with real worker processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import interrupts
import rankselect as rs
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.executors import Executor
from rankselect.study.ray_executor import RayExecutor
from rankselect.study.run import Run, RunResult
from rankselect.study.study import Study
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

RUNS = [Run("final", f"arm-{number}", 0, 0.001, 8.0) for number in range(5)]


@pytest.fixture(scope="module")
def two_workers():
    """A local Ray with two workers, which stays open between tests as a user's own would."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    runtime = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40, runtime_env=runtime)
    yield ray
    ray.shutdown()


@pytest.fixture
def config(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    for name, n, seed in (("train", 40, 0), ("test", 6, 1)):
        rows = [{"question": f"why {name} {i}", "answer": text} for i, text in enumerate(tiny_texts(n, seed=seed))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return StudyConfig(
        str(tmp_path / "model"),
        str(tmp_path / "train.jsonl"),
        str(tmp_path / "test.jsonl"),
        arms=(Arm("base"), Arm("rank-2", "fixed:rank=2"), Arm("per-layer", rs.PerLayerID(), learning_rates=(1e-3,))),
        seeds=(0,),
        learning_rates=(1e-3, 1e-2),
        metrics=("token-f1", "perplexity"),
        max_steps=2,
        max_new_tokens=6,
        max_length=64,
        device_map="cpu",
    )


def without_clock(result: RunResult) -> RunResult:
    """A result without times, and without the memory of the process that made it."""
    by_clock = {"seconds", "selection_seconds", "tokens_per_second", "peak_memory_bytes"}
    training = result.training and {name: value for name, value in result.training.items() if name not in by_clock}
    answers = {
        condition: [{name: value for name, value in answer.items() if name != "seconds"} for answer in answers]
        for condition, answers in result.answers.items()
    }
    return replace(result, training=training, answers=answers, selection_seconds=0.0)


def results_in(folder: Path) -> dict[str, RunResult]:
    found = (RunResult.load(path) for path in (folder / "units").iterdir())
    return {result.run.id: without_clock(result) for result in found}


@dataclass(frozen=True)
class Held(Executor):
    """Ray, with one run that waits between its training and its result until it is killed, the first time."""

    held: str
    pids: Path

    def run(self, work, runs):
        def held(run: Run, *, work: Any = work, name: str = self.held, pids: Path = self.pids) -> RunResult:
            from rankselect.study.work import _RunInProgress

            original = _RunInProgress._train

            def train(self: Any, *arguments: Any) -> Any:
                trained = original(self, *arguments)
                with (pids / name).open("a", encoding="utf-8") as file:
                    file.write(f"{os.getpid()}\n")
                until = time.monotonic() + 300
                while len((pids / name).read_text(encoding="utf-8").split()) == 1 and time.monotonic() < until:
                    time.sleep(0.05)
                return trained

            _RunInProgress._train = train if run.id == name else original
            try:
                return work(run)
            finally:
                _RunInProgress._train = original

        return RayExecutor(cpus_per_run=1).run(held, runs)


def kill_when_written(path: Path, killed: list[int]) -> None:
    """Kill the process that writes its id into a file, once it has."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        if path.exists() and path.read_text(encoding="utf-8").endswith("\n"):
            killed.append(int(path.read_text(encoding="utf-8")))
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.05)


def test_a_study_whose_worker_is_killed_in_mid_run_has_the_results_of_a_sequential_one(
    two_workers, config, tmp_path, caplog
):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have: with more, sums come out in another order
    try:
        Study(config, tmp_path / "alone").run(progress=False)
    finally:
        torch.set_num_threads(threads)
    name, killed = "final.rank-2.seed0", []
    killer = threading.Thread(target=kill_when_written, args=(tmp_path / name, killed))
    killer.start()
    with caplog.at_level(logging.WARNING):
        results = Study(config, tmp_path / "ray").run(executor=Held(name, tmp_path), progress=False)
    killer.join()
    first, second = map(int, (tmp_path / name).read_text(encoding="utf-8").split())
    assert [first] == killed
    assert second != first
    assert f"{name}: its worker died; the run is repeated (1 of 3)." in caplog.text
    assert len(results) == 3
    alone, ray = results_in(tmp_path / "alone"), results_in(tmp_path / "ray")
    assert all(result.status == "done" for result in alone.values())
    assert alone[name].training["losses"]
    # Profiled twice, so the time it took is all that may differ in what the study rests on.
    profiles = [rs.IDProfile.load(tmp_path / run / "profile.json").values.tolist() for run in ("alone", "ray")]
    assert profiles[0] == profiles[1]
    assert ray == alone
    assert not list((tmp_path / "ray").glob(".shared-*"))
    assert two_workers.is_initialized()


def test_results_come_as_they_are_made_and_relative_paths_mean_the_same(two_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def work(folder: Path, run: Run, *, other: Path) -> RunResult:
        until = time.monotonic() + 300
        while run.arm == "arm-0" and not (folder / "arm-4").exists() and time.monotonic() < until:
            time.sleep(0.05)
        (other / run.arm).touch()
        return RunResult(run, error=str(folder))

    results = list(RayExecutor().run(partial(work, Path(), other=tmp_path), RUNS))
    assert [result.run.arm for result in results] == ["arm-1", "arm-2", "arm-3", "arm-4", "arm-0"]
    assert {result.error for result in results} == {str(tmp_path)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"arm-{number}" for number in range(5)]


def test_a_run_whose_workers_keep_dying_has_failed_and_the_others_are_done(two_workers):
    def work(run: Run) -> RunResult:
        if run.arm == "arm-1":
            os.kill(os.getpid(), signal.SIGKILL)
        return RunResult(run)

    results = {result.run.arm: result for result in RayExecutor(max_retries=1).run(work, RUNS[:3])}
    assert results["arm-1"].status == "failed"
    assert results["arm-1"].error.startswith("its worker died 2 times (WorkerCrashedError: ")
    assert results["arm-0"].status == results["arm-2"].status == "done"


def test_what_the_work_raises_ends_the_run_as_it_would_here(two_workers):
    def work(run: Run) -> RunResult:
        raise rs.errors.SaveError("a folder that can be written", "a full disk", "Free some space.")

    with pytest.raises(rs.errors.SaveError) as caught:
        list(RayExecutor().run(work, RUNS))
    assert type(caught.value) is rs.errors.SaveError
    assert caught.value.got == "a full disk"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a path that is another folder in another process")
def test_a_folder_that_a_worker_does_not_see_is_said(two_workers, tmp_path):
    def work(folder: Path, run: Run) -> RunResult:
        return RunResult(run)

    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        folder = Path(f"/proc/self/fd/{descriptor}")
        expected = (
            f"expected a study folder that all workers share, got {folder}, which is missing or a different folder"
        )
        with pytest.raises(rs.errors.ArgumentError, match=expected):
            list(RayExecutor().run(partial(work, folder), RUNS))
    finally:
        os.close(descriptor)
    assert not list(tmp_path.iterdir())


def test_what_no_machine_has_is_said_instead_of_waited_for(two_workers):
    with pytest.raises(
        rs.errors.ArgumentError, match="expected a machine with 2 GPUs and 1 CPU cores for a run, got mach"
    ):
        list(RayExecutor(gpus_per_run=2).run(RunResult, RUNS))
    with pytest.raises(
        rs.errors.ArgumentError, match="a machine with 0 GPUs and 3 CPU cores .* machines with 0 GPUs and 2"
    ):
        list(RayExecutor(cpus_per_run=3).run(RunResult, RUNS))


def test_arguments_that_mean_nothing_are_refused():
    pytest.importorskip("ray", reason="Ray is not installed")
    for arguments, said in (
        ({"cpus_per_run": -1}, "cpus_per_run of at least 0, got -1"),
        ({"gpus_per_run": 1.5}, "a fraction of one GPU or a whole number of GPUs, got 1.5"),
        ({"max_retries": -1}, "max_retries of at least 0"),
    ):
        with pytest.raises(rs.errors.ArgumentError, match=said):
            RayExecutor(**arguments)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(rs.errors.MissingExtraError, match=r'pip install "rankselect\[ray\]"'):
        RayExecutor()


LOCAL = """
import os, sys, time
from pathlib import Path
import ray
from rankselect.study.ray_executor import RayExecutor
from rankselect.study.run import Run, RunResult

folder = Path(sys.argv[1])

def work(run):
    (folder / f"{run.arm}.pid").write_text(str(os.getpid()))
    while run.arm != "quick":
        time.sleep(0.05)
    return RunResult(run)

runs = [Run("final", arm, 0, 0.001, 8.0) for arm in ("quick", "slow", "slower")]
try:
    for result in RayExecutor().run(work, runs):
        result.save(folder / "runs.json")
except KeyboardInterrupt:
    (folder / "interrupted").write_text(f"{ray.is_initialized()} {os.environ['RAY_USAGE_STATS_ENABLED']}")
    raise
"""


def test_ctrl_c_stops_what_was_started_and_leaves_what_is_done(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", LOCAL, str(tmp_path)]
    process = interrupts.start(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and not ((tmp_path / "runs.json").exists() and slow(tmp_path)):
            time.sleep(0.05)
        workers = [int(pid) for pid in slow(tmp_path)]
        assert workers
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in err
    assert not out
    assert (tmp_path / "interrupted").read_text() == "False 0"
    assert RunResult.load(tmp_path / "runs.json").status == "done"
    until = time.monotonic() + 60
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, workers))


def slow(folder: Path) -> list[str]:
    found = [folder / f"{arm}.pid" for arm in ("slow", "slower")]
    return [text for path in found if path.exists() and (text := path.read_text())]


def run_elsewhere(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Two runs on a cluster, from a process that has no connection to Ray yet."""
    code = (
        "import sys\n"
        "from rankselect.study.ray_executor import RayExecutor\n"
        "print(sorted(RayExecutor(sys.argv[1]).run(str, ['b', 'a'])))\n"
    )
    command = [sys.executable, "-c", code, address]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_cluster_that_runs_is_joined_and_left_running(two_workers):
    address = two_workers.get_runtime_context().gcs_address
    for done in (run_elsewhere(address), run_elsewhere("auto", RAY_ADDRESS=address)):
        assert done.stdout == "['a', 'b']\n"
        assert not done.returncode
    assert [result.run.arm for result in RayExecutor().run(RunResult, RUNS[:1])] == ["arm-0"]


def test_an_address_without_a_cluster_is_said_at_once():
    pytest.importorskip("ray", reason="Ray is not installed")
    for address, given in (("127.0.0.1:9", "127.0.0.1:9"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1:9", "auto")):
        done = run_elsewhere(given, RAY_ADDRESS=address)
        assert f"ArgumentError: expected the address of a running Ray cluster, got {address} (" in done.stderr
