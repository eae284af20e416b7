"""Coverage of the half-sample interval of an ID, on new samples of known manifolds.

    python benchmarks/interval_coverage.py

An interval should contain the mean of the estimator over samples of this size. The column "mean ID" shows how far that
mean is from the true dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import rankselect as rs
from machine import describe
from rankselect.estimators.half_samples import half_sample_stderr, half_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIALS = 300


def sample(kind: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sample n points of a manifold of dimension 8 in 64 dimensions."""
    latent = rng.standard_normal((n, 9))
    if kind == "gaussian":
        latent = latent[:, :8]
    else:  # the unit sphere in nine dimensions
        latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((64, latent.shape[1])))[0]
    return latent @ frame.T


def main() -> None:
    """Print a Markdown table of coverage and bias."""
    print(f"\n{TRIALS} trials each; {describe('rankselect', 'numpy')}\n")
    print(
        "| estimator | manifold (dimension 8) | points | mean ID | true sd | mean stderr | coverage of 95 % interval |"
    )
    print("|---|---|---|---|---|---|---|")
    for estimator in (rs.TwoNN(), rs.TwoNN(method="ml"), rs.MLE(20), rs.Gride(range_max=16)):
        for kind in ("gaussian", "sphere"):
            for n in (200, 800):
                rng = np.random.default_rng(n)
                values, errors = [], []
                for trial in range(TRIALS):
                    members = half_samples(n, estimator.n_splits, seed=trial)
                    estimate, halves = estimator.resample(sample(kind, n, rng), members)
                    values.append(estimate.value)
                    errors.append(float(half_sample_stderr(halves)))
                center, error = np.array(values), np.array(errors)
                covered = np.abs(center - center.mean()) <= 1.96 * error
                print(
                    f"| {estimator!r} | {kind} | {n} | {center.mean():.2f} | {center.std(ddof=1):.3f} | "
                    f"{error.mean():.3f} | {100 * covered.mean():.1f} % |"
                )


if __name__ == "__main__":
    main()
