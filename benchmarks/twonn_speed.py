"""Time of TwoNN on 10,000 points in 2,560 dimensions, with other implementations and a bare matrix product.

Run it on an otherwise idle machine:

    python benchmarks/twonn_speed.py
    python benchmarks/twonn_speed.py --dadapy-python /path/to/an/environment/with/dadapy/bin/python

DADApy needs numpy < 2, so it runs in its own environment, on the same points. All implementations run once to warm up
and then alternate; the table shows medians.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from skdim.id import TwoNN as SkdimTwoNN

from rankselect.estimators.twonn import TwoNN

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK = 1024
DADAPY = """
import sys, time
import numpy as np
from dadapy import Data
start = time.perf_counter()
value = Data(np.load(sys.argv[1])).compute_id_2NN(algorithm="base", data_fraction=1)[0]
print(time.perf_counter() - start, value)
"""


def curved_points(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Return points on a curved manifold of about 12 dimensions, with a little noise in all directions."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 12))
    curved = np.tanh(latent @ rng.standard_normal((12, 64)) / np.sqrt(12))
    points: NDArray[np.float64] = curved @ rng.standard_normal((64, d)) / 8 + 0.01 * rng.standard_normal((n, d))
    return points.astype(np.float32)


def bare_product(points: torch.Tensor) -> None:
    """Multiply the points with themselves, block by block: the minimum that any blocked search computes."""
    for start in range(0, len(points), BLOCK):
        points[start : start + BLOCK] @ points.T


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds and the result of one run."""
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def implementations(
    points: NDArray[np.float32], dadapy_python: str | None, saved: Path
) -> dict[str, Callable[[], tuple[float, float]]]:
    """Return, by name, functions that return seconds and the intrinsic dimension (NaN for the product)."""
    tensor = torch.from_numpy(points)

    def product() -> float:
        bare_product(tensor)
        return float("nan")

    def dadapy() -> tuple[float, float]:
        command = [str(dadapy_python), "-c", DADAPY, str(saved)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds, value = output.splitlines()[-1].split()
        return float(seconds), float(value)

    runs = {
        "bare blocked product, float32": lambda: timed(product),
        "rankselect TwoNN()": lambda: timed(lambda: TwoNN().estimate(points).value),
        "scikit-dimension TwoNN()": lambda: timed(lambda: float(SkdimTwoNN().fit(points).dimension_)),
    }
    if dadapy_python:
        np.save(saved, points)
        runs["DADApy compute_id_2NN()"] = dadapy
    return runs


def machine() -> str:
    """Return the processor, the number of threads and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-dimension")}
    features = [name for name in ("amx_bf16", "avx512_bf16", "avx2") if torch.cpu.get_capabilities().get(name)]
    cpu = models[0] if models else platform.processor()
    return f"{cpu} ({', '.join(features)}), {torch.get_num_threads()} threads, {json.dumps(versions)}"


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="number of points")
    parser.add_argument("--d", type=int, default=2_560, help="number of dimensions")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each implementation")
    parser.add_argument("--dadapy-python", help="a Python interpreter whose environment has DADApy")
    arguments = parser.parse_args()

    points = curved_points(arguments.n, arguments.d)
    with tempfile.TemporaryDirectory() as folder:
        runs = implementations(points, arguments.dadapy_python, Path(folder) / "points.npy")
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for repeat in range(arguments.repeats + 1):
            for name, run in runs.items():
                result = run()
                if repeat:  # the first round warms up
                    results[name].append(result)

    seconds = {name: statistics.median(second for second, _ in result) for name, result in results.items()}
    own, product = seconds["rankselect TwoNN()"], seconds["bare blocked product, float32"]
    value = results["rankselect TwoNN()"][0][1]
    print(f"{arguments.n:,} points in {arguments.d:,} dimensions, float32; medians of {arguments.repeats} runs.\n")
    print(f"{machine()}\n")
    print("| | seconds | relative to the product | relative to rankselect | ID | relative difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, median in seconds.items():
        answer = results[name][0][1]
        shown = "| |" if np.isnan(answer) else f"{answer:.6f} | {abs(answer / value - 1):.1e} |"
        print(f"| {name} | {median:.2f} | {median / product:.2f} | {median / own:.2f} | {shown}")


if __name__ == "__main__":
    main()
