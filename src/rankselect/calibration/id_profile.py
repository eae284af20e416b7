"""The profile: an intrinsic dimension with its interval for every layer, and how it was measured."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.calibration import picture
from rankselect.calibration.evidence import Evidence
from rankselect.calibration.profiling import ProfileSettings, measured, measured_together
from rankselect.errors import EvidenceError, FileFormatError
from rankselect.estimators.half_samples import Z_95
from rankselect.files import field as checked
from rankselect.files import read_document, write_document
from rankselect.models.layers import layer_names, unwrapped
from rankselect.models.names import model_name
from rankselect.plan.planned_module import nearest_rank

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import nn

    from rankselect.calibration.estimates import Estimates
    from rankselect.calibration.evidence import Calibration
    from rankselect.estimators._base import Estimator

__all__ = ["IDProfile"]

logger = logging.getLogger(__name__)

_FORMAT, _VERSION = "rankselect.id_profile", 1


@final
@dataclass(frozen=True, eq=False)
class IDProfile(Evidence):
    """The intrinsic dimension (ID) of every layer's hidden states.

    Attributes:
        layers: The names of the layers, in model order.
        values: (n_layers,) floats: the IDs.
        stderr: (n_layers,) floats: their standard errors over the choice of texts; None if unknown.
        input_values: ``{first layer of a stack: ID of its input}``; empty if unknown.
        measurement: How it was measured; None if the values come from elsewhere.

    Example:
        >>> profile = IDProfile.from_values({"layers.0": 6.4, "layers.1": 13.9})
        >>> profile.layers, profile.values
        (('layers.0', 'layers.1'), array([ 6.4, 13.9]))
    """

    layers: tuple[str, ...]
    values: NDArray[np.float64]
    stderr: NDArray[np.float64] | None = None
    input_values: Mapping[str, float] = field(default_factory=dict)
    measurement: ProfileSettings | None = None

    def __post_init__(self) -> None:
        for name in ("values", "stderr"):
            if getattr(self, name) is not None:
                array = np.array(getattr(self, name), dtype=np.float64)
                array.flags.writeable = False
                object.__setattr__(self, name, array)
        _check_numbers(self)

    @classmethod
    def measure(cls, calibration: Calibration) -> IDProfile:
        """Measure the profile of a calibration's model on its texts: see `rankselect.id_profile`."""
        return cls._of(*measured(calibration))

    @classmethod
    def measure_together(
        cls,
        calibration: Calibration,
        poolings: Sequence[Literal["mean", "last"]],
        estimators: Sequence[Estimator],
    ) -> dict[tuple[str, str], IDProfile]:
        """Measure several profiles in one pass: see `rankselect.id_profiles`."""
        keys = [(pooling, repr(by)) for pooling in poolings for by in estimators]
        found = measured_together(calibration, poolings, estimators)
        return {key: cls._of(*each) for key, each in zip(keys, found, strict=True)}

    @classmethod
    def _of(cls, found: Estimates, settings: ProfileSettings) -> IDProfile:
        return cls(
            layers=tuple(found.values),
            values=np.array(list(found.values.values())),
            stderr=np.array(list(found.stderr.values())),
            input_values=found.input_values,
            measurement=settings,
        )

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, float],
        *,
        stderr: Mapping[str, float] | None = None,
        input_values: Mapping[str, float] | None = None,
    ) -> IDProfile:
        """A profile of IDs that were measured elsewhere.

        Args:
            values: ``{layer name: ID}`` in model order, names as `layer_names` gives them.
            stderr: The standard errors of the same layers, if known.
            input_values: ``{first layer of a stack: ID of its input}``; `GeLoRA` needs it.

        Raises:
            EvidenceError: If there are no values, or one is not a finite, positive number.
        """
        if stderr is not None and stderr.keys() != values.keys():
            raise EvidenceError(
                "a standard error for every layer", f"{len(stderr)} for {len(values)} layers", "Give all, or none."
            )
        errors = None if stderr is None else np.array([stderr[layer] for layer in values], dtype=np.float64)
        return cls(tuple(values), np.array(list(values.values()), dtype=np.float64), errors, dict(input_values or {}))

    @property
    def intervals(self) -> NDArray[np.float64] | None:
        """The 95 % intervals of the IDs over the choice of texts, (n_layers, 2) floats; None if not known.

        They show how far the value would move with other texts of the same kind. They do not show how far the
        estimator is from the true dimension of the data: that bias is shared by the layers.
        """
        if self.stderr is None:
            return None
        half = Z_95 * self.stderr
        return np.stack([np.maximum(self.values - half, 0.0), self.values + half], axis=1)

    @property
    def rank_intervals(self) -> NDArray[np.int64] | None:
        """The intervals rounded as ranks are (nearest, half up, at least 1), (n_layers, 2) integers."""
        if self.intervals is None:
            return None
        ranks = [[max(nearest_rank(end), 1) for end in interval] for interval in self.intervals]
        return np.array(ranks, dtype=np.int64)

    def value_of(self, layer: str) -> float:
        """The ID of one layer.

        Raises:
            EvidenceError: If the profile does not have the layer.
        """
        if layer not in self.layers:
            raise EvidenceError(
                f"a profile with the layer {layer}",
                f"one of {len(self.layers)} layers without it ({self.layers[0]} … {self.layers[-1]})",
                "Measure this model with id_profile, or target only modules of profiled layers.",
            )
        return float(self.values[self.layers.index(layer)])

    def check(self, model: nn.Module) -> None:
        """Refuse to plan for a model of another architecture; another name alone is only reported.

        Raises:
            EvidenceError: If the profile has layers that the model lacks, or is of another architecture or width.
        """
        names = layer_names(model)
        unknown = [layer for layer in self.layers if layer not in names]
        if unknown:
            raise EvidenceError(
                f"a profile of this model ({_ends(names)})",
                f"one of another model ({_ends(self.layers)})",
                "Measure this model with id_profile: names and number of the layers must agree.",
            )
        if self.measurement is None:
            return
        config = getattr(unwrapped(model), "config", None)
        found = getattr(config, "model_type", ""), getattr(config, "hidden_size", None)
        profiled = self.measurement.model_type, self.measurement.width
        if found[0] != profiled[0] or (isinstance(found[1], int) and found[1] not in profiled[1]):
            raise EvidenceError(
                f"a profile of this model ({found[0] or 'no model type'}, width {found[1]})",
                f"one of another ({profiled[0] or 'no model type'}, width {profiled[1][0]})",
                "Measure this model with id_profile.",
            )
        name = model_name(model)
        if name and name != self.measurement.model_name:
            logger.info("The profile was measured on %r, the plan is for %r.", self.measurement.model_name, name)

    def plot(self, other: IDProfile | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw value ± 95 % interval against layer, alone or against another profile (before/after).

        Args:
            other: A second profile, measured in the same way.
            ax: Axes to draw into; a new figure otherwise.

        Returns:
            The axes; ``profile.plot().figure.savefig(path)`` saves the picture.

        Raises:
            EvidenceError: If the two profiles differ in estimator or pooling, which decide the ID more than the
                model does.
            MissingExtraError: If matplotlib is not installed.
        """
        if other is not None:
            self._require_comparable(other)
        curves = [(each.values, each.stderr) for each in (self, other) if each is not None]
        return picture.plot(curves, self.measurement, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON; an existing file is replaced in one step."""
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "layers": list(self.layers),
            "values": self.values.tolist(),
            "stderr": None if self.stderr is None else self.stderr.tolist(),
            "input_values": dict(self.input_values),
            "measurement": None if self.measurement is None else self.measurement.to_dict(),
        }
        write_document(path, document)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IDProfile:
        """Read a profile that `save` wrote.

        Raises:
            FileFormatError: If the file is damaged, truncated, of another kind or of a newer version.
        """
        document = read_document(path, _FORMAT, _VERSION)
        measurement = checked(document, "measurement", (dict, type(None)), path)
        try:
            if measurement is not None:
                measurement = ProfileSettings.from_dict(measurement)
            return cls(
                layers=tuple(checked(document, "layers", list, path)),
                values=checked(document, "values", list, path),
                stderr=checked(document, "stderr", (list, type(None)), path),
                input_values=checked(document, "input_values", dict, path),
                measurement=measurement,
            )
        except FileFormatError:
            raise
        except (EvidenceError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                "an undamaged profile", f"{path}, whose content does not fit ({error})", "Measure it again."
            ) from error

    def __str__(self) -> str:
        return picture.as_text(self.layers, self.values, self.stderr, self.measurement)

    def _require_comparable(self, other: IDProfile) -> None:
        if self.layers != other.layers:
            raise EvidenceError(
                f"two profiles of the same {len(self.layers)} layers",
                f"one of {len(other.layers)} ({other.layers[0]} …)",
                "Compare a model with itself, before and after.",
            )
        if self.measurement is not None and other.measurement is not None:
            self.measurement.require_like(other.measurement)


def _check_numbers(profile: IDProfile) -> None:
    if not profile.layers:
        raise EvidenceError("an ID for at least one layer", "none", "Give {layer name: value}.")
    arrays = [profile.values] if profile.stderr is None else [profile.values, profile.stderr]
    if any(array.shape != (len(profile.layers),) for array in arrays):
        raise EvidenceError(
            f"one number for each of {len(profile.layers)} layers",
            " and ".join(str(array.shape) for array in arrays),
            "Give values (and standard errors) of equal length.",
        )
    for name, value in [*zip(profile.layers, profile.values, strict=True), *profile.input_values.items()]:
        if not (math.isfinite(value) and value > 0):
            raise EvidenceError("IDs that are finite and above 0", f"{value} for {name}", "Measure this layer again.")
    if profile.stderr is not None and not (np.isfinite(profile.stderr) & (profile.stderr >= 0)).all():
        raise EvidenceError("finite standard errors of at least 0", str(profile.stderr), "Leave unknown ones out.")


def _ends(names: tuple[str, ...]) -> str:
    if not names:
        return "no layers"
    return names[0] if len(names) == 1 else f"{len(names)} layers, {names[0]} to {names[-1]}"
