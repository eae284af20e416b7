"""What the author of a plug-in runs in their own tests: `check_strategy` and `check_estimator`."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rankselect.calibration.evidence import Calibration
from rankselect.errors import ContractError, EvidenceError, PointsError
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rankselect.estimators._base import Estimator
    from rankselect.strategies._base import RankStrategy

__all__ = ["check_estimator", "check_strategy", "tiny_model", "tiny_texts", "tiny_tokenizer"]

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


def check_strategy(strategy: RankStrategy) -> None:
    """Run a strategy through everything that rankselect and its users rely on.

    It plans for small random models of two layouts (Llama's linear layers, GPT-2's transposed ones), on evidence
    measured from small texts, and holds what PEFT builds against the plan.

    Args:
        strategy: An instance of the strategy.

    Raises:
        ContractError: If it breaks the contract; the message says which part.

    Example:
        >>> import rankselect as rs
        >>> check_strategy(rs.Fixed(4))
    """
    for architecture in ("llama", "gpt2"):
        model = tiny_model(architecture)
        calibration = Calibration(model, tiny_tokenizer(), tiny_texts(60), progress=False)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        evidence = None if strategy.evidence is None else strategy.evidence.measure(calibration)
        targets = find_targets(model, "all-linear")
        first, again = strategy.ranks(targets, evidence), strategy.ranks(targets, evidence)
        names = [target.name for target in targets]
        _require(sorted(first) == sorted(names), "a rank for every target and no other", sorted(first)[:3])
        _require(all(math.isfinite(rank) for rank in first.values()), "finite ranks", first)
        _require(dict(first) == dict(again), "the same ranks for the same evidence", "others at the second call")
        _require(not repr(strategy).startswith("<"), "a repr that says how it was made", repr(strategy))
        _check_plan(strategy, model, evidence)
        same = all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        _require(same, "a model that is left as it was", "changed weights")
    if strategy.evidence is not None:
        _require_error(EvidenceError, lambda: strategy.plan(tiny_model()), "plan without evidence")


def _check_plan(strategy: RankStrategy, model: PreTrainedModel, evidence: Any) -> None:
    from peft import get_peft_model  # noqa: PLC0415  (slow to import)

    plan = strategy.plan(model, evidence, target_modules="all-linear", max_rank=6)
    _require(max(plan.ranks.values()) <= 6, "ranks of at most max_rank", plan.ranks)
    plan.verify(get_peft_model(copy.deepcopy(model), plan.to_lora_config()))


def check_estimator(estimator: Estimator, *, tolerance: float = 1e-6) -> None:
    """Run an estimator through everything that an intrinsic dimension must satisfy.

    Its value must not change when points are rotated, moved, scaled, reordered or padded with zeros; duplicates must
    be dropped and counted; points without an answer must raise instead of giving NaN.

    Args:
        estimator: An instance of the estimator.
        tolerance: How far values may differ relatively; estimators that draw random numbers or solve iteratively
            need more than the default.

    Raises:
        ContractError: If it breaks the contract; the message says which part.

    Example:
        >>> import rankselect as rs
        >>> check_estimator(rs.TwoNN())
    """
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
        _require_error(PointsError, lambda bad=bad: estimator.estimate(bad), what)  # type: ignore[misc]
    _require(estimator.estimate(points) == estimate, "the same answer at the second call", "another")
    _require(not repr(estimator).startswith("<"), "a repr that says how it was made", repr(estimator))


def tiny_model(architecture: str = "llama") -> PreTrainedModel:
    """A random model of two layers that is built in a moment: width 32, for tests of plug-ins.

    Args:
        architecture: ``"llama"`` or ``"gpt2"``.
    """
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig  # noqa: PLC0415  (slow to import)

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
    """A tokenizer of whole words for `tiny_model` and `tiny_texts`; it has no padding token, as Llama's has none."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")  # noqa: S106


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
    raise ContractError(f"{error.__name__} for {what}", "none", "Raise it instead of answering.")
