"""`id_profile` from end to end: what it measures, when it stops, what it refuses."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm
from transformers import T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel

import rankselect as rs
from rankselect.calibration.batches import encode
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.estimators.half_samples import half_sample_stderr, half_samples
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")


def profiled(*args, **options):
    return rs.id_profile(*args, progress=False, **options)


def test_the_profile_is_the_estimator_on_the_pooled_states_of_each_layer(tiny):
    model, tokenizer, texts = tiny
    samples = encode(tokenizer, texts, 128, None, 0)
    states = HiddenStates(model, samples, tokenizer, pooling=("mean",), batch_size=8)
    states.read(np.arange(len(samples)), tqdm(disable=True))
    profile = profiled(model, tokenizer, texts)
    members = half_samples(80, rs.TwoNN().n_splits, seed=0)
    assert profile.layers == rs.layer_names(model)
    for index, layer in enumerate(profile.layers):
        estimate, halves = rs.TwoNN().resample(states.layers[layer], members)
        assert profile.values[index] == pytest.approx(estimate.value, rel=1e-9)
        assert profile.stderr[index] == pytest.approx(half_sample_stderr(halves), rel=1e-9)
    entering = rs.TwoNN().estimate(states.stack_inputs["model.layers.0"]).value
    assert profile.input_values == pytest.approx({"model.layers.0": entering})


def test_the_measurement_is_recorded(tiny):
    model, tokenizer, texts = tiny
    how = profiled(
        model, tokenizer, [*texts, texts[0]], estimator=rs.MLE(5), pooling="last", max_length=12, seed=4
    ).measurement
    assert how.estimator == "MLE(n_neighbors=5, aggregate='mle')"
    assert (how.pooling, how.max_length, how.seed) == ("last", 12, 4)
    assert how.n_texts + how.n_duplicates == 81
    assert how.n_duplicates >= 1
    assert how.n_truncated == sum(len(text.split()) > 12 for text in texts)
    assert (how.model_name, how.model_type, how.width) == ("LlamaForCausalLM", "llama", (32,))
    assert how.versions["torch"] == torch.__version__
    assert -1 <= how.order_agreement <= 1


def test_the_same_call_gives_the_same_profile_and_another_seed_other_intervals(tiny):
    first, again, other = profiled(*tiny), profiled(*tiny), profiled(*tiny, seed=1)
    assert first.values.tolist() == again.values.tolist() == other.values.tolist()
    assert first.stderr.tolist() == again.stderr.tolist() != other.stderr.tolist()


def test_duplicates_and_the_order_of_texts_do_not_matter(tiny):
    model, tokenizer, texts = tiny
    plain, repeated = profiled(*tiny), profiled(model, tokenizer, [*texts, *texts])
    turned = profiled(model, tokenizer, texts[::-1])
    assert repeated.values.tolist() == plain.values.tolist()
    assert repeated.measurement.n_duplicates == 80
    assert repeated.measurement.texts_digest == plain.measurement.texts_digest
    np.testing.assert_allclose(turned.values, plain.values, rtol=1e-4)


def test_max_samples_uses_so_many(tiny):
    how = profiled(*tiny, max_samples=30).measurement
    assert how.n_texts == 30


def test_a_wide_tolerance_stops_early_and_a_narrow_one_reads_all():
    model, tokenizer, texts = tiny_model(), tiny_tokenizer(), tiny_texts(900)
    early, full = profiled(model, tokenizer, texts, tolerance=8), profiled(model, tokenizer, texts, tolerance=1e-6)
    assert early.measurement.n_texts == 256  # the first stage has nothing to be stable against
    assert full.measurement.n_texts == 900
    assert 1.96 * early.stderr.max() <= 8
    assert early.measurement.texts_digest != full.measurement.texts_digest
    everything = profiled(model, tokenizer, texts)
    np.testing.assert_allclose(full.values, everything.values, rtol=1e-4)
    assert full.measurement.texts_digest == everything.measurement.texts_digest


def test_a_warning_says_when_the_order_is_not_settled(tiny):
    with pytest.warns(
        rs.RankSelectWarning, match=r"order of the layers by ID is not reliable: two random halves of the 80 texts"
    ) as caught:
        rs.id_profile(*tiny, progress=False)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("agreement", "settled"), [(0.79, False), (0.8, True)])
def test_the_order_is_settled_from_an_agreement_of_0_8(tiny, monkeypatch, agreement, settled):
    monkeypatch.setattr("rankselect.calibration.estimates.order_agreement", lambda replicates: agreement)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile = profiled(*tiny)
    assert profile.measurement.order_agreement == agreement
    assert any("is not reliable" in str(warning.message) for warning in caught) != settled


def test_no_warning_where_layers_really_differ():
    model, tokenizer, texts = tiny_model(), tiny_tokenizer(), tiny_texts(300)
    with torch.no_grad():  # the second layer adds so much along two directions that all others vanish
        model.model.layers[1].mlp.down_proj.weight[2:].zero_()
        model.model.layers[1].mlp.down_proj.weight[:2] *= 3e5
    with warnings.catch_warnings():
        warnings.simplefilter("error", rs.RankSelectWarning)
        profile = profiled(model, tokenizer, texts)
    assert profile.values[0] > 2 * profile.values[1]


def test_progress_counts_texts(tiny, capsys):
    rs.id_profile(*tiny, progress=True)
    assert "80/80" in capsys.readouterr().err
    rs.id_profile(*tiny, progress=False)
    assert capsys.readouterr().err == ""


def test_images_are_profiled_from_mappings():
    model = ViTModel(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=8,
        )
    )
    generator = torch.Generator().manual_seed(0)
    images = [{"pixel_values": torch.randn(3, 16, 16, generator=generator)} for _ in range(40)]
    profile = profiled(model, None, images)
    assert profile.layers == rs.layer_names(model)
    assert profile.measurement.n_texts == 40


def test_both_stacks_of_an_encoder_decoder_are_profiled(tiny):
    config = T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    profile = profiled(T5ForConditionalGeneration(config), tiny[1], tiny[2])
    assert profile.layers == ("encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1")
    assert set(profile.input_values) == {"encoder.block.0", "decoder.block.0"}


def test_the_input_of_the_first_layer_may_have_no_dimension():
    """With last-token pooling the embedding of a shared last word is one point; the layers above are not."""
    texts = [f"{text} pain" for text in tiny_texts(60)]
    profile = profiled(tiny_model(), tiny_tokenizer(), texts, pooling="last")
    assert profile.input_values == {}
    with pytest.raises(rs.errors.EvidenceError, match="ID of the input of model.layers.0"):
        rs.GeLoRA().plan(tiny_model(), profile)


def test_any_estimator_can_be_used(tiny):
    for estimator in (rs.TwoNN(method="ml"), rs.MLE(10), rs.Gride(range_max=8), rs.SkDim("lPCA")):
        profile = profiled(*tiny, estimator=estimator)
        assert np.isfinite(profile.values).all()
        assert np.isfinite(profile.stderr).all()
        assert profile.measurement.estimator == repr(estimator)


def test_an_estimator_can_be_named(tiny):
    for name, meant in (("mle:10", rs.MLE(10)), ("twonn:method=ml", rs.TwoNN(method="ml"))):
        profile = profiled(*tiny, estimator=name)
        assert profile.values.tolist() == profiled(*tiny, estimator=meant).values.tolist()
        assert profile.measurement.estimator == repr(meant)
        assert rs.Calibration(*tiny, estimator=name) == rs.Calibration(*tiny, estimator=meant)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        ("two-nn", rs.errors.UnknownNameError, "the name of an estimator, got 'two-nn'. Did you mean twonn?"),
        (rs.MLE, rs.errors.ArgumentError, r"an estimator, or the name of one, got the class MLE\. Create an instance"),
        (7, rs.errors.ArgumentError, r"an estimator, or the name of one, got 7\. Known names: .*twonn"),
    ],
)
def test_what_is_no_estimator_is_refused(tiny, estimator, error, message):
    for call in (profiled, rs.Calibration):
        with pytest.raises(error, match=message):
            call(*tiny, estimator=estimator)


def test_a_calibration_has_the_arguments_of_id_profile():
    """The signature is written twice, for readers and type checkers: the two must not drift apart."""
    one, other = (list(inspect.signature(call).parameters.values()) for call in (rs.id_profile, rs.Calibration))
    other = [each for each in other if each.name not in {"template", "target_modules"}]  # for other evidence
    assert [(each.name, each.kind, each.default) for each in one] == [
        (each.name, each.kind, each.default) for each in other
    ]
    assert [each.annotation for each in one] == [each.annotation for each in other]


def test_calibration_measures_what_a_strategy_needs(tiny):
    model, tokenizer, texts = tiny
    calibration = rs.Calibration(model, tokenizer, texts, progress=False)
    assert rs.PerLayerID().plan(model, calibration).ranks == rs.PerLayerID().plan(model, profiled(*tiny)).ranks


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "expected texts to measure the model on, got none"),
        (["heart"], r"expected at least 6 distinct texts for TwoNN\(.*\), got 1\."),
        (["heart pain"] * 50, r"got 1 \(49 more are duplicates\)"),
        (["heart", ""] * 20, "20 empty, the first at index 1"),
    ],
)
def test_texts_that_cannot_be_profiled(tiny, texts, message):
    with pytest.raises(rs.errors.TextsError, match=message):
        profiled(tiny[0], tiny[1], texts)


def test_an_estimator_with_many_neighbours_needs_more_texts(tiny):
    with pytest.raises(rs.errors.TextsError, match=r"at least 130 distinct texts for Gride\(range_max=64\), got 80"):
        profiled(*tiny, estimator=rs.Gride())


def test_layers_whose_states_are_all_equal_are_named(tiny):
    model, tokenizer, texts = tiny
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    with pytest.raises(rs.errors.PointsError, match="model.layers.0"):
        profiled(model, tokenizer, texts)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"pooling": "max"}, "expected pooling 'mean' or 'last', got 'max'"),
        ({"batch_size": 0}, "expected batch_size of at least 1, got 0"),
        ({"max_length": 0}, "expected max_length of at least 1, got 0"),
        ({"tolerance": 0}, "expected a tolerance above 0 ranks"),
        ({"tolerance": float("nan")}, "expected a tolerance above 0 ranks"),
        ({"max_samples": 0}, "expected max_samples of at least 1"),
    ],
)
def test_arguments_outside_their_range(tiny, option, message):
    with pytest.raises(rs.errors.ArgumentError, match=message):
        profiled(*tiny, **option)


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        model = type(tiny_model())(tiny_model().config)
    with pytest.raises(rs.errors.ModelError, match="one on the meta device"):
        profiled(model, tiny_tokenizer(), tiny_texts(20))
