"""Principal components of points that come in batches, as EVA estimates them."""

from __future__ import annotations

import torch

__all__ = ["IncrementalPCA"]

_SEED = 42  # of the randomized decomposition, as in PEFT
_POWER_ITERATIONS = 4


class IncrementalPCA:
    """The largest principal components of all points so far, updated by a batch at a time.

    Components, singular values and mean before are stacked under the new points, and decomposed again; what lies
    outside the components is forgotten. The decomposition is the randomized one that PEFT uses, with its seed, so that
    the numbers are those of its EVA.

    Args:
        n_components: How many components to keep.

    Attributes:
        components: (n_components, d), of length 1; None before the first batch.
        singular_values: (n_components,), the largest first.
        mean: (d,), of all points.
        n_points: How many points there were.

    References:
        Ross et al., *Incremental learning for robust visual tracking*, 2008, doi:10.1007/s11263-007-0075-7.

    Example:
        >>> points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 3, 1, 1, 1])
        >>> pca = IncrementalPCA(2)
        >>> for batch in points.split(50):
        ...     pca.update(batch)
        >>> [round(ratio, 1) for ratio in pca.explained.tolist()]
        [0.9, 0.1]
    """

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components
        self.components: torch.Tensor | None = None
        self.singular_values = torch.empty(0)
        self.mean = torch.empty(0)
        self.n_points = 0
        self._scatter = torch.empty(0)  # the sum of squared distances from the mean, in each coordinate

    @property
    def total(self) -> float:
        """The sum of the squared distances of all points from their mean."""
        return float(self._scatter.sum())

    @property
    def explained(self) -> torch.Tensor:
        """The share of the variance that each component explains."""
        return self.singular_values**2 / self.total

    def update(self, points: torch.Tensor) -> None:
        """Take further points into account.

        Args:
            points: (n, d), with n at least the number of components.
        """
        points = points.float()
        own_mean = points.double().mean(dim=0)
        own_scatter = (points - own_mean).square().sum(dim=0)
        before, n = self.n_points, len(points)
        self.n_points += n
        if self.components is None:
            self.mean, self._scatter = own_mean, own_scatter
            stacked = points - own_mean.float()
        else:
            shift = self.mean - own_mean
            self._scatter = self._scatter + own_scatter + before * n / self.n_points * shift.square()
            moved = (before / self.n_points * n) ** 0.5 * (self.mean - points.mean(dim=0))
            former = self.singular_values[:, None] * self.components
            stacked = torch.vstack((former, points - points.mean(dim=0), moved))
            self.mean = (before * self.mean + n * own_mean) / self.n_points
        with torch.random.fork_rng(devices=[stacked.device] if stacked.is_cuda else []):
            torch.manual_seed(_SEED)
            _, sigma, v = torch.svd_lowrank(stacked, q=2 * self.n_components, niter=_POWER_ITERATIONS)
        largest = v.abs().argmax(dim=0)
        signs = torch.sign(v[largest, torch.arange(v.shape[1], device=v.device)])  # one sign, to compare directions
        self.components = (v * signs).T[: self.n_components]
        self.singular_values = sigma[: self.n_components]
