"""The plan: a rank and an alpha for every module, as a PEFT config and as a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, final, get_args

from peft import LoraConfig

from rankselect.errors import ArgumentError, FileFormatError, described
from rankselect.files import field, read_document, write_document
from rankselect.plan import table
from rankselect.plan.patterns import value_patterns
from rankselect.plan.planned_module import PlannedModule
from rankselect.plan.verify import verify

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import nn

__all__ = ["RankPlan", "require_plan"]

_FORMAT, _VERSION = "rankselect.rank_plan", 2
_AlphaRule = Literal["ratio", "fixed", "rank-stabilized"]
_SET_BY_THE_PLAN = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern")
_CHANGE_THE_TARGETS = (
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "layer_replication",
    "target_parameters",
)


@final
@dataclass(frozen=True)
class RankPlan:
    r"""The rank of each module: the result of a strategy, and the input of PEFT.

    Attributes:
        modules: Every target module in model order, with rank and alpha.
        target_modules: The shortest `target_modules` with which PEFT adapts exactly these modules.
        strategy: The `repr` of the strategy that made the plan.
        model_name: The model's name or path.
        base_parameters: The number of the base model's parameters, each quantised weight counted as one.
        alpha_rule: What happens to alpha if the plan is scaled: ``"ratio"`` keeps alpha / rank, ``"fixed"`` and
            ``"rank-stabilized"`` keep alpha. Updates are scaled by alpha / sqrt(rank) if it is ``"rank-stabilized"``,
            and by alpha / rank otherwise.

    Example:
        >>> from torch import nn
        >>> import rankselect as rs
        >>> block = lambda: nn.ModuleDict({"q_proj": nn.Linear(16, 16), "fc1": nn.Linear(16, 64)})
        >>> model = nn.ModuleDict({"layers": nn.ModuleList([block(), block()])})
        >>> profile = rs.IDProfile.from_values({"layers.0": 3.2, "layers.1": 6.8})
        >>> plan = rs.PerLayerID().plan(model, profile)
        >>> plan.ranks["layers.1.fc1"], plan.alphas["layers.1.fc1"], plan.trainable_parameters
        (7, 56.0, 1120)
        >>> plan.to_lora_config().rank_pattern
        {'^layers\\.1\\.(?:q_proj|fc1)': 7}
    """

    modules: tuple[PlannedModule, ...]
    target_modules: str | tuple[str, ...]
    strategy: str
    model_name: str
    base_parameters: int
    alpha_rule: _AlphaRule = "ratio"

    def __post_init__(self) -> None:
        if self.alpha_rule not in get_args(_AlphaRule):
            known = ", ".join(get_args(_AlphaRule))
            raise ArgumentError("a known alpha_rule", repr(self.alpha_rule), f"Known rules: {known}.")
        if not self.modules:
            raise ArgumentError("a plan of at least one module", "none", "Name target modules that the model has.")
        twice = len(self.modules) - len(self.ranks)
        if twice:
            raise ArgumentError("a plan with each module once", f"{twice} named twice", "Give one rank to a module.")

    @property
    def ranks(self) -> dict[str, int]:
        """``{full module name: rank}`` of every target module, in model order; a new dict each time."""
        return {module.target.name: module.rank for module in self.modules}

    @property
    def alphas(self) -> dict[str, float]:
        """``{full module name: alpha}`` of every target module, in model order; a new dict each time."""
        return {module.target.name: module.alpha for module in self.modules}

    @property
    def use_rslora(self) -> bool:
        """Whether updates are scaled by alpha / sqrt(rank), as with PEFT's ``use_rslora``."""
        return self.alpha_rule == "rank-stabilized"

    @property
    def scales(self) -> dict[str, float]:
        """``{full module name: factor of its update}`` of every target module, in model order; a new dict each time."""
        power = 0.5 if self.use_rslora else 1.0
        return {module.target.name: module.alpha / module.rank**power for module in self.modules}

    @property
    def rank_pattern(self) -> dict[str, int]:
        """PEFT's `rank_pattern`: an exact expression for each rank but the commonest, which is the config's ``r``."""
        return dict(self._rank_and_pattern[1])

    @property
    def alpha_pattern(self) -> dict[str, float]:
        """PEFT's `alpha_pattern`, built like `rank_pattern`. Without it, alpha / rank would change with the rank."""
        return dict(self._alpha_and_pattern[1])

    @property
    def trainable_parameters(self) -> int:
        """How many parameters the adapter trains."""
        return sum(module.target.parameters(module.rank) for module in self.modules)

    @property
    def trainable_percentage(self) -> float:
        """Trainable parameters in percent of all, adapter included, as PEFT prints it."""
        return 100 * self.trainable_parameters / (self.base_parameters + self.trainable_parameters)

    def scaled(self, scale: float) -> RankPlan:
        """Multiply every rank by one number: a smaller or larger adapter that spends its rank in the same places.

        Args:
            scale: The number. Ranks are rounded (half up) and clipped to the range of their module.

        Returns:
            A plan of the same modules. Alpha follows the rank, or stays, as the `alpha_rule` says.

        Example:
            >>> import rankselect as rs
            >>> from rankselect.testing import tiny_model
            >>> half = rs.Fixed(8).plan(tiny_model()).scaled(0.5)
            >>> set(half.ranks.values()), set(half.alphas.values()), half.strategy
            ({4}, {32.0}, 'Fixed(rank=8), ranks scaled by 0.5')
        """
        if scale == 1:
            return self
        modules = tuple(module.scaled(scale, keep_alpha=self.alpha_rule != "ratio") for module in self.modules)
        return replace(self, modules=modules, strategy=f"{self.strategy}, ranks scaled by {scale:.4g}")

    def to_lora_config(self, **lora_config_arguments: Any) -> LoraConfig:
        """The plan as a `peft.LoraConfig`.

        Args:
            **lora_config_arguments: Anything else that LoraConfig takes: ``task_type``, ``lora_dropout``, ….

        Raises:
            ArgumentError: If an argument is given that the plan decides, or that would change the targets.
        """
        for name in (*_SET_BY_THE_PLAN, *_CHANGE_THE_TARGETS):
            if name in lora_config_arguments:
                raise ArgumentError(
                    "LoraConfig arguments other than those that the plan decides",
                    name,
                    "Leave it out, or make another plan (target_modules, alpha, budget, max_rank are its arguments).",
                )
        if self.use_rslora and not lora_config_arguments.setdefault("use_rslora", True):
            raise ArgumentError(
                "use_rslora=True for a plan with rank-stabilized scales",
                "False",
                "Leave it out, or plan with FixedAlpha.",
            )
        alpha = self._alpha_and_pattern[0]
        return LoraConfig(
            r=self._rank_and_pattern[0],
            lora_alpha=alpha,  # type: ignore[arg-type]  # annotated as an int, but PEFT only divides by it
            target_modules=self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules),
            rank_pattern=self.rank_pattern,
            alpha_pattern=self.alpha_pattern,
            **lora_config_arguments,
        )

    @cached_property
    def _rank_and_pattern(self) -> tuple[int, dict[str, int]]:
        return value_patterns(self.ranks)

    @cached_property
    def _alpha_and_pattern(self) -> tuple[float, dict[str, float]]:
        alpha, pattern = value_patterns(self.alphas)
        return _whole(alpha), {key: _whole(value) for key, value in pattern.items()}

    def verify(self, peft_model: nn.Module) -> None:
        """Check that PEFT built exactly this plan: every module, rank, alpha and scaling, and nothing besides.

        Args:
            peft_model: The model that `peft.get_peft_model` returned (or a model with its active adapter injected).

        Raises:
            PlanMismatchError: If anything differs; the message lists the first differences.
        """
        verify(peft_model, self.ranks, self.alphas, rank_stabilized=self.use_rslora)

    def memory(self, model: nn.Module, **settings: Any) -> Any:
        """Deprecated: `rankselect.estimate_memory(model, plan, …)` is what this calls; it goes in 0.3."""
        warnings.warn(
            "RankPlan.memory is deprecated and goes in 0.3: call rankselect.estimate_memory(model, plan, …) instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        return import_module("rankselect").estimate_memory(model, self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """The plan in JSON values, as `save` writes it."""
        rule = {} if self.alpha_rule == "ratio" else {"alpha_rule": self.alpha_rule}
        return {
            "format": _FORMAT,
            "version": _VERSION if rule else 1,  # releases that know no other rule still read the rest
            "strategy": self.strategy,
            "model_name": self.model_name,
            "base_parameters": self.base_parameters,
            "target_modules": self.target_modules,
            **rule,
            "modules": [module.to_dict() for module in self.modules],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; an existing file is replaced in one step."""
        write_document(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RankPlan:
        """Read a plan that `save` wrote.

        Raises:
            FileFormatError: If the file is damaged, truncated, of another kind or of a newer version.
        """
        document = read_document(path, _FORMAT, _VERSION)
        targets = field(document, "target_modules", (str, list), path)
        try:
            return cls(
                modules=tuple(PlannedModule.from_dict(entry, path) for entry in field(document, "modules", list, path)),
                target_modules=targets if isinstance(targets, str) else tuple(targets),
                strategy=field(document, "strategy", str, path),
                model_name=field(document, "model_name", str, path),
                base_parameters=field(document, "base_parameters", int, path),
                alpha_rule=field({"alpha_rule": "ratio"} | document, "alpha_rule", _AlphaRule, path),
            )
        except ArgumentError as error:
            raise FileFormatError(
                error.expected, f"{error.got} in {path}", "The file is damaged: create it again."
            ) from error

    def __str__(self) -> str:
        return table.as_text(self.modules) + "\n" + self.summary

    def _repr_html_(self) -> str:
        return table.as_html(self.modules, self.summary)

    @property
    def summary(self) -> str:
        """The strategy, the range of ranks and the trainable parameters, in one line."""
        ranks: Sequence[int] = sorted(self.ranks.values())
        span = f"rank {ranks[0]}" if ranks[0] == ranks[-1] else f"ranks {ranks[0]} to {ranks[-1]}"
        return (
            f"{self.strategy}: {len(ranks)} modules, {span}, "
            f"{self.trainable_parameters:,} trainable parameters ({self.trainable_percentage:.2f} %)"
        )


def _whole(alpha: float) -> float:
    """An int where that is exact: PEFT's config files and their readers expect integer alphas where possible."""
    return int(alpha) if alpha.is_integer() else alpha


def require_plan(given: object) -> None:
    """Refuse what was passed instead of a plan: its file, a strategy, the PEFT config.

    Raises:
        ArgumentError: If it is not a plan.

    Example:
        >>> require_plan("plan.json")
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected a RankPlan, got 'plan.json'. Load a saved one with RankPlan.load, or \
make one with a strategy: Fixed(8).plan(model).
    """
    if not isinstance(given, RankPlan):
        remedy = "Load a saved one with RankPlan.load, or make one with a strategy: Fixed(8).plan(model)."
        raise ArgumentError("a RankPlan", described(given), remedy)
