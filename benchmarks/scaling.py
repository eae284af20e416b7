"""Growth of time and memory: the profile with texts, exact neighbours with points, a study with runs and workers.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py profile neighbors study

Each part writes a figure (docs/_images/scaling_PART.png) and prints a Markdown table. Every size of the first two parts
is measured in its own process (Linux only): the kernel's high-water mark of the resident set is reset just before
the measured call, so the memory excludes the model or the points. Processor seconds are the sum over all threads;
unlike wall-clock seconds they hardly depend on the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from transformers import LlamaConfig, LlamaForCausalLM

import rankselect as rs
from machine import describe
from profile_memory import reset_high_water_mark, resident
from rankselect.data.medical_qa import medical_qa
from rankselect.neighbors.nearest import nearest_neighbors
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.executors import Sequential
from rankselect.study.ray_executor import RayExecutor
from rankselect.study.study import Study
from rankselect.training.small_phi import small_phi

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rankselect.study.executors import Executor

TEXTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
POINTS = (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
WIDTH, LATENT = 256, 12
BLOCKS = (1024, 128)  # rows per tile of distances
SEEDS = (2, 4, 8)
PICTURES = Path("docs/_images")
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


@dataclass(frozen=True)
class Cost:
    """Time and memory for one size."""

    size: int
    seconds: float
    processor_seconds: float
    bytes_above: int
    bytes_of_input: int


def measured(size: int, input_bytes: int, run: Callable[[], object]) -> Cost:
    """Measure time and memory of one call."""
    before = resident("VmRSS")
    reset_high_water_mark()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Cost(size, wall, processor, resident("VmHWM") - before, input_bytes)


def short_texts(n: int) -> list[str]:
    """Return distinct texts of 4 to 12 words, drawn at random from the embedded answers."""
    words = sorted({word for pair in medical_qa() for word in pair.answer.split()})
    rng = np.random.default_rng(0)
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts[" ".join(rng.choice(words, rng.integers(4, 13)))] = None
    return list(texts)


def profile_cost(n: int) -> Cost:
    """Measure a profile of n texts with an untrained Llama of 4 layers of width 64."""
    tokenizer = small_phi(steps=0, progress=False)[1]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
        )
    )
    texts = short_texts(n)
    rs.id_profile(model, tokenizer, texts[:200], batch_size=32, progress=False)  # loads libraries, fills pools
    states = n * model.config.num_hidden_layers * model.config.hidden_size * 4
    return measured(n, states, lambda: rs.id_profile(model, tokenizer, texts, batch_size=32, progress=False))


def curved_points(n: int) -> NDArray[np.float32]:
    """Return points on a curved manifold of 12 dimensions in 256, with a little noise in all directions."""
    rng = np.random.default_rng(0)
    curved = np.tanh(rng.standard_normal((n, LATENT)) @ rng.standard_normal((LATENT, 64)) / np.sqrt(LATENT))
    points: NDArray[np.float64] = curved @ rng.standard_normal((64, WIDTH)) / 8
    return (points + 0.01 * rng.standard_normal((n, WIDTH))).astype(np.float32)


def neighbors_cost(n: int, block_size: int) -> Cost:
    """Measure the search for two exact neighbours of each of n points."""
    points = curved_points(n)
    nearest_neighbors(points[:500], 2)
    return measured(n, points.nbytes, lambda: nearest_neighbors(points, 2, block_size=block_size))


def in_own_process(part: str, *numbers: int) -> Cost:
    """Run `profile_cost` or `neighbors_cost` in a new process."""
    command = [sys.executable, __file__, part, "--child", *map(str, numbers)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(**json.loads(output.splitlines()[-1]))


def profile() -> None:
    """Measure the profile against the number of texts."""
    costs = [in_own_process("profile", n) for n in TEXTS]
    print("| texts | seconds | processor s | processor ms / text | hidden states | peak above the model | ratio |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for cost in costs:
        each = 1000 * cost.processor_seconds / cost.size
        print(
            f"| {cost.size:,} | {cost.seconds:.1f} | {cost.processor_seconds:.1f} | {each:.2f} | "
            f"{mib(cost.bytes_of_input)} | {mib(cost.bytes_above)} | {cost.bytes_above / cost.bytes_of_input:.2f} |"
        )
    draw_profile(costs)


def draw_profile(costs: list[Cost]) -> None:
    """Draw time and memory side by side."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    curve(times, costs, "processor_seconds", style=(BLUE, "o"), name="profile")
    slope(times, costs, 1, costs[0], "in proportion to the texts")
    curve(memory, costs, "bytes_above", style=(BLUE, "o"), name="peak above the model")
    curve(memory, costs, "bytes_of_input", style=(ORANGE, "s"), name="hidden states alone")
    label(times, "texts", "processor seconds")
    label(memory, "texts", "MiB")
    figure.savefig(PICTURES / "scaling_profile.png", dpi=110)


