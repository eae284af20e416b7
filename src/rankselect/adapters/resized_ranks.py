"""The ranks that an adapter is resized to: one for all, by energy in each module, or within a budget over all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.errors import AdapterError, ArgumentError
from rankselect.plan.allocation import allocate, gains_of_spectra
from rankselect.plan.budget import budget_of
from rankselect.plan.targets import Target

if TYPE_CHECKING:
    from rankselect.adapters.spectra import AdapterSpectra
    from rankselect.plan.budget import Budget

__all__ = ["NOTHING", "ranks_at_energy", "ranks_of_budget", "ranks_within", "uniform_ranks"]

NOTHING = 1e-7
"""Singular values below this share of the largest are rounding."""


def uniform_ranks(spectra: AdapterSpectra, rank: int) -> dict[str, int]:
    """The same rank for every module, clipped to its width.

    Raises:
        ArgumentError: If it is below 1, or above the width of every module.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ArgumentError("an integer rank of at least 1", repr(rank), "Common choices are 4, 8 and 16.")
    widest = max(min(size) for size in spectra.sizes.values())
    if rank > widest:
        raise ArgumentError(f"a rank of at most {widest}, the full rank of the widest module", str(rank), "Lower it.")
    return {name: min(rank, *size) for name, size in spectra.sizes.items()}


def ranks_at_energy(spectra: AdapterSpectra, energy: float) -> dict[str, int]:
    """The least rank of each module that holds a share of its energy.

    Raises:
        ArgumentError: If the share is out of range, or the adapter changes nothing.
    """
    ranks = spectra.rank_at_energy(energy)
    if not any(ranks.values()):
        raise _changes_nothing()
    return ranks


def ranks_of_budget(spectra: AdapterSpectra, budget: Budget | str) -> dict[str, int]:
    """The ranks that lose least within a budget, over all modules.

    Args:
        spectra: The singular values.
        budget: As in `RankStrategy.plan`; a fraction is one of the adapter's own parameters.

    Raises:
        ArgumentError: If the budget is of memory, or holds not even one rank or more than the adapter.
    """
    limit, whole = budget_of(budget), spectra.parameters
    if limit.memory is not None:
        raise ArgumentError("a budget of parameters", repr(limit), "For example 25%, rank:8 or 2M.")
    if limit.fraction is not None:
        parameters = int(limit.fraction * whole)
    elif limit.rank is not None:
        parameters = spectra.parameters_of(uniform_ranks(spectra, limit.rank))
    else:
        parameters = limit.like.trainable_parameters if limit.like is not None else limit.parameters or 0
    cheapest = min(sum(size) for size in spectra.sizes.values())
    if not cheapest <= parameters <= whole:
        raise ArgumentError(
            f"a budget from {cheapest:,} parameters, one rank of the smallest module, to {whole:,}, the whole adapter",
            f"{parameters:,} ({limit})",
            "For an adapter with larger ranks, give rank instead.",
        )
    return ranks_within(spectra, parameters)


def ranks_within(spectra: AdapterSpectra, parameters: int) -> dict[str, int]:
    """The ranks that lose least within a number of parameters: the largest squared values per parameter.

    Modules of which nothing is left get rank 0. No rank is spent on directions that do not change anything.
    """
    targets = []
    for name, (d_in, d_out) in spectra.sizes.items():
        values = spectra.values[name]
        n_used = int((values > NOTHING * values[0]).sum())
        targets.append(Target(name, None, d_in, d_out, at_least=0, at_most=n_used))
    used = [target for target in targets if target.at_most]
    if not used:
        raise _changes_nothing()
    most = sum(target.parameters(target.at_most or 0) for target in used)
    gains = gains_of_spectra(used, [spectra.values[target.name] for target in used])
    ranks = allocate(used, gains, min(parameters, most))
    return {target.name: ranks.get(target.name, 0) for target in targets}


def _changes_nothing() -> AdapterError:
    return AdapterError("an adapter that changes something", "one whose updates are all zero", "Train it first.")
