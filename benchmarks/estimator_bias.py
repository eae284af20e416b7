"""Estimates of every estimator on manifolds of known dimension, against the number of points.

    OMP_NUM_THREADS=1 python benchmarks/estimator_bias.py

Writes a figure (docs/_images/estimator_bias.png) and prints Markdown tables. Neighbours are searched once for each
cloud; all estimators use the same distances.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

import rankselect as rs
from machine import describe
from rankselect.neighbors.nearest import nearest_neighbors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

AMBIENT = 128  # the dimension of the space around the manifolds
DIMENSIONS = (2, 5, 10, 20)
SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)
SEEDS, SEEDS_OF_LARGE = 10, 5  # clouds of each kind and size; the second from 5,000 points on
MANIFOLDS = {
    "cube": "cube",
    "ball": "ball",
    "sphere": "sphere",
    "roll": "Swiss roll x cube",
    "sines": "128 sines",
}
ESTIMATORS: dict[str, tuple[rs.NeighborEstimator, str, str]] = {  # with colour and marker
    'TwoNN("fit")': (rs.TwoNN(), "#0072B2", "o"),
    'TwoNN("ml")': (rs.TwoNN(method="ml"), "#56B4E9", "s"),
    "MLE(20)": (rs.MLE(20), "#D55E00", "^"),
    "Gride(64)": (rs.Gride(64), "#009E73", "D"),
}
Results = dict[tuple[str, int, int, str], "NDArray[np.float64]"]


def sample(kind: str, d: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sample n points uniformly from a manifold of dimension d in AMBIENT dimensions."""
    shape = np.random.default_rng(d)  # the manifold itself: the same for every cloud
    if kind == "sines":  # a smooth map of the cube, curved in every direction
        frequencies, phases = 3 / np.sqrt(d) * shape.standard_normal((d, AMBIENT)), shape.uniform(0, 2 * np.pi, AMBIENT)
        return np.sin(rng.uniform(-1, 1, (n, d)) @ frequencies + phases)
    if kind == "cube":
        latent = rng.uniform(0, 1, (n, d))
    elif kind == "roll":
        latent = rolled(rng.uniform(0, 1, (n, d)))
    else:  # the sphere of dimension d has one axis more than the ball
        latent = rng.standard_normal((n, d + (kind == "sphere")))
        latent /= np.linalg.norm(latent, axis=1, keepdims=True)
        if kind == "ball":
            latent *= rng.uniform(0, 1, (n, 1)) ** (1 / d)
    frame = np.linalg.qr(shape.standard_normal((AMBIENT, latent.shape[1])))[0]
    return latent @ frame.T


def rolled(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Roll up the first axis, with uniform density along its length; the others, 21 wide, stay straight."""
    angles = np.linspace(1.5 * np.pi, 4.5 * np.pi, 10_000)
    lengths = (angles * np.sqrt(1 + angles**2) + np.arcsinh(angles)) / 2
    angle = np.interp(cube[:, 0], (lengths - lengths[0]) / (lengths[-1] - lengths[0]), angles)
    return np.column_stack([angle * np.cos(angle), angle * np.sin(angle), 21 * cube[:, 1:]])


def measure() -> Results:
    """Return ``{(manifold, dimension, points, estimator): estimates over the seeds}``."""
    results: Results = {}
    for number, kind in enumerate(MANIFOLDS):
        for d in DIMENSIONS:
            for n in SIZES:
                values: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
                for seed in range(SEEDS if n < 5000 else SEEDS_OF_LARGE):
                    points = sample(kind, d, n, np.random.default_rng((number, d, n, seed)))
                    distances = nearest_neighbors(points, 64).distances
                    for name, (estimator, _, _) in ESTIMATORS.items():
                        values[name].append(estimator.from_distances(distances[:, : estimator.neighbors_needed])[0])
                results.update({(kind, d, n, name): np.array(found) for name, found in values.items()})
    return results


def draw(results: Results) -> Figure:
    """Draw one panel for each manifold and dimension: the estimate divided by the true dimension."""
    figure = Figure(figsize=(10.5, 11), layout="constrained")
    panels = figure.subplots(len(MANIFOLDS), len(DIMENSIONS), sharex=True, sharey=True)
    for row, (kind, title) in zip(panels, MANIFOLDS.items(), strict=True):
        for panel, d in zip(row, DIMENSIONS, strict=True):
            draw_panel(panel, results, kind, d)
        row[0].set_ylabel(f"{title}\nestimate / dimension")
    for panel, d in zip(panels[0], DIMENSIONS, strict=True):
        panel.set_title(f"dimension {d}", fontsize=11)
    for panel in panels[-1]:
        panel.set_xlabel("points")
    figure.get_layout_engine().set(wspace=0.05)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def draw_panel(panel: Axes, results: Results, kind: str, d: int) -> None:
    """Draw the mean ± standard deviation of every estimator over the seeds."""
    panel.axhline(1, color="black", lw=1)
    for name, (_, colour, marker) in ESTIMATORS.items():
        shares = [results[kind, d, n, name] / d for n in SIZES]
        mean, sd = np.array([(share.mean(), share.std(ddof=1)) for share in shares]).T
        panel.plot(SIZES, mean, color=colour, marker=marker, markersize=4, lw=1.4, label=name)
        panel.fill_between(SIZES, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator([100, 1000, 10_000]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels(["100", "1,000", "10,000"], fontsize=9)
    panel.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def tables(results: Results) -> str:
    """Return two tables: the manifolds on which all estimates are too low, pooled, and the strongly curved one."""
    straight = [kind for kind in MANIFOLDS if kind != "sines"]
    names = [MANIFOLDS[kind] for kind in straight]
    return "\n".join(
        [
            f"Mean over {', '.join(names)} ± standard deviation over the clouds of one manifold:",
            "",
            *table(results, straight),
            "",
            f"{MANIFOLDS['sines']}, mean ± standard deviation over the clouds:",
            "",
            *table(results, ["sines"]),
        ]
    )


def table(results: Results, kinds: list[str]) -> list[str]:
    """Return the lines of one Markdown table; standard deviations are pooled over the manifolds."""
    lines = [
        "| dimension | points | " + " | ".join(ESTIMATORS) + " |",
        "|---:|---:" + "|---:" * len(ESTIMATORS) + "|",
    ]
    for d in DIMENSIONS:
        for n in (200, 1000, 10_000):
            found = [np.array([results[kind, d, n, name] for kind in kinds]) for name in ESTIMATORS]
            cells = [f"{each.mean():.1f} ± {np.sqrt(each.var(axis=1, ddof=1).mean()):.1f}" for each in found]
            lines.append(f"| {d} | {n:,} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, draw, and print the tables."""
    parser = argparse.ArgumentParser(description="Bias of the estimators against the number of points.")
    parser.add_argument("--out", type=Path, default=Path("docs/_images/estimator_bias.png"), help="the figure")
    arguments = parser.parse_args()
    results = measure()
    draw(results).savefig(arguments.out, dpi=110)
    clouds = f"{SEEDS} clouds of each kind and size, {SEEDS_OF_LARGE} from 5,000 points on, in {AMBIENT} dimensions"
    print(f"\n{clouds}; {describe('rankselect', 'numpy')}\n")
    print(tables(results))


if __name__ == "__main__":
    main()
