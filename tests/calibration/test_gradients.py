"""Gradient spectra: against autograd on the weights themselves, on every family, and on what people bring."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rankselect as rs
from architectures import FAMILIES
from calibrations import CAUSAL, ROWS, TOKENIZER, calibration, check_untouched, state
from rankselect.calibration.gradient_sums import GradientSums
from rankselect.calibration.gradients import GradientSpectra, _largest
from rankselect.calibration.loss_batches import loss_batches
from rankselect.errors import ArgumentError, DataError, EvidenceError, ModelError, TargetError, TextsError
from rankselect.models.layers import is_transposed
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts


def by_autograd(model, modules, batches):
    """What `GradientSums` gives, from the gradients that autograd leaves at the weights."""
    model.eval()
    sums = {name: [0.0, 0.0] for name in modules}
    squares = dict.fromkeys(modules, 0.0)
    for batch in batches.batches:
        share = sum(batch.n_tokens) / batches.tokens_of(batch.half)
        for row in [None, *range(len(batch.n_tokens))]:
            inputs = batch.inputs if row is None else {k: v[row : row + 1] for k, v in batch.inputs.items()}
            weights = [module.weight.requires_grad_() for module in modules.values()]
            found = torch.autograd.grad(model(**inputs, use_cache=False).loss, weights)
            for (name, module), stored in zip(modules.items(), found, strict=True):
                gradient = stored.T if is_transposed(module) or hasattr(module, "num_embeddings") else stored
                if row is None:
                    sums[name][batch.half] = sums[name][batch.half] + share * gradient
                else:
                    squares[name] += float((gradient**2).sum()) / batches.n_rows
    return sums, squares


def check_against_autograd(model, names, texts=None):
    batches = loss_batches(calibration(model, texts))
    modules = {name: model.get_submodule(name) for name in names}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = GradientSums(model, modules)
    found.read(batches)
    sums, squares = by_autograd(model, modules, batches)
    for name in names:
        for half in (0, 1):
            expected = sums[name][half]
            torch.testing.assert_close(
                found.sums[name][half], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
            )
        assert found.squares[name] == pytest.approx(squares[name], rel=1e-4), name


@pytest.mark.parametrize("family", CAUSAL)
def test_gradients_of_every_causal_family_are_those_of_autograd(family):
    model = FAMILIES[family]()
    names = [target.name for target in find_targets(model, "all-linear")]
    experts = [name for name in names if ".experts." in name]
    rows = [{"input_ids": torch.randint(3, 60, (n,), generator=torch.Generator().manual_seed(n))} for n in (7, 5, 9, 4)]
    check_rows(model, [name for name in names if name not in experts], rows)


def check_rows(model, names, rows):
    """`check_against_autograd` on tokens, for models whose vocabulary is not the tokenizer's."""
    from rankselect.calibration.loss_batches import LossBatch, LossBatches

    batches = []
    for half, pair in enumerate((rows[:2], rows[2:])):
        length = max(len(row["input_ids"]) for row in pair)
        ids, mask, labels = (torch.full((2, length), fill) for fill in (0, 0, -100))
        for place, row in enumerate(pair):
            n = len(row["input_ids"])
            ids[place, :n], mask[place, :n], labels[place, :n] = row["input_ids"], 1, row["input_ids"]
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        batches.append(LossBatch(inputs, half, tuple(len(row["input_ids"]) - 1 for row in pair)))
    found_batches = LossBatches(tuple(batches), "")
    modules = {name: model.get_submodule(name) for name in names}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = GradientSums(model, modules)
    found.read(found_batches)
    sums, squares = by_autograd(model, modules, found_batches)
    for name in names:
        for half in (0, 1):
            expected = sums[name][half]
            atol = 1e-4 * float(expected.abs().max()) + 1e-9
            torch.testing.assert_close(found.sums[name][half], expected, rtol=1e-3, atol=atol)
        assert found.squares[name] == pytest.approx(squares[name], rel=1e-3, abs=1e-12), name


