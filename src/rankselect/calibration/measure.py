"""`id_profile`: one pass over the texts, one intrinsic dimension for every layer."""

from __future__ import annotations

import logging
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm.auto import tqdm

from rankselect.calibration.batches import Samples, encode
from rankselect.calibration.estimates import Estimates, estimate_layers
from rankselect.calibration.evidence import Calibration
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.calibration.id_profile import IDProfile, Measurement
from rankselect.errors import ArgumentError, RankSelectWarning, TextsError
from rankselect.estimators._base import NeighborEstimator
from rankselect.estimators.twonn import TwoNN
from rankselect.models.layers import require_model, unwrapped
from rankselect.models.processes import Processes
from rankselect.models.trunk import input_device, longest_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from rankselect.estimators._base import Estimator

__all__ = ["id_profile", "measure_profile"]

logger = logging.getLogger(__name__)

_FIRST_STAGE = 128
_SETTLED = 0.8
_SETTINGS = ("estimator", "pooling", "max_length", "batch_size", "tolerance", "seed")


def id_profile(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str] | Sequence[Mapping[str, Any]],
    *,
    estimator: Estimator = TwoNN(),  # noqa: B008  (immutable)
    pooling: Literal["mean", "last"] = "mean",
    max_length: int = 512,
    batch_size: int = 8,
    max_samples: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> IDProfile:
    """Measure the intrinsic dimension (ID) of each layer's hidden states on your texts.

    Every text becomes one point for each layer: the layer's output, pooled over the text's tokens. The ID of these
    points is the number of directions in which the texts really differ there. The model runs once over the texts,
    without its output head, and is left exactly as it was: mode, hooks, caches, weights.

    Under ``torchrun`` or ``accelerate launch`` every process calls it with the same texts: they share the work, and all
    return the same profile, which does not depend on how many they are.

    Args:
        model: Any transformers model with weights: causal, encoder, encoder-decoder or vision, quantised or not, on
            one device or under a `device_map`.
        tokenizer: Its tokenizer (no padding token needed), or None if `texts` are model inputs.
        texts: Texts like those you will train on, some hundred at least; or one mapping of model inputs for each
            sample, without batch dimension, for example ``{"pixel_values": tensor}``. Equal ones are used once.
        estimator: How points become a dimension.
        pooling: ``"mean"`` over a text's tokens or its ``"last"`` token. It decides the ID more than the estimator
            does; never compare profiles across it.
        max_length: Texts are cut after so many tokens (or where the model's positions end); the cut ones are counted.
        batch_size: Texts in a batch; they are sorted by length, so that little is padded.
        max_samples: Use a random sample of so many texts.
        tolerance: Read texts in a random order and stop as soon as, for every layer, the half-width of the 95 %
            interval of the ID, and the last change of the rank, are at most so many ranks. None reads all texts.
        seed: The seed of subsampling, of the order under `tolerance`, and of the half samples.
        progress: Show a progress bar.

    Returns:
        The profile.

    Warns:
        RankSelectWarning: If two halves of the texts do not agree on the order of the layers by ID.

    Raises:
        TextsError: If there are too few distinct texts, or empty ones.
        ModelError: If the model has no layers, no weights, or hidden states that overflow.
        ArgumentError: If an argument is outside its range.
        PointsError: If the hidden states of a layer have no intrinsic dimension (they are all equal, say).

    References:
        Facco et al., *Estimating the intrinsic dimension of datasets by a minimal neighborhood information*, 2017,
        doi:10.1038/s41598-017-11873-y; Valeriani et al., *The geometry of hidden representations of large transformer
        models*, 2023, arXiv:2302.00294.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> profile = rs.id_profile(tiny_model(), tiny_tokenizer(), tiny_texts(60), progress=False)
        >>> profile.layers
        ('model.layers.0', 'model.layers.1')
        >>> bool((profile.intervals[:, 0] < profile.values).all())
        True
    """
    return measure_profile(
        Calibration(
            model,
            tokenizer,
            texts,
            estimator=estimator,
            pooling=pooling,
            max_length=max_length,
            batch_size=batch_size,
            max_samples=max_samples,
            tolerance=tolerance,
            seed=seed,
            progress=progress,
        )
    )


def measure_profile(calibration: Calibration) -> IDProfile:
    """`id_profile`, its arguments in one object."""
    require_model(calibration.model)
    processes = Processes.sharing(calibration.model)
    samples, limit = processes.together(lambda: _read_texts(calibration))
    states = processes.together(
        lambda: HiddenStates(
            calibration.model,
            samples,
            calibration.tokenizer,
            pooling=calibration.pooling,
            batch_size=calibration.batch_size,
            processes=processes,
        )
    )
    if processes.count > 1:
        processes.require_same(_what_must_agree(calibration, samples, states))
    is_first = Processes.current().is_first
    previous: Estimates | None = None
    hidden = not (calibration.progress and is_first)
    with tqdm(total=len(samples), unit="text", desc="ID profile", disable=hidden) as bar:
        for new, used in _stages(len(samples), calibration):
            states.read(new, bar)
            last = len(used) == len(samples)
            found = estimate_layers(states, used, calibration, processes, release=last)
            if last or (previous is not None and found.is_stable(previous, calibration.tolerance or 0.0)):
                break
            previous = found
    if found.agreement < _SETTLED and is_first:
        warnings.warn(
            f"The order of the layers by ID is not settled: two halves of the {len(used)} texts agree on it with a "
            f"mean rank correlation of {found.agreement:.2f} (1 is settled, 0 is chance). Differences between "
            "layers may be noise: use more texts, or one rank for all layers (IntrinsicMean).",
            RankSelectWarning,
            stacklevel=3,
        )
    return _profile(found, calibration, samples, used, limit)


