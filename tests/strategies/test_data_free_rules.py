"""Rules without gradients, against a few lines of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rankselect as rs
from architectures import FAMILIES
from rankselect.errors import ArgumentError, EvidenceError, FileFormatError, ModelError, TextsError
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

MODEL = tiny_model()
TARGETS = find_targets(MODEL, "all-linear")
COST = np.array([t.d_in + t.d_out for t in TARGETS])


def ranks_of(strategy, evidence=None, **settings):
    plan = strategy.plan(MODEL, evidence, **{"target_modules": "all-linear", **settings})
    return np.array(list(plan.ranks.values()))


def in_proportion(wishes, rank=8):
    """Ranks in proportion to wishes within the parameters of a uniform rank, clamped and given out again."""
    wishes, most = np.asarray(wishes, dtype=float), np.array([t.max_rank for t in TARGETS])
    exact = wishes / (wishes @ COST) * (rank * COST.sum())
    for _ in range(20):
        held = (exact <= 1) | (exact >= most)
        exact = np.clip(exact, 1, most)
        exact[~held] = (wishes / (wishes[~held] @ COST[~held]) * (rank * COST.sum() - exact[held] @ COST[held]))[~held]
    return exact


class TestBySize:
    @pytest.mark.parametrize("power", [1, 0.5, 0, -1.0, 2])
    def test_ranks_are_in_proportion_to_the_power_of_the_size(self, power):
        wishes = [(t.d_in * t.d_out) ** power for t in TARGETS]
        assert np.abs(ranks_of(rs.BySize(power)) - in_proportion(wishes)).max() < 1.5

    def test_it_needs_no_weights(self):
        plan = rs.BySize().plan(tiny_model().to("meta"), target_modules="all-linear")
        assert (np.array(list(plan.ranks.values())) == ranks_of(rs.BySize())).all()

    def test_huge_powers_do_not_overflow(self):
        ranks = ranks_of(rs.BySize(1e6), budget="rank:2")
        assert ranks @ COST <= 2 * COST.sum()

    @pytest.mark.parametrize("power", [float("nan"), float("inf"), "1", True])
    def test_a_power_that_is_none(self, power):
        with pytest.raises(ArgumentError, match="a finite power, got"):
            rs.BySize(power)


def entropy(s):
    p = s / s.sum()
    return np.exp(-(p * np.log(p)).sum())


def stable(s):
    return (s**2).sum() / s.max() ** 2


def energy(s):
    return 1 + int((np.cumsum(s**2) < 0.9 * (s**2).sum()).sum())


class TestEffectiveRank:
    @pytest.mark.parametrize("effective", [entropy, stable, energy])
    def test_ranks_are_in_proportion_to_the_effective_rank(self, effective):
        spectra = rs.WeightSpectra.measure(rs.Calibration(MODEL, None, [], target_modules="all-linear", progress=False))
        weights = [MODEL.get_submodule(t.name).weight.detach().double().numpy() for t in TARGETS]
        wishes = [effective(np.linalg.svd(weight, compute_uv=False)) for weight in weights]
        assert np.abs(ranks_of(rs.EffectiveRank(effective.__name__), spectra) - in_proportion(wishes)).max() < 1.5

    @pytest.mark.parametrize("quantization", ["nf4", "int8"])
    def test_quantized_weights_are_those_that_compute(self, quantization, tmp_path):
        FAMILIES["llama"]().save_pretrained(tmp_path)
        model = rs.load_model(tmp_path, quantization=quantization, dtype="float32")
        spectra = rs.WeightSpectra.measure(rs.Calibration(model, None, [], target_modules=["up_proj"], progress=False))
        for name, values in spectra.values.items():
            layer = model.get_submodule(name)
            with torch.no_grad():
                weight = layer(torch.eye(layer.in_features)).float()
            np.testing.assert_allclose(values, torch.linalg.svdvals(weight), rtol=0.03)

    def test_conv1d_and_embedding(self):
        model = tiny_model("gpt2")
        spectra = rs.WeightSpectra.measure(
            rs.Calibration(model, None, [], target_modules=["c_fc", "wte"], progress=False)
        )
        for name, values in spectra.values.items():
            np.testing.assert_allclose(
                values, torch.linalg.svdvals(model.get_submodule(name).weight.detach()), rtol=1e-4
            )

    def test_weights_of_nothing_and_without_numbers(self):
        model = tiny_model()
        calibration = rs.Calibration(model, None, [], target_modules=["q_proj"], progress=False)
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.data.zero_()
        with pytest.raises(EvidenceError, match="zeros for all 2 target modules"):
            rs.EffectiveRank().plan(model, calibration, target_modules=["q_proj"])
        model.model.layers[1].self_attn.q_proj.weight.data[0, 0] = float("nan")
        with pytest.raises(ModelError, match="finite weights, got NaN or infinity in model.layers.1"):
            rs.WeightSpectra.measure(calibration)
        with pytest.raises(ModelError, match="meta"):
            rs.WeightSpectra.measure(rs.Calibration(tiny_model().to("meta"), None, [], progress=False))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("numerical",), "Known: entropy, stable, energy"),
            (("energy", 0), "energy above 0"),
            (("energy", 1.1), "at most 1, got 1.1"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ArgumentError, match=message):
            rs.EffectiveRank(*arguments)


class TestCapacity:
    @pytest.mark.parametrize(("tokens", "bits", "per"), [(10, 1.0, 2.0), (5_000, 1.0, 2.0), (5_000, 2.5, 1.0)])
    def test_the_parameters_hold_the_bits(self, tokens, bits, per):
        ranks = ranks_of(rs.Capacity(bits, per), rs.TokenCount(tokens))
        assert len(set(ranks)) == 1
        assert ranks @ COST * per >= tokens * bits
        assert ranks[0] == 1 or (ranks - 1) @ COST * per < tokens * bits

    def test_tokens_are_those_that_carry_loss(self):
        tokenizer = tiny_tokenizer()
        rows = [rs.QuestionAnswer("why", text) for text in tiny_texts(5)]
        counted = rs.TokenCount.measure(rs.Calibration(MODEL, tokenizer, rows))
        words = sum(len(tokenizer(" " + row.answer)["input_ids"]) + 1 for row in rows)  # and the end of each
        assert counted.n_tokens == words
        texts = rs.TokenCount.measure(rs.Calibration(MODEL, tokenizer, tiny_texts(5)))
        assert texts.n_tokens == sum(len(tokenizer(text)["input_ids"]) - 1 for text in tiny_texts(5))

    def test_a_file_gives_back_what_was_written(self, tmp_path):
        counted = rs.TokenCount.measure(rs.Calibration(MODEL, tiny_tokenizer(), tiny_texts(5)))
        counted.save(tmp_path / "tokens.json")
        assert rs.TokenCount.load(tmp_path / "tokens.json") == counted
        (tmp_path / "tokens.json").write_text("{}")
        with pytest.raises(FileFormatError):
            rs.TokenCount.load(tmp_path / "tokens.json")

    @pytest.mark.parametrize("arguments", [(0, 2.0), (1.0, -1), (float("nan"), 2.0), (1.0, True)])
    def test_bits_that_are_none(self, arguments):
        with pytest.raises(ArgumentError, match="bits_per_.* above 0"):
            rs.Capacity(*arguments)

    @pytest.mark.parametrize("n", [0, -3, 2.5, True])
    def test_counts_that_are_none(self, n):
        with pytest.raises(EvidenceError, match="an integer of at least 1 tokens"):
            rs.TokenCount(n)

    def test_model_inputs_have_no_loss(self):
        with pytest.raises(TextsError, match="got model inputs"):
            rs.TokenCount.measure(rs.Calibration(MODEL, None, [{"input_ids": torch.arange(4)}] * 3))


class Uneven(rs.RankStrategy):
    def ranks(self, targets, evidence):
        return {target.name: 1 + (7 * index) % 13 for index, target in enumerate(targets)}


class TestByType:
    def test_modules_of_a_type_have_the_mean_of_the_type(self):
        given, found = ranks_of(Uneven()), ranks_of(rs.ByType(Uneven()))
        kinds = [t.name.split(".", 3)[3] for t in TARGETS]
        means = np.array(
            [np.mean([r for r, other in zip(given, kinds, strict=True) if other == kind]) for kind in kinds]
        )
        assert all(len({r for r, other in zip(found, kinds, strict=True) if other == kind}) == 1 for kind in kinds)
        assert abs(found @ COST - given @ COST) <= COST.max() * 2
        assert np.abs(found - means).max() <= 1

    def test_names_that_end_alike_are_other_types(self):
        model = tiny_model("gpt2")
        plan = rs.ByType(Uneven()).plan(model, target_modules=["c_proj"])
        assert len(set(plan.ranks.values())) == 2  # of attention and of the MLP


class TestShuffledWithinTypes:
    def test_each_type_keeps_its_ranks(self):
        given, found = ranks_of(Uneven()), ranks_of(rs.Shuffled(Uneven(), seed=3, within="type"))
        kinds = [t.name.split(".", 3)[3] for t in TARGETS]
        for kind in set(kinds):
            of_kind = [index for index, other in enumerate(kinds) if other == kind]
            assert sorted(given[of_kind]) == sorted(found[of_kind])
        assert (given != found).any()
        assert given @ COST == found @ COST

    def test_modules_move_one_by_one(self):
        """Whole layers change places in `within="layer"`; here some types of two layers do, and others do not."""
        given = ranks_of(Uneven()).reshape(2, -1)
        moved = [(ranks_of(rs.Shuffled(Uneven(), seed=s, within="type")).reshape(2, -1) != given)[0] for s in range(5)]
        assert any(0 < each.sum() < len(each) for each in moved)

    def test_the_name_of_the_default_is_as_it_was(self):
        assert repr(rs.Shuffled("fixed:4", seed=2)) == "Shuffled(strategy=Fixed(rank=4), seed=2)"
        assert repr(rs.Shuffled("fixed:4", within="type")) == "Shuffled(strategy=Fixed(rank=4), seed=0, within='type')"

    def test_another_word(self):
        with pytest.raises(ArgumentError, match='within "layer" or "type", got \'model\''):
            rs.Shuffled("fixed:4", within="model")
