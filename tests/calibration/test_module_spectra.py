"""Evidence about single modules: what every kind of it checks, keeps and draws."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest

import rankselect as rs
from rankselect.calibration.module_spectra import ModuleSpectra, described_model
from rankselect.errors import EvidenceError, FileFormatError
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model


class Sizes(ModuleSpectra):
    """Singular values that follow from the sizes alone."""

    file_format: ClassVar[str] = "rankselect.sizes"
    about: ClassVar[str] = "size"

    @classmethod
    def measure(cls, calibration):
        targets = find_targets(calibration.model, calibration.target_modules)
        return of_targets(targets, described_model(calibration.model))


def of_targets(targets, measurement=None):
    values = {t.name: np.array([t.d_in, 1.0]) for t in targets}
    scores = {"area": {t.name: float(t.d_in * t.d_out) for t in targets}}
    return Sizes(values, {t.name: (t.d_in, t.d_out) for t in targets}, scores, measurement or {})


@pytest.fixture
def spectra():
    model = tiny_model()
    return of_targets(find_targets(model, ["q_proj", "down_proj"]), described_model(model))


def test_a_file_gives_back_what_was_written(spectra, tmp_path):
    spectra.save(tmp_path / "sizes.json")
    again = Sizes.load(tmp_path / "sizes.json")
    assert again.modules == spectra.modules
    assert all((again.values[name] == spectra.values[name]).all() for name in spectra.modules)
    assert (again.sizes, again.scores, again.measurement) == (spectra.sizes, spectra.scores, spectra.measurement)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "sizes.json").read_bytes()


def test_a_file_of_another_kind_is_refused(spectra, tmp_path):
    rs.IDProfile.from_values({"layers.0": 3.0}).save(tmp_path / "profile.json")
    with pytest.raises(FileFormatError, match=r"rankselect\.sizes"):
        Sizes.load(tmp_path / "profile.json")


@pytest.mark.parametrize("damage", [{"name": 3}, {"values": ["a"]}, {"values": [-1.0]}, {"d_in": None}])
def test_a_damaged_file_is_refused(spectra, tmp_path, damage):
    path = tmp_path / "sizes.json"
    spectra.save(path)
    document = json.loads(path.read_text())
    document["modules"][0] |= damage
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="Measure it again"):
        Sizes.load(path)


def test_values_are_those_of_the_targets_in_their_order(spectra):
    model = tiny_model()
    targets = find_targets(model, ["down_proj"])
    assert [values[0] for values in spectra.of(targets)] == [t.d_in for t in targets]
    assert spectra.score("area", targets) == {t.name: t.d_in * t.d_out for t in targets}


def test_other_targets_are_refused(spectra):
    targets = find_targets(tiny_model(), ["v_proj"])
    with pytest.raises(EvidenceError, match=r"all 2 target modules, got one of 4 modules, without .*v_proj"):
        spectra.of(targets)
    with pytest.raises(EvidenceError, match="the same target_modules as the plan's"):
        spectra.score("area", targets)


def test_another_model_is_refused(spectra):
    with pytest.raises(EvidenceError, match="got a GPT2LMHeadModel with no such module"):
        spectra.check(tiny_model("gpt2"))
    name = spectra.modules[0]
    other = Sizes({name: [1.0]}, {name: (7, 7)})
    with pytest.raises(EvidenceError, match=r"of 7 x 7, .* of 32 x 32"):
        other.check(tiny_model())


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(EvidenceError, match="finite numbers of at least 0 for the size, got others for a"):
        Sizes({"a": [value]}, {"a": (2, 2)})
    with pytest.raises(EvidenceError, match="got others for a"):
        Sizes({"a": [1.0]}, {"a": (2, 2)}, {"area": {"a": value}})


def test_parts_about_other_modules_are_refused():
    with pytest.raises(EvidenceError, match="the same modules in all parts"):
        Sizes({"a": [1.0]}, {"b": (2, 2)})
    with pytest.raises(EvidenceError, match="at least one module, got none"):
        Sizes({}, {})


def test_values_cannot_be_changed(spectra):
    with pytest.raises(ValueError, match="read-only"):
        spectra.values[spectra.modules[0]][0] = 5.0


def test_the_picture_has_a_line_for_each_type(spectra):
    axes = spectra.plot()
    assert [line.get_label() for line in axes.lines] == ["q_proj", "down_proj"]
    assert "size" in axes.get_ylabel()
    norm = float(np.sqrt((spectra.values[spectra.modules[0]] ** 2).sum()))
    assert axes.lines[0].get_ydata()[0] == pytest.approx(norm)
