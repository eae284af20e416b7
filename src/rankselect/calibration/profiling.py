"""One pass over the texts: the estimates of every layer, and the settings of the measurement."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from tqdm.auto import tqdm

from rankselect.calibration.batches import Samples, encode
from rankselect.calibration.estimates import Estimates, estimate_layers
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.errors import ArgumentError, EvidenceError, RankSelectWarning, TextsError
from rankselect.estimators._base import NeighborEstimator, estimator
from rankselect.files import package_versions
from rankselect.models.layers import require_model, unwrapped
from rankselect.models.names import model_name
from rankselect.models.processes import Processes
from rankselect.models.suitability import require_embedded
from rankselect.models.trunk import input_device, longest_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from rankselect.calibration.evidence import Calibration
    from rankselect.estimators._base import Estimator

__all__ = ["ProfileSettings", "measured", "measured_together"]

logger = logging.getLogger(__name__)

_FIRST_STAGE = 128
_RELIABLE = 0.8
_WORTH_A_WARNING = 0.01
_VERSIONS_OF = ("rankselect", "torch", "transformers", "numpy", "scikit-dimension", "bitsandbytes")
_MAY_DIFFER = {"max_samples", "progress"}  # between processes: which texts are read is compared by itself


@final
@dataclass(frozen=True)
class ProfileSettings:
    """How a profile was measured. Two profiles can be compared if the main settings agree.

    Attributes:
        estimator: The estimator, as Python would write it.
        pooling: ``"mean"`` or ``"last"``.
        max_length: Texts were cut after so many tokens.
        seed: The seed of subsampling and of the half samples.
        n_texts: Distinct texts used.
        n_duplicates: Texts dropped because they equal another one.
        n_truncated: Texts that were cut.
        texts_digest: SHA-256 of the texts used.
        model_name: The model's name or path.
        model_type: Its architecture, as transformers names it.
        width: The width of each layer's hidden states.
        order_agreement: Mean rank correlation between the layers' orders on two halves of the texts.
        versions: The versions of the packages that took part.
        n_near_duplicates: Texts that are near-copies of another, in the layer where most are.
        near_duplicates: Whether they were left out (``"drop"``) or used (``"keep"``, as before version 0.2).
        autocast: The dtype in which matrices were multiplied, if it was not that of the model.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> texts = tiny_texts(60)
        >>> how = rs.id_profile(tiny_model(), tiny_tokenizer(), texts + texts[:5], progress=False).measurement
        >>> how.pooling, how.n_texts, how.n_duplicates, how.max_length, how.width
        ('mean', 60, 5, 128, (32,))
    """

    estimator: str
    pooling: str
    max_length: int
    seed: int
    n_texts: int
    n_duplicates: int
    n_truncated: int
    texts_digest: str
    model_name: str
    model_type: str
    width: tuple[int, ...]
    order_agreement: float
    versions: Mapping[str, str]
    n_near_duplicates: int = 0
    near_duplicates: str = "keep"
    autocast: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProfileSettings:
        """Rebuild settings from `to_dict`; fields that this release does not know are ignored."""
        known = {each.name for each in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        return cls(**{**kept, "width": tuple(values["width"])})

    def to_dict(self) -> dict[str, Any]:
        """The settings in JSON values; `autocast` only if it is set, which releases before it cannot read."""
        return {name: value for name, value in asdict(self).items() if name != "autocast" or value is not None}

    def require_like(self, other: ProfileSettings) -> None:
        """Refuse to compare IDs that were measured in different ways.

        Raises:
            EvidenceError: If estimator, pooling or length differ.
        """
        for name in ("estimator", "pooling", "max_length"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise EvidenceError(
                    f"two profiles with the same {name}",
                    f"{mine} and {theirs}",
                    "Measure both in the same way: estimator and pooling decide the ID more than the model does.",
                )


def measured_together(
    calibration: Calibration, poolings: Sequence[Literal["mean", "last"]], estimators: Sequence[Estimator]
) -> list[tuple[Estimates, ProfileSettings]]:
    """Read a calibration's texts once, and estimate the ID of every layer for each pooling and estimator.

    Raises:
        RankSelectError: As `id_profile`.
    """
    require_model(calibration.model)
    each = [replace(calibration, pooling=pooling, estimator=by) for pooling in poolings for by in estimators]
    processes = Processes.sharing(calibration.model)
    samples, limit = processes.together(lambda: _read_texts(each[0], max(estimators, key=_fewest)))
    states = processes.together(
        lambda: HiddenStates(
            calibration.model,
            samples,
            calibration.tokenizer,
            pooling=tuple(poolings),
            batch_size=calibration.batch_size,
            processes=processes,
            autocast=calibration.autocast,
        )
    )
    if processes.count > 1:
        processes.require_same(_what_must_agree(calibration, samples, states))
    rows = np.arange(len(samples))
    hidden = not (calibration.progress and Processes.current().is_first)
    with tqdm(total=len(samples), unit="text", desc="ID profiles", disable=hidden) as bar:
        states.read(rows, bar)
    results = []
    for one in each:
        _check_arguments(one)
        by = estimator(one.estimator)
        found = estimate_layers(
            states.of(one.pooling),
            rows,
            by,
            one.seed,
            processes,
            near_duplicates=one.near_duplicates,
            release=by is estimators[-1],
        )
        _warn(found, one, samples, len(rows))
        results.append((found, _settings(found, one, samples, rows, limit)))
    return results


def measured(calibration: Calibration) -> tuple[Estimates, ProfileSettings]:
    """Read a calibration's texts with its model, and estimate the ID of every layer.

    Raises:
        RankSelectError: As `id_profile`.
    """
    require_model(calibration.model)
    by = estimator(calibration.estimator)
    processes = Processes.sharing(calibration.model)
    samples, limit = processes.together(lambda: _read_texts(calibration, by))
    states = processes.together(
        lambda: HiddenStates(
            calibration.model,
            samples,
            calibration.tokenizer,
            pooling=(calibration.pooling,),
            batch_size=calibration.batch_size,
            processes=processes,
            autocast=calibration.autocast,
        )
    )
    if processes.count > 1:
        processes.require_same(_what_must_agree(calibration, samples, states))
    is_first = Processes.current().is_first
    previous: Estimates | None = None
    hidden = not (calibration.progress and is_first)
    with tqdm(total=len(samples), unit="text", desc="ID profile", disable=hidden) as bar:
        for new, used in _stages(len(samples), _fewest(by), calibration):
            states.read(new, bar)
            last = len(used) == len(samples)
            found = estimate_layers(
                states,
                used,
                by,
                calibration.seed,
                processes,
                near_duplicates=calibration.near_duplicates,
                release=last,
            )
            if last or (previous is not None and found.is_stable(previous, calibration.tolerance or 0.0)):
                break
            previous = found
    _warn(found, calibration, samples, len(used))
    return found, _settings(found, calibration, samples, used, limit)


def _warn(found: Estimates, calibration: Calibration, samples: Samples, n: int) -> None:
    """Warn of copies, and of an order of the layers that is not reliable; in the first process only."""
    if not Processes.current().is_first:
        return
    _warn_of_copies(found, calibration, samples, n)
    if found.agreement < _RELIABLE:
        warnings.warn(
            f"The order of the layers by ID is not reliable: two random halves of the {n} texts agree on it "
            f"with a mean rank correlation of {found.agreement:.2f} (1: same order, 0: chance). Differences between "
            "layers may be noise: use more texts, or one rank for all layers (IntrinsicMean).",
            RankSelectWarning,
            stacklevel=5,  # the caller of id_profile
        )


def _warn_of_copies(found: Estimates, calibration: Calibration, samples: Samples, n: int) -> None:
    """Warn of texts that are the same as others, and of near-copies."""
    if samples.first_duplicate is not None:
        total = samples.n_duplicates + len(samples)
        _warn_of(samples.n_duplicates, total, "the same as others, and were left out", samples.first_duplicate)
    if found.near_duplicates:
        dropped = calibration.near_duplicates == "drop"
        then = "were left out" if dropped else "were kept, which lowers the IDs"
        text, copy = (samples.texts[row] for row in found.near_duplicates[0])
        _warn_of(len(found.near_duplicates), n, f"near-copies of others, and {then}", (copy, text))


def _warn_of(count: int, n: int, what: str, example: tuple[Any, Any]) -> None:
    """Warn if 1 % of the texts or more are copies."""
    if count >= _WORTH_A_WARNING * n:
        copy, text = _where_they_differ(*example)
        warnings.warn(
            f"{count} of {n} texts ({count / n:.0%}) are {what}, for example {copy} beside {text}.",
            RankSelectWarning,
            stacklevel=7,  # the caller of id_profile
        )


def _where_they_differ(copy: Any, text: Any) -> tuple[str, str]:
    """Sixty characters of each, around the first that differs."""
    if not isinstance(copy, str):
        return "one sample", "another"
    common = next((at for at, (a, b) in enumerate(zip(copy, text, strict=False)) if a != b), min(len(copy), len(text)))
    start = max(0, min(common, max(len(copy), len(text)) - 30) - 30)
    shown = [f"{'…' * (start > 0)}{each[start : start + 60]}{'…' * (len(each) > start + 60)}" for each in (copy, text)]
    return repr(shown[0]), repr(shown[1])


def _read_texts(calibration: Calibration, by: Estimator) -> tuple[Samples, int]:
    """The texts as tokens, and after how many of them a text was cut."""
    _check_arguments(calibration)
    input_device(calibration.model)  # a model without weights is refused before the texts are tokenized
    limit = longest_input(calibration.model, calibration.tokenizer, calibration.max_length)
    samples = encode(calibration.tokenizer, calibration.plain_texts, limit, calibration.max_samples, calibration.seed)
    if limit < calibration.max_length and samples.n_truncated:
        logger.info("%d texts are cut at %d tokens, the most that the model reads.", samples.n_truncated, limit)
    ids = (sample["input_ids"] for sample in samples.inputs if "input_ids" in sample)
    require_embedded(calibration.model, calibration.tokenizer, (row.tolist() for row in map(np.asarray, ids)))
    _require_enough(samples, by)
    return samples, limit


def _what_must_agree(calibration: Calibration, samples: Samples, states: HiddenStates) -> dict[str, Any]:
    """The inputs and settings that all processes must share, short enough to be printed."""
    first = next(calibration.model.parameters(), None)
    return {
        "number of distinct texts": len(samples),
        "texts (by their hash)": samples.digest_of(np.arange(len(samples)))[:12],
        "number of layers": len(states.names),
        "weights (the first few)": None if first is None or first.is_meta else first.flatten()[:8].tolist(),
        **{name: repr(value) for name, value in calibration.settings.items() if name not in _MAY_DIFFER},
    }


def _stages(n: int, fewest: int, calibration: Calibration) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows to read next and all rows read by then; one stage unless there is a tolerance to stop at."""
    if calibration.tolerance is None:
        yield np.arange(n), np.arange(n)
        return
    order = np.random.default_rng(calibration.seed).permutation(n)
    start, stop = 0, max(_FIRST_STAGE, fewest)
    while start < n:
        stop = n if stop * 1.5 > n else stop
        yield order[start:stop], order[:stop]
        start, stop = stop, 2 * stop


