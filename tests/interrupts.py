"""Programs that hear Ctrl-C, also where whatever started the tests has switched it off for its children."""

from __future__ import annotations

import signal
import subprocess


def start(command, **options):
    """Start a program as a terminal does: a shell's background jobs inherit that SIGINT is ignored."""
    return subprocess.Popen(command, preexec_fn=_hear, text=True, **options)  # noqa: PLW1509  (nothing else forks here)


def _hear():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
