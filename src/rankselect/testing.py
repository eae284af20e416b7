"""Checks for the tests of plug-ins: `check_strategy`, `check_estimator` and `check_metric`."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rankselect.calibration.evidence import Calibration
from rankselect.errors import ContractError, EvidenceError, MetricError, PointsError
from rankselect.estimators import _base as estimators
from rankselect.metrics import _base as metrics
from rankselect.plan.targets import find_targets
from rankselect.strategies import _base as strategies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rankselect.estimators._base import Estimator
    from rankselect.metrics._base import Metric
    from rankselect.strategies._base import RankStrategy

__all__ = ["check_estimator", "check_metric", "check_strategy", "tiny_model", "tiny_texts", "tiny_tokenizer"]

_WORDS = [
    "the",
    "of",
    "a",
    "to",
    "and",
    "in",
    "is",
    "heart",
    "lung",
    "liver",
    "pain",
    "fever",
    "cell",
    "blood",
    "drug",
    "risk",
    "rare",
    "old",
    "new",
    "may",
    "cause",
    "treat",
    "find",
]


def check_strategy(strategy: RankStrategy | str) -> None:
    """Run a strategy through everything that rankselect and its users rely on.

    It plans for small random models of two layouts (Llama's linear layers, GPT-2's transposed ones), on evidence
    measured from small texts, and compares what PEFT builds with the plan.

    Args:
        strategy: An instance of the strategy, or its name, which tries its entry point too.

    Raises:
        ContractError: If it breaks the contract; the message says which part.

    Example:
        >>> import rankselect as rs
        >>> check_strategy(rs.Fixed(4))
    """
    strategy = strategies.strategy(strategy)
    for architecture in ("llama", "gpt2"):
        model = tiny_model(architecture)
        calibration = Calibration(model, tiny_tokenizer(), tiny_texts(60), target_modules="all-linear", progress=False)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        evidence = None if strategy.evidence is None else strategy.evidence.measure(calibration)
        targets = find_targets(model, "all-linear")
        first, again = strategy.ranks(targets, evidence), strategy.ranks(targets, evidence)
        names = [target.name for target in targets]
        _require(sorted(first) == sorted(names), "a rank for every target and no other", sorted(first)[:3])
        _require(all(math.isfinite(rank) for rank in first.values()), "finite ranks", first)
        _require(dict(first) == dict(again), "the same ranks for the same evidence", "others at the second call")
        _require(not repr(strategy).startswith("<"), "a repr that shows how it was created", repr(strategy))
        _check_plan(strategy, model, evidence)
        same = all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        _require(same, "a model that is left as it was", "changed weights")
    if strategy.evidence is not None:
        _require_error(EvidenceError, lambda: strategy.plan(tiny_model()), "plan without evidence")


def _check_plan(strategy: RankStrategy, model: PreTrainedModel, evidence: Any) -> None:
    from rankselect.training.adapt import adapt

    plan = strategy.plan(model, evidence, target_modules="all-linear", max_rank=6)
    _require(max(plan.ranks.values()) <= 6, "ranks of at most max_rank", plan.ranks)
    adapt(copy.deepcopy(model), plan, seed=0)


def check_estimator(estimator: Estimator | str, *, tolerance: float = 1e-6) -> None:
    """Run an estimator through everything that an intrinsic dimension must satisfy.

    Its value must not change when points are rotated, moved, scaled, reordered or padded with zeros; duplicates must
    be dropped and counted; points without an answer must raise instead of giving NaN.

    Args:
        estimator: An instance of the estimator, or its name.
        tolerance: How far values may differ relatively; estimators that draw random numbers or solve iteratively
            need more than the default.

    Raises:
        ContractError: If it breaks the contract; the message says which part.

    Example:
        >>> import rankselect as rs
        >>> check_estimator(rs.TwoNN())
    """
    estimator = estimators.estimator(estimator)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 5)) @ rng.standard_normal((5, 12))
    estimate = estimator.estimate(points)
    _require(math.isfinite(estimate.value) and estimate.value > 0, "a finite, positive ID", estimate.value)
    _require(math.isfinite(estimate.stderr) and estimate.stderr >= 0, "a finite standard error", estimate.stderr)
    _require(estimate.n_points == 300, "n_points of 300 for 300 points", estimate.n_points)
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    moved: dict[str, NDArray[np.float64]] = {
        "rotation": points @ rotation,
        "translation": points + 3.0,
        "scaling": points * 7.5,
        "another order": points[rng.permutation(300)],
        "padding with zeros": np.hstack([points, np.zeros((300, 4))]),
    }
    for change, changed in moved.items():
        value = estimator.estimate(changed).value
        same = math.isclose(value, estimate.value, rel_tol=tolerance)
        _require(same, f"the same ID under {change}", f"{value} instead of {estimate.value}")
    repeated = estimator.estimate(np.vstack([points, points[:10]]))
    _require(repeated.n_duplicates == 10, "10 duplicates counted", repeated.n_duplicates)
    _require(math.isclose(repeated.value, estimate.value, rel_tol=tolerance), "duplicates dropped", repeated.value)
    for bad, what in ((np.full((300, 5), np.nan), "NaN points"), (np.ones((300, 5)), "equal points")):
        _require_error(PointsError, partial(estimator.estimate, bad), what)
    _require(estimator.estimate(points) == estimate, "the same answer at the second call", "another")
    _require(not repr(estimator).startswith("<"), "a repr that shows how it was created", repr(estimator))


_PREDICTIONS = (
    "Fever and a rash are the first signs of measles.",
    "",
    "The heart pumps blood to the lungs and to the body.",
    "Patients with a rare disease of the liver may need surgery.",
    "Aspirin.",
)
_REFERENCES = (
    "Measles begins with fever, cough and a rash.",
    "The liver cleans the blood.",
    "The heart pumps blood to the lungs and to the body.",
    "Doctors treat this disease with a diet and with drugs.",
    "Aspirin thins the blood of patients with a heart disease.",
)
_BESIDE = {
    "questions": (
        "What are the signs of measles?",
        "What does the liver do?",
        "What does the heart do?",
        "How is the disease treated?",
        "Which drug thins the blood?",
    ),
    "losses": (0.5, 2.0, 0.1, 3.0, 1.25),
}


def check_metric(metric: Metric | str, *, tolerance: float = 1e-6) -> None:
    """Run a metric through everything that rankselect and its users rely on.

    It must score every answer on its own: the same in another order, alone, and at the second call. An empty answer is
    an answer. Its average must keep the leading axes, lie between the least and the greatest score, and not
    depend on the order. References given as predictions must not score worse than other texts do.

    Args:
        metric: An instance of the metric, or its name.
        tolerance: How far scores may differ absolutely; those of models that run on batches need more than the default.

    Raises:
        ContractError: If it breaks the contract; the message says which part.

    Example:
        >>> from rankselect.metrics.squad import TokenF1
        >>> check_metric(TokenF1())
    """
    metric = metrics.metric(metric)
    _require(isinstance(metric.name, str) and bool(metric.name.strip()), "a name", metric.name)
    _require(set(metric.requires) <= _BESIDE.keys(), f"requires among {sorted(_BESIDE)}", metric.requires)
    _require(not repr(metric).startswith("<"), "a repr that shows how it was created", repr(metric))
    everything = range(len(_PREDICTIONS))
    scores = _scores(metric, everything)
    again = _scores(metric, everything)
    _require(np.allclose(scores, again, rtol=0, atol=tolerance), "the same scores at the second call", again)
    for what, order in (("in another order", [3, 1, 4, 0, 2]), ("for an answer alone", [0])):
        others = _scores(metric, order)
        same = np.allclose(scores[..., order], others, rtol=0, atol=tolerance)
        _require(same, f"the same scores {what}", f"{others.tolist()} instead of {scores[..., order].tolist()}")
    _check_average(metric, scores, tolerance)
    best, sign = _scores(metric, everything, _REFERENCES), 1 if metric.higher_is_better else -1
    difference = sign * float(metric.aggregate(best) - metric.aggregate(scores))
    _require(difference >= -tolerance, "references that score no worse than other texts", f"{difference:g}")


def _scores(metric: Metric, order: Iterable[int], predictions: Sequence[str] = _PREDICTIONS) -> NDArray[np.float64]:
    """The metric's scores of these answers, given only the inputs that it requires."""
    order = list(order)
    beside: dict[str, Any] = {what: [_BESIDE[what][index] for index in order] for what in metric.requires}
    texts = [predictions[index] for index in order], [_REFERENCES[index] for index in order]
    try:
        return metric.evaluate(*texts, **beside, n_resamples=20).values
    except MetricError as error:
        raise ContractError(error.expected, error.got, error.remedy) from error


