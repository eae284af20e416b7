"""An adapter cut to smaller ranks, or filled up to larger ones, as PEFT reads it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch

from rankselect.adapters.adapter_folder import WEIGHTS
from rankselect.adapters.resized_ranks import NOTHING
from rankselect.adapters.spectra import square_root
from rankselect.adapters.tensor_file import TensorFile
from rankselect.errors import AdapterError
from rankselect.models.low_rank import low_rank_svd
from rankselect.plan.patterns import expression, value_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from peft import LoraConfig

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.lora_delta import LoraModule

    Factors = tuple[torch.Tensor, torch.Tensor]

__all__ = ["ResizedAdapter"]


@final
@dataclass(frozen=True, eq=False)
class ResizedAdapter:
    """An adapter with other ranks. Its factors are computed when they are asked for, one module at a time.

    Attributes:
        adapter: The adapter as it is.
        ranks: ``{full module name: rank}``; modules of rank 0 are left out.
        moments: ``{full module name: second moment of the output of A on rows, (r, r)}``, to lose least of what the
            modules add to their outputs; None to lose least of the updates themselves.
        seed: Of the rows of A that are added.
    """

    adapter: AdapterFolder
    ranks: Mapping[str, int]
    moments: Mapping[str, torch.Tensor] | None = None
    seed: int = 0

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {module.name: number for number, module in enumerate(self.adapter.modules)}

    @property
    def modules(self) -> list[LoraModule]:
        """The modules that stay, as they are now."""
        return [module for module in self.adapter.modules if self.ranks[module.name]]

    def factors(self, module: LoraModule) -> Factors:
        r"""A and B of the new rank, in float32, with the scale unchanged.

        A smaller rank keeps the left singular vectors U of B A with the largest values: :math:`B' A' = U U^\top B A`.
        With moments M, they are those of :math:`B M^{1/2}`. The same rank keeps A and B as they are. A larger rank adds
        rows to A as PEFT begins them, and zeros to B, so that nothing changes and training can use them.
        """
        a, b = (factor.float() for factor in self.adapter.factors(module))
        rank = self.ranks[module.name]
        if rank < module.rank:
            left = self._outputs(module, a, b)
            right = (left.T @ b) @ a
            balance = right.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny).sqrt()
            a, b = right / balance[:, None], left * balance
        new_a, new_b = torch.zeros(rank, module.d_in), torch.zeros(module.d_out, rank)
        n = len(a)
        new_a[:n], new_b[:, :n] = a, b
        generator = torch.Generator().manual_seed(self.seed + self._numbers[module.name])
        if module.kind == "embedding":  # PEFT begins these the other way round
            new_b[:, n:] = torch.randn(module.d_out, rank - n, generator=generator)
        else:
            bound = module.d_in**-0.5
            new_a[n:] = torch.empty(rank - n, module.d_in).uniform_(-bound, bound, generator=generator)
        return new_a, new_b

    def stored(self, module: LoraModule) -> Factors:
        """A and B of the new rank in the adapter's dtype, as `write` stores them.

        Raises:
            AdapterError: If a weight overflows the dtype.
        """
        return self._stored(module, self.factors(module))

    def _outputs(self, module: LoraModule, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """An orthonormal basis of the outputs that are kept; fewer than the rank if the update has not so many."""
        rank = self.ranks[module.name]
        u, sigma, _ = low_rank_svd(b, a)
        n_used = min(rank, int((sigma > NOTHING * sigma[0]).sum()))
        if self.moments is None:
            return u[:, :n_used]
        u, sigma, _ = low_rank_svd(b, square_root(self.moments[module.name]))
        seen = u[:, : min(n_used, int((sigma > NOTHING * sigma[0]).sum()))]
        rest = b - seen @ (seen.T @ b)  # what the rows do not reach: the rest of the rank is spent on it
        return torch.cat([seen, low_rank_svd(rest, a)[0][:, : n_used - seen.shape[1]]], dim=1)

    def write(self, folder: Path, factors: Callable[[LoraModule], Factors] | None = None) -> float:
        """Write the adapter in its own dtype.

        Args:
            folder: The folder; files in it are replaced.
            factors: What gives the factors of a module; None for the method of this class.

        Returns:
            The rounding: the norm of the difference that the dtype makes, divided by that of the update.

        Raises:
            AdapterError: If a weight overflows the dtype.
        """
        lost = total = 0.0
        with TensorFile(folder / WEIGHTS, self._layout()) as file:
            for key in self.adapter.full_parameters.values():
                file.write(key, self.adapter.tensor(key))
            for module in self.modules:
                exact = (factors or self.factors)(module)
                stored = self._stored(module, exact)
                for key, tensor in zip(module.keys, stored, strict=True):
                    file.write(key, tensor)
                size, difference = _norms(exact, stored)
                total, lost = total + (module.scale * size) ** 2, lost + (module.scale * difference) ** 2
        self._config().save_pretrained(str(folder))
        self.adapter.copy_other_files(folder)
        return float((lost / total) ** 0.5) if total else 0.0

    def _stored(self, module: LoraModule, exact: Factors) -> Factors:
        key_a, key_b = module.keys
        stored = exact[0].to(self.adapter.dtype(key_a)), exact[1].to(self.adapter.dtype(key_b))
        for tensor in stored:
            if not tensor.isfinite().all():
                got = f"{module.name}, whose weights overflow"
                raise AdapterError(f"weights that fit into {tensor.dtype}", got, "Save the adapter in bfloat16 first.")
        return stored

    def _layout(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        adapter = self.adapter
        layout = {key: (adapter.shape(key), adapter.dtype(key)) for key in adapter.full_parameters.values()}
        for module in self.modules:
            (key_a, key_b), rank = module.keys, self.ranks[module.name]
            layout[key_a] = ((rank, module.d_in), adapter.dtype(key_a))
            layout[key_b] = ((module.d_out, rank), adapter.dtype(key_b))
        return layout

    def _config(self) -> LoraConfig:
        """The config with the new ranks, and alphas with which every scale stays as it is."""
        config = copy.deepcopy(self.adapter.config)
        power = 0.5 if config.use_rslora else 1.0
        ranks = {module.name: self.ranks[module.name] for module in self.modules}
        alphas = {module.name: round(module.scale * ranks[module.name] ** power, 9) for module in self.modules}
        config.r, config.rank_pattern = value_patterns(ranks)
        config.lora_alpha, config.alpha_pattern = value_patterns(alphas)
        config.init_lora_weights = True
        left_out = [module.name for module in self.adapter.modules if not self.ranks[module.name]]
        if left_out:
            ambiguous = any(end in ranks for name in left_out for end in _ends(name))
            config.target_modules = expression(ranks) if ambiguous else sorted(ranks)
            config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
        return config


def _ends(name: str) -> list[str]:
    """What a name ends with, at every dot but without the name itself: PEFT takes a module whose name ends so."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]


def _norms(exact: Factors, stored: Factors) -> tuple[float, float]:
    """The norm of a product of factors, and of its difference to the product of stored ones."""
    (a, b), (other_a, other_b) = exact, stored
    size = float(low_rank_svd(b, a)[1].norm())
    if torch.equal(a, other_a.float()) and torch.equal(b, other_b.float()):
        return size, 0.0
    both_a, both_b = torch.cat([a, other_a.float()]), torch.cat([b, -other_b.float()], dim=1)
    return size, float(low_rank_svd(both_b, both_a)[1].norm())