def _settings(
    found: Estimates, calibration: Calibration, samples: Samples, used: NDArray[np.int64], limit: int
) -> ProfileSettings:
    config = getattr(unwrapped(calibration.model), "config", None)
    if len(used) < len(samples):
        logger.info("Every layer's rank was stable within %s after %d texts.", calibration.tolerance, len(used))
    return ProfileSettings(
        estimator=repr(calibration.estimator),
        pooling=calibration.pooling,
        max_length=limit,
        seed=calibration.seed,
        n_texts=len(used),
        n_duplicates=samples.n_duplicates,
        n_truncated=samples.n_truncated,
        texts_digest=samples.digest_of(used),
        model_name=model_name(calibration.model) or type(calibration.model).__name__,
        model_type=str(getattr(config, "model_type", "")),
        width=found.width,
        order_agreement=found.agreement,
        versions=package_versions(*_VERSIONS_OF),
        n_near_duplicates=len(found.near_duplicates),
        near_duplicates=calibration.near_duplicates,
        autocast=calibration.autocast,
    )


def _check_arguments(calibration: Calibration) -> None:
    for name in ("max_length", "batch_size"):
        value = getattr(calibration, name)
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(
                f"{name} of at least 1", repr(value), f"Use {name}={8 if name == 'batch_size' else 512}."
            )
    if calibration.pooling not in ("mean", "last"):
        raise ArgumentError("pooling 'mean' or 'last'", repr(calibration.pooling), "The usual one is 'mean'.")
    if calibration.autocast not in (None, "bfloat16"):
        raise ArgumentError("autocast 'bfloat16' or None", repr(calibration.autocast), "Leave it out, or use bfloat16.")
    if calibration.near_duplicates not in ("drop", "keep"):
        raise ArgumentError("near_duplicates 'drop' or 'keep'", repr(calibration.near_duplicates), "Use 'drop'.")
    if calibration.tolerance is not None and not calibration.tolerance > 0:
        raise ArgumentError("a tolerance above 0 ranks, or None", repr(calibration.tolerance), "Try tolerance=1.")


def _require_enough(samples: Samples, by: Estimator) -> None:
    needed = _fewest(by)
    if len(samples) < needed:
        dropped = f" ({samples.n_duplicates} more are duplicates)" if samples.n_duplicates else ""
        raise TextsError(
            f"at least {needed} distinct texts for {by!r}",
            f"{len(samples)}{dropped}",
            "Add texts; some hundred are needed for differences between layers to mean anything.",
        )


def _fewest(by: Estimator) -> int:
    """How many texts there must be for half of them to have the neighbours that the estimator looks at."""
    return 2 * (by.neighbors_needed + 1) if isinstance(by, NeighborEstimator) else 6
