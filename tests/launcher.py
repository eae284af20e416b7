"""Start a script under torch's launcher: real processes on this machine's CPU, connected by gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

_LIMIT_S = 300


def launch(folder: Path, script: str, n_processes: int = 2) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess]:
    """Run a script in several processes.

    Args:
        folder: For its files.
        script: What each process does. It has `rank`, `folder`, `told`, a dict to put findings in, and `tell()`, which
            hands them over; that is done at the end too.
        n_processes: How many.

    Returns:
        What each process told, by rank (empty if nothing), and how the launcher ended.
    """
    whole = f"""\
import json, os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
rank, folder, told = int(os.environ["RANK"]), Path({str(folder)!r}), {{}}

def tell():
    (folder / f"told-{{rank}}.json").write_text(json.dumps(told))

{textwrap.dedent(script)}
tell()
"""
    path = folder / "script.py"
    path.write_text(whole, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}", path]
    done = run_all(command)
    told = [folder / f"told-{rank}.json" for rank in range(n_processes)]
    return [json.loads(file.read_text()) if file.exists() else {} for file in told], done


def run_all(command: list[Any]) -> subprocess.CompletedProcess:
    """Run a command that starts others; if it takes too long, end them all."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        out, err = process.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"processes hang:\n{err[-4000:]}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
