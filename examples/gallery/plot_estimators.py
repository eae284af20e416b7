"""How to interpret an intrinsic dimension
=======================================

An estimator computes the dimension of a point cloud from the distances between neighbours. This page applies estimators
to clouds of known dimension. It shows where they are accurate and where they are not, what their intervals cover, and
how to interpret an intrinsic dimension (ID).
"""

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

import rankselect as rs

ESTIMATORS = {
    "TwoNN": rs.TwoNN(),
    "MLE": rs.MLE(n_neighbors=20),
    "Gride": rs.Gride(range_max=64),
}
Points = NDArray[np.float64]

# %%
# Three surfaces
# --------------
#
# Two numbers determine a point on each of these surfaces, so their dimension is 2, although a point has three
# coordinates.


def flat(n: int, d: int, rng: np.random.Generator) -> Points:
    """Sample a cube of dimension d, rotated in a space of dimension d + 1."""
    turn = np.linalg.qr(rng.normal(size=(d + 1, d)))[0]
    return np.asarray(rng.uniform(-1, 1, (n, d)) @ turn.T)


def sphere(n: int, d: int, rng: np.random.Generator) -> Points:
    """Sample the surface of a ball: a sphere of dimension d in a space of dimension d + 1."""
    points = rng.normal(size=(n, d + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def swiss_roll(n: int, d: int, rng: np.random.Generator) -> Points:
    """Sample a cube of dimension d with one side rolled up."""
    angle = 1.5 * np.pi * np.sqrt(1 + 8 * rng.uniform(size=n))  # nearly even
    straight = rng.uniform(0, 21, (n, d - 1))
    return np.column_stack([angle * np.cos(angle), angle * np.sin(angle), straight])


MANIFOLDS = {"flat": flat, "sphere": sphere, "Swiss roll": swiss_roll}

space = {"projection": "3d"}
figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.4), subplot_kw=space)
figure.set_layout_engine("constrained")
for ax, (name, draw) in zip(panels, MANIFOLDS.items(), strict=True):
    x, y, z = draw(1000, 2, np.random.default_rng(0)).T
    ax.scatter(x, y, z, c=z if name == "sphere" else np.hypot(x, y), s=5)
    ax.set(title=name, xticks=[], yticks=[], zticks=[])
plt.show()

# %%
# The table shows the estimates with 95 % intervals, computed as in a profile: the points are split into random halves
# many times, and the differences between the halves show how much an estimate changes with other points of the same
# kind.


def estimate(estimator: rs.Estimator, points: Points) -> tuple[float, float]:
    """Return the ID and the half-width of its 95 % interval."""
    rows = np.tile(np.arange(len(points)), (50, 1))  # 50 random splits
    order = np.random.default_rng(0).permuted(rows, axis=1)
    half = len(points) // 2
    splits = np.stack([order < half, order >= len(points) - half], axis=1)
    found, values = estimator.resample(points, splits.reshape(100, -1))
    difference = values[::2] - values[1::2]
    return found.value, 1.96 * float(np.sqrt(np.mean(difference**2)) / 2)


print(f"{'':12}" + "".join(f"{name:>14}" for name in ESTIMATORS))
for name, draw in MANIFOLDS.items():
    points = draw(1000, 2, np.random.default_rng(0))
    found = (estimate(each, points) for each in ESTIMATORS.values())
    cells = (f"{value:.2f} ± {half:.2f}" for value, half in found)
    print(f"{name:12}" + "".join(f"{cell:>14}" for cell in cells))

# %%
# More dimensions
# ---------------
#
# These are spheres of higher dimensions, with increasing numbers of points. The black line is the true dimension, and
# the bars are 95 % intervals.

DIMENSIONS, SIZES = (2, 5, 10, 20), (200, 500, 1000, 2000)

known: dict[tuple[int, str], NDArray[np.float64]] = {}
for d in DIMENSIONS:
    clouds = [sphere(n, d, np.random.default_rng((d, n))) for n in SIZES]
    for name, estimator in ESTIMATORS.items():
        known[d, name] = np.array([estimate(estimator, points) for points in clouds])

