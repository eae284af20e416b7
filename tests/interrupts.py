"""Programs that hear Ctrl-C, also where whatever started the tests has switched it off for its children."""

from __future__ import annotations

import signal
import subprocess
import sys

_AT_STEP = """
import os, signal
from rankselect import RankSelectTrainer
from rankselect.cli import main

steps, training_step = [], RankSelectTrainer.training_step

def step(trainer, *arguments, **keywords):
    steps.append(trainer)
    if len(steps) == {n}:
        os.kill(os.getpid(), signal.SIGINT)
    return training_step(trainer, *arguments, **keywords)

RankSelectTrainer.training_step = step
main()
"""


def run_and_press_ctrl_c(command, n_steps):
    """Run the command line in a process of its own, and press Ctrl-C in its n-th step of training.

    Returns:
        The exit code, and what was said on standard error.
    """
    process = start(
        [sys.executable, "-c", _AT_STEP.format(n=n_steps), *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def start(command, **options):
    """Start a program as a terminal does: a shell's background jobs inherit that SIGINT is ignored."""
    return subprocess.Popen(command, preexec_fn=_hear, text=True, **options)  # noqa: PLW1509  (nothing else forks here)


def _hear():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
