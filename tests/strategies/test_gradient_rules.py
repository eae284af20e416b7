"""Rules on gradients, against a few lines of numpy."""

from __future__ import annotations

import numpy as np
import pytest

import rankselect as rs
from rankselect.calibration.gradients import GradientSpectra
from rankselect.errors import ArgumentError, EvidenceError
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

MODEL = tiny_model()
TARGETS = find_targets(MODEL, "all-linear")
COST = np.array([t.d_in + t.d_out for t in TARGETS])
RULES = [rs.GradientSpectrum(), rs.Fisher(), rs.GoRA()]


def evidence(seed=0, *, zero=False):
    random = np.random.default_rng(seed)
    size = 0.0 if zero else 1.0
    values = {t.name: size * np.sort(random.exponential(size=12))[::-1] for t in TARGETS}
    scores = {s: {t.name: size * random.exponential() for t in TARGETS} for s in ("fisher", "weight_gradient", "norm")}
    return GradientSpectra(values, {t.name: (t.d_in, t.d_out) for t in TARGETS}, scores, {"model_name": "tiny"})


def ranks_of(strategy, found, **settings):
    return np.array(list(strategy.plan(MODEL, found, target_modules="all-linear", **settings).ranks.values()))


@pytest.mark.parametrize("rank", [2, 5])
def test_the_spectrum_is_pooled(rank):
    """Ranks in the order of σ²/f, until the next does not fit: all but the last few are those of the rule."""
    found = evidence()
    pool = sorted(
        ((s**2 / f, i) for i, (t, f) in enumerate(zip(TARGETS, COST, strict=True)) for s in found.values[t.name]),
        reverse=True,
    )
    ranks, room = np.ones(len(TARGETS), dtype=int), rank * COST.sum() - COST.sum()
    seen = np.zeros(len(TARGETS), dtype=int)
    for _, index in pool:
        seen[index] += 1
        if seen[index] > 1 and COST[index] <= room:  # the first rank of each is the minimum
            ranks[index] += 1
            room -= COST[index]
    mine = ranks_of(rs.GradientSpectrum(rank=rank), found)
    assert np.abs(mine - ranks).sum() <= 4  # the last few ranks are exchanged for a better fit
    gain = [
        sum(found.values[t.name][:r] @ found.values[t.name][:r] for t, r in zip(TARGETS, each, strict=True))
        for each in (mine, ranks)
    ]
    assert gain[0] >= gain[1] - 1e-9


@pytest.mark.parametrize(("rule", "score", "per"), [(rs.Fisher, "fisher", 0), (rs.GoRA, "weight_gradient", 1)])
def test_ranks_are_in_proportion_to_scores(rule, score, per):
    found = evidence(3)
    wish = np.array([found.scores[score][t.name] for t in TARGETS]) / COST**per
    exact = wish / (wish @ COST) * (8 * COST.sum())
    most = np.array([t.max_rank for t in TARGETS])
    for _ in range(20):  # clamp, and give what is left to the others
        held = (exact <= 1) | (exact >= most)
        exact = np.clip(exact, 1, most)
        room = 8 * COST.sum() - exact[held] @ COST[held]
        exact[~held] = (wish / (wish[~held] @ COST[~held]) * room)[~held]
    assert np.abs(ranks_of(rule(), found) - exact).max() < 1


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_without_a_budget_the_size_is_that_of_the_uniform_rank(rule):
    spent = ranks_of(rule, evidence()) @ COST
    assert 8 * COST.sum() - COST.min() < spent <= 8 * COST.sum()
    assert (ranks_of(rule, evidence(), budget="rank:8") == ranks_of(rule, evidence())).all()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_module_without_gain_goes_first(rule):
    found = evidence()
    name = TARGETS[3].name
    values = {n: (0 * v if n == name else v) for n, v in found.values.items()}
    scores = {s: {n: (0.0 if n == name else v) for n, v in of.items()} for s, of in found.scores.items()}
    plan = rule.plan(
        MODEL, GradientSpectra(values, found.sizes, scores), target_modules="all-linear", budget="rank:4", min_rank=0
    )
    assert name not in plan.ranks


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_gradients_of_nothing_are_refused(rule):
    with pytest.raises(
        EvidenceError, match="some module gains from a rank, for .* got zeros for all 14 target modules"
    ):
        ranks_of(rule, evidence(zero=True))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_evidence_of_other_targets_and_models_is_refused(rule):
    calibration = rs.Calibration(MODEL, tiny_tokenizer(), tiny_texts(8), progress=False)
    found = GradientSpectra.measure(calibration)
    with pytest.raises(EvidenceError, match="without .*k_proj"):
        rule.plan(MODEL, found, target_modules=["k_proj"])
    with pytest.raises(EvidenceError, match="This evidence is about another model"):
        rule.plan(tiny_model("gpt2"), found)
    with pytest.raises(EvidenceError, match=r"Read the file first: GradientSpectra\.load"):
        rule.plan(MODEL, "spectra.json")


@pytest.mark.parametrize("rank", [0, 2.5, True])
@pytest.mark.parametrize("rule", [rs.GradientSpectrum, rs.Fisher, rs.GoRA])
def test_a_rank_that_is_none(rule, rank):
    with pytest.raises(ArgumentError, match="an integer rank of at least 1"):
        rule(rank=rank)


def test_a_calibration_measures_the_targets_of_the_plan():
    calibration = rs.Calibration(MODEL, tiny_tokenizer(), tiny_texts(8), progress=False)
    plan = rs.GoRA(rank=2).plan(MODEL, calibration, target_modules=["down_proj"])
    assert [name.rpartition(".")[2] for name in plan.ranks] == ["down_proj", "down_proj"]
