"""Evidence about single modules: the singular values of one matrix for each, kept, checked, saved and drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rankselect.calibration.evidence import Evidence
from rankselect.errors import EvidenceError, FileFormatError, MissingExtraError, with_article
from rankselect.files import field as checked
from rankselect.files import package_versions, read_document, write_document
from rankselect.models.layers import layer_names, unwrapped, widths
from rankselect.models.names import model_name
from rankselect.models.quantized_layers import quantization_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import nn
    from typing_extensions import Self

    from rankselect.plan.targets import Target

__all__ = ["ModuleSpectra", "described_model"]

_VERSION = 1
_VERSIONS_OF = ("rankselect", "torch", "transformers", "numpy", "bitsandbytes")


@dataclass(frozen=True, eq=False)
class ModuleSpectra(Evidence):
    """The base of evidence that has singular values for each module.

    Subclass it, set `file_format` and `about`, and write `measure`.

    Attributes:
        file_format: The name of its file format.
        about: The matrix whose singular values these are, for the picture and for errors.
        values: ``{full module name: singular values, the largest first}``. There may be fewer than the module's rank.
        sizes: ``{full module name: (d_in, d_out)}``.
        scores: ``{name of a score: {full module name: number}}``.
        measurement: How it was measured: model, number of rows, their digest, settings, versions.

    Raises:
        EvidenceError: If a number is not finite or is negative, or modules differ between the parts.
    """

    file_format: ClassVar[str]
    about: ClassVar[str]

    values: Mapping[str, NDArray[np.float64]]
    sizes: Mapping[str, tuple[int, int]]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measurement: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrays = {name: np.array(values, dtype=np.float64) for name, values in self.values.items()}
        for array in arrays.values():
            array.flags.writeable = False
        object.__setattr__(self, "values", arrays)
        self._check_numbers()

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules, in model order."""
        return tuple(self.values)

    def of(self, targets: Sequence[Target]) -> list[NDArray[np.float64]]:
        """The singular values of each target.

        Raises:
            EvidenceError: If a target was not measured.
        """
        self._require(targets)
        return [self.values[target.name] for target in targets]

    def score(self, name: str, targets: Sequence[Target]) -> dict[str, float]:
        """A score of each target.

        Raises:
            EvidenceError: If a target was not measured.
        """
        self._require(targets)
        return {target.name: self.scores[name][target.name] for target in targets}

    def check(self, model: nn.Module) -> None:
        """Refuse to plan for another model.

        Raises:
            EvidenceError: If the model lacks a module, or has it in another size.
        """
        modules = dict(unwrapped(model).named_modules())
        for name, size in self.sizes.items():
            found = modules.get(name)
            if found is None or widths(found) != size:
                got = "no such module" if found is None else f"{name} of {_size(widths(found))}"
                measured = self.measurement.get("model_name", "the one measured")
                raise EvidenceError(
                    f"a model with {name} of {_size(size)}, as {measured}",
                    f"{with_article(type(model).__name__)} with {got}",
                    "This evidence is about another model: measure this one.",
                )

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the size of each module's matrix (Frobenius norm) against the layers, one line for each type of module.

        Args:
            ax: Axes to draw into; a new figure otherwise.

        Raises:
            MissingExtraError: If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("matplotlib", "plot") from error
        axes: Axes = Figure(figsize=(7.2, 4.2), layout="constrained").subplots() if ax is None else ax
        by_type: dict[str, list[float]] = {}
        for name, values in self.values.items():
            by_type.setdefault(name.rpartition(".")[2], []).append(float(np.sqrt((values**2).sum())))
        for label, norms in by_type.items():
            axes.plot(range(len(norms)), norms, "o-", markersize=3, lw=1, label=label)
        if any(norm > 0 for norms in by_type.values() for norm in norms):
            axes.set_yscale("log")
        axes.set_xlabel("modules of a type, in model order")
        axes.set_ylabel(f"norm of the {self.about}")
        axes.set_title(f"{self.measurement.get('model_name', '')} {self.about}".strip(), fontsize=10)
        axes.legend(fontsize=8, ncols=2)
        return axes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the evidence as JSON; an existing file is replaced in one step."""
        modules = [
            {"name": name, "d_in": self.sizes[name][0], "d_out": self.sizes[name][1], "values": values.tolist()}
            for name, values in self.values.items()
        ]
        scores = {name: dict(numbers) for name, numbers in self.scores.items()}
        document = {"modules": modules, "scores": scores, "measurement": dict(self.measurement)}
        write_document(path, {"format": self.file_format, "version": _VERSION, **document})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read evidence that `save` wrote.

        Raises:
            FileFormatError: If the file is damaged, of another kind or of a newer version.
        """
        document = read_document(path, cls.file_format, _VERSION)
        modules = checked(document, "modules", list, path)
        try:
            return cls(
                values={module["name"]: module["values"] for module in modules},
                sizes={module["name"]: (int(module["d_in"]), int(module["d_out"])) for module in modules},
                scores=checked(document, "scores", dict, path),
                measurement=checked(document, "measurement", dict, path),
            )
        except (EvidenceError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                "an undamaged file of evidence", f"{path}, whose content does not fit ({error})", "Measure it again."
            ) from error

    def _require(self, targets: Sequence[Target]) -> None:
        missing = [target.name for target in targets if target.name not in self.values]
        if missing:
            raise EvidenceError(
                f"{with_article(type(self).__name__)} of all {len(targets)} target modules",
                f"one of {len(self.values)} modules, without {missing[0]}",
                "Measure it with the same target_modules as the plan's.",
            )

    def _check_numbers(self) -> None:
        if not self.values:
            raise EvidenceError(f"the {self.about} of at least one module", "none", "Name target modules.")
        parts: list[Iterable[str]] = [self.sizes, *self.scores.values()]
        if any(set(part) != set(self.values) for part in parts):
            raise EvidenceError(
                "the same modules in all parts of the evidence",
                ", ".join(str(len(set(part))) for part in (self.values, *parts)),
                "Measure it again.",
            )
        numbers = {name: [values] for name, values in self.values.items()}
        for score in self.scores.values():
            for name, number in score.items():
                numbers[name].append(np.array([number]))
        for name, found in numbers.items():
            flat = np.concatenate(found)
            if not (np.isfinite(flat) & (flat >= 0)).all():
                raise EvidenceError(
                    f"finite numbers of at least 0 for the {self.about}", f"others for {name}", "Measure it again."
                )


def described_model(model: nn.Module) -> dict[str, Any]:
    """The part of a measurement that names the model and the versions."""
    config = getattr(unwrapped(model), "config", None)
    return {
        "model_name": model_name(model) or type(model).__name__,
        "model_type": str(getattr(config, "model_type", "")),
        "n_layers": len(layer_names(model)),
        "quantization": quantization_of(model),
        "versions": package_versions(*_VERSIONS_OF),
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
