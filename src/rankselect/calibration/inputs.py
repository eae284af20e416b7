"""Input spectra: how much of each module's input few directions explain."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import torch
from tqdm.auto import tqdm

from rankselect.calibration.incremental_pca import IncrementalPCA
from rankselect.calibration.loss_batches import loss_batches
from rankselect.calibration.module_spectra import ModuleSpectra, described_model
from rankselect.data.encoding import IGNORED
from rankselect.errors import ArgumentError, EvidenceError, TargetError
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import unwrapped
from rankselect.models.trunk import input_device
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Calibration
    from rankselect.calibration.loss_batches import LossBatch

__all__ = ["InputSpectra", "eva_ranks"]

_MOST_PASSES = 20


@final
@dataclass(frozen=True, eq=False)
class InputSpectra(ModuleSpectra):
    """The largest principal components of each module's input, by the algorithm of EVA.

    Batches are read, again and again if need be, until the directions that decide the ranks stay where they are (a
    cosine of .99 between one batch and the next). Modules with the same input share it. Of rows, the tokens of the
    answers count; of texts, all tokens.

    Values are singular values of the centered inputs; the score ``"total"`` is the sum of their squares over all
    directions.

    Cost: forward passes over some tens of batches, and a small decomposition for each input in each.

    References:
        Paischer et al., *One initialization to rule them all: Fine-tuning via explained variance adaptation*, 2024,
        arXiv:2410.07170.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> calibration = rs.Calibration(tiny_model(), tiny_tokenizer(), tiny_texts(40), progress=False)
        >>> spectra = InputSpectra.measure(calibration, rank=2)
        >>> len(spectra.modules), len(spectra.values[spectra.modules[0]])
        (4, 4)
    """

    file_format: ClassVar[str] = "rankselect.input_spectra"
    about: ClassVar[str] = "input"

    @classmethod
    def measure(cls, calibration: Calibration, *, rank: int = 8, rho: float = 2.0) -> InputSpectra:
        """Measure the inputs of a calibration's target modules; the model is left as it was.

        Args:
            calibration: The model, with question-answer rows or texts.
            rank: The uniform rank that the ranks are to replace.
            rho: No module gets more than rho times that rank, so that many components are kept.

        Raises:
            TextsError: If there are fewer than two rows, or none that are texts.
            ModelError: If the model is not causal.
            TargetError: If `target_modules` match nothing, or embeddings.
            ArgumentError: If an argument is out of its range, or a module is too narrow for it.
            EvidenceError: If a module gets too few tokens in every batch.
        """
        targets = find_targets(calibration.model, calibration.target_modules)
        modules = {t.name: unwrapped(calibration.model).get_submodule(t.name) for t in targets}
        _check(modules, min(t.d_in for t in targets), rank, rho)
        batches = loss_batches(calibration)
        reader = _Reader(calibration.model, modules, rank, rho)
        limit = _MOST_PASSES * len(batches.batches)
        rounds = islice(cycle(batches.batches), limit)
        with evaluating(calibration.model), tqdm(desc="inputs", unit="batch", disable=not calibration.progress) as bar:
            n_batches = reader.read_until_settled(rounds, bar.update)
        missing = [name for name, pca in reader.pcas.items() if pca.components is None]
        if missing:
            raise EvidenceError(
                f"batches of at least {round(rank * rho)} tokens for every module",
                f"none for {missing[0]}",
                "Raise the batch size, or use longer rows.",
            )
        found = {t.name: reader.pcas[reader.shared_with[t.name]] for t in targets}
        measurement = {
            **described_model(calibration.model),
            **batches.described(calibration),
            "rank": rank,
            "rho": rho,
            "n_batches": n_batches,
            "settled": n_batches < limit,
            "shared_with": reader.shared_with,
        }
        values = {name: np.asarray(pca.singular_values.cpu(), dtype=np.float64) for name, pca in found.items()}
        totals = {name: pca.total for name, pca in found.items()}
        return cls(values, {t.name: (t.d_in, t.d_out) for t in targets}, {"total": totals}, measurement)

    def explained(self, name: str) -> np.ndarray:
        """The share of the variance of a module's input that each of its components explains."""
        return np.asarray(self.values[name] ** 2 / (self.scores["total"][name] or 1.0))