figure, panels = plt.subplots(1, len(DIMENSIONS), figsize=(9.5, 3.6))
figure.set_layout_engine("constrained")
for ax, d in zip(panels, DIMENSIONS, strict=True):
    ax.axhline(d, color="black", lw=1)
    for shift, name in zip((0.94, 1.0, 1.06), ESTIMATORS, strict=True):
        values, halves = known[d, name].T
        at = shift * np.array(SIZES)  # side by side
        ax.errorbar(at, values, halves, fmt="o-", ms=3, lw=1, label=name)
    ax.set(title=f"dimension {d}", xscale="log", xlabel="points", ylim=(0, 1.4 * d))
    ax.set_xticks(SIZES, [f"{n:,}" for n in SIZES], fontsize=8)
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("intrinsic dimension")
lines = panels[0].get_legend_handles_labels()
figure.legend(*lines, loc="outside upper center", ncols=3, frameon=False)
plt.show()

for d in DIMENSIONS:
    few, *_, many = known[d, "TwoNN"][:, 0]
    print(f"Dimension {d:2}: TwoNN gives {few:4.1f} from {SIZES[0]} points,", end=" ")
    print(f"{many:4.1f} from {SIZES[-1]:,}.")

# %%
# In high dimensions, neighbours are far apart, and the density around a point is not uniform at the scale of its
# nearest neighbours. That is why high dimensions are underestimated, and why more points help little.
#
# An interval shows variance, not bias
# ------------------------------------
#
# The interval shows how much the estimate would change with *other samples of the same size*. All samples have the same
# bias. The following code draws many clouds and counts how often the interval contains the true dimension, and how
# often it contains the mean of all estimates.

CLOUDS, N = 40, 300
widths: dict[int, tuple[float, float]] = {}
for d in DIMENSIONS:
    rngs = [np.random.default_rng((7, d, cloud)) for cloud in range(CLOUDS)]
    drawn = np.array([estimate(rs.TwoNN(), sphere(N, d, rng)) for rng in rngs])
    values, halves = drawn.T
    mean = float(values.mean())
    widths[d] = mean, float(halves.mean())
    truth = int((np.abs(values - d) <= halves).sum())
    middle = int((np.abs(values - mean) <= halves).sum())
    print(f"Dimension {d:2}: {truth:2} of {CLOUDS} intervals contain it,", end=" ")
    print(f"and {middle} contain the mean estimate, {mean:.1f}.")

# %%
# The dimension depends on the scale
# ----------------------------------
#
# Noise fills all dimensions of the space, but only at small scales. ``Gride`` uses neighbours at increasing distances:
# small scales show the noise, larger scales the two-dimensional surface, and the largest scales that it is rolled up.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for noise, marker in ((0.0, "o"), (0.1, "s"), (0.3, "^")):
    rng = np.random.default_rng(1)
    roll = swiss_roll(3000, 2, rng) @ np.eye(3, 20)
    roll += noise * rng.normal(size=roll.shape)
    scaling = rs.Gride(range_max=256).scaling(roll)
    line = ax.errorbar(scaling.scales, scaling.values, 1.96 * scaling.stderr, lw=1)
    line[0].set(marker=marker, markersize=4)
    line.set_label(f"{noise:g}")
ax.axhline(2, color="black", lw=1, zorder=0)
ax.set(title="A Swiss roll in 20 dimensions", ylabel="intrinsic dimension")
ax.set(xscale="log", xlabel="distance to the neighbours, in the units of the points")
ax.set_ylim(bottom=0)
ax.minorticks_off()
ax.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
ax.legend(title="noise (standard deviation)", frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# How to use an ID
# ----------------
#
# Treat an ID as a relative size, not as an exact count. Compare only IDs of the same estimator, pooling and number of
# texts. An interval shows how much other texts would change the ID. A high ID is not the true number of dimensions:

for d, (value, half) in widths.items():
    print(f"An ID of {value:4.1f} ± {half:.1f} from {N} points on a sphere", end=" ")
    print(f"corresponds to {d:2} dimensions.")

# %%
# On strongly curved manifolds, the bias has the opposite sign: see :doc:`/estimators`, which also shows more manifolds.