def _read_texts(calibration: Calibration) -> tuple[Samples, int]:
    """The texts as tokens, and after how many of them a text was cut."""
    _check_arguments(calibration)
    input_device(calibration.model)  # a model without weights is refused before the texts are tokenized
    limit = longest_input(calibration.model, calibration.tokenizer, calibration.max_length)
    samples = encode(calibration.tokenizer, calibration.texts, limit, calibration.max_samples, calibration.seed)
    if limit < calibration.max_length and samples.n_truncated:
        logger.info("%d texts are cut at %d tokens, all that the model reads.", samples.n_truncated, limit)
    _require_enough(samples, calibration.estimator)
    return samples, limit


def _what_must_agree(calibration: Calibration, samples: Samples, states: HiddenStates) -> dict[str, Any]:
    """What several processes must have in common to share the work, short enough to be shown."""
    first = next(calibration.model.parameters(), None)
    return {
        "number of distinct texts": len(samples),
        "texts (by their hash)": samples.digest_of(np.arange(len(samples)))[:12],
        "number of layers": len(states.names),
        "weights (the first few)": None if first is None or first.is_meta else first.flatten()[:8].tolist(),
        **{name: repr(getattr(calibration, name)) for name in _SETTINGS},
    }


def _stages(n: int, calibration: Calibration) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows to read next and all rows read by then; one stage unless there is a tolerance to stop at."""
    if calibration.tolerance is None:
        yield np.arange(n), np.arange(n)
        return
    order = np.random.default_rng(calibration.seed).permutation(n)
    start, stop = 0, max(_FIRST_STAGE, _fewest(calibration.estimator))
    while start < n:
        stop = n if stop * 1.5 > n else stop
        yield order[start:stop], order[:stop]
        start, stop = stop, 2 * stop


def _profile(
    found: Estimates, calibration: Calibration, samples: Samples, used: NDArray[np.int64], limit: int
) -> IDProfile:
    config = getattr(unwrapped(calibration.model), "config", None)
    if len(used) < len(samples):
        logger.info("Every layer's rank was stable within %s after %d texts.", calibration.tolerance, len(used))
    return IDProfile(
        layers=tuple(found.values),
        values=np.array(list(found.values.values())),
        stderr=np.array(list(found.stderr.values())),
        input_values=found.input_values,
        measurement=Measurement(
            estimator=repr(calibration.estimator),
            pooling=calibration.pooling,
            max_length=limit,
            seed=calibration.seed,
            n_texts=len(used),
            n_duplicates=samples.n_duplicates,
            n_truncated=samples.n_truncated,
            texts_digest=samples.digest_of(used),
            model_name=str(getattr(config, "_name_or_path", "") or type(calibration.model).__name__),
            model_type=str(getattr(config, "model_type", "")),
            width=found.width,
            order_agreement=found.agreement,
            versions=_versions(),
        ),
    )


def _check_arguments(calibration: Calibration) -> None:
    for name in ("max_length", "batch_size"):
        value = getattr(calibration, name)
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(
                f"{name} of at least 1", repr(value), f"Use {name}={8 if name == 'batch_size' else 512}."
            )
    if calibration.pooling not in ("mean", "last"):
        raise ArgumentError(
            "pooling 'mean' or 'last'", repr(calibration.pooling), "Use 'mean' unless you know why not."
        )
    if calibration.tolerance is not None and not calibration.tolerance > 0:
        raise ArgumentError("a tolerance above 0 ranks, or None", repr(calibration.tolerance), "Try tolerance=1.")


def _require_enough(samples: Samples, estimator: Estimator) -> None:
    needed = _fewest(estimator)
    if len(samples) < needed:
        dropped = f" ({samples.n_duplicates} more are duplicates)" if samples.n_duplicates else ""
        raise TextsError(
            f"at least {needed} distinct texts for {estimator!r}",
            f"{len(samples)}{dropped}",
            "Add texts; some hundred are needed for differences between layers to mean anything.",
        )


def _fewest(estimator: Estimator) -> int:
    """How many texts there must be for half of them to have the neighbours that the estimator looks at."""
    return 2 * (estimator.neighbors_needed + 1) if isinstance(estimator, NeighborEstimator) else 6


def _versions() -> dict[str, str]:
    found = {}
    for package in ("rankselect", "torch", "transformers", "numpy", "scikit-dimension", "bitsandbytes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