def _check_average(metric: Metric, scores: NDArray[np.float64], tolerance: float) -> None:
    several = metric.aggregate(np.stack([scores, scores[..., ::-1]]))
    one = float(metric.aggregate(scores))
    expected = "averages over the last axis that do not depend on the order of the answers"
    kept = np.shape(several) == (2,) and np.allclose(several, one, rtol=tolerance, atol=tolerance)
    _require(kept, expected, f"{np.asarray(several).tolist()} instead of {[one, one]}")
    between = scores.min() - tolerance <= one <= scores.max() + tolerance
    _require(between, "an average between the least and the greatest score", one)


def tiny_model(architecture: str = "llama") -> PreTrainedModel:
    """A random model of two layers that is built in a moment: width 32, for tests of plug-ins.

    Args:
        architecture: ``"llama"`` or ``"gpt2"``.
    """
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    vocabulary = len(_WORDS) + 2
    if architecture == "gpt2":
        config: Any = GPT2Config(
            vocab_size=vocabulary, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1
        )
    else:
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model.eval()
    return model


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A word tokenizer for `tiny_model` and `tiny_texts`. Like that of Llama, it has no padding token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", *_WORDS])}
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<s>"}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def tiny_texts(n: int, seed: int = 0) -> list[str]:
    """Random texts of 4 to 24 words, all different.

    Args:
        n: How many.
        seed: The seed of the draw.
    """
    rng = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts[" ".join(rng.choice(_WORDS, size=rng.integers(4, 25)))] = None
    return list(texts)


def _require(kept: bool, expected: str, got: object) -> None:  # noqa: FBT001
    if not kept:
        raise ContractError(expected, repr(got)[:200], "See the page on writing plug-ins for the contract.")


def _require_error(error: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except error:
        return
    raise ContractError(f"{error.__name__} for {what}", "none", "Raise it instead of returning a result.")
