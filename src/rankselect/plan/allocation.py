"""Spend a number of parameters on ranks: the allocation with the greatest total gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rankselect.plan.targets import Target

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["allocate", "gains_of_spectra", "gains_of_wishes"]

_MOST_CELLS = 20_000_000  # of the dynamic program: beyond, the greedy allocation stays as it is


def gains_of_wishes(targets: Sequence[Target], wishes: Sequence[float]) -> list[Floats]:
    r"""Gains per parameter with which `allocate` gives ranks in proportion to requested ones.

    The r-th rank of a module with the requested rank w gains :math:`w / (r - 1/2)` per parameter. Allocating all ranks
    above a threshold t then gives w / t, rounded half up: the divisor method of Webster and Sainte-Laguë, which splits
    seats in proportion to votes. A negative request counts as 0.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> gains_of_wishes([Target("layers.0.fc1", "layers.0", 4, 2)], [3.0])[0].tolist()
        [6.0, 2.0]
    """
    return [
        np.float64(max(wish, 0.0)) / (np.arange(1, target.clipped(target.max_rank) + 1, dtype=np.float64) - 0.5)
        for target, wish in zip(targets, wishes, strict=True)
    ]


def gains_of_spectra(targets: Sequence[Target], spectra: Sequence[Floats]) -> list[Floats]:
    """Gains per parameter of singular values: the k-th rank of a module gains the square of its k-th largest value.

    Allocating them is pooling the squares, each divided by the parameters of a rank, and taking the largest. Ranks
    beyond the values given gain nothing.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> gains_of_spectra([Target("layers.0.fc1", "layers.0", 4, 4)], [np.array([4.0, 2.0])])[0].tolist()
        [2.0, 0.5, 0.0, 0.0]
    """
    gains = []
    for target, values in zip(targets, spectra, strict=True):
        most = target.clipped(target.max_rank)
        squares = np.sort(np.square(values))[::-1][:most] / target.parameters(1)
        gains.append(np.pad(squares, (0, most - len(squares))))
    return gains


def allocate(targets: Sequence[Target], gains: Sequence[Floats], parameters: int) -> dict[str, int]:
    """Give each module the rank with which the total gain is greatest, within a number of parameters.

    The greedy allocation takes ranks in the order of their gain per parameter until the next does not fit. Modules have
    different costs, so the last few ranks may not be the best ones. Dynamic programming over the numbers of ranks to
    take back or to add, in each group of modules with the same cost, finds them: an optimal solution differs from the
    greedy one in few ranks. What is left of the parameters is less than the cheapest further rank.

    Ranks stay within the bounds of the targets. The result does not depend on the order of the targets.

    Args:
        targets: The modules, with the bounds of the plan.
        gains: For each module, the gain per parameter of its first, second, … rank, up to its maximum rank; finite, not
            negative, and not increasing.
        parameters: The number of parameters: at least that of the minimum ranks.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> targets = [Target("layers.0.fc1", "layers.0", 64, 64), Target("layers.1.fc1", "layers.1", 64, 64)]
        >>> allocate(targets, gains_of_wishes(targets, [3.0, 1.0]), 16 * 128)
        {'layers.0.fc1': 12, 'layers.1.fc1': 4}
    """
    order = sorted(range(len(targets)), key=lambda index: targets[index].name)
    ranked = [targets[index] for index in order]
    low = np.array([target.clipped(0) for target in ranked], dtype=np.int64)
    costs = np.array([target.parameters(1) for target in ranked], dtype=np.int64)
    items = _Items.of([gains[index] for index in order], low, costs)
    room = parameters - int((low * costs).sum())
    taken = _best(items, room)
    ranks = low + np.bincount(items.module[taken], minlength=len(ranked))
    found = {target.name: int(rank) for target, rank in zip(ranked, ranks, strict=True)}
    return {target.name: found[target.name] for target in targets}


@final
@dataclass(frozen=True)
class _Items:
    """The ranks that can be taken, one item each.

    Attributes:
        module: The index of the module.
        density: The gain per parameter.
        cost: The parameters.
    """

    module: Integers
    density: Floats
    cost: Integers

    @classmethod
    def of(cls, gains: Sequence[Floats], low: Integers, costs: Integers) -> _Items:
        free = [values[least:] for values, least in zip(gains, low, strict=True)]
        module = np.repeat(np.arange(len(gains)), [len(values) for values in free])
        return cls(module, np.concatenate(free), costs[module])


def _best(items: _Items, room: int) -> NDArray[np.bool_]:
    """Which items to take."""
    order = np.argsort(-items.density)
    spent = np.cumsum(items.cost[order])
    n_prefix = int(np.searchsorted(spent, room, side="right"))
    if n_prefix == len(order):
        return np.ones(len(order), dtype=bool)
    threshold = float(items.density[order[n_prefix]])
    taken = items.density > threshold
    room -= int(items.cost[taken].sum())
    ties = np.flatnonzero(items.density == threshold)  # by name and rank, as the items are
    tied = ties[: int(np.searchsorted(np.cumsum(items.cost[ties]), room, side="right"))]
    taken[tied] = True
    room -= int(items.cost[tied].sum())
    filled = taken.copy()
    left = _fill(items, filled, room)
    loss = float(((threshold - items.density) * items.cost)[filled & ~taken].sum()) + threshold * left
    swap = _best_swap(items, taken, threshold, room, loss)
    if swap is None:
        return filled
    _fill(items, swap, room - int(items.cost[swap].sum() - items.cost[taken].sum()))  # with ranks that gain nothing
    return swap


def _fill(items: _Items, taken: NDArray[np.bool_], room: int) -> int:
    """Take further items that fit, the best first; what is left of the room."""
    while True:
        fitting = np.flatnonzero(~taken & (items.cost <= room))
        if not len(fitting):
            return room
        best = fitting[np.argmax(items.density[fitting])]
        taken[best] = True
        room -= int(items.cost[best])


def _best_swap(
    items: _Items, taken: NDArray[np.bool_], threshold: float, room: int, most_loss: float
) -> NDArray[np.bool_] | None:
    """The items to take if some are taken back and others added, in the best way; None if that is too much to compute.

    Per parameter, an item that is added loses its distance to the threshold, as does one that is taken back, and a
    parameter that is not spent loses the threshold. The sum of these losses is minimized.
    """
    losses: Floats = np.abs(items.density - threshold) * items.cost.astype(np.float64)
    core = np.flatnonzero(losses <= most_loss * (1 + 1e-12))
    core = core[np.lexsort((losses[core], taken[core], items.cost[core]))]
    costs = [int(cost) for cost in np.unique(items.cost[core])]
    unit = math.gcd(*costs) if costs else 1
    largest = max(costs, default=unit) // unit
    # of a vertex of the relaxed problem, an optimal solution changes at most so many items (Eisenbrand and Weismantel)
    most = 2 * largest + 1
    groups = [_Group.of(core[items.cost[core] == cost], taken, losses, cost // unit, most) for cost in costs]
    below = min(sum(len(group.back) * group.units for group in groups), most * largest)
    above = min(sum(len(group.more) * group.units for group in groups), most * largest)
    width = below + above + 1
    if width * sum(len(group.back) + len(group.more) + 1 for group in groups) > _MOST_CELLS:
        return None
    least = np.full(width, np.inf)
    least[below] = 0.0
    choices = []
    for group in groups:
        least, choice = group.combined(least)
        choices.append(choice)
    end = min(below + room // unit, width - 1)
    unspent = threshold * (room - unit * (np.arange(end + 1) - below))
    total = least[: end + 1] + unspent
    place = end - int(np.argmin(total[::-1]))  # of equal ones, that which spends most
    swapped = taken.copy()
    for group, choice in zip(reversed(groups), reversed(choices), strict=True):
        change = int(choice[place])
        swapped[group.back[: max(-change, 0)]] = False
        swapped[group.more[: max(change, 0)]] = True
        place -= change * group.units
    return swapped


@final
@dataclass(frozen=True)
class _Group:
    """The items of one cost that may change.

    Attributes:
        back: Items that can be taken back, the one that loses least first.
        more: Items that can be added, likewise.
        lost: ``{change of the number of items: loss}``, small changes first.
        units: The cost of one, in units of the dynamic program.
    """

    back: Integers
    more: Integers
    lost: dict[int, float]
    units: int

    @classmethod
    def of(cls, members: Integers, taken: NDArray[np.bool_], losses: Floats, units: int, most: int) -> _Group:
        back, more = members[taken[members]][:most], members[~taken[members]][:most]
        lost = {-count: loss for count, loss in enumerate(np.cumsum(losses[back]).tolist(), start=1)}
        lost |= dict(enumerate(np.cumsum(losses[more]).tolist(), start=1))
        return cls(back, more, {0: 0.0} | dict(sorted(lost.items(), key=lambda each: abs(each[0]))), units)

    def combined(self, least: Floats) -> tuple[Floats, Integers]:
        """The least loss for each change of the cost, with this group's changes too, and which change that is."""
        best, choice = np.full(len(least), np.inf), np.zeros(len(least), dtype=np.int64)
        for change, loss in self.lost.items():
            shift = change * self.units
            if abs(shift) >= len(least):
                continue
            into = slice(max(shift, 0), len(least) + min(shift, 0))
            source = least[max(-shift, 0) : len(least) - max(shift, 0)] + loss
            better = source < best[into]
            best[into][better] = source[better]
            choice[into][better] = change
        return best, choice