def eva_ranks(explained: Mapping[str, Sequence[float]], shared_with: Mapping[str, str], rank: int) -> dict[str, int]:
    """EVA's ranks: the shares of all modules in one pool, of which the largest are taken.

    Of modules with one input, the first gets the largest of their ranks.

    Args:
        explained: ``{full module name: shares, the largest first}``.
        shared_with: ``{full module name: the first module with the same input}``.
        rank: As many ranks are given out as this one has in all modules.

    Example:
        >>> eva_ranks({"q": [0.5, 0.3], "o": [0.4, 0.1]}, {"q": "q", "o": "o"}, 1)
        {'q': 1, 'o': 1}
    """
    first = [name for name, other in shared_with.items() if name == other]
    later = sorted((name for name in shared_with if name not in first), key=lambda name: first.index(shared_with[name]))
    pool = [(share, name) for name in (*first, *later) for share in explained[name]]
    ranks = dict.fromkeys(explained, 0)
    for _, name in sorted(pool, key=lambda each: -each[0])[: rank * len(explained)]:
        ranks[name] += 1
    for name in later:
        other = shared_with[name]
        ranks[other], ranks[name] = max(ranks[other], ranks[name]), min(ranks[other], ranks[name])
    return ranks


class _Reader:
    """The components of all inputs while batches are read."""

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module], rank: int, rho: float) -> None:
        self._model, self._modules, self._rank = model, modules, rank
        self._n = round(rank * rho)
        self.pcas: dict[str, IncrementalPCA] = {}
        self.shared_with: dict[str, str] = {}
        self._cosines: dict[str, torch.Tensor] = {}
        self._ranks: dict[str, int] = {}
        self._mask = torch.empty(0)

    def read_until_settled(self, batches: Any, advance: Any) -> int:
        """Read batches until all directions that decide the ranks are settled; how many were read."""
        n_read = 0
        for batch in batches:
            if not self.shared_with:
                self._find_shared(batch)
            unsettled = [name for name in self.pcas if not self._is_settled(name)]
            if not unsettled:
                break
            self._run(batch, {name: self._update(name) for name in unsettled})
            n_read += 1
            advance()
            if all(pca.components is not None for pca in self.pcas.values()):
                shares = {name: self.pcas[other].explained.tolist() for name, other in self.shared_with.items()}
                self._ranks = eva_ranks(shares, self.shared_with, self._rank)
        return n_read

    def _is_settled(self, name: str) -> bool:
        cosines = self._cosines.get(name)
        return cosines is not None and bool((cosines[: self._ranks.get(name, self._n)] >= 0.99).all())

    def _update(self, name: str) -> Any:
        pca = self.pcas[name]

        def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            points = self._points(given[0])
            if len(points) < pca.n_components:
                return
            before = pca.components
            pca.update(points)
            if before is not None and pca.components is not None:
                self._cosines[name] = torch.nn.functional.cosine_similarity(pca.components, before)

        return hook

    def _points(self, inputs: torch.Tensor) -> torch.Tensor:
        points = inputs.reshape(-1, inputs.shape[-1])
        if len(points) == self._mask.numel():  # an expert of a mixture sees some of the tokens only
            points = points[self._mask.reshape(-1).to(points.device)]
        return points.detach()

    def _find_shared(self, batch: LossBatch) -> None:
        """Which modules have the same input, by the numbers in it."""
        seen: dict[tuple[Any, ...], str] = {}

        def note(name: str) -> Any:
            def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
                points = given[0].double()
                key = (
                    tuple(points.shape),
                    float(points.sum()),
                    float(points.square().sum()),
                    float(points.flatten()[0]),
                )
                self.shared_with[name] = seen.setdefault(key, name)

            return hook

        self._run(batch, {name: note(name) for name in self._modules})
        for name in self._modules:
            self.shared_with.setdefault(name, name)  # an expert that saw nothing
        self.shared_with = {name: self.shared_with[name] for name in self._modules}
        self.pcas = {name: IncrementalPCA(self._n) for name in dict.fromkeys(self.shared_with.values())}

    def _run(self, batch: LossBatch, hooks: Mapping[str, Any]) -> None:
        model: Any = self._model
        device = input_device(self._model)
        self._mask = batch.inputs["attention_mask"].bool() & (batch.inputs["labels"] != IGNORED)
        with ExitStack() as stack:
            for name, hook in hooks.items():
                stack.callback(self._modules[name].register_forward_pre_hook(hook).remove)
            inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items() if name != "labels"}
            model(**inputs, use_cache=False)


def _check(modules: Mapping[str, nn.Module], narrowest: int, rank: int, rho: float) -> None:
    embeddings = [name for name, module in modules.items() if hasattr(module, "num_embeddings")]
    if embeddings:
        raise TargetError(
            "linear modules, for EVA", f"the embedding {embeddings[0]}", "Leave it out of target_modules."
        )
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ArgumentError("a rank of at least 1", repr(rank), "Common are 8 and 16.")
    if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not 1 <= rho < 1000:
        raise ArgumentError("a rho of at least 1", repr(rho), "2 lets a module have twice the rank.")
    if 2 * round(rank * rho) > narrowest:
        raise ArgumentError(
            f"2 x rank x rho of at most {narrowest}, the width of the narrowest input",
            str(2 * round(rank * rho)),
            "Lower the rank or rho.",
        )
