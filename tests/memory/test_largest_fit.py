"""The largest batch and the largest ranks within a budget."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rankselect as rs
from rankselect.memory.largest_fit import _largest
from rankselect.testing import tiny_model


class Step:
    """Stands for an estimate: only its peak is asked for."""

    def __init__(self, peak):
        self.peak = peak


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=200),
    st.integers(0, 50_000),
    st.integers(2, 300),
)
def test_the_search_finds_the_last_that_fits_in_any_growing_function(steps, budget, second):
    peaks = [sum(steps[: index + 1]) for index in range(len(steps))]
    found = _largest(lambda n: Step(peaks[n - 1]), budget, second=second, limit=len(peaks))
    fitting = [n for n, peak in enumerate(peaks, 1) if peak <= budget]
    assert (found[0] if found else None) == (fitting[-1] if fitting else None)


def test_a_straight_line_takes_few_estimates():
    tried = []

    def estimate(n):
        tried.append(n)
        return Step(1000 + 37 * n)

    assert _largest(estimate, 1_000_000, second=2, limit=2**20)[0] == (1_000_000 - 1000) // 37
    assert len(tried) <= 5


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def plan(model):
    return rs.Fixed(4).plan(model, target_modules="all-linear")


@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}, {"quantization": "nf4"}])
def test_one_row_more_would_not_fit(model, plan, settings):
    budget = 5 * 2**20
    found = rs.largest_fit(model, plan, budget, length=64, **settings)
    assert found.estimate.peak <= budget
    assert found.estimate == rs.estimate_memory(model, plan, batch_size=found.batch_size, length=64, **settings)
    assert rs.estimate_memory(model, plan, batch_size=found.batch_size + 1, length=64, **settings).peak > budget
    assert (found.plan, found.scale) == (plan, 1.0)


def test_ranks_grow_and_shrink_in_proportion(model):
    uneven = rs.PerLayerID().plan(
        model, rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 6.0}), target_modules="all-linear"
    )
    setting = {"batch_size": 2, "length": 64}
    peak = rs.estimate_memory(model, uneven, **setting).peak
    for budget in (peak - 20_000, peak, peak + 50_000):
        found = rs.largest_fit(model, uneven, budget, by="ranks", **setting)
        assert found.estimate.peak <= budget
        assert found.estimate == rs.estimate_memory(model, found.plan, **setting)
        next_up = uneven.scaled(found.scale + 1 / 6)
        assert rs.estimate_memory(model, next_up, **setting).peak > budget
        assert found.batch_size == 2
    assert rs.largest_fit(model, uneven, peak, by="ranks", **setting).plan == uneven


def test_ranks_end_at_the_widths(model, plan):
    found = rs.largest_fit(model, plan, 10**12, by="ranks", length=16)
    assert found.plan.ranks == {module.target.name: module.target.max_rank for module in plan.modules}


@settings(max_examples=30)
@given(st.floats(0.01, 100))
def test_scaled_plans_keep_alpha_to_rank_and_the_possible_ranks(scale):
    plan = rs.Fixed(6).plan(tiny_model())
    for before, after in zip(plan.modules, plan.scaled(scale).modules, strict=True):
        assert 1 <= after.rank <= after.target.max_rank
        assert after.alpha / after.rank == pytest.approx(before.alpha / before.rank)


def test_a_budget_below_the_smallest_step(model, plan):
    need = rs.estimate_memory(model, plan, batch_size=1, length=64).peak
    message = (
        rf"at least .* \({need} bytes\), which a batch of one row takes, got 97\.7 KiB, of which base weights take"
    )
    with pytest.raises(rs.errors.OutOfMemoryError, match=message) as caught:
        rs.largest_fit(model, plan, 100_000, length=64)
    assert str(caught.value).endswith("Halving rows to 32 tokens saves 182.4 KiB.")
    with pytest.raises(rs.errors.OutOfMemoryError, match="got 9.8 KiB, where base weights alone take 78.9 KiB"):
        rs.largest_fit(model, plan, 10_000, length=64)
    with pytest.raises(rs.errors.OutOfMemoryError, match="which ranks of one takes"):
        rs.largest_fit(model, plan, 100_000, by="ranks", length=64)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1MB", 10**6),
        ("1 MiB", 2**20),
        ("1024kib", 2**20),
        ("1000 kB", 10**6),
        ("0.001gb", 10**6),
        (" 1000000B ", 10**6),
    ],
)
def test_a_budget_as_people_write_it(model, plan, text, n_bytes):
    assert rs.largest_fit(model, plan, text, length=64) == rs.largest_fit(model, plan, n_bytes, length=64)


def test_bad_arguments(model, plan):
    for budget in (0, -1, float("nan"), float("inf"), True, "much", "8 cores", "-8GB", None, [8]):
        with pytest.raises(rs.errors.ArgumentError, match="a budget in bytes, got .* a text like '24GB' or '24GiB'"):
            rs.largest_fit(model, plan, budget)
    for budget in (24, 80.0, "16", "24 b"):
        with pytest.raises(rs.errors.ArgumentError):
            rs.largest_fit(model, plan, budget)
    with pytest.raises(rs.errors.ArgumentError, match="got 24. Did you mean '24GB'"):
        rs.largest_fit(model, plan, 24)
    with pytest.raises(rs.errors.ArgumentError, match="no batch_size where the batch is what is sought, got 2"):
        rs.largest_fit(model, plan, 1e9, batch_size=2)
    with pytest.raises(rs.errors.UnknownNameError, match=r"'rank'\. Did you mean ranks\?"):
        rs.largest_fit(model, plan, 1e9, by="rank")
    with pytest.raises(rs.errors.ArgumentError, match="at most 128, the model's positions, got 512"):
        rs.largest_fit(model, plan, 1e9)
