"""What an intrinsic dimension tells
=================================

An estimator reads the dimension of a cloud of points from the distances between neighbours. On clouds whose dimension
is known, this page shows where it is right, where it is not, what its intervals cover, and how to read an ID in the
end.
"""

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

import rankselect as rs
from rankselect.estimators.half_samples import half_sample_stderr, half_samples

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
# A point on each of these is known by two numbers, so the dimension is 2, though it takes three numbers to write it
# down.


def flat(n: int, d: int, rng: np.random.Generator) -> Points:
    """A cube of dimension d, turned into a space of one dimension more."""
    turn = np.linalg.qr(rng.normal(size=(d + 1, d)))[0]
    return np.asarray(rng.uniform(-1, 1, (n, d)) @ turn.T)


def sphere(n: int, d: int, rng: np.random.Generator) -> Points:
    """The surface of a ball: of dimension d in a space of one more."""
    points = rng.normal(size=(n, d + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def swiss_roll(n: int, d: int, rng: np.random.Generator) -> Points:
    """A cube of dimension d of which one side is rolled up."""
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
# What the estimators read, with 95 % intervals made as those of a profile: the points are split into halves many times,
# and the halves' estimates tell how far an estimate moves with other points of the same kind.


def estimate(estimator: rs.Estimator, points: Points) -> tuple[float, float]:
    """The ID and the half-width of its 95 % interval."""
    splits = half_samples(len(points), n_splits=50, seed=0)
    found, halves = estimator.resample(points, splits)
    return found.value, 1.96 * float(half_sample_stderr(halves))


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
# Now spheres of more dimensions, with more and more points. The black line is the truth, the bars are 95 % intervals.

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
    print(f"Dimension {d:2}: TwoNN reads {few:4.1f} from {SIZES[0]} points,", end=" ")
    print(f"{many:4.1f} from {SIZES[-1]:,}.")

# %%
# In many dimensions there is much room, and neighbours are far away: the few points that there are do not look like an
# even cloud around each of them. That is why high dimensions are read too low, and why more points help little.
#
# An interval is about spread, not about truth
# --------------------------------------------
#
# The interval tells where the estimate would be with *other points of the same number*. A bias is in all of them alike.
# To see it, many clouds are drawn. How often does the interval hold the true dimension, and how often the mean of all
# clouds' estimates?

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
    print(f"Dimension {d:2}: of {CLOUDS} intervals, {truth:2} hold it,", end=" ")
    print(f"and {middle} hold the mean estimate, {mean:.1f}.")

# %%
# At which scale?
# ---------------
#
# Noise fills all the space there is, but only nearby. ``Gride`` looks at neighbours farther and farther away: small
# scales see the noise, larger ones the roll, and the largest ones that it is rolled up.

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
# How to read an ID
# -----------------
#
# As a size, not as a count. Compare IDs of one estimator, one pooling and the same number of texts; read an interval as
# what other texts would change; and do not take a high ID for the number of directions there really are:

for d, (value, half) in widths.items():
    print(f"An ID of {value:4.1f} ± {half:.1f} from {N} points on a sphere", end=" ")
    print(f"stands for {d:2} dimensions.")

# %%
# Where points lie on something strongly curved, the bias has the other sign: see :doc:`/estimators` for that, and for
# more manifolds.