def test_answers_alone_carry_the_loss_of_rows():
    check_against_autograd(tiny_model(), ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"], ROWS)


def test_an_embedding_and_a_conv1d():
    model = tiny_model("gpt2")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # untied: autograd adds the head's gradient
    check_against_autograd(model, ["transformer.wte", "transformer.h.0.attn.c_attn"])


def test_long_texts_go_without_gram_matrices():
    """Both ways to a row's squared norm give the same number."""
    model = tiny_model()
    name = "model.layers.0.self_attn.k_proj"
    for texts in (tiny_texts(4), [" ".join([text] * 12) for text in tiny_texts(4)]):
        check_against_autograd(model, [name], texts)


@pytest.fixture(scope="module")
def spectra():
    return GradientSpectra.measure(calibration(target_modules=["q_proj", "down_proj"]))


def test_values_and_scores_are_those_of_numpy(spectra):
    model = tiny_model()
    batches = loss_batches(calibration(model))
    modules = {name: model.get_submodule(name) for name in spectra.modules}
    sums, squares = by_autograd(model, modules, batches)
    for name, module in modules.items():
        first, second = (half.double().numpy() for half in sums[name])
        u, sigma, vh = np.linalg.svd(first, full_matrices=False)
        confirmed = np.sort(np.sqrt(np.maximum(sigma * np.diag(u.T @ second @ vh.T), 0)))[::-1]
        scale = sigma[0]
        np.testing.assert_allclose(spectra.values[name], confirmed, rtol=2e-3, atol=2e-4 * scale)
        mean = (first + second) / 2
        assert spectra.scores["norm"][name] == pytest.approx(np.linalg.norm(mean), rel=1e-4)
        product = module.weight.detach().double().numpy() * mean
        assert spectra.scores["weight_gradient"][name] == pytest.approx(np.linalg.norm(product), rel=1e-4)
        assert spectra.scores["fisher"][name] == pytest.approx(squares[name] / mean.size, rel=1e-4)


def test_noise_alone_leaves_less_than_half_of_the_spectrum():
    generator = torch.Generator().manual_seed(0)
    from rankselect.calibration.gradients import _without_noise

    signal = 6 * torch.outer(*torch.nn.functional.normalize(torch.randn(2, 60, generator=generator), dim=1))
    noise = torch.randn(2, 60, 60, generator=generator) / 60**0.5
    values = _without_noise(signal + noise[0], signal + noise[1], 60, 0)
    alone = torch.linalg.svdvals(signal + noise[0]).numpy()
    assert values[0] == pytest.approx(6, rel=0.05)
    assert (values[1:] ** 2).sum() < 0.15 * (alone[1:] ** 2).sum()


def test_the_randomized_decomposition_is_close():
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(300, 200, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(200, 200, generator=generator)).Q
    sigma = 0.9 ** torch.arange(200)
    found = _largest(u * sigma @ v.T, 20, 0)
    torch.testing.assert_close(found[1], sigma[:20], rtol=1e-3, atol=0)
    torch.testing.assert_close(
        found[0] * found[1] @ found[2].T, u[:, :20] * sigma[:20] @ v[:, :20].T, atol=2e-3, rtol=0
    )


def test_groups_of_modules_give_the_same(spectra):
    again = GradientSpectra.measure(calibration(target_modules=["q_proj", "down_proj"]), memory=10_000)
    for name in spectra.modules:
        np.testing.assert_array_equal(again.values[name], spectra.values[name])
    assert again.scores == spectra.scores


def test_fewer_values_are_the_largest(spectra):
    few = GradientSpectra.measure(calibration(target_modules=["q_proj", "down_proj"]), n_values=20)
    assert {len(values) for values in few.values.values()} == {20}


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_model_is_left_as_it_was(interrupted):
    model = tiny_model().train()
    model.model.layers[0].requires_grad_(False)
    before, modes, random = state(model), [module.training for module in model.modules()], torch.get_rng_state()
    if interrupted:
        calls = []

        def press(*_):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt

        handle = model.lm_head.register_forward_hook(press)
        with pytest.raises(KeyboardInterrupt):
            GradientSpectra.measure(calibration(model))
        handle.remove()
    else:
        GradientSpectra.measure(calibration(model))
    check_untouched(model, before, modes, random)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_gives_nearly_the_same(quantization, tmp_path):
    model = FAMILIES["llama_wide"]() if "llama_wide" in FAMILIES else tiny_model()
    model.save_pretrained(tmp_path / "base")
    exact = rs.load_model(tmp_path / "base", dtype="float32")
    packed = rs.load_model(tmp_path / "base", quantization=quantization)
    of_exact, of_packed = (GradientSpectra.measure(calibration(each)) for each in (exact, packed))
    assert of_packed.measurement["quantization"] == quantization
    for score in ("norm", "fisher", "weight_gradient"):
        a, b = (np.log([s.scores[score][name] for name in s.modules]) for s in (of_exact, of_packed))
        assert np.abs(a - b).max() < 0.5, score


def test_a_loss_that_is_no_number():
    model = tiny_model()
    model.lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="a finite loss on every batch of the calibration, got nan"):
        GradientSpectra.measure(calibration(model))


