"""The allocation of a number of parameters: optimal, within the budget, and independent of the order of the modules."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankselect.plan.allocation import allocate, gains_of_wishes
from rankselect.plan.targets import Target

WIDTHS = st.integers(1, 8)


@st.composite
def problems(draw):
    """A few modules of any width with concave gains, and a budget from the smallest to the largest plan."""
    n = draw(st.integers(1, 4))
    least = draw(st.integers(0, 1))
    targets = [Target(f"m{index}", None, draw(WIDTHS), draw(WIDTHS), least, 3) for index in range(n)]
    if draw(st.booleans()):
        gains = gains_of_wishes(targets, draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    else:
        values = st.floats(0, 1, width=16)
        gains = [
            np.array(sorted(draw(st.lists(values, min_size=top, max_size=top)), reverse=True))
            for top in (target.clipped(3) for target in targets)
        ]
    smallest = sum(target.parameters(target.clipped(0)) for target in targets)
    largest = sum(target.parameters(target.clipped(3)) for target in targets)
    return targets, gains, draw(st.integers(smallest, largest))


def parameters(targets, ranks):
    return sum(target.parameters(ranks[target.name]) for target in targets)


def total_gain(targets, gains, ranks):
    pairs = zip(targets, gains, strict=True)
    return sum(target.parameters(1) * float(each[: ranks[target.name]].sum()) for target, each in pairs)


def best_gain(targets, gains, budget):
    """By trying everything."""
    found = -math.inf
    for ranks in itertools.product(*(range(target.clipped(0), target.clipped(3) + 1) for target in targets)):
        named = {target.name: rank for target, rank in zip(targets, ranks, strict=True)}
        if parameters(targets, named) <= budget:
            found = max(found, total_gain(targets, gains, named))
    return found


@given(problems())
@settings(max_examples=300)
def test_no_other_ranks_within_the_budget_gain_more(problem):
    targets, gains, budget = problem
    ranks = allocate(targets, gains, budget)
    assert total_gain(targets, gains, ranks) == pytest.approx(best_gain(targets, gains, budget), abs=1e-9)


@given(problems())
def test_the_budget_is_kept_and_what_is_left_buys_no_further_rank(problem):
    targets, gains, budget = problem
    ranks = allocate(targets, gains, budget)
    left = budget - parameters(targets, ranks)
    assert left >= 0
    assert all(target.clipped(0) <= ranks[target.name] <= target.clipped(3) for target in targets)
    assert all(target.parameters(1) > left for target in targets if ranks[target.name] < target.clipped(3))


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_modules_does_not_matter(problem, random):
    targets, gains, budget = problem
    pairs = list(zip(targets, gains, strict=True))
    random.shuffle(pairs)
    assert allocate(*map(list, zip(*pairs, strict=True)), budget) == allocate(targets, gains, budget)


@given(problems())
def test_a_larger_budget_gives_no_smaller_adapter(problem):
    targets, gains, budget = problem
    smallest = sum(target.parameters(target.clipped(0)) for target in targets)
    sizes = [parameters(targets, allocate(targets, gains, each)) for each in range(smallest, budget + 1)]
    gained = [total_gain(targets, gains, allocate(targets, gains, each)) for each in range(smallest, budget + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(gained))
    assert sizes == sorted(sizes)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 4))
def test_a_multiple_of_the_requested_ranks_is_given_exactly(wishes, factor):
    targets = [Target(f"m{index}", None, 512, 512) for index in range(len(wishes))]
    expected = {target.name: factor * wish for target, wish in zip(targets, wishes, strict=True)}
    assert allocate(targets, gains_of_wishes(targets, wishes), parameters(targets, expected)) == expected


def test_what_a_small_module_cannot_take_goes_to_the_others():
    targets = [Target("large", None, 64, 64), Target("small", None, 4, 60)]
    ranks = allocate(targets, gains_of_wishes(targets, [1.0, 9.0]), 64 * 20)
    assert ranks == {"large": 8, "small": 4}


def test_modules_that_gain_nothing_get_what_the_others_cannot_take():
    targets = [Target("useful", None, 4, 4, 0), Target("useless", None, 4, 4, 0)]
    gains = [np.ones(4), np.zeros(4)]
    assert allocate(targets, gains, 8 * 3) == {"useful": 3, "useless": 0}
    assert allocate(targets, gains, 8 * 6) == {"useful": 4, "useless": 2}


def test_modules_whose_sizes_have_no_common_unit():
    rng = np.random.default_rng(0)
    targets = [Target(f"m{index}", None, *map(int, rng.integers(300, 8192, 2))) for index in range(300)]
    wishes = rng.uniform(1, 30, 300)
    budget = int(sum(target.parameters(1) * wish for target, wish in zip(targets, wishes, strict=True)))
    ranks = allocate(targets, gains_of_wishes(targets, wishes.tolist()), budget)
    assert 0 <= budget - parameters(targets, ranks) < min(target.parameters(1) for target in targets)
    assert max(abs(ranks[target.name] - wish) for target, wish in zip(targets, wishes, strict=True)) < 2