def neighbors() -> None:
    """Measure exact neighbours against the number of points."""
    sizes = {BLOCKS[0]: POINTS, BLOCKS[1]: POINTS[:-1]}  # small blocks are too slow for the last size
    costs = {block: [in_own_process("neighbors", n, block) for n in sizes[block]] for block in BLOCKS}
    print(
        "| points | block_size | seconds | processor s | points, float32 | peak above them | all distances would be |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for block, found in costs.items():
        for cost in found:
            print(
                f"| {cost.size:,} | {block} | {cost.seconds:.1f} | {cost.processor_seconds:.1f} | "
                f"{mib(cost.bytes_of_input)} | {mib(cost.bytes_above)} | {mib(4 * cost.size**2)} |"
            )
    draw_neighbors(costs)


def draw_neighbors(costs: dict[int, list[Cost]]) -> None:
    """Draw time and memory side by side, for each block size."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for (block, found), colour, marker in zip(costs.items(), (BLUE, GREEN), "oD", strict=True):
        curve(times, found, "processor_seconds", style=(colour, marker), name=f"block_size={block}")
        curve(memory, found, "bytes_above", style=(colour, marker), name=f"block_size={block}")
    slope(times, costs[BLOCKS[0]], 2, costs[BLOCKS[0]][-1], "with the square of the points")
    memory.plot(POINTS, [4 * n**2 / 2**20 for n in POINTS], color="black", ls=":", lw=1, label="all distances")
    curve(memory, costs[BLOCKS[0]], "bytes_of_input", style=(ORANGE, "s"), name="the points themselves")
    label(times, "points", "processor seconds")
    label(memory, "points", "MiB")
    figure.savefig(PICTURES / "scaling_neighbors.png", dpi=110)


def study() -> None:
    """Measure a study of two arms against its number of runs: sequential, and on Ray with one and two workers."""
    import ray  # optional

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        model, tokenizer = small_phi(steps=0, progress=False)
        model.save_pretrained(Path(temporary) / "model")
        tokenizer.save_pretrained(Path(temporary) / "model")
        study_seconds(Path(temporary), 1, Sequential())  # warm up
        shares = [counting_seconds(2) / counting_seconds(1) / 2]
        for workers in (0, 1, 2):
            name = f"Ray, {workers} worker{'s' * (workers > 1)}" if workers else "sequential"
            executor: Executor = RayExecutor(gpus_per_run=0) if workers else Sequential()
            if workers:
                ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=40)
                study_seconds(Path(temporary), workers, executor)  # warm-up: the workers load their libraries
            found[name] = [study_seconds(Path(temporary), seeds, executor) for seeds in SEEDS]
            ray.shutdown()
        shares.append(counting_seconds(2) / counting_seconds(1) / 2)
    runs = [2 * seeds for seeds in SEEDS]
    print("| | " + " | ".join(f"{n} runs, s" for n in runs) + " | s / further run | relative to one worker |")
    print("|---" + "|---:" * (len(runs) + 2) + "|")
    slopes = {name: (seconds[-1] - seconds[0]) / (runs[-1] - runs[0]) for name, seconds in found.items()}
    for name, seconds in found.items():
        cells = " | ".join(f"{value:.1f}" for value in seconds)
        print(f"| {name} | {cells} | {slopes[name]:.2f} | {slopes[name] / slopes['Ray, 1 worker']:.2f} |")
    before, after = shares
    print(
        f"\nTwo counting processes, relative to one: {before:.2f} before, {after:.2f} after; two free cores give 0.50."
    )
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    panel = figure.subplots()
    for (name, seconds), colour, marker in zip(found.items(), (ORANGE, BLUE, GREEN), "soD", strict=True):
        panel.plot(runs, seconds, color=colour, marker=marker, markersize=5, lw=1.4, label=name)
    panel.set_ylim(bottom=0)
    panel.set_xticks(runs)
    tidy(panel, "runs", "seconds")
    figure.savefig(PICTURES / "scaling_study.png", dpi=110)


def counting_seconds(processes: int) -> float:
    """Return the seconds in which several processes each count to the same number: shows how many cores are free."""
    count = "total = 0\nfor number in range(40_000_000): total += number"
    began = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", count]) for _ in range(processes)]
    for process in running:
        process.wait()
    return time.perf_counter() - began


def study_seconds(folder: Path, seeds: int, executor: Executor) -> float:
    """Return the wall-clock seconds of a study of two arms with this number of seeds, in a new folder."""
    config = StudyConfig(
        str(folder / "model"),
        "medical-qa",
        "medical-qa",
        arms=(Arm("rank-4", "fixed:rank=4"), Arm("rank-16", "fixed:rank=16")),
        seeds=tuple(range(seeds)),
        n_train=100,
        n_test=4,
        learning_rates=(1e-3,),
        metrics=("token-f1",),
        max_steps=15,
        max_new_tokens=8,
        max_length=128,
        device_map="cpu",
    )
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        results = Study(config, temporary).run(executor=executor, progress=False)
        took = time.perf_counter() - began
    if [result.status for result in results] != ["done"] * 2 * seeds:
        raise SystemExit(f"runs failed: {[result.error for result in results]}")
    return took


def curve(panel: Axes, costs: list[Cost], what: str, *, style: tuple[str, str], name: str) -> None:
    """Draw one line on two logarithmic axes; bytes are shown in MiB."""
    values = [getattr(cost, what) / (2**20 if what.startswith("bytes") else 1) for cost in costs]
    panel.plot([cost.size for cost in costs], values, color=style[0], marker=style[1], markersize=5, lw=1.4, label=name)


def slope(panel: Axes, costs: list[Cost], power: int, through: Cost, name: str) -> None:
    """Draw growth with a power of the size as a reference line through one of the points."""
    values = [through.processor_seconds * (cost.size / through.size) ** power for cost in costs]
    panel.plot([cost.size for cost in costs], values, color="black", lw=1, ls="--", label=name)


def label(panel: Axes, x: str, y: str) -> None:
    """Set logarithmic axes with labels."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    tidy(panel, x, y)


def tidy(panel: Axes, x: str, y: str) -> None:
    """Set labels, a grid and a legend, and remove the box."""
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid(visible=True, alpha=0.3)
    panel.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def mib(size: float) -> str:
    """Format bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"


def main() -> None:
    """Measure the requested parts."""
    parts = {"profile": profile, "neighbors": neighbors, "study": study}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--child", type=int, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        warnings.simplefilter("ignore")
        measure = {"profile": profile_cost, "neighbors": neighbors_cost}[arguments.parts[0]]
        print(json.dumps(asdict(measure(*arguments.child))))
        return
    for part in arguments.parts:
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"\n{part}: {describe('rankselect', 'numpy', 'transformers', 'ray')}, load {load}\n")
        parts[part]()


if __name__ == "__main__":
    main()