class Detached(torch.nn.Module):
    """A layer whose gradient does not come back."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden, **kwargs):
        return self.inner(hidden.detach(), **kwargs)


def test_a_base_that_passes_no_gradients_on():
    model = tiny_model()
    model.model.layers[1] = Detached(model.model.layers[1])
    with pytest.raises(ModelError, match="layers pass gradients on, got the output of .* has none"):
        GradientSpectra.measure(calibration(model))


def test_a_layer_that_no_gradient_reaches():
    model = tiny_model()
    model.model.norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].detach().requires_grad_(),))
    with pytest.raises(ModelError, match=r"got no gradient reaches model\.layers\.0"):
        GradientSpectra.measure(calibration(model))


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "message"),
    [
        ({"texts": ["one text"]}, {}, TextsError, "at least two rows, one for each half, got 1"),
        ({"texts": [{"input_ids": torch.arange(4)}] * 3}, {}, TextsError, "got model inputs"),
        ({"texts": []}, {}, TextsError, "got none"),
        ({"texts": [rs.QuestionAnswer("a", "")] * 3}, {}, (DataError, TextsError), "answer"),
        ({"target_modules": ["nothing"]}, {}, TargetError, "nothing"),
        ({"max_samples": 0}, {}, ArgumentError, "max_samples of at least 1"),
        ({}, {"n_values": 0}, ArgumentError, "n_values of at least 1, got 0"),
        ({}, {"memory": "a lot"}, ArgumentError, "a memory in bytes, got 'a lot'"),
        ({"model": FAMILIES["bert"]()}, {}, ModelError, "causal"),
        ({"model": tiny_model().to("meta")}, {}, ModelError, "meta"),
    ],
)
def test_what_cannot_be_measured(settings, arguments, error, message):
    with pytest.raises(error, match=message):
        GradientSpectra.measure(calibration(**settings), **arguments)


def test_evidence_of_other_targets_is_refused(spectra):
    with pytest.raises(EvidenceError, match="without .*v_proj"):
        spectra.of(find_targets(tiny_model(), ["v_proj"]))


def test_the_same_rows_have_the_same_digest_whatever_the_batches(spectra):
    other = rs.Calibration(tiny_model(), TOKENIZER, tiny_texts(9), progress=False, batch_size=2)
    assert loss_batches(other).digest == spectra.measurement["rows_digest"]
    fewer = rs.Calibration(tiny_model(), TOKENIZER, tiny_texts(8), progress=False)
    assert loss_batches(fewer).digest != spectra.measurement["rows_digest"]
