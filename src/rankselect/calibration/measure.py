"""`id_profile`: one intrinsic dimension for every layer, from a model and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rankselect.calibration.evidence import Calibration
from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import ArgumentError
from rankselect.estimators._base import estimator
from rankselect.estimators.twonn import TwoNN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.data.prompts import QuestionAnswer
    from rankselect.estimators._base import Estimator
    from rankselect.neighbors.near_duplicates import NearDuplicates

__all__ = ["id_profile", "id_profiles"]


def id_profile(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[QuestionAnswer],
    *,
    estimator: Estimator | str = TwoNN(),
    pooling: Literal["mean", "last"] = "mean",
    max_length: int = 512,
    batch_size: int = 8,
    max_samples: int | None = None,
    tolerance: float | None = None,
    near_duplicates: NearDuplicates = "drop",
    seed: int = 0,
    autocast: Literal["bfloat16"] | None = None,
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
            sample, without batch dimension, for example ``{"pixel_values": tensor}``; or question-answer rows, each
            as one text of the default template. Equal ones are used once.
        estimator: How points become a dimension: an estimator, or its name as the command line takes it
            (``"mle:n_neighbors=10"``).
        pooling: ``"mean"`` over a text's tokens or its ``"last"`` token. It decides the ID more than the estimator
            does; never compare profiles across it.
        max_length: Texts are cut after so many tokens (or where the model's positions end); the cut ones are counted.
        batch_size: Texts in a batch. Texts are sorted by length, so that there is little padding.
        max_samples: Use a random sample of so many texts.
        tolerance: Read texts in a random order and stop as soon as, for every layer, the half-width of the 95 %
            interval of the ID, and the last change of the rank, are at most this many ranks. None reads all texts.
        near_duplicates: Texts that differ only in white space, case, Unicode form or punctuation at their end are
            always used once. Of other near-copies (a typo, a prefix), which show as pairs of points much closer to each
            other than to the rest, ``"drop"`` uses one, and ``"keep"`` both, which lowers the IDs.
        seed: The seed of subsampling, of the order under `tolerance`, and of the half samples.
        autocast: ``"bfloat16"`` multiplies matrices in bfloat16 (`torch.autocast`), for a model in float32 on a
            processor or GPU with bfloat16 units. IDs change by less than .5.
        progress: Show a progress bar.

    Returns:
        The profile.

    Warns:
        RankSelectWarning: If 1 % of the texts or more are copies or near-copies of others, or if two halves of the
            texts do not agree on the order of the layers by ID.

    Raises:
        TextsError: If there are too few distinct texts, or empty ones.
        ModelError: If the model has no layers, no weights, or hidden states that overflow.
        ArgumentError: If an argument is outside its range.
        PointsError: If the hidden states of a layer have no intrinsic dimension (for example if they are all equal).

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
    return IDProfile.measure(Calibration(**locals()))


def id_profiles(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[QuestionAnswer],
    *,
    poolings: Sequence[Literal["mean", "last"]] = ("mean", "last"),
    estimators: Sequence[Estimator | str] = (TwoNN(),),
    **settings: Any,
) -> dict[tuple[str, str], IDProfile]:
    """Measure several profiles in one pass over the texts: for each pooling, and for each estimator.

    Each is the profile that `id_profile` measures with this pooling and estimator.

    Args:
        model: As for `id_profile`.
        tokenizer: As for `id_profile`.
        texts: As for `id_profile`.
        poolings: The poolings.
        estimators: The estimators, or their names.
        **settings: Other arguments of `id_profile`, but for ``tolerance``, since all texts are read.

    Returns:
        ``{(pooling, repr of the estimator): profile}``.

    Raises:
        ArgumentError: If there is no pooling or no estimator, one is given twice, or a setting is out of range.
        RankSelectError: As for `id_profile`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> profiles = rs.id_profiles(tiny_model(), tiny_tokenizer(), tiny_texts(40), progress=False)
        >>> [pooling for pooling, _ in profiles]
        ['mean', 'last']
    """
    chosen = [estimator(each) for each in estimators]
    for what, given in (("poolings", list(poolings)), ("estimators", chosen)):
        if not given or len(set(map(repr, given))) < len(given):
            raise ArgumentError(f"at least one of {what}, each once", repr(given), "For example ('mean', 'last').")
    if settings.get("tolerance") is not None:
        raise ArgumentError("no tolerance for several profiles", repr(settings["tolerance"]), "Use id_profile.")
    return IDProfile.measure_together(Calibration(model, tokenizer, texts, **settings), poolings, chosen)
