"""One rank for every module."""

from __future__ import annotations

import pytest

import rankselect as rs
from rankselect.testing import tiny_model


def test_every_module_gets_the_rank():
    assert set(rs.Fixed(5).plan(tiny_model(), target_modules="all-linear").ranks.values()) == {5}


def test_one_is_a_rank():
    assert set(rs.Fixed(1).plan(tiny_model(), target_modules=["q_proj"]).ranks.values()) == {1}


def test_smaller_modules_are_clipped_with_a_warning():
    with pytest.warns(rs.RankSelectWarning, match=r"4 modules are smaller .*k_proj \(32 x 16\) gets 16"):
        plan = rs.Fixed(20).plan(tiny_model(), target_modules=["q_proj", "k_proj", "v_proj"])
    assert sorted(plan.ranks.values()) == [16, 16, 16, 16, 20, 20]


@pytest.mark.parametrize("rank", [0, -3, True, 4.0, "4", None])
def test_the_rank_must_be_whole_and_positive(rank):
    with pytest.raises(rs.errors.ArgumentError) as caught:
        rs.Fixed(rank)
    assert str(caught.value) == (
        f"expected an integer rank of at least 1, got {rank!r}. Common choices are 8, 16 and 64."
    )
