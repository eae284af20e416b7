"""A study that is killed twenty times, compared with the same study without interruption.

    OMP_NUM_THREADS=1 python benchmarks/study_kills.py

A process executes the study until it is killed at a random time (SIGKILL: no cleanup is possible), and the next process
resumes in the same folder. When a study is complete before the last kill, a new one starts in a new folder. At the end,
every file and the table of results are compared with those of an uninterrupted study: all numbers and texts except
times and memory. The model is tiny, so that loading, profiling, selection and saving, which must also survive a kill,
take as much time as training. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

import rankselect as rs
from machine import describe
from rankselect.study.analysis.results import StudyResults
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.executors import Executor
from rankselect.study.study import Study
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.study.run import Run, RunResult

BY_CLOCK = {"seconds", "selection_seconds", "tokens_per_second", "peak_memory_bytes"}
LOG = "begun.txt"
LONGEST = 0.4  # a process is killed after at most this fraction of the time of the complete study


@final
class LoggingExecutor(Executor):
    """Sequential execution that logs each run to a file when it starts."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Execute all runs in order."""
        for run in runs:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{run.id}\n")
            yield work(run)


def prepare(folder: Path) -> None:
    """Save the tiny model and its rows."""
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    for name, n, seed in (("train", 60, 0), ("test", 10, 1)):
        rows = [{"question": f"why {name} {i}", "answer": text} for i, text in enumerate(tiny_texts(n, seed=seed))]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def work_on(source: Path, folder: Path) -> None:
    """Start or resume the study and complete it."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    config = StudyConfig(
        str(source / "model"),
        str(source / "train.jsonl"),
        str(source / "test.jsonl"),
        arms=(
            Arm("base"),
            Arm("rank-1", "fixed:rank=1"),
            Arm("rank-4", "fixed:rank=4"),
            Arm("per-layer", rs.PerLayerID()),
            Arm("gelora", rs.GeLoRA()),
        ),
        seeds=(0, 1, 2),
        learning_rates=(1e-3, 1e-2),
        metrics=("token-f1", "exact-match", "perplexity"),
        max_steps=5,
        max_new_tokens=12,
        max_length=64,
        device_map="cpu",
        dropout_too=True,
        profile_after=True,
        lora_dropout=0.1,
    )
    folder.mkdir(exist_ok=True)
    Study(config, folder).run(executor=LoggingExecutor(folder / LOG), progress=False)


def killed_after(context: Any, seconds: float | None, *folders: Path) -> tuple[bool, float]:
    """Run a study in a process and kill it after some seconds or never; return whether it was killed, and when."""
    process = context.Process(target=work_on, args=folders)
    began = time.perf_counter()
    process.start()
    process.join(seconds)
    took = time.perf_counter() - began
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise SystemExit(f"the study ended with {process.exitcode}")
    return process.exitcode != 0, took


def state(folder: Path) -> tuple[list[str], int]:
    """Return the runs that were started, in order, and the number of completed runs."""
    log = folder / LOG
    begun = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return begun, len(list((folder / "units").glob("[!.]*.json")))


def at_work_on(folder: Path, begun_before: int) -> str:
    """Return what a process was doing when it was killed."""
    begun, _ = state(folder)
    if len(begun) == begun_before:
        steps = {"config.json": "checking config and rows", "profile.json": "measuring the profile"}
        return next((step for file, step in steps.items() if not (folder / file).exists()), "reading existing results")
    return begun[-1] if not (folder / "units" / f"{begun[-1]}.json").exists() else f"between runs, {begun[-1]} saved"


def numbers(folder: Path) -> dict[str, Any]:
    """Return the contents of every file of a study, without times and memory."""
    files = ["profile.json", "chosen.json", "test_rows.json", *(f"units/{path.name}" for path in _run_files(folder))]
    found = {name: _without_clock(json.loads((folder / name).read_text(encoding="utf-8"))) for name in files}
    table = StudyResults.load(folder).table
    found["table"] = table[~table["unit"].isin(["s", "1/s", "B"])].to_csv(index=False).splitlines()
    return found


def _run_files(folder: Path) -> list[Path]:
    return sorted((folder / "units").glob("[!.]*.json"))


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_clock(each) for name, each in value.items() if name not in BY_CLOCK}
    return [_without_clock(each) for each in value] if isinstance(value, list) else value


def count(value: Any) -> int:
    """Return the number of numbers and texts to compare."""
    if isinstance(value, dict | list):
        return sum(map(count, value.values() if isinstance(value, dict) else value))
    return 1


def main() -> None:
    """Run the study alone and with kills, compare, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        os.environ["TMPDIR"] = temporary  # also removes temporary files of killed processes
        prepare(here)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["rankselect.study.study", "rankselect.testing", "study_kills"])
        killed_after(context, None, here, here / "warm-up")
        _, seconds = killed_after(context, None, here, here / "alone")
        report(here, context, arguments, seconds)


def report(here: Path, context: Any, arguments: argparse.Namespace, seconds: float) -> None:
    """Kill and resume the study, compare, and print."""
    rng = np.random.default_rng(arguments.seed)
    alone = numbers(here / "alone")
    n_runs = len(_run_files(here / "alone"))
    print(f"{n_runs} runs, {seconds:.1f} s without kills; {describe('rankselect', 'torch', 'transformers', 'peft')}\n")
    print("| kill | study | after s | runs done | killed during |\n|---:|---:|---:|---:|---|")
    number, ended, where = 0, [], here / "study-1"
    while number < arguments.kills:
        before = len(state(where)[0])
        killed, took = killed_after(context, float(rng.uniform(0, LONGEST * seconds)), here, where)
        if killed:
            number += 1
            doing = at_work_on(where, before)
            print(f"| {number} | {len(ended) + 1} | {took:.2f} | {state(where)[1]} of {n_runs} | {doing} |", flush=True)
        else:
            ended.append(where)
            where = here / f"study-{len(ended) + 1}"
    killed_after(context, None, here, where)
    print()
    for index, folder in enumerate((*ended, where), start=1):
        begun, _ = state(folder)
        found = numbers(folder)
        leftovers = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
        again = ", ".join(sorted({run for run in begun if begun.count(run) > 1})) or "none"
        print(
            f"Study {index}: {len(begun) - n_runs} runs started again ({again}); {count(found)} numbers and texts, "
            f"equal to those of the uninterrupted study: {'yes' if found == alone else 'NO'}; "
            f"partly written files left: {len(leftovers)}.\n"
        )


if __name__ == "__main__":
    main()
